"""A study's report: tables that say what the runs say, figures of every axis, one page that fetches nothing."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

from page_checker import check

from folio.reports.study.charts import Line, Place, band_chart
from folio.reports.study.page import study_report
from folio.studies.grid.cells import Cell
from folio.studies.running.records import StudyFolder

MakeStudy = Callable[..., StudyFolder]
STUDY = """
title = "Widths & <starts>"
question = "Is warm better?"
seeds = 2
[axes]
width = { key = "model.n_embd", values = [64, 128, 256] }
[variants.start]
warm = { "train.clip_norm" = 1 }
cold = { "train.clip_norm" = 2 }
"""


def nats(cell: Cell) -> float | str | None:
    if cell.values["width"] == 256 and cell.seed == 1338:
        return {"warm": "no room on the disk", "cold": math.inf}[cell.values["start"]]
    return 3 - cell.values["width"] / 256 + 0.1 * (cell.values["start"] == "cold") + 0.001 * (cell.seed - 1337)


def test_the_page_holds_the_question_the_answer_and_what_was_lost(make_study: MakeStudy) -> None:
    folder = make_study(STUDY, nats)
    _, wrote = study_report(folder)
    page = check(wrote[0].read_text())
    text = " ".join(page.text)
    assert not page.fetches
    for words in ("Is warm better?", "no room on the disk", "the loss diverged", "10 of 12", "1 diverged", "1 failed"):
        assert words in text
    assert page.tags.count("svg") == 2 + 1 + 1 + 3


def test_the_table_of_cells_is_what_the_runs_say(make_study: MakeStudy) -> None:
    folder = make_study(STUDY, nats)
    study_report(folder)
    with open(folder.path / "cells.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    first = rows[0]
    assert (first["width"], first["start"], first["seed"], first["status"]) == ("64", "warm", "1337", "finished")
    assert float(first["nats_per_token"]) == 2.75
    assert float(first["bits_per_byte"]) == 2.75 / math.log(2)
    assert (first["steps"], first["tokens"]) == ("40", str(40 * 4096))
    assert float(first["seconds"]) == 4.0
    from folio.config import build
    from folio.model.accounting import training_flops
    from folio.model.config import GPTConfig

    shape = build(GPTConfig, {"vocab_size": 65, "block_size": 32, "n_layer": 1, "n_head": 1, "n_embd": 32})
    assert float(first["training_flops"]) == training_flops(shape) * 40 * 4096
    markdown = (folder.path / "means.md").read_text().splitlines()
    assert len(markdown) == 2 + 6
    assert markdown[2].startswith("| 256 | warm | 1 |")


def test_figures_are_files_too_and_old_ones_go(make_study: MakeStudy) -> None:
    folder = make_study(STUDY, nats)
    (folder.path / "figures").mkdir()
    (folder.path / "figures" / "of-an-axis-that-is-gone.svg").write_text("<svg/>")
    study_report(folder)
    names = {path.stem for path in (folder.path / "figures").iterdir()}
    assert names == {
        *("nats_per_token-by-width-1", "nats_per_token-by-start-1", "curves"),
        *("nats_per_token-by-seconds", "nats_per_token-by-training_flops", "nats_per_token-by-parameters"),
    }


def test_a_study_of_which_nothing_is_finished_has_a_page(make_study: MakeStudy) -> None:
    _, wrote = study_report(make_study(STUDY, lambda cell: None))
    assert "0 of 12" in " ".join(check(wrote[0].read_text()).text)


def test_merged_cells_stand_in_the_table_for_each_place(make_study: MakeStudy) -> None:
    text = 'equal_cells = "merge"\naxes.free = { values = [1, 2] }\naxes.model.n_embd = [12, 24]'
    folder = make_study(text, lambda cell: 3.0)
    found, _ = study_report(folder)
    results, groups = found.results, found.groups
    assert len({cell.name for cell in results.cells}) == 2
    assert len(results.cells) == len(groups) == 4


def test_a_band_is_drawn_where_there_is_an_interval(tmp_path: Path) -> None:
    places = [Place(1, 2.0, 1.5, 2.5), Place(2, 2.2, 2.0, 2.4), Place(3, 2.1)]
    svg = band_chart([Line("warm", places)], title="t", x_label="x", y_label="y")
    assert svg.count('class="band"') == 1
    assert svg.count("<circle") == 3
    assert "warm, x 3: 2.1" in svg
    assert 'class="band"' not in band_chart([Line("warm", places[2:])], title="t", x_label="x", y_label="y")
