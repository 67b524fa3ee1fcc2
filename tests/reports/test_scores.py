"""The page of an evaluation and that of a comparison show every number with its interval, and the verdict in words."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from made_up_evaluations import choices, evaluation, losses, write
from page_checker import check

from folio.artifacts import verify
from folio.evaluation.comparing.comparison import Arm, compare_arms
from folio.evaluation.results import read_evaluation
from folio.reports.intervals import Interval, interval_chart
from folio.reports.scores import comparison_report, evaluation_report, forests

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert('1')</script> & \"q\" \x00\x1b\ud800"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.encode("utf-8"))


def words(html: str) -> str:
    return " ".join(check(html).text)


@pytest.mark.parametrize(
    "svg",
    [
        interval_chart([], title="nothing"),
        interval_chart([Interval(NASTY, 1.0, 0.5, 1.5, NASTY)], title=NASTY, x_label=NASTY, reference=0.0),
        interval_chart([Interval("one item", 1.0, math.nan, math.nan)], title="no interval", reference=0.0),
        interval_chart([Interval("none", math.nan, math.nan, math.nan)], title="no value"),
        interval_chart([Interval("same", 0.0, 0.0, 0.0)], title="same", reference=0.0),
        interval_chart([Interval("wide", 0.0, -math.inf, math.inf)], title="endless", reference=0.0),
    ],
)
def test_any_forest_is_well_formed_accessible_and_not_a_script(svg: str) -> None:
    root = parsed(svg)
    assert root.attrib["role"] == "img"
    assert root.findtext(f"{SVG}title")
    assert root.findtext(f"{SVG}desc")
    assert not list(root.iter(f"{SVG}script"))
    places = [
        value for element in root.iter() for key, value in element.attrib.items() if key in ("x1", "x2", "cx", "d")
    ]
    assert not any("nan" in value or "inf" in value for value in places)


def test_lines_span_their_intervals_on_one_axis_and_hold_their_dots() -> None:
    rows = [Interval("a", 1.0, 0.0, 2.0), Interval("b", 3.0, 2.0, 4.0), Interval("c", -1.0, -3.0, 1.0)]
    root = parsed(interval_chart(rows, title="t", reference=0.0))
    lines = [line for line in root.iter(f"{SVG}line") if line.get("class") == "interval"]
    starts, ends = ([float(line.attrib[key]) for line in lines] for key in ("x1", "x2"))
    dots = [float(dot.attrib["cx"]) for dot in root.iter(f"{SVG}circle")]
    assert ends[0] == pytest.approx(starts[1], abs=0.2), "2 lies where 2 lies"
    for start, dot, end in zip(starts, dots, ends, strict=True):
        assert dot == pytest.approx((start + end) / 2, abs=0.2)
    assert dots[2] < dots[0] < dots[1]


def test_the_page_of_an_evaluation_shows_each_score_with_its_interval_and_leaves_the_folder_sound(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "eval", choices([1] * 30 + [0] * 70), losses([30, 50, 45], [10, 20, 15], [40, 70, 50]))
    page = evaluation_report(read_evaluation(folder))
    assert page == folder / "report.html"
    text = words(page.read_text(encoding="utf-8"))
    for shown in ("quiz.plain acc", "n = 100 items", "95 % 0.2189 to 0.3958", "perplexity", "bits_per_byte", "sha256"):
        assert shown in text
    verify(folder, "evaluation")
    assert evaluation_report(read_evaluation(folder), tmp_path / "other.html").is_file()


def test_the_page_of_a_comparison_says_the_verdict_and_what_is_not_counted(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    right = (draw.random(300) < 0.4).astype(int)
    arms = [
        Arm(name, (evaluation(name, choices(answers)),))
        for name, answers in (
            (NASTY, right),
            ("much better", np.maximum(right, draw.random(300) < 0.3)),
            ("like", right),
        )
    ]
    comparisons, notes = compare_arms(arms)
    page = comparison_report(arms, comparisons, notes, tmp_path / "deep" / "page.html")
    html = page.read_text(encoding="utf-8")
    text = words(html)
    assert "better with n = 300" in text
    assert "the two score the same on every item" in text
    assert "another seed of training would change is not counted" in text
    assert "McNemar" in text
    assert html.count('class="interval"') == 2


def test_each_score_has_a_forest_in_its_own_unit_that_says_which_side_is_better() -> None:
    arms = [
        Arm(name, (evaluation(name, choices([1, 0, answer] * 9), losses([3 + x] * 9, [4] * 9, [9] * 9)),))
        for name, answer, x in (("a", 0, 0.0), ("b", 1, -0.5))
    ]
    charts = forests(compare_arms(arms)[0])
    assert len(charts) == 3
    assert "percentage points (further right is better)" in charts[0]
    assert "+33.3 points: better" in charts[0]
    assert "further left is better" in charts[1]
