"""Where an adapter's base is looked for, and what is said if it is not there or is another."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from adapted_models import make_adapter, make_base, make_checkpoint, opened, told

import folio
from folio.artifacts import MANIFEST
from folio.cli import main
from folio.errors import ArtifactError, Unreachable
from folio.verbs.adapted import place_of

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


def test_the_base_is_found_from_the_working_directory_and_after_both_have_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    base = make_base(Path("runs/base/model"))
    run = Path("runs/tuned")
    make_checkpoint(run, 1, base)
    expected = opened(run)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError):
        folio.load(base)
    assert torch.equal(opened(here / run), expected)
    here.rename(tmp_path / "there")
    assert torch.equal(opened("there/runs/tuned"), expected)


def test_what_lies_in_the_working_directory_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is held against the manifest: another model of that name is refused, not taken."""
    monkeypatch.chdir(tmp_path)
    make_base(tmp_path / "a" / "base")
    adapter = make_adapter(tmp_path / "a" / "adapter", tmp_path / "a" / "base", called="base")
    assert place_of(adapter).home == (tmp_path / "a" / "base").resolve()
    other = make_base(tmp_path / "base", seed=9)
    assert place_of(adapter).home == Path("base")
    assert f"other weights (sha256 {sha_of(tmp_path / 'a' / 'base')}) than those of 'base'" in told(adapter).problem
    shutil.rmtree(other)
    folio.load(adapter, device="cpu")


def sha_of(folder: Path) -> str:
    files = json.loads((folder / MANIFEST).read_text())["files"]
    found: str = files["model.safetensors"]["sha256"][:12]
    return found


def test_a_base_that_is_nowhere_is_one_line_and_can_be_named(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_checkpoint(tmp_path / "run", 1, base, called="models/that-is-gone/model")
    text = tmp_path / "text.txt"
    text.write_text("abc def\n" * 30)
    for verb, *flags in (("generate", "--prompt", "a"), ("evaluate", "--text", str(text))):
        assert main([verb, str(tmp_path / "run"), *flags]) == 2
        problem, remedy = capsys.readouterr().err.strip().splitlines()
        assert problem.startswith(f"folio: the base of adapter '{tmp_path}/run/checkpoints/step-00000001/adapter' was")
        assert "'models/that-is-gone/model' does not exist" in problem
        assert "--base MODEL" in remedy
        assert "folio finetune merge" in remedy
    assert main(["generate", str(tmp_path / "run"), "--base", str(base), "--prompt", "a", "--max-new-tokens", "2"]) == 0
    other = make_base(tmp_path / "whole")
    assert torch.equal(opened(tmp_path / "run", base=base), opened(tmp_path / "run", base=other))


def test_a_base_on_the_hub_is_looked_for_there(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, called="no-such-organization/no-such-model")
    error = told(adapter)
    assert isinstance(error, Unreachable)
    assert "'no-such-organization/no-such-model' is no folder here, and the hub cannot be reached" in error.problem
    assert "--base" in error.remedy


def test_a_base_that_the_hub_has_is_taken_from_there(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    adapter = make_adapter(tmp_path / "adapter", base, called="org/name")
    expected = opened(adapter, base=base)
    held = {"org/name": base, "org/adapter": adapter}
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **_: str(held[name]))
    assert torch.equal(opened(adapter), expected)
    assert torch.equal(opened("org/adapter"), expected)


def test_an_adapter_that_names_no_base_says_so(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base)
    (adapter / MANIFEST).unlink()
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": None}))
    assert "does not say which model it was made for" in told(adapter).problem
    folio.load(adapter, device="cpu", base=base)


def test_a_base_of_other_weights_or_another_shape_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base)
    assert "made for other weights" in told(adapter, make_base(tmp_path / "retrained", seed=5)).problem
    assert "another shape: n_embd 48, not 24" in told(adapter, make_base(tmp_path / "narrow", n_embd=24)).problem
    (adapter / MANIFEST).unlink()  # as PEFT writes it
    assert "has the shape" in told(adapter, tmp_path / "narrow").problem
    assert "made for another model" in told(adapter, make_base(tmp_path / "llama", "llama")).problem
    folio.load(adapter, device="cpu", base=tmp_path / "retrained")  # nothing tells them apart


def test_a_whole_model_has_no_base_and_an_adapter_is_none(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base)
    assert "is a whole model: it has no base" in told(base, base).problem
    assert "a base has to be a whole model" in told(adapter, adapter).problem
    with pytest.raises(ArtifactError, match="is no adapter; it is a whole model"):
        folio.load(base, device="cpu").add_adapter(base, "b")
