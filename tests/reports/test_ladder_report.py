"""The staircase, the table and the page of a ladder say what was measured, and what was not."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from ladder_world import findings, pretend
from page_checker import check

from folio.reports.ladder import ladder_page, ladder_table, markdown, verdict, write_ladder
from folio.reports.staircase import ratio_text, staircase
from folio.studies.ladder.results import Findings, Loss, Spread

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return findings(pretend(tmp_path_factory.mktemp("ladder")))


def test_every_measured_rung_is_a_stair(found: Findings) -> None:
    root = ElementTree.fromstring(staircase(found))
    tips = [title.text or "" for group in root.iter(f"{SVG}g") for title in group.findall(f"{SVG}title")]
    measured = [row for row in found.rows if row.tokens_per_s is not None]
    assert [tip.partition(":")[0] for tip in tips] == [row.name for row in measured]
    names = [text.text for text in root.iter(f"{SVG}text") if text.get("transform")]
    assert names == [row.name for row in measured]


def test_stairs_are_as_high_as_their_speed(found: Findings) -> None:
    root = ElementTree.fromstring(staircase(found))
    bars = [group.find(f"{SVG}rect") for group in root.iter(f"{SVG}g")]
    heights = [float(bar.get("height") or 0) for bar in bars if bar is not None]
    speeds = [row.tokens_per_s or 0.0 for row in found.rows if row.tokens_per_s is not None]
    assert len(heights) == len(speeds)
    for height, speed in zip(heights, speeds, strict=True):
        assert height / heights[0] == pytest.approx(speed / speeds[0], rel=0.02)


def test_what_was_taken_out_is_dashed(found: Findings) -> None:
    drawn = re.findall(r"<title>(\w+):[^<]*</title><rect[^>]*stroke-dasharray", staircase(found))
    assert drawn == ["compile", "ddp"]
    assert "measured, not kept" in staircase(found)


def test_steep_stairs_stand_on_a_logarithmic_axis(found: Findings) -> None:
    rows = [replace(row, tokens_per_s=row.tokens_per_s and row.tokens_per_s**2) for row in found.rows]
    root = ElementTree.fromstring(staircase(replace(found, rows=rows)))
    heights = [float(bar.get("height") or 0) for g in root.iter(f"{SVG}g") if (bar := g.find(f"{SVG}rect")) is not None]
    steps = [b - a for a, b in pairwise(heights)]
    assert max(steps) - min(steps) < 0.5, "equal ratios are equal steps"


def test_without_losses_the_figure_is_speed_alone(found: Findings) -> None:
    rows = [replace(row, loss=None, equal_time=None) for row in found.rows]
    svg = staircase(replace(found, rows=rows))
    ElementTree.fromstring(svg)
    assert "held-out loss" not in svg


@pytest.mark.parametrize(("ratio", "text"), [(0.99, "×0.99"), (1.655, "×1.66"), (24.13, "×24.1"), (386.2, "×386")])
def test_ratios_have_three_digits(ratio: float, text: str) -> None:
    assert ratio_text(ratio) == text


def test_the_page_holds_together(found: Findings) -> None:
    checker = check(ladder_page(found).html())
    text = " ".join(checker.text)
    for row in found.rows:
        assert row.name in text
    assert "needs a CUDA GPU" in text
    assert "4.18" in text, "times the plain one, at the top of the same model"


def test_the_files_hold_the_same_table(found: Findings, tmp_path: Path) -> None:
    wrote = write_ladder(found, tmp_path)
    assert {path.name for path in wrote} == {"report.html", "ladder.svg", "ladder.md", "ladder.csv", "ladder.json"}
    header, rows = ladder_table(found)
    with open(tmp_path / "ladder.csv", newline="") as file:
        table = list(csv.reader(file))
    assert table == [header, *[["" if cell is None else str(cell) for cell in row] for row in rows]]
    kept = json.loads((tmp_path / "ladder.json").read_text())
    assert [rung["name"] for rung in kept["rungs"]] == [row.name for row in found.rows]
    assert kept["summary"]["top"]["rung"] == "qknorm"
    assert kept["machine"]["name"] == "a CPU"
    lines = markdown(found).splitlines()
    assert sum(line.startswith("| ") for line in lines) == 2 + sum(row.tokens_per_s is not None for row in found.rows)
    assert "- tf32: not here, needs a CUDA GPU" in lines


def test_a_rung_that_learns_less_is_said_to(found: Findings) -> None:
    row = found.row("bf16")
    assert verdict(row).startswith("learns more in as many steps: 0.041")
    assert "learns less" in verdict(replace(row, loss=Loss(3.0, 0.1, 100, 0.2, 0.01)))
    assert "learns as much" in verdict(replace(row, loss=Loss(3.0, 0.1, 100, 0.002, 0.01)))
    assert verdict(replace(row, loss=None)) == "no loss was measured"


def test_a_single_rung_is_drawn(found: Findings) -> None:
    alone = replace(found, rows=[replace(found.rows[0], to_bottom=Spread(1, 1, 1))])
    ElementTree.fromstring(staircase(alone))
