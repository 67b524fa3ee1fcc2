"""A study that finds its learning rates and trains its oracle: both once, in the folder, and what they say is used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from oracle_runs import made_up_play

from folio.cli import main
from folio.errors import UserError
from folio.evaluation.results import read_evaluation
from folio.studies.findings.results import read_results
from folio.studies.running.records import StudyFolder

STUDY = """
measures = ["nats_per_token", "oracle.log_probability"]
[recipe]
corpus.path = "play.txt"
tokenizer.kind = "char"
[recipe.model]
block_size = 32
n_layer = 1
n_head = 1
[recipe.train]
steps = 12
batch_tokens = 256
micro_batch = 8
validate_every = 6
validation_tokens = 320
[axes]
width = { key = "model.n_embd", values = [8, 16] }
[rates]
for_each = ["width"]
[rates.search]
steps = 20
refine = { rates = 2, steps = 6 }
[oracle]
prompts = 3
[oracle.recipe]
corpus.path = "play.txt"
tokenizer.kind = "char"
model = { block_size = 64, n_layer = 1, n_head = 1, n_embd = 16 }
train = { steps = 8, batch_tokens = 256, micro_batch = 4 }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "play.txt").write_text(made_up_play(0, 600))
    (tmp_path / "judged.toml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[dict[str, Any], str]:
    assert main(["study", "run", "judged.toml", "--threads", "1", *flags, "--json"]) == 0
    said = capsys.readouterr()
    answer: dict[str, Any] = json.loads(said.out)
    return answer, said.err


def test_rates_are_found_and_used_and_the_oracle_judges_every_cell(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer, _ = study(capsys, "--workers", "2")
    folder = StudyFolder(here / "runs" / "judged")
    found = folder.found_rates()
    assert [one["family"] for one in found] == [{"width": 8}, {"width": 16}]
    for cell in answer["cells"]:
        recipe = tomllib.loads(folder.recipe(cell["name"]).read_text())
        (rate,) = [one["rates"]["train.optimizer.learning_rate"] for one in found if one["family"] == cell["values"]]
        assert recipe["train"]["optimizer"]["learning_rate"] == rate
        searched = json.loads(
            (
                folder.rates(next(one["folder"] for one in found if one["family"] == cell["values"])) / "lr.json"
            ).read_text()
        )
        assert searched["rate"] == rate
        judged = read_evaluation(folder.path / "oracle" / cell["name"]).measurements["oracle"]
        assert cell["numbers"]["oracle.log_probability"] == judged.score("log_probability").value
        assert len({item["id"] for item in judged.items}) == 3
    assert len(answer["cells"]) == 2
    assert len(answer["trained"]) == 3  # the oracle beside them
    assert read_results(folder).reference["oracle.log_probability"] < 0

    before = {
        path: path.stat().st_mtime_ns
        for part in ("rates", "oracle", "cells")
        for path in (folder.path / part).rglob("*")
    }
    again, _ = study(capsys)
    assert again["trained"] == []
    assert again["cells"] == answer["cells"]
    kept = {path: path.stat().st_mtime_ns for path in before if path.suffix == ".jsonl" or path.parent.name == "oracle"}
    assert kept == {path: before[path] for path in kept}

    (here / "judged.toml").write_text(STUDY.replace("[8, 16]", "[8, 16, 24]"))
    more, _ = study(capsys)
    assert [cell["name"] for cell in more["cells"][:2]] == [cell["name"] for cell in answer["cells"]]
    assert more["trained"] == [more["cells"][2]["name"]]
    assert all("oracle.log_probability" in cell["numbers"] for cell in more["cells"])
    assert {path: path.stat().st_mtime_ns for path in before if path.name == "sweeps.jsonl"} == {
        path: when for path, when in before.items() if path.name == "sweeps.jsonl"
    }


def test_an_oracle_that_cannot_judge_costs_no_report_and_another_one_judges_anew(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = STUDY[: STUDY.index("[rates]")] + STUDY[STUDY.index("[oracle]") :]
    (here / "judged.toml").write_text(text.replace("prompts = 3", "prompts = 5000"))
    assert main(["study", "run", "judged.toml"]) == 2
    said = capsys.readouterr().err
    assert "the oracle cannot judge: " in said
    assert "oracle.prompts" in said
    assert not (here / "runs").exists()
    (here / "judged.toml").write_text(text)

    def fail(*given: object) -> None:
        raise UserError("the disk is full", "Make room.")

    with monkeypatch.context() as patched:
        patched.setattr("folio.verbs.evaluate.oracle.judge_models", fail)
        assert main(["study", "run", "judged.toml", "--threads", "1", "--workers", "2"]) == 2
    assert "the oracle has not judged: the disk is full" in capsys.readouterr().err
    folder = StudyFolder(here / "runs" / "judged")
    assert (folder.path / "report.html").is_file()
    first, _ = study(capsys)
    assert first["trained"] == []
    (oracle,) = (folder.path / "cells").glob("oracle=*")
    saved = text.replace("[oracle.recipe]", "[ignored]").split("[ignored]")[0]
    (here / "judged.toml").write_text(saved.replace("[oracle]", f'[oracle]\nmodel = "{oracle}"'))
    kept = (folder.path / "oracle" / "asked.json").read_text()
    study(capsys)
    assert (folder.path / "oracle" / "asked.json").read_text() == kept  # the same weights by another name
    (here / "judged.toml").write_text(saved.replace("[oracle]", f'[oracle]\nmodel = "{first_cell(folder, first)}"'))
    study(capsys)
    assert (folder.path / "oracle" / "asked.json").read_text() != kept


def first_cell(folder: StudyFolder, answer: dict[str, Any]) -> Path:
    return folder.run(answer["cells"][0]["name"])


def test_a_study_killed_while_it_looks_for_rates_goes_on_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "folio", "study", "run", "judged.toml", "--threads", "1"]
    with open(here / "said.txt", "wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    first = here / "runs" / "judged" / "rates"
    try:
        while process.poll() is None and len(list(first.glob("*/lr.json"))) < 1:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait(timeout=60)
    answers = {path: path.stat().st_mtime_ns for path in first.glob("*/sweeps.jsonl")}
    assert answers
    assert not (here / "runs" / "judged" / "cells").exists()
    answer, _ = study(capsys)
    assert answer["counts"] == {"finished": 2}
    done = [path for path in answers if (path.parent / "lr.json").exists()]
    assert {path: path.stat().st_mtime_ns for path in done[:1]} == {path: answers[path] for path in done[:1]}
    assert os.listdir(first)
