"""``metrics.jsonl`` survives kills and resumes, and says where it is damaged."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from folio.errors import ArtifactError
from folio.training.metrics import MetricsLog, read_metrics


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path


def test_a_float_comes_back_with_every_digit(run: Path) -> None:
    with MetricsLog(run / "metrics.jsonl") as log:
        log.log(kind="train", step=1, nats_per_token=0.1 + 0.2, text="é\n\ud800")
    assert read_metrics(run) == [{"kind": "train", "step": 1, "nats_per_token": 0.1 + 0.2, "text": "é\n\ud800"}]


def test_a_line_can_be_read_as_soon_as_it_is_logged(run: Path) -> None:
    log = MetricsLog(run / "metrics.jsonl")
    log.log(kind="train", step=1)
    assert len(read_metrics(run)) == 1
    log.sync()
    log.close()


def test_nan_is_written_as_null_and_an_event_so_that_every_line_is_json(run: Path) -> None:
    with MetricsLog(run / "metrics.jsonl") as log:
        log.log(kind="train", step=7, nats_per_token=math.nan, grad_norm=-math.inf, learning_rate=0.1)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    lines = [json.loads(line, parse_constant=refuse) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[0] == {"kind": "train", "step": 7, "nats_per_token": None, "grad_norm": None, "learning_rate": 0.1}
    assert lines[1:] == [
        {"kind": "event", "step": 7, "event": "not_finite", "field": "nats_per_token", "value": "nan"},
        {"kind": "event", "step": 7, "event": "not_finite", "field": "grad_norm", "value": "-inf"},
    ]


def test_lines_after_the_resumed_step_are_superseded(run: Path) -> None:
    with MetricsLog(run / "metrics.jsonl") as log:
        for step in (1, 2, 3, 4):
            log.log(kind="train", step=step, attempt=1)
        log.log(kind="event", step=2, event="resumed")
        for step in (3, 4, 5):
            log.log(kind="train", step=step, attempt=2)
        log.log(kind="event", step=4, event="resumed")
    kept = [(line["step"], line["attempt"]) for line in read_metrics(run) if line["kind"] == "train"]
    assert kept == [(1, 1), (2, 1), (3, 2), (4, 2)]


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_last_line_torn_anywhere_is_ignored_and_the_next_log_goes_on_cleanly(run: Path, cut: int) -> None:
    with MetricsLog(run / "metrics.jsonl") as log:
        log.log(kind="train", step=1)
        log.log(kind="train", step=2, text="a longer line")
    whole = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(whole[:-cut])
    survivors = [1, 2] if cut == 1 else [1]  # only the newline is gone: the line is whole
    assert [line["step"] for line in read_metrics(run)] == survivors
    with MetricsLog(run / "metrics.jsonl") as log:
        log.log(kind="train", step=3)
    assert [line["step"] for line in read_metrics(run)] == [*survivors, 3]


@pytest.mark.parametrize("damage", ["{torn", "[1, 2]", '{"kind": "train"}', '{"step": 3}', "", "\x00\xff"])
def test_a_damaged_middle_line_is_named(run: Path, damage: str) -> None:
    good = '{"kind": "train", "step": 1}\n'
    (run / "metrics.jsonl").write_text(good + damage + "\n" + good, encoding="latin-1")
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl' is damaged: line 2 "):
        read_metrics(run)


def test_a_folder_that_is_no_run_is_refused(run: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is not a run: it has no metrics\.jsonl"):
        read_metrics(run)
    with pytest.raises(ArtifactError, match="does not exist"):
        read_metrics(run / "missing")


def test_an_empty_log_has_no_lines(run: Path) -> None:
    MetricsLog(run / "metrics.jsonl").close()
    assert read_metrics(run) == []


def test_a_killed_process_loses_no_line_that_it_logged(run: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from folio.training.metrics import MetricsLog\n"
        "log = MetricsLog(Path(sys.argv[1]))\n"
        "for step in range(100): log.log(kind='train', step=step)\n"
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(run / "metrics.jsonl")], check=False).returncode == 9
    assert [line["step"] for line in read_metrics(run)] == list(range(100))


def test_the_log_needs_no_torch() -> None:
    program = "import sys, folio.training.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
