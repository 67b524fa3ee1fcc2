"""From a study file to its cells: axes, variants, conditions, derived values, scales; and every mistake in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from folio.errors import ConfigError
from folio.studies.grid.cells import Cell, cells_of, distinct
from folio.studies.grid.study_file import read_study, study_paths
from folio.verbs.study.opening import planned_cells, recipe_keys

GRID = """
seeds = [1, 2]
[axes]
width = { key = "model.n_embd", values = [64, 128] }
"train.optimizer.learning_rate" = [1e-3, 1e-2]
[derived]
"model.n_head" = "width / 32"
"""


def cells(tmp_path: Path, text: str, scale: str = "whole") -> list[Cell]:
    (tmp_path / "study.toml").write_text(text)
    keys = recipe_keys()
    return cells_of(read_study(str(tmp_path / "study.toml"), scale), keys, keys)


def test_every_combination_with_every_seed(tmp_path: Path) -> None:
    found = cells(tmp_path, GRID)
    assert [(cell.values["width"], cell.values["learning_rate"], cell.seed) for cell in found] == [
        (width, rate, seed) for width in (64, 128) for rate in (1e-3, 1e-2) for seed in (1, 2)
    ]
    assert found[-1].settings == {
        "train.seed": 2, "model.n_embd": 128, "train.optimizer.learning_rate": 1e-2, "model.n_head": 4,
    }  # fmt: skip
    assert found[0].words == "width 64, learning_rate 0.001, seed 1"


def test_a_number_of_seeds_counts_from_the_recipes_own(tmp_path: Path) -> None:
    text = "seeds = 3\nrecipe.train.seed = 7\n[axes]\nmodel.n_embd = [12, 24]"
    assert {cell.seed for cell in cells(tmp_path, text)} == {7, 8, 9}


def test_conditions_leave_out_keep_and_set(tmp_path: Path) -> None:
    conditions = """
    [[conditions]]
    when = "width == 128 and learning_rate > 1e-3"
    leave_out = true
    [[conditions]]
    when = "seed == 1"
    keep_only = true
    [[conditions]]
    when = "width == 64"
    set = { "train.steps" = 5 }
    """
    found = cells(tmp_path, GRID + conditions)
    assert [(cell.values["width"], cell.values["learning_rate"]) for cell in found] == [
        (64, 1e-3), (64, 1e-2), (128, 1e-3),
    ]  # fmt: skip
    assert [cell.settings.get("train.steps") for cell in found] == [5, 5, None]


def test_variants_change_keys_together_and_expressions_know_their_names(tmp_path: Path) -> None:
    text = """
    [variants.optimizer.muon]
    train.optimizer.kind = "muon"
    train.optimizer.momentum = 0.9
    [variants.optimizer.adamw]
    "train.optimizer.kind" = "adamw"
    [derived]
    train.steps = "10 if optimizer == 'muon' else train.batch_tokens / 1024"
    """
    muon, adamw = cells(tmp_path, text)
    assert muon.values == {"optimizer": "muon"}
    assert muon.settings["train.optimizer.momentum"] == 0.9
    assert muon.settings["train.steps"] == 10
    assert "train.optimizer.momentum" not in adamw.settings
    assert adamw.settings["train.steps"] == 16


def test_several_grids_share_what_stands_above_them(tmp_path: Path) -> None:
    text = """
    [recipe.train]
    steps = 7
    [axes]
    model.n_embd = [12, 24]
    [grids.words]
    recipe.tokenizer.kind = "word"
    axes.tokenizer.min_count = [1, 3]
    [grids.characters]
    recipe.tokenizer.kind = "char"
    """
    found = cells(tmp_path, text)
    assert [cell.values for cell in found] == [
        *({"grid": "words", "n_embd": width, "min_count": count} for width in (12, 24) for count in (1, 3)),
        *({"grid": "characters", "n_embd": width} for width in (12, 24)),
    ]
    assert {cell.settings["train.steps"] for cell in found} == {7}


def test_a_scale_lies_over_the_whole_study(tmp_path: Path) -> None:
    small = """
    [scales.small]
    seeds = 1
    recipe.train.steps = 3
    axes.width = [32]
    """
    found = cells(tmp_path, GRID + small, "small")
    assert [cell.settings["model.n_embd"] for cell in found] == [32, 32]
    assert {cell.settings["train.steps"] for cell in found} == {3}
    assert len(cells(tmp_path, GRID + small)) == 8


def test_a_base_is_a_preset_or_a_file_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[train]\nsteps = 11\n[model]\nn_layer = 3")
    text = 'base = "own.toml"\nrecipe.train.steps = 12\n[axes]\nmodel.n_embd = [12, 24]'
    first, _ = cells(tmp_path, text)
    assert first.settings["train.steps"] == 12
    assert first.settings["model.n_layer"] == 3
    preset, _ = cells(tmp_path, 'base = "shakespeare"\n[axes]\nmodel.n_embd = [12, 24]')
    assert preset.settings["tokenizer.vocab_size"] == 4096


MISTAKES = {
    "axes.model.n_emdb = [1, 2]": ["unknown key model.n_emdb; did you mean model.n_embd?"],
    "axes.model.n_embd = []": ["n_embd has no values, so the grid is empty"],
    "axes.model.n_embd = [12, 12]": ["n_embd has the value 12 twice"],
    "axes.model.n_embd = 12": ["n_embd is 12, not a list"],
    "seeds = [1, 2, 1]\naxes.model.n_embd = [12, 24]": ["seed 1 is given twice"],
    "seeds = 0\naxes.model.n_embd = [12, 24]": ["seeds must be 1 or more"],
    "axes.train.seed = [1, 2]": ["seeds = [1, 2, 3]"],
    "axes.model.n_embd = [12]": ["varies nothing"],
    'axes.model.n_embd = [12, 24]\nderived."model.n_embd" = "1"': ["derived sets model.n_embd, which axis n_embd sets"],
    'axes.model.n_embd = [12, 24]\nderived."model.n_head" = "widht / 2"': ["there is no widht here"],
    'axes.model.n_embd = [12, 24]\nderived."model.nhead" = "1"': ["did you mean model.n_head?"],
    'axes.a = { key = "model.n_embd", values = [12, 24] }\naxes.b = { key = "model.n_embd", values = [36] }': [
        "axes a and b both set model.n_embd"
    ],
    "axes.a = { kee = 'x', values = [1] }": ["unknown key kee", "Did you mean key?"],
    "recipe.trane.steps = 1\naxes.model.n_embd = [12, 24]": ["unknown key trane.steps; did you mean train.steps?"],
    "axis.model.n_embd = [12, 24]": ["unknown key axis; did you mean axes?"],
    "axes.model.n_embd = [12, 24]\ntuned = ['rate']": ["tuned names 'rate', which is no axis"],
    "axes.model.n_embd = [12, 24]\n[[conditions]]\nwhen = 'n_embd > 1'\nleave_out = true": ["leave no cell at all"],
    "axes.model.n_embd = [12, 24]\n[[conditions]]\nwhen = 'n_embd'\nleave_out = true": ["not true or false"],
    "axes.model.n_embd = [12, 24]\n[[conditions]]\nwhen = 'n_embd > 1'": ["a condition has one of"],
    "axes.model.n_embd = [12, 24]\nvariants.kind = {}": ["variants.kind is empty"],
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_told_in_a_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cells(tmp_path, text)
    assert "\n" not in caught.value.problem
    for words in MISTAKES[text]:
        assert words in str(caught.value)


def test_a_scale_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean small"):
        cells(tmp_path, GRID + "[scales.small]\nseeds = 1", "smal")


def test_a_cell_that_cannot_be_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("recipe.model.n_head = 5\naxes.model.n_embd = [12, 24]")
    with pytest.raises(ConfigError, match=r"cell \(n_embd 12, seed 1337\).*does not divide.*1 more cell"):
        planned_cells(read_study(str(tmp_path / "study.toml")))


def test_equal_content_gives_an_equal_name_and_another_content_another() -> None:
    cell = Cell({"width": 64, "text": "a/b c"}, 1, {})
    assert cell.name({"a": 1, "b": 2}) == cell.name({"b": 2, "a": 1})
    assert cell.name({"a": 1}) != cell.name({"a": 2})
    assert cell.name({}).startswith("width=64_text=a-b-c_seed=1_")
    assert len(Cell({"x": "y" * 500}, 1, {}).name({})) < 120


def test_cells_that_are_the_same_run_are_refused_or_merged() -> None:
    first, second, third = (Cell({"x": x}, 1, {"model.n_embd": x % 2}) for x in (1, 3, 4))

    def content(cell: Cell) -> Any:
        return cell.settings

    with pytest.raises(ConfigError, match=r"the same run: \(x 1, seed 1\) and \(x 3, seed 1\)"):
        distinct([first, second, third], content, merge=False)
    merged = distinct([first, second, third], content, merge=True)
    assert [[cell.values["x"] for cell in members] for members, _ in merged] == [[1, 3], [4]]


@pytest.mark.parametrize("name", study_paths())
def test_shipped_studies_are_sound_at_every_scale(name: str) -> None:
    import tomllib

    scales = tomllib.loads(study_paths()[name].read_text())["scales"]
    assert "ci" in scales
    for scale in ("whole", *scales):
        assert planned_cells(read_study(name, scale))
