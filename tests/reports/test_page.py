"""A page is one well-formed file that fetches nothing and shows text as text."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from page_checker import check

from folio.reports.charts import Series, line_chart
from folio.reports.page import Page, Stat, flatten


def full_page(text: str) -> Page:
    page = Page(text, text, kind=text)
    page.headline([Stat(text, text, text, text)])
    for _ in range(3):
        page.section(text, text)
    page.paragraph(text)
    page.note(text)
    page.figures(line_chart([Series(text, [1, 2], [3, 4])], title=text), caption=text)
    page.table([text, "n"], [[text, 1], [text * 20, None]], caption=text)
    page.key_values({text: text, "nested": {text: [text]}})
    page.sample(text, title=text, prompt=text)
    page.details(text, {text: text})
    page.details(text, text, open=True)
    return page


@pytest.mark.parametrize(
    "text", ["plain", "<script>alert(1)</script><b>&amp;", "\" onload='x' ]]> --> </pre>", "\ud800\x00é"]
)
def test_a_page_is_well_formed_and_shows_any_text_as_text(text: str, tmp_path: Path) -> None:
    path = full_page(text).write(tmp_path / "page.html")
    checker = check(path.read_text(encoding="utf-8"))
    assert checker.tags.count("script") == 1, "only the page's own"
    assert "b" in checker.tags
    shown = text.replace("\ud800", "?").replace("\x00", "�")
    assert "".join(checker.text).count(shown) >= 15


def test_numbers_stand_right_and_share_their_decimals() -> None:
    page = Page("t")
    page.table(["run", "loss", "n"], [["a", 3.4002, 181_233], ["b", 3.25, None]])
    html = page.html()
    assert '<th class="number">loss</th>' in html
    assert '<td class="number" title="3.4002">3.4002</td>' in html
    assert '<td class="number" title="3.25">3.2500</td>' in html
    assert '<td class="number">181,233</td>' in html
    assert "<td>a</td>" in html


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        ([0.0041873, 0.0042], ["0.00419", "0.00420"]),
        ([1e-9, 5.0], ["1e-9", "5"]),
        ([math.nan, math.inf], ["–", "∞"]),
        ([0.0, 0.0], ["0", "0"]),
        ([40969.4], ["40,969"]),
    ],
)
def test_fractions_are_readable_at_any_size(column: list[float], shown: list[str]) -> None:
    page = Page("t")
    page.table(["x"], [[value] for value in column])
    assert re.findall(r"<td[^>]*>([^<]*)</td>", page.html()) == shown


def test_numbers_that_come_as_text_stand_right_and_words_do_not() -> None:
    page = Page("t")
    page.table(["x", "y"], [["1,234", "+0.2 to +0.3"], ["", "12"], ["12.5%", ""], ["-1.0 points", ""], ["3e-4", ""]])
    html = page.html()
    assert '<th class="number">x</th><th>y</th>' in html
    assert '<td class="number">1,234</td><td>+0.2 to +0.3</td>' in html


def test_only_a_long_table_scrolls_in_a_box_of_its_own() -> None:
    for count, box in ((30, "scroll"), (300, "scroll tall")):
        page = Page("t")
        page.table(["n"], [[number] for number in range(count)])
        assert f'<div class="{box}"><table>' in page.html()


def test_an_empty_table_and_an_empty_page_are_pages_too() -> None:
    page = Page("t")
    page.table(["a", "b"], [])
    page.key_values({})
    assert check(page.html()).tags.count("th") == 2


def test_nested_configuration_becomes_dotted_keys() -> None:
    assert flatten({"a": {"b": {"c": 1}}, "d": {}, "e": [1]}) == {"a.b.c": 1, "d": {}, "e": [1]}
