"""Which cells share a learning rate, and by which of them it is searched."""

from __future__ import annotations

from pathlib import Path

from folio.studies.grid.study_file import read_study
from folio.verbs.study.opening import planned_cells
from folio.verbs.study.rates import Family, families_of

STUDY = """
seeds = 2
[grids.words.axes]
min_count = { key = "tokenizer.min_count", values = [1, 3, 5] }
width = { key = "model.n_embd", values = [24, 48] }
[grids.words.recipe]
tokenizer.kind = "word"
[grids.characters.axes]
width = { key = "model.n_embd", values = [24, 48] }
[grids.characters.recipe]
tokenizer.kind = "char"
[rates]
for_each = FOR_EACH
"""


def families(home: Path, for_each: str, before: tuple[str, ...] = (), counts: str = "[1, 3, 5]") -> list[Family]:
    file = home / "study.toml"
    file.write_text(STUDY.replace("FOR_EACH", for_each).replace("[1, 3, 5]", counts))
    study = read_study(str(file))
    return families_of(study, planned_cells(study), before)


def test_cells_are_shared_out_by_the_axes_and_searched_in_the_middle(tmp_path: Path) -> None:
    found = families(tmp_path, '["grid", "width"]')
    assert [(one.words, len(one.places)) for one in found] == [
        *((f"grid words, width {width}", 6) for width in (24, 48)),
        *((f"grid characters, width {width}", 2) for width in (24, 48)),
    ]
    assert found[1].cell.words == "grid words, min_count 3, width 48, seed 1337"
    assert found[1].recipe.tokenizer.min_count == 3


def test_cells_without_an_axis_are_a_family_of_their_own(tmp_path: Path) -> None:
    assert [one.words for one in families(tmp_path, '["min_count"]')] == [
        *(f"min_count {count}" for count in (1, 3, 5)),
        "those without min_count",
    ]
    assert [(one.words, len(one.places)) for one in families(tmp_path, "[]")] == [("all cells", 16)]


def test_a_family_that_grows_is_searched_by_the_same_cell(tmp_path: Path) -> None:
    searched = tuple(one.cell.words for one in families(tmp_path, '["grid", "width"]'))
    grown = families(tmp_path, '["grid", "width"]', searched, "[1, 3, 5, 7, 9]")
    assert tuple(one.cell.words for one in grown) == searched
    assert families(tmp_path, '["grid", "width"]', (), "[1, 3, 5, 7, 9]")[0].cell.values["min_count"] == 5
