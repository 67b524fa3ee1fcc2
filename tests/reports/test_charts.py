"""Charts are well-formed SVG that shows what it was given."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import pytest

from folio.reports.charts import DARK_PALETTE, Series, bar_chart, histogram, line_chart, standalone
from folio.reports.drawing import LIGHT_PALETTE

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert('1')</script> & \"q\" \x00\x1b\ud800"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.encode("utf-8"))


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter(f"{SVG}text")]


def places(svg: str) -> Iterator[tuple[float, float]]:
    for line in parsed(svg).iter(f"{SVG}polyline"):
        for pair in line.attrib["points"].split():
            x, y = pair.split(",")
            yield float(x), float(y)


@pytest.mark.parametrize(
    "svg",
    [
        line_chart([Series(NASTY, [1, 2], [3, 4])], title=NASTY, x_label=NASTY, y_label=NASTY),
        line_chart([], title="nothing"),
        line_chart([Series("all bad", [1, 2], [math.nan, math.inf])], title="bad"),
        line_chart([Series("one", [1], [0.0])], title="one step", log_x=True),
        line_chart([Series("same", [5, 5], [2, 2])], title="same"),
        line_chart([Series("huge", [1, 2], [-1e308, 1e308])], title="huge"),
        line_chart([Series(str(n), [0, 1], [n, n]) for n in range(40)], title="many"),
        histogram([], title="nothing"),
        histogram([3.0], title="one", log_x=True),
        histogram([math.nan, -1, 0, 5, 50], title="mixed", log_x=True),
        bar_chart({}, title="nothing"),
        bar_chart({NASTY: 3, "nan": math.nan, "below": -1.0}, title=NASTY, value_label=NASTY),
    ],
)
def test_any_chart_is_well_formed_accessible_and_not_a_script(svg: str) -> None:
    root = parsed(svg)
    assert root.attrib["role"] == "img"
    assert root.findtext(f"{SVG}title")
    assert root.findtext(f"{SVG}desc")
    assert not list(root.iter(f"{SVG}script"))
    assert "nan" not in " ".join(element.attrib.get("points", "") for element in root.iter())


def test_a_curve_lies_within_its_axes_and_goes_the_right_way() -> None:
    svg = line_chart([Series("loss", [0, 1, 2], [9.0, 4.0, 3.0])], title="Loss")
    data = json.loads(parsed(svg).attrib["data-points"])
    drawn = list(places(svg))
    assert [x for x, _ in drawn] == sorted(x for x, _ in drawn)
    assert [y for _, y in drawn] == sorted(y for _, y in drawn), "lower loss is lower on the page"
    assert all(data["x"]["start"] - 0.05 <= x <= data["x"]["end"] + 0.05 for x, _ in drawn)
    assert all(data["y"]["end"] - 0.05 <= y <= data["y"]["start"] + 0.05 for _, y in drawn)


def test_hover_has_the_values_themselves() -> None:
    svg = line_chart([Series("a", [1, 2, 3], [0.12345678, math.nan, 5])], title="t", x_label="step")
    data = json.loads(parsed(svg).attrib["data-points"])
    assert data["series"][0]["points"] == [[1, 0.12345678], [3, 5]]
    assert data["x"]["label"] == "step"


def test_a_value_that_cannot_be_drawn_leaves_a_gap() -> None:
    svg = line_chart([Series("a", range(5), [1, 2, math.nan, 3, 4])], title="t")
    assert len(list(parsed(svg).iter(f"{SVG}polyline"))) == 2


def test_a_long_curve_is_thinned_but_keeps_its_spike() -> None:
    ys = [1.0] * 100_000
    ys[55_555] = 50.0
    svg = line_chart([Series("a", range(100_000), ys)], title="t")
    assert len(svg) < 200_000
    points = json.loads(parsed(svg).attrib["data-points"])["series"][0]["points"]
    assert [55_555.0, 50.0] in points


def test_curves_are_labelled_at_their_ends_without_overlap_and_faint_ones_are_not() -> None:
    svg = line_chart(
        [Series("train", [0, 1], [2, 1]), Series("val", [0, 1], [2, 1]), Series("raw", [0, 1], [2, 1], True)], title="t"
    )
    rows = {e.text: float(e.attrib["y"]) for e in parsed(svg).iter(f"{SVG}text") if e.text in ("train", "val", "raw")}
    assert set(rows) == {"train", "val"}
    assert abs(rows["train"] - rows["val"]) >= 12


def test_a_histogram_counts_every_value_once() -> None:
    svg = histogram([1, 1, 2, 10, math.nan], title="t", bins=9)
    tips = [rect.findtext(f"{SVG}title") or "" for rect in parsed(svg).iter(f"{SVG}rect")]
    counts = [int(tip.rsplit(": ", 1)[1]) for tip in tips]
    assert counts == [2, 1, 0, 0, 0, 0, 0, 0, 1]
    assert "median: 2" in texts(svg)


def test_the_axis_of_a_histogram_reaches_its_marks_and_the_bars_stay_where_their_values_are() -> None:
    values = [1.0, 1.0, 2.0, 3.0, 5.0]
    plain, marked = (histogram(values, title="t", bins=5, marks=marks) for marks in ([], [("context", 21.0)]))
    lefts = [[float(rect.attrib["x"]) for rect in parsed(svg).iter(f"{SVG}rect")] for svg in (plain, marked)]
    assert lefts[0][0] == lefts[1][0]
    assert lefts[1][4] - lefts[1][0] == pytest.approx((lefts[0][4] - lefts[0][0]) / 5, abs=0.2)  # 1..5 of 1..21
    assert "context: 21" in texts(marked)
    assert "context: 21" in (parsed(marked).findtext(f"{SVG}desc") or "")


def test_bars_are_as_long_as_their_values() -> None:
    bars = list(parsed(bar_chart({"a": 100, "b": 50, "c": 0}, title="t")).iter(f"{SVG}rect"))
    a, b, c = (float(bar.attrib["width"]) for bar in bars)
    assert b == pytest.approx(a / 2, abs=0.1)
    assert c == 1.0


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance of ``#rrggbb``."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_stands_out_from_its_background() -> None:
    for palette, paper in ((LIGHT_PALETTE, "#fdfdfc"), (DARK_PALETTE, "#15181c")):
        for colour in palette:
            high, low = sorted((luminance(colour), luminance(paper)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 3.0, f"{colour} on {paper}: WCAG asks 3:1 of graphics"


def test_a_standalone_chart_is_a_file_for_light_and_dark() -> None:
    svg = standalone(line_chart([Series("a", [1, 2], [3, 4])], title="t"))
    style = parsed(svg).findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme: dark" in style
    assert DARK_PALETTE[0] in style
