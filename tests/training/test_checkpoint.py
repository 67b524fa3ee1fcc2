"""Checkpoints are whole or not there, open in Hugging Face's library, and are kept by a rule."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_training import GPT2, SHAPE, assert_same_bits, make_state, run_steps, save, weights

from folio.errors import ArtifactError
from folio.training.checkpoint import (
    KEPT,
    best_checkpoint,
    keep_checkpoint,
    list_checkpoints,
    newest_sound_checkpoint,
    put_back_exchanged,
    remove_surplus,
    set_aside_after,
    weights_sha256,
)
from folio.training.saving import load_checkpoint


def saved(run: Path, losses: dict[int, float | None], **train: Any) -> Any:
    """A state and its checkpoints after the given steps, with the given validation losses."""
    state, source, plan = make_state(**train)
    for step, loss in losses.items():
        run_steps(state, source, plan, step - state.step)
        save(run, state, {} if loss is None else {"nats_per_token": loss})
    return state, source, plan


def steps(run: Path) -> list[int]:
    return [checkpoint.step for checkpoint in list_checkpoints(run)]


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("train", [{}, {"optimizer": {"kind": "muon"}, "ema_decay": 0.9}])
def test_a_loaded_checkpoint_goes_on_with_the_same_bits(train: dict[str, Any], tmp_path: Path) -> None:
    state, source, plan = saved(tmp_path, {3: 1.0}, **train)
    run_steps(state, source, plan, 3)
    again, source, plan = make_state(**train)
    load_checkpoint(list_checkpoints(tmp_path)[0], again)
    assert again.step == 3
    run_steps(again, source, plan, 3)
    assert_same_bits(weights(again), weights(state))
    assert weights_sha256(again.model) == weights_sha256(state.model)


@pytest.mark.parametrize("shape", [SHAPE, GPT2, GPT2.model_copy(update={"tie_embeddings": False})])
def test_transformers_opens_its_model_with_equal_logits(shape: Any, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    state, source, plan = make_state(shape)
    run_steps(state, source, plan, 3)
    checkpoint = save(tmp_path, state, {})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(checkpoint.model, dtype=torch.float32).eval()
    ids = torch.from_numpy(source.batch(9)[:, :-1])
    with torch.no_grad(), state.shipping_weights() as model:
        ours, expected = model(ids), theirs(ids).logits
    assert (ours - expected).abs().max() < 1e-5 * ours.std()


def test_the_average_is_what_ships(tmp_path: Path) -> None:
    state, _, _ = saved(tmp_path, {4: None}, ema_decay=0.9)
    shipped = load_file(tmp_path / "checkpoints/step-00000004/model/model.safetensors")
    assert state.ema is not None
    assert torch.equal(shipped["model.embed_tokens.weight"], state.ema["embed.weight"][: SHAPE.vocab_size])
    raw = load_file(tmp_path / "checkpoints/step-00000004" / STATE)["weights/embed.weight"]
    assert torch.equal(raw, state.model.embed.weight)
    assert not torch.equal(raw, state.ema["embed.weight"])


def test_names_have_no_prefix_and_weights_are_loaded_strictly(tmp_path: Path) -> None:
    """Weights saved from a compiled model carry a prefix; loaded leniently, they would stay random without a word."""
    saved(tmp_path, {1: None})
    checkpoint = list_checkpoints(tmp_path)[0]
    file = checkpoint.model / "model.safetensors"
    tensors = load_file(file)
    assert all(name.startswith(("model.", "lm_head.")) for name in tensors)
    save_file({f"_orig_mod.{name}": value for name, value in tensors.items()}, file, {"format": "pt"})
    fresh, _, _ = make_state()
    with pytest.raises(ArtifactError, match="damaged"):
        load_checkpoint(checkpoint, fresh)
    from folio.model.folder import load_model

    with pytest.raises(ArtifactError, match="missing"):
        load_model(checkpoint.model, verify=False)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


WEIGHTS, STATE = "model/model.safetensors", "state/state.safetensors"


@pytest.mark.parametrize(
    ("damage", "name"),
    [(damage, name) for damage in (cut_short, Path.unlink) for name in (WEIGHTS, STATE, "manifest.json")]
    + [(flip, WEIGHTS), (flip, STATE)],
)
def test_the_newest_checkpoint_is_passed_over_if_it_is_damaged(name: str, damage: Any, tmp_path: Path) -> None:
    saved(tmp_path, {2: 2.0, 4: 1.0})
    damage(tmp_path / "checkpoints/step-00000004" / name)
    checkpoint, passed_over = newest_sound_checkpoint(tmp_path)
    assert checkpoint.step == 2
    assert len(passed_over) == 1
    assert "step-00000004" in passed_over[0]


def test_a_damaged_checkpoint_does_not_outlive_sound_ones(tmp_path: Path) -> None:
    """Left in place it would be the newest, and clearing away would keep it and drop what was saved since."""
    state, source, plan = saved(tmp_path, {2: None, 6: None})
    (tmp_path / "checkpoints/step-00000006/manifest.json").write_text("{")
    checkpoint, _ = newest_sound_checkpoint(tmp_path)
    set_aside_after(tmp_path, checkpoint.step)
    state, source, plan = make_state()
    load_checkpoint(checkpoint, state)
    run_steps(state, source, plan, 2)
    save(tmp_path, state, {})
    remove_surplus(tmp_path, keep_last=1, keep_every=0)
    assert steps(tmp_path) == [4]
    run_steps(state, source, plan, 2)
    save(tmp_path, state, {})
    assert newest_sound_checkpoint(tmp_path)[0].step == 6


def test_no_sound_checkpoint_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="has no checkpoint to go on from"):
        newest_sound_checkpoint(tmp_path)
    saved(tmp_path, {1: None})
    flip(tmp_path / "checkpoints/step-00000001/state/state.safetensors")
    with pytest.raises(ArtifactError, match=r"no checkpoint to go on from \(.*is damaged"):
        newest_sound_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("keep_last", "keep_every", "kept"),
    [(1, 0, [5, 7]), (2, 0, [5, 6, 7]), (1, 2, [2, 4, 5, 6, 7]), (9, 0, [1, 2, 3, 4, 5, 6, 7])],
)
def test_the_newest_the_best_and_every_nth_are_kept(
    keep_last: int, keep_every: int, kept: list[int], tmp_path: Path
) -> None:
    losses = {1: 5.0, 2: 4.0, 3: 1.0, 4: None, 5: 1.0, 6: 3.0, 7: 2.0}
    saved(tmp_path, losses)
    leftover = tmp_path / "checkpoints/.step-00000009.tmp-abc"
    leftover.mkdir()
    remove_surplus(tmp_path, keep_last=keep_last, keep_every=keep_every)
    assert steps(tmp_path) == kept
    assert not leftover.exists()
    best = best_checkpoint(list_checkpoints(tmp_path))
    assert best is not None
    assert best.step == 5  # of two equally good, the newer


def test_a_checkpoint_that_others_build_on_is_kept_until_its_mark_is_removed(tmp_path: Path) -> None:
    saved(tmp_path, {step: 9.0 - step for step in range(1, 5)})
    first = tmp_path / "checkpoints/step-00000001"
    before = sorted(path.name for path in first.rglob("*"))
    for _ in range(2):
        assert keep_checkpoint(first / "model", "runs/lora") is None
    assert keep_checkpoint(first, "runs/other") is None
    assert keep_checkpoint(tmp_path, "runs/lora") is None  # in no checkpoint
    assert json.loads((tmp_path / KEPT).read_text()) == {first.name: ["runs/lora", "runs/other"]}
    assert sorted(path.name for path in first.rglob("*")) == before  # its manifest is sealed
    remove_surplus(tmp_path, keep_last=2, keep_every=0)
    assert steps(tmp_path) == [1, 3, 4]
    (tmp_path / KEPT).unlink()
    remove_surplus(tmp_path, keep_last=2, keep_every=0)
    assert steps(tmp_path) == [3, 4]


def test_where_the_marks_cannot_be_read_nothing_is_cleared_away(tmp_path: Path) -> None:
    saved(tmp_path, {1: 2.0, 2: 1.0})
    (tmp_path / KEPT).write_text("[")
    remove_surplus(tmp_path, keep_last=1, keep_every=0)
    assert steps(tmp_path) == [1, 2]
    told = keep_checkpoint(tmp_path / "checkpoints/step-00000001", "runs/lora")
    assert told is not None
    assert "kept.json' is damaged" in told


def test_a_run_that_may_only_be_read_is_told_of_and_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, {1: 2.0})

    def refuse(path: Path, content: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("folio.training.checkpoint.write_file", refuse)
    told = keep_checkpoint(tmp_path / "checkpoints/step-00000001/model", "runs/lora")
    assert told is not None
    assert "cannot be marked as kept (Read-only file system): its run, if trained on, may clear it away" in told
    assert not (tmp_path / KEPT).exists()


@pytest.mark.parametrize(
    ("train", "shape", "told"),
    [
        ({"optimizer": {"kind": "muon"}}, SHAPE, "another optimizer or precision"),
        ({"ema_decay": 0.9}, SHAPE, "another optimizer or precision"),
        ({}, SHAPE.model_copy(update={"n_layer": 3}), "a model of another shape"),
        ({}, SHAPE.model_copy(update={"rope_theta": 500.0}), "a model of another shape"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(train: dict[str, Any], shape: Any, told: str, tmp_path: Path) -> None:
    saved(tmp_path, {1: None})
    other, _, _ = make_state(shape, **train)
    with pytest.raises(ArtifactError, match=told):
        load_checkpoint(list_checkpoints(tmp_path)[0], other)


FILLING = """
import errno, resource, signal, sys
from pathlib import Path
sys.path.insert(0, TESTS)
from tiny_training import make_state, run_steps, save
from folio.cli import system_trouble
state, source, plan = make_state()
run_steps(state, source, plan, 1)
run = Path(sys.argv[1])
if sys.argv[2] == "limit":
    save(run, state, {})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    run_steps(state, source, plan, 1)
try:
    while True:
        save(run, state, {})
        run_steps(state, source, plan, 1)
except Exception as error:
    trouble = system_trouble(error)
    print(state.step, type(error).__name__, trouble.problem if trouble else error)
"""


def fill(run: Path, how: str) -> str:
    code = FILLING.replace("TESTS", repr(str(Path(__file__).parent)))
    done = subprocess.run([sys.executable, "-c", code, str(run), how], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no permission to mount a small disk")
    try:
        told = fill(disk / "run", "disk")
        assert "the disk is full" in told, told
        assert_only_whole_ones_are_left(disk / "run", int(told.split()[0]))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_file_that_cannot_be_written_whole_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    told = fill(tmp_path / "run", "limit")
    assert told.startswith("2 ")
    assert_only_whole_ones_are_left(tmp_path / "run", 2)


def assert_only_whole_ones_are_left(run: Path, failed: int) -> None:
    """Every step before the one whose saving failed is whole, and nothing of that one is left."""
    checkpoint, damaged = newest_sound_checkpoint(run)
    assert damaged == []
    assert checkpoint.step == failed - 1 >= 1
    assert len(list((run / "checkpoints").iterdir())) == failed - 1
    load_checkpoint(checkpoint, make_state()[0])


def test_a_kill_amid_the_exchange_of_a_checkpoint_does_not_lose_it(tmp_path: Path) -> None:
    """The same step saved again takes the old folder away before the new one gets its name."""
    saved(tmp_path, {2: None})
    taken = tmp_path / "checkpoints/.step-00000002.old-abc"
    taken.mkdir()
    (tmp_path / "checkpoints/step-00000002").rename(taken / "folder")
    put_back_exchanged(tmp_path)
    assert newest_sound_checkpoint(tmp_path)[0].step == 2
