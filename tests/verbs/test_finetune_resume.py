"""A fine-tuning run that was stopped or killed and resumed ends with the bits of one that was left alone."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from finetuned_runs import (
    BARE,
    SHORT,
    Killed,
    command,
    data_of,
    ending_at,
    finetune,
    make_home,
    refused,
    tune,
    write,
)
from real_runs import curve, folio, weights_sha256
from safetensors.torch import load_file

from folio.training.checkpoint import list_checkpoints

DROPOUT = ("--lora.dropout", "0.1", "--train.dropout", "0.1", "--train.ema-decay", "0.6", "--train.micro-batch", "1")
KINDS: dict[str, tuple[str, ...]] = {
    "lora with dropout, an average and accumulation": ("--method", "lora", *DROPOUT),
    "qlora with dropout": ("--method", "qlora", "--lora.dropout", "0.1"),
    "head": ("--method", "head", "--train.dropout", "0.1"),
    "full with an average": ("--method", "full", "--train.dropout", "0.1", "--train.ema-decay", "0.6"),
    "DoRA, saved beside training": ("--method", "lora", "--lora.dora", "--train.checkpoint-async"),
}
STEPS = ("--train.checkpoint-every", "2", "--train.optimizer.learning-rate", "1e-2")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("resume"))


def whole(home: Path, run: Path, kind: str, *more: object) -> tuple[object, ...]:
    return ("finetune", *data_of(home), "--out", run, *BARE, *SHORT, *STEPS, *KINDS[kind], *more)


def newest(run: Path) -> Path:
    return list_checkpoints(run)[-1].path


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """Everything in the newest checkpoint: what is for use, and the state beside it."""
    files = sorted(newest(run).rglob("*.safetensors"))
    return {f"{file.relative_to(newest(run))}/{name}": t for file in files for name, t in load_file(file).items()}


def assert_same_end(run: Path, other: Path) -> None:
    ours, theirs = tensors(run), tensors(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert curve(run) == curve(other)
    assert [one.step for one in list_checkpoints(run)] == [one.step for one in list_checkpoints(other)]


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_torn_down_it_ends_with_the_same_bits(home: Path, tmp_path: Path, kind: str) -> None:
    """Stopped by SIGTERM within step 3, of which it saves what is whole; then ended between two saves."""
    alone, run = tmp_path / "alone", tmp_path / "run"
    answer = finetune(*whole(home, alone, kind)[1:])
    with ending_at(3, signal.SIGTERM):
        code, _out, err = command(*whole(home, run, kind))
    assert (code, "Traceback" in err) == (3, False), err
    assert f"folio finetune --resume {run}" in err
    with ending_at(6, Killed), pytest.raises(Killed):
        command("finetune", "--resume", run)
    again = finetune("--resume", run)
    assert again["weights_sha256"] == answer["weights_sha256"]
    assert again["validation"]["nats_per_token"] == answer["validation"]["nats_per_token"]
    assert_same_end(run, alone)


def test_ended_before_anything_was_saved_it_begins_again(home: Path, tmp_path: Path) -> None:
    kind = "lora with dropout, an average and accumulation"
    answer = finetune(*whole(home, tmp_path / "alone", kind)[1:])
    with ending_at(2, Killed), pytest.raises(Killed):
        command(*whole(home, tmp_path / "run", kind))
    assert finetune("--resume", tmp_path / "run")["weights_sha256"] == answer["weights_sha256"]
    assert_same_end(tmp_path / "run", tmp_path / "alone")


def test_preferences_resume_to_the_same_bits(home: Path, tmp_path: Path) -> None:
    """The reference is computed again, of the model as it began, not of the one that was resumed."""
    pairs = (home / "base", "--data", home / "pairs.jsonl", "--data.validation", home / "held_pairs.jsonl")
    options = (*BARE, *SHORT, *STEPS, "--method", "lora", "--lora.dropout", "0.1")
    answer = finetune(*pairs, "--out", tmp_path / "alone", *options)
    with ending_at(5, Killed), pytest.raises(Killed):
        command("finetune", *pairs, "--out", tmp_path / "run", *options)
    again = finetune("--resume", tmp_path / "run")
    assert again["weights_sha256"] == answer["weights_sha256"]
    assert curve(tmp_path / "run") == curve(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_for_real_it_ends_with_the_same_bits(home: Path, tmp_path: Path, kind: str) -> None:
    """Before the first save, amid a write, around the rename, between saves; with a thread that saves, amid steps."""
    alone, run = tmp_path / "alone", tmp_path / "run"
    done = folio(*whole(home, alone, kind))
    assert done.returncode == 0, done.stderr
    moments = [("SIGKILL", 1), ("half-written", 2), ("after-rename", 4), ("SIGKILL", 6)]
    if "--train.checkpoint-async" in KINDS[kind]:  # then nobody knows in which step a file is written
        moments = [("SIGKILL", step) for step in (1, 3, 5, 6)]
    for number, moment in enumerate(moments):
        begin = ("finetune", "--resume", run) if number else whole(home, run, kind)
        killed = folio(*begin, dying=moment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = folio("finetune", "--resume", run)
    assert again.returncode == 0, again.stderr
    assert weights_sha256(again.stdout) == weights_sha256(done.stdout)
    assert_same_end(run, alone)


@pytest.fixture(scope="module")
def stopped(home: Path) -> Path:
    """A run that was stopped after its third step."""
    with ending_at(3, signal.SIGTERM):
        code, _, err = command("finetune", *data_of(home), "--method", "lora", "--out", home / "stopped", *BARE, *SHORT)
    assert code == 3, err
    return home / "stopped"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--method", "full"), "method"),
        (("--lora.rank", "4"), "lora"),
        (("--lora.dropout", "0.2"), "lora"),
        (("--data.learn", "everything"), "data"),
        (("--data.no-packing",), "data"),
        (("--dpo.beta", "0.3"), "dpo"),
        (("--train.seed", "4"), "train.seed"),
        (("--train.dropout", "0.5"), "train.dropout"),
        (("--train.batch-tokens", "64"), "train.batch_tokens"),
    ],
)
def test_what_a_run_keeps_for_life_is_refused_in_one_line(stopped: Path, flags: tuple[str, ...], said: str) -> None:
    assert said in refused(stopped, *flags).splitlines()[0]


def test_other_examples_are_refused(home: Path, stopped: Path, tmp_path: Path) -> None:
    kept = (home / "train.jsonl").read_text()
    try:
        write(home / "train.jsonl", [json.loads(line) for line in kept.splitlines()[:-1]])
        assert "examples" in refused(stopped).splitlines()[0]
    finally:
        (home / "train.jsonl").write_text(kept)


def test_another_base_is_refused(home: Path, stopped: Path, tmp_path: Path) -> None:
    """At the same place, of the same shape."""
    (kept,) = (home / "base" / "checkpoints").glob("step-*")
    shutil.move(kept, tmp_path / "kept")
    try:
        other = tune(home_of(home, tmp_path), tmp_path / "other", "full", "--train.steps", "1")
        shutil.copytree(other["best"]["path"], kept)
        assert "base" in refused(stopped).splitlines()[0]
    finally:
        shutil.rmtree(kept, ignore_errors=True)
        shutil.move(tmp_path / "kept", kept)


def home_of(home: Path, place: Path) -> Path:
    """A copy of ``home`` whose base is the one that was moved to ``place/kept``."""
    copy = place / "home"
    (copy / "base").mkdir(parents=True)
    for name in ("train.jsonl", "held.jsonl"):
        shutil.copy(home / name, copy)
    shutil.copytree(place / "kept", copy / "base" / "checkpoints" / "step-00000120")
    shutil.copy(home / "base" / "config.json", copy / "base")
    return copy


def test_another_model_named_at_resume_is_refused(home: Path, stopped: Path, tmp_path: Path) -> None:
    other = tune(home, tmp_path / "other", "full", "--train.steps", "1")
    assert "base" in refused(stopped, other["run"]).splitlines()[0]


def test_each_verb_goes_on_with_its_own_runs(home: Path, stopped: Path) -> None:
    code, _, err = command("train", "--resume", stopped)
    assert code == 2
    assert f"folio finetune --resume {stopped}" in err
    assert len(err.splitlines()) == 2
    assert f"folio train --resume {home / 'base'}" in refused(home / "base")


def test_more_steps_go_on_where_it_ended(home: Path, tmp_path: Path) -> None:
    flat = ("--train.schedule.kind", "constant")
    tune(home, tmp_path / "run", "lora", *flat)
    finished = refused(tmp_path / "run")
    assert "is finished: it has done all 6 steps" in finished
    more = finetune("--resume", tmp_path / "run", "--train.steps", "9")
    straight = tune(home, tmp_path / "straight", "lora", *flat, "--train.steps", "9")
    assert more["weights_sha256"] == straight["weights_sha256"]
    epochs = finetune("--resume", tmp_path / "run", "--train.epochs", "8")
    assert epochs["steps"] == 12  # of two thirds of an epoch
