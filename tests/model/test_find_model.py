"""A run, a checkpoint, a model folder and an adapter all name a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from model_shapes import SHAPES, random_model

from folio import artifacts
from folio.errors import ArtifactError
from folio.model.find import best_index, find_model, is_adapter
from folio.model.folder import save_model


def checkpoint(run: Path, step: int, loss: float | None) -> Path:
    folder = run / "checkpoints" / f"step-{step:08d}"
    (folder / "model").mkdir(parents=True)
    save_model(random_model(SHAPES["gpt2"]), folder / "model")
    artifacts.write_manifest(folder, "checkpoint", {} if loss is None else {"nats_per_token": loss})
    (run / "config.json").write_text("{}")
    return folder / "model"


def test_a_run_means_its_best_checkpoint(tmp_path: Path) -> None:
    checkpoint(tmp_path, 100, 3.0)
    best = checkpoint(tmp_path, 200, 2.0)
    checkpoint(tmp_path, 300, 2.5)
    checkpoint(tmp_path, 400, float("nan"))
    checkpoint(tmp_path, 500, None)
    assert find_model(tmp_path) == best
    assert find_model(str(best.parent)) == best
    assert find_model(best) == best


def test_an_unvalidated_run_means_its_newest_checkpoint(tmp_path: Path) -> None:
    checkpoint(tmp_path, 900, None)
    newest = checkpoint(tmp_path, 1000, None)
    assert find_model(tmp_path) == newest


def adapter(folder: Path) -> Path:
    """The files that tell an adapter, as PEFT names them."""
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_text("{}")
    return folder


def test_an_adapter_is_found_as_a_model_is(tmp_path: Path) -> None:
    """Itself, in a checkpoint, and in the best checkpoint of a run; which of the two it is can be asked."""
    alone = adapter(tmp_path / "alone")
    assert find_model(alone) == alone
    for step, loss in ((1, 2.0), (2, 1.0), (3, 1.5)):
        folder = tmp_path / "run" / "checkpoints" / f"step-{step:08d}"
        adapter(folder / "adapter")
        artifacts.write_manifest(folder, "checkpoint", {"nats_per_token": loss})
    best = tmp_path / "run" / "checkpoints" / "step-00000002"
    assert find_model(tmp_path / "run") == find_model(best) == find_model(best / "adapter") == best / "adapter"
    whole = checkpoint(tmp_path / "other", 1, 1.0)
    asked = [is_adapter(folder) for folder in (best / "adapter", alone, whole, best)]
    assert asked == [True, True, False, False]


def test_a_folder_with_all_weights_is_a_model_whatever_else_lies_in_it(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 1, 1.0)
    (folder / "adapter_config.json").write_text("{}")
    assert find_model(folder) == folder
    assert not is_adapter(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_half_an_adapter_is_still_one(name: str, tmp_path: Path) -> None:
    """So that what opens it says what is missing."""
    folder = adapter(tmp_path / "adapter")
    (folder / name).unlink()
    assert is_adapter(find_model(folder))


def test_a_checkpoint_that_is_still_being_written_does_not_count(tmp_path: Path) -> None:
    good = checkpoint(tmp_path, 1, 5.0)
    (tmp_path / "checkpoints" / ".step-00000003.tmp-x" / "model").mkdir(parents=True)
    assert find_model(tmp_path) == good


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("{")], ids=["removed", "damaged"])
def test_a_damaged_manifest_is_named_with_the_checkpoints_that_remain(
    damage: Callable[[Path], object], tmp_path: Path
) -> None:
    """Its loss is not known: another checkpoint taken without a word might be worse than it."""
    good = checkpoint(tmp_path, 1, 5.0).parent
    bad = checkpoint(tmp_path, 2, 1.0).parent
    damage(bad / "manifest.json")
    with pytest.raises(ArtifactError, match=r"step-00000002.*the best checkpoint of .* is not known") as caught:
        find_model(tmp_path)
    assert caught.value.remedy == f"Restore it, or name another checkpoint of the run: '{good}'."
    assert find_model(good) == good / "model"


@pytest.mark.parametrize(
    ("losses", "best"),
    [([], None), ([None, None], 1), ([3.0, 1.0, None, 1.0, 2.0], 3), ([float("nan"), float("inf")], 1), ([2.0], 0)],
)
def test_the_best_is_the_lowest_loss_and_the_newest_of_equals(losses: list[float | None], best: int | None) -> None:
    assert best_index(losses) == best


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("x")])
def test_what_is_no_model_is_refused(make, tmp_path: Path) -> None:
    make(tmp_path / "x")
    with pytest.raises(ArtifactError):
        find_model(tmp_path / "x")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="no complete checkpoint"):
        find_model(tmp_path / "run")
