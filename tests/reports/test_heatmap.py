"""A heat map shows each number in its cell, in a colour of its sign, as well-formed SVG."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import pytest

from folio.reports.heatmap import heat_map

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert('1')</script> & \"q\" \x00\x1b\ud800"
VALUES = [[1.0, -0.5, 0.0], [-0.5, 1.0, math.nan], [0.0, math.nan, 1.0]]


def cells(svg: str) -> list[tuple[str, ElementTree.Element]]:
    root = ElementTree.fromstring(svg.encode("utf-8"))
    groups = [group for group in root.iter(f"{SVG}g") if group.find(f"{SVG}rect") is not None]
    return [(str(group.findtext(f"{SVG}title")), group) for group in groups]


def test_every_pair_has_a_cell_with_its_number_and_sign() -> None:
    found = cells(heat_map(["love", "war", "\n"], VALUES, title="Cosines", value_label="cosine"))
    assert [title for title, _ in found][:3] == [
        "love and love: 1.0000",
        "love and war: −0.5000",
        "love and \\n: 0.0000",
    ]
    assert [group.findtext(f"{SVG}text") for _, group in found] == [
        *("1.00", "−0.50", "0.00", "−0.50", "1.00", "–", "0.00", "–", "1.00")
    ]
    fills = [rect.attrib["fill"] for _, group in found if (rect := group.find(f"{SVG}rect")) is not None]
    assert "series-0" in fills[0]
    assert "series-1" in fills[1]
    assert fills[5] == "none"


def test_the_deeper_the_further_from_zero() -> None:
    found = cells(heat_map(["a", "b"], [[0.9, 0.3], [-0.6, 0.0]], title="t"))
    depths = [float(rect.attrib["fill-opacity"]) for _, g in found if (rect := g.find(f"{SVG}rect")) is not None]
    assert depths[3] == 0 < depths[1] < depths[2] < depths[0] < 0.7


@pytest.mark.parametrize(
    "svg",
    [
        heat_map([], [], title="nothing"),
        heat_map(["one"], [[1.0]], title="one"),
        heat_map([NASTY, "b"], [[1, 0], [0, 1]], title=NASTY, value_label=NASTY),
        heat_map([f"word {n}" for n in range(40)], [[-1.0] * 40] * 40, title="many"),
    ],
)
def test_any_heat_map_is_well_formed_and_accessible(svg: str) -> None:
    root = ElementTree.fromstring(svg.encode("utf-8"))
    assert root.attrib["role"] == "img"
    assert root.findtext(f"{SVG}desc")
    assert not list(root.iter(f"{SVG}script"))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for rect in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
