"""Checkpoints written beside training hold what those written at once hold; state is read strictly, by name."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import GPT2, assert_same_bits, make_state, run_steps, save, weights

from folio.artifacts import verify
from folio.ranks import ALONE
from folio.training import saving
from folio.training.checkpoint import list_checkpoints
from folio.training.saving import ModelContents, Saver, load_checkpoint
from folio.training.state_files import read_state, write_state


@pytest.mark.parametrize("train", [{}, {"ema_decay": 0.9, "optimizer": {"kind": "muon"}}])
def test_written_beside_training_it_is_the_state_of_its_step_byte_for_byte(
    train: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, source, plan = make_state(GPT2, **train)
    run_steps(state, source, plan, 3)
    at_once = save(tmp_path / "at once", state)
    go = threading.Event()
    write = Saver.write
    monkeypatch.setattr(Saver, "write", lambda self, snapshot: (go.wait(60), write(self, snapshot))[1])
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside/config.json").touch()
    with Saver(tmp_path / "beside", ALONE, ModelContents(), beside=True) as saver:
        saver.save(state, {})
        run_steps(state, source, plan, 2)  # training goes on while nothing is written yet
        assert list_checkpoints(tmp_path / "beside") == []
        go.set()
        saver.finish()
    (beside,) = list_checkpoints(tmp_path / "beside")
    for name in ("model/model.safetensors", "state/state.safetensors"):
        assert_same_bits(load_file(beside.path / name), load_file(at_once.path / name))
    verify(beside.path)


def test_a_failure_to_write_beside_training_is_heard(tmp_path: Path) -> None:
    state, _, _ = make_state()
    (tmp_path / "config.json").touch()
    (tmp_path / "checkpoints").write_text("in the way")
    with (
        pytest.raises(OSError, match=r"in the way|exists|Not a directory"),
        Saver(tmp_path, ALONE, ModelContents(), beside=True) as saver,
    ):
        saver.save(state, {})


def test_a_run_folder_that_vanished_is_not_made_anew(tmp_path: Path) -> None:
    """Under a mount point whose disk is gone, it would fill the disk beneath."""
    state, _, _ = make_state()
    with Saver(tmp_path / "gone", ALONE, ModelContents()) as saver, pytest.raises(FileNotFoundError, match="vanished"):
        saver.save(state, {})
    assert not (tmp_path / "gone").exists()


def test_state_is_read_strictly_by_name(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(3.0), "rng/cpu/0": torch.get_rng_state()}
    write_state(tmp_path, tensors, ALONE)
    fresh = {"a": torch.zeros(3), "rng/cpu/7": torch.zeros(2)}
    read_state(tmp_path, fresh, ALONE)  # each rank has its own random state, or none
    assert torch.equal(fresh["a"], tensors["a"])
    for other in ({}, {"a": torch.zeros(3), "b": torch.zeros(1)}):
        with pytest.raises(KeyError, match="a" if not other else "b"):
            read_state(tmp_path, other, ALONE)


def test_a_window_of_spikes_that_was_changed_begins_anew(tmp_path: Path) -> None:
    state, source, plan = make_state()
    run_steps(state, source, plan, 3)
    checkpoint = save(tmp_path, state)
    other, _, _ = make_state(spikes={"window": 16})
    load_checkpoint(checkpoint, other)
    assert not other.spikes.memory.any()
    assert_same_bits(weights(other), weights(state))
    same, _, _ = make_state()
    load_checkpoint(checkpoint, same)
    assert torch.equal(same.spikes.memory, state.spikes.memory)


def test_a_model_that_is_saved_is_not_the_one_that_trains_on(tmp_path: Path) -> None:
    state, _, _ = make_state()
    copied = saving.Snapshot(0, {}, state.parallel.gathered(), state.tensors(), "cpu").copied(state.parallel)
    assert copied.model is not None
    mine = {p.data_ptr() for p in state.model.parameters()} | {t.data_ptr() for t in state.tensors().values()}
    theirs = [p.data_ptr() for p in copied.model.parameters()] + [t.data_ptr() for t in copied.tensors.values()]
    assert not mine & set(theirs)
