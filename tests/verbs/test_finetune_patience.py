"""``--train.patience``: a run ends when nothing better comes, opens at its best, and goes on with more of it."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from finetuned_runs import (
    BARE,
    Killed,
    command,
    ending_at,
    finetune,
    lines_of,
    make_home,
    refused,
)
from real_runs import curve

from folio import load
from folio.training.checkpoint import list_checkpoints


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("patience"))


PATIENT = (*BARE, "--method", "lora", "--train.batch-tokens", "128", "--train.steps", "24", "--train.validate-every",
           "1", "--train.optimizer.learning-rate", "1e-2", "--train.schedule.kind", "constant")  # fmt: skip


def contrary(home: Path, run: Path, patience: int) -> tuple[object, ...]:
    """A run held against other answers than it learns: it gets better at what they share, then worse."""
    data = (home / "base", "--data", home / "train.jsonl", "--data.validation", home / "contrary.jsonl")
    return (*data, "--out", run, *PATIENT, "--train.patience", patience)


def best_of(losses: list[float]) -> int:
    """The step of the lowest, validations being one a step."""
    return losses.index(min(losses)) + 1


def expected_end(losses: list[float], patience: int) -> int:
    """Where a run ends: after so many validations in a row that were not better than all before."""
    lowest, since = float("inf"), 0
    for step, loss in enumerate(losses, 1):
        lowest, since = (loss, 0) if loss < lowest else (lowest, since + 1)
        if since >= patience:
            return step
    return len(losses)


@pytest.fixture(scope="module")
def impatient(home: Path) -> tuple[dict[str, Any], list[float]]:
    """A run ended by its patience at ``home/impatient``; and the losses of one without, step by step."""
    finetune(*contrary(home, home / "patient", 0))
    losses = [line["nats_per_token"] for line in lines_of(home / "patient", "validation")[1:]]
    return finetune(*contrary(home, home / "impatient", 3)), losses


def test_patience_ends_a_run_and_the_best_is_what_opens(home: Path, impatient: tuple[dict[str, Any], Any]) -> None:
    answer, losses = impatient
    end, best = expected_end(losses, 3), best_of(losses[: answer["steps"]])
    assert end < len(losses)  # else nothing is shown
    assert (answer["steps"], answer["best"]["step"]) == (end, best)
    assert answer["best"]["nats_per_token"] == losses[best - 1]
    finished = [line for line in lines_of(home / "impatient", "event") if line["event"] == "finished"]
    assert (finished[-1]["step"], finished[-1]["patience"]) == (end, 3)
    assert [one.step for one in list_checkpoints(home / "impatient")] == [best, end]
    assert f"step-{best:08d}" in str(load(home / "impatient").folder)


def test_what_patience_ended_is_finished_and_more_of_it_goes_on(
    home: Path, impatient: tuple[dict[str, Any], list[float]], tmp_path: Path
) -> None:
    answer, losses = impatient
    shutil.copytree(home / "impatient", tmp_path / "run")
    said = refused(tmp_path / "run")
    assert f"is finished: it ended at step {answer['steps']}" in said
    assert "--train.patience 6" in said
    more = finetune("--resume", tmp_path / "run", "--train.patience", "5")
    assert more["steps"] == expected_end(losses, 5) > answer["steps"]
    ours = [line["nats_per_token"] for line in lines_of(tmp_path / "run", "validation")[1:]]
    assert ours == losses[: more["steps"]]


def test_resumed_on_the_way_patience_ends_at_the_same_step(
    home: Path, impatient: tuple[dict[str, Any], list[float]], tmp_path: Path
) -> None:
    answer, _ = impatient
    run = tmp_path / "run"
    for number, how in enumerate((signal.SIGTERM, Killed)):
        begin = ("--resume", run) if number else (*contrary(home, run, 3), "--train.checkpoint-every", "1")
        with ending_at(answer["steps"] - 2 + number, how):  # amid the validations that it counts
            try:
                command("finetune", *begin)
            except Killed:
                assert number == 1
    again = finetune("--resume", run)
    assert (again["steps"], again["best"]["step"]) == (answer["steps"], answer["best"]["step"])
    assert again["weights_sha256"] == answer["weights_sha256"]
    assert curve(run) == curve(home / "impatient")
