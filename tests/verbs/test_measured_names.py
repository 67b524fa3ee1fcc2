"""Which run a model belongs to, and the names that files about it get, from wherever the command is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from folio.checksums import sealed_json
from folio.verbs import train as train_verb
from folio.verbs.evaluate.text import distinct_short_names, run_of, short_name, training_of


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run, with a checkpoint, beside a plain folder."""
    folder = tmp_path / "runs" / "mine"
    (folder / "checkpoints" / "step-00000004" / "model").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("{}")
    (folder / "config.json").write_text(sealed_json({}))
    (tmp_path / "runs" / "plain").mkdir()
    recipe: dict[str, Any] = {"train": {"seed": 1}}
    monkeypatch.setattr(train_verb, "saved_recipe", lambda run: recipe)
    return folder


def test_a_command_given_in_a_runs_folder_takes_other_models_for_no_part_of_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    for other in ("../plain", "openai-community/gpt2", "absent"):
        assert run_of(Path(other)) is None
        assert training_of(other) is None
    assert short_name("../plain") == "plain"
    assert short_name("openai-community/gpt2") == "gpt2"


@pytest.mark.parametrize(
    ("place", "given", "name", "checkpoint"),
    [
        (".", ".", "mine", "."),
        ("checkpoints", "step-00000004", "mine-step-00000004", "checkpoints/step-00000004"),
        ("../plain", "../mine/checkpoints/step-00000004", "mine-step-00000004", "checkpoints/step-00000004"),
        ("..", "mine", "mine", "."),
    ],
)
def test_a_run_and_its_checkpoints_are_known_from_any_folder(
    run: Path, monkeypatch: pytest.MonkeyPatch, place: str, given: str, name: str, checkpoint: str
) -> None:
    monkeypatch.chdir(run / place)
    assert run_of(Path(given)) == run
    assert short_name(given) == name
    trained = training_of(given)
    assert trained is not None
    assert trained["checkpoint"] == checkpoint
    absolute = training_of(str(Path(given).resolve()))
    assert absolute == trained, "nothing of where this machine keeps it"


def test_names_that_are_numbered_never_meet_a_name_that_is_there() -> None:
    assert distinct_short_names(["p/base", "q/base", "r/base-1"]) == ["base-2", "base-3", "base-1"]
    assert distinct_short_names(["a", "x/b", "y/b"]) == ["a", "b-1", "b-2"]
    assert distinct_short_names(["r/base-1", "s/base-1", "p/base", "q/base"]) == [
        "base-1-1", "base-1-2", "base-1", "base-2",
    ]  # fmt: skip
