"""What comes after the last step: made once, made again when asked in another way, and never lost to an interrupt."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finetuned_runs import Killed, command, data_of, ending_at, finetune, make_home

from folio.training.metrics import read_metrics
from folio.verbs.finetune import afterwards

RUN = ("--train.device", "cpu", "--train.precision", "fp32", "--train.batch-tokens", "128", "--method", "lora",
       "--train.validate-every", "2", "--samples.count", "1", "--samples.temperatures", "0.5",
       "--generation.max-new-tokens", "8", "--forgetting.no-measure")  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("afterwards"))


def interrupting(error: BaseException) -> Callable[..., Any]:
    def write_samples(*arguments: Any, **options: Any) -> Any:
        raise error

    return write_samples


@pytest.mark.parametrize("early", [False, True], ids=["all steps done", "ended by its patience"])
def test_an_interrupt_after_the_last_step_says_how_to_come_back_and_that_makes_the_rest(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    run = tmp_path / "run"
    patience = ("--data.validation", home / "contrary.jsonl", "--train.patience", "1", "--train.steps", "40",
                "--train.optimizer.learning-rate", "3e-2")  # fmt: skip
    data = (
        (home / "base", "--data", home / "train.jsonl", *patience) if early else (*data_of(home), "--train.steps", "4")
    )
    with monkeypatch.context() as patch:
        patch.setattr(afterwards, "write_samples", interrupting(KeyboardInterrupt()))
        code, _out, err = command("finetune", *data, "--out", run, *RUN)
    assert code == 3
    assert "finished and saved" in err
    assert f"folio finetune --resume {run}" in err
    assert not (run / "samples.jsonl").exists()
    before = [line for line in read_metrics(run) if line["kind"] == "train"]
    assert (len(before) < 40) == early or not early
    finetune("--resume", run)
    assert (run / "samples.jsonl").is_file()
    assert (run / "report.html").is_file()
    assert [line for line in read_metrics(run) if line["kind"] == "train"] == before
    code, _out, err = command("finetune", "--resume", run)
    assert (code, "is finished" in err) == (2, True)


def test_other_samples_are_drawn_of_a_finished_run_and_its_training_is_left_alone(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finetune(*data_of(home), "--train.steps", "4", "--out", run, *RUN)
    weights = {path: path.read_bytes() for path in run.rglob("*.safetensors")}
    finetune("--resume", run, "--samples.temperatures", "0.3", "0.9")
    drawn = [json.loads(line)["temperature"] for line in (run / "samples.jsonl").read_text().splitlines()]
    assert drawn == [0.3, 0.9]
    assert json.loads((run / "config.json").read_text())["recipe"]["samples"]["temperatures"] == [0.3, 0.9]
    assert {path: path.read_bytes() for path in run.rglob("*.safetensors")} == weights
    code, _out, err = command("finetune", "--resume", run, "--samples.count", "2", "--lora.rank", "3")
    assert (code, "another [lora]" in err) == (2, True)


def test_a_run_that_was_lengthened_and_killed_before_its_end_is_not_taken_for_finished(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    finetune(*data_of(home), "--train.steps", "4", "--out", run, *RUN)
    answer = finetune("--resume", run, "--train.steps", "8")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if '"finished"' in line)
    (run / "metrics.jsonl").write_text("".join(lines[:last]))  # as a kill between the last save and its end leaves it
    (run / "samples.jsonl").unlink()
    again = finetune("--resume", run)
    assert again["weights_sha256"] == answer["weights_sha256"]
    assert (run / "samples.jsonl").is_file()


def test_a_run_is_gone_on_with_from_another_folder_and_from_where_all_was_moved_to(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "here"
    shutil.copytree(home, place)
    monkeypatch.chdir(place)
    arguments = ("base", "--data", "train.jsonl", "--data.validation", "held.jsonl", "--train.steps", "4")
    alone = finetune(*arguments, "--out", "runs/alone", *RUN)
    with ending_at(3, Killed), pytest.raises(Killed):
        command("finetune", *arguments, "--out", "runs/run", "--train.checkpoint-every", "2", *RUN)
    monkeypatch.chdir(tmp_path)
    os.rename(place, tmp_path / "there")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    again = finetune("--resume", "../there/runs/run")
    assert again["weights_sha256"] == alone["weights_sha256"]


def test_a_scheduler_that_starts_a_job_again_goes_on_with_its_run(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = (
        *data_of(home),
        "--train.steps",
        "6",
        "--out",
        run,
        "--or-resume",
        *RUN,
        "--train.checkpoint-every",
        "2",
    )
    search = ("--search.kind", "list", "--search.learning-rates", "1e-4", "1e-2", "--search.budget-steps", "2")
    with ending_at(5, Killed), pytest.raises(Killed):
        command("finetune", *arguments, *search)
    found = json.loads((run / "search.json").read_text())["values"]
    answer = finetune(*arguments, *search)
    assert answer["steps"] == 6
    assert json.loads((run / "config.json").read_text())["search"]["values"] == found
    assert finetune(*arguments, *search)["run"] == str(run)  # started once more, it says that it is finished


def test_what_cannot_be_compiled_once_for_all_is_refused(home: Path, tmp_path: Path) -> None:
    arguments = (*data_of(home), "--out", tmp_path / "run", *RUN, "--train.steps", "2", "--train.compile", "on")
    code, _out, err = command("finetune", *arguments)
    assert (code, "differ in shape" in err) == (2, True)
    assert not (tmp_path / "run").exists()
