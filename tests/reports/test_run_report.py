"""A run's report shows its numbers with their evidence, whatever state the run is in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_runs import train_line, validation_line
from page_checker import check

from folio.errors import ArtifactError
from folio.reports.quantities import duration
from folio.reports.records import read_run, smooth
from folio.reports.run import run_report
from folio.training.metrics import MetricsLog

MakeRun = Callable[..., Path]


def stats(html: str) -> dict[str, str]:
    """The headline: label to value, unit and note."""
    found = re.findall(r'<div class="stat"><dt>(.*?)</dt><dd>(.*?)</dd></div>', html)
    return {label: re.sub("<[^>]+>", "|", rest) for label, rest in found}


def titles(html: str) -> list[str]:
    return re.findall(r"<title>([^<]*)</title><desc>", html)


def test_the_headline_carries_the_best_score_its_n_and_its_error(make_run: MakeRun) -> None:
    run = make_run()
    html = run_report(run).read_text()
    check(html)
    best = validation_line(100)
    head = stats(html)
    assert head["Best validation loss"].startswith(f"{best['nats_per_token']:.4f}| nats/token|")
    assert "± 0.0042, n = 181,233 tokens, step 100" in head["Best validation loss"]
    assert head["Bits per byte"].startswith(f"{best['bits_per_byte']:.4f}")
    assert f"± {0.0042 / math.log(2) / 3.1:.4f}" in head["Bits per byte"]
    assert head["Tokens seen"].startswith("409.6k")
    assert head["Time"] == "10 s"
    assert head["Speed"].startswith("40.96k| tokens/s")
    assert "41% MFU" in head["Speed"]
    assert head["Parameters"] == "3.211M"


def test_every_figure_and_section_is_there(make_run: MakeRun) -> None:
    html = run_report(make_run()).read_text()
    assert titles(html) == [
        "Train against validation", "Training loss, each step", "Training loss, smoothed", "Validation loss",
        "Validation, bits per byte", "Learning rate", "Gradient norm", "Step time", "Throughput",
        "Model FLOPs utilisation",
    ]  # fmt: skip
    for text in (
        "after step 100",
        "after step 25",
        "But soft, step 100!",
        "step-00000100",
        "finished",
        "micro_batch",
        "python",
    ):
        assert text in html, text


def test_the_wait_for_data_is_told_where_there_was_one(make_run: MakeRun) -> None:
    run = make_run()
    assert "waiting" not in run_report(run).read_text()
    with MetricsLog(run / "metrics.jsonl") as log:
        log.log(**{**train_line(101), "data_wait_s": 2.5})
    html = run_report(run).read_text()
    assert "2.5 s of it waiting for data" in stats(html)["Time"]
    assert "Time waited for data" in titles(html)


def test_the_report_lies_in_the_run_and_is_replaced(make_run: MakeRun) -> None:
    run = make_run()
    assert run_report(run) == run / "report.html"
    assert run_report(run) == run / "report.html"
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_the_best_validation_is_not_the_last_one(make_run: MakeRun) -> None:
    run = make_run(steps=50)
    with MetricsLog(run / "metrics.jsonl") as log:
        log.log(**{**validation_line(60), "nats_per_token": 9.0})
    best = read_run(run).best_validation
    assert best is not None
    assert best["step"] == 50


def test_a_run_without_validation_says_so_and_shows_training(make_run: MakeRun) -> None:
    html = run_report(make_run(every=0)).read_text()
    check(html)
    assert "No validation was run" in html
    assert "Training loss" in stats(html)
    assert "Best validation loss" not in stats(html)


@pytest.mark.parametrize("every", [0, 1])
def test_a_run_of_one_step_has_a_report(make_run: MakeRun, every: int) -> None:
    html = run_report(make_run(steps=1, every=every)).read_text()
    check(html)
    assert "1 step<" in html or "1 step " in html


def test_a_run_that_has_written_nothing_yet_has_a_report(make_run: MakeRun) -> None:
    run = make_run()
    (run / "metrics.jsonl").write_text("")
    check(html := run_report(run).read_text())
    assert "no metrics yet" in html


def test_steps_that_a_resume_superseded_are_not_counted(make_run: MakeRun) -> None:
    run = make_run(steps=100)
    with MetricsLog(run / "metrics.jsonl") as log:
        log.log(kind="event", step=40, event="resumed")
        for step in range(41, 61):
            log.log(**train_line(step))
    record = read_run(run)
    assert record.steps == 60
    assert record.tokens_seen == 60 * 4096
    assert record.elapsed_s == pytest.approx(6.0)


def test_a_clock_that_starts_again_at_a_resume_is_added_on(make_run: MakeRun) -> None:
    run = make_run(steps=40, every=0)
    with MetricsLog(run / "metrics.jsonl") as log:
        log.log(**{**train_line(41), "elapsed_s": 0.5})
        log.log(**{**train_line(42), "elapsed_s": 1.5})
    assert read_run(run).elapsed_s == pytest.approx(4.0 + 1.5)


def test_nan_values_leave_gaps_and_no_score(make_run: MakeRun) -> None:
    run = make_run(steps=20, every=10)
    with MetricsLog(run / "metrics.jsonl") as log:
        log.log(**{**train_line(21), "nats_per_token": math.nan, "grad_norm": math.inf})
        log.log(**{**validation_line(21), "nats_per_token": math.nan, "bits_per_byte": math.nan})
    html = run_report(run).read_text()
    check(html)
    assert "not_finite" in html
    assert "step 20" in stats(html)["Best validation loss"]
    with open(run / "metrics.jsonl", "a") as file:  # as another writer might
        file.write('{"kind": "validation", "step": 22, "nats_per_token": NaN}\n')
    check(run_report(run).read_text())


def test_samples_prompts_and_configuration_are_shown_as_text(make_run: MakeRun) -> None:
    nasty = "<script>alert(1)</script>"
    run = make_run(f"run {nasty.replace('/', '_')}", config={nasty: {"key": nasty}, "corpus": {"name": nasty}})
    with MetricsLog(run / "metrics.jsonl") as log:
        log.log(kind="sample", step=100, prompt=nasty, text=nasty + nasty)
        log.log(kind="event", step=100, event=nasty, reason=nasty)
    checker = check(run_report(run).read_text())
    assert checker.tags.count("script") == 1
    assert "".join(checker.text).count(nasty) >= 6


def test_of_many_samples_some_are_shown_and_always_the_last(make_run: MakeRun) -> None:
    html = run_report(make_run(steps=100, every=1)).read_text()
    shown = [int(step) for step in re.findall(r"after step (\d+)", html)]
    assert len(shown) == 12
    assert shown == sorted(shown, reverse=True)
    assert shown[0] == 100
    assert shown[-1] <= 10
    assert "12 of 100" in html


def test_a_damaged_checkpoint_is_named_and_the_rest_still_reported(make_run: MakeRun) -> None:
    run = make_run()
    (run / "checkpoints" / "step-00000100" / "manifest.json").write_text("{")
    html = run_report(run).read_text()
    assert "cannot be read" in html
    assert "Best validation loss" in stats(html)


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as raised:
        run_report(tmp_path)
    assert "\n" not in raised.value.problem
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_a_damaged_configuration_is_named(make_run: MakeRun, content: str) -> None:
    run = make_run()
    (run / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(ArtifactError, match=r"config\.json' is damaged"):
        run_report(run)
    (run / "config.json").unlink()
    assert "no config.json" in run_report(run).read_text()


def test_the_page_can_be_opened_while_fields_are_missing(make_run: MakeRun) -> None:
    run = make_run()
    lines = [
        {"kind": "train", "step": 1},
        {"kind": "validation", "step": 1, "nats_per_token": 2.0},
        {"kind": "sample", "step": 1},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    html = run_report(run).read_text()
    check(html)
    assert stats(html)["Perplexity"].startswith("7.389")


def test_smoothing_keeps_a_line_straight_and_skips_what_is_not_finite() -> None:
    line = [float(n) for n in range(100)]
    assert smooth(line, 11)[10:-10] == pytest.approx(line[10:-10])
    assert smooth([1.0, math.nan, 3.0], 3)[0] == 1.0
    assert math.isnan(smooth([1.0, math.nan, 3.0], 3)[1])
    assert smooth([], 5) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (42.4, "42 s"),
        (59.7, "1 min 0 s"),
        (252, "4 min 12 s"),
        (11_100, "3 h 5 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_time_is_written_as_people_say_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text
