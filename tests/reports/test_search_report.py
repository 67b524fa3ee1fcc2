"""The section of a search says what was chosen and shows all that was tried."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from page_checker import check

from folio.finetuning.search.choice import choose, choose_by_sweep
from folio.finetuning.search.config import SearchConfig
from folio.finetuning.search.halving import Loss, Result
from folio.finetuning.search.records import SearchRecord
from folio.finetuning.search.settings import Setting, settings_of
from folio.reports.charts import standalone
from folio.reports.page import Page
from folio.reports.search import search_figure, search_table, show_search
from folio.training.rate_curve import Sweep, rate_text


def halved(**keys: object) -> SearchRecord:
    """Two rungs: losses rise with the distance of the rate from 1e-3; the last setting is lost."""
    settings = settings_of(SearchConfig.model_validate({"kind": "list", "learning_rates": (1e-4, 1e-3, 1e-2), **keys}))
    record = SearchRecord("list", "token", {}, settings, [40] * len(settings))
    for setting in settings[:-1]:
        loss = Loss(3 + abs(math.log10(setting.rate or 1e-3) + 3) + setting.number / 1000, 0.05, 2.9)
        record.results.append(Result(setting.number, 1, 20, loss, 1.0))
    record.results.append(Result(settings[-1].number, 1, 20, Loss(math.nan), 1.0, "the loss diverged"))
    for setting in settings[1:3] if len(settings) > 3 else settings[:2]:
        record.results.append(Result(setting.number, 2, 40, Loss(2.5 + setting.number / 100, 0.05, 2.4), 2.0))
    record.choice = choose(settings, record.results, "token")
    return record


def swept(ended: str = "") -> SearchRecord:
    rates = np.geomspace(1e-6, 1, 80)
    losses = 4 - 2 / (1 + np.exp(-4 * np.log10(rates / 1e-3))) + np.maximum(0, np.log10(rates / 1e-2)) ** 4
    sweep = Sweep(tuple(rates.tolist()), tuple(losses.tolist()), (4.0,) * 80, ended)
    record = SearchRecord("range", "token", {}, sweep=sweep)
    record.choice = choose_by_sweep(sweep)
    return record


def page_of(record: SearchRecord) -> str:
    page = Page("A run")
    show_search(page, record)
    return page.html()


@pytest.mark.parametrize(
    "record",
    [
        halved(),
        halved(rank=(4, 8)),
        halved(rank=(4, 8), epochs=(1.0, 2.5)),
        halved(learning_rates=(), rank=(4, 8, 16)),
        swept(),
        swept("at 1 the perplexity was four times the best"),
        SearchRecord("list", "token", {}),
        SearchRecord("range", "pair", {}, sweep=Sweep((), (), (4.0,) * 40, "the loss became nan")),
    ],
)
def test_any_search_makes_a_whole_page_and_a_figure(record: SearchRecord) -> None:
    text = " ".join(check(page_of(record)).text)
    assert "Learning-rate search" in text
    assert ("not come to its end" in text) == (record.choice is None)
    svg = standalone(search_figure(record))
    assert "nan" not in svg
    assert ElementTree.fromstring(svg.encode()).tag.endswith("svg")


def test_the_page_says_what_was_chosen_why_and_what_to_doubt() -> None:
    record = halved(learning_rates=(1e-3, 1e-2, 1e-1))
    text = " ".join(check(page_of(record)).text)
    assert "Chosen: learning rate 1e-3: the lowest validation loss, 2.5100 ± 0.0500 nats/token after 40 steps" in text
    assert "Learning rate 1e-3 is the lowest that was tried: a lower one may be better." in text
    assert "lost: the loss diverged" in text


def test_the_table_has_a_row_for_each_setting_the_best_first() -> None:
    header, rows = search_table(halved())
    assert header == ["learning rate", "20 steps", "40 steps", "± s.e.", "training", "seconds", ""]
    assert [row[0] for row in rows] == ["1e-4", "1e-3", "0.01"]
    assert rows[0][-1] == "chosen"
    assert rows[0][2] == 2.51
    assert rows[2][1:4] == [None, None, None]


def test_the_figure_has_a_curve_for_each_rung_and_bars_for_errors() -> None:
    svg = search_figure(halved())
    assert "20 steps" in svg
    assert "40 steps" in svg
    assert svg.count("<polyline") == 2 + 4  # two curves, and a bar for each of four losses


def test_only_what_is_alike_but_for_the_rate_is_joined() -> None:
    values = [(1e-4, 4, 512), (3e-4, 8, 512), (5e-4, 8, 256), (7e-4, 8, 512), (9e-4, 8, 512)]
    names = ("learning_rate", "rank", "batch_tokens")
    settings = [Setting(n, dict(zip(names, value, strict=True))) for n, value in enumerate(values, 1)]
    record = SearchRecord("random", "token", {}, settings, [7, 7, 10, 7, 7])
    for one in settings:
        steps = 5 if one.number == 3 else 4
        record.results.append(Result(one.number, 1, steps, Loss(6 - one.number / 10), 1.0))
    record.results += [Result(number, 2, 7, Loss(5 - number / 10), 1.0) for number in (4, 5)]
    svg = search_figure(record)
    labels = ["8 · 512, 7 steps", "8 · 256, 5 steps", "8 · 512, 4 steps", "4 · 512, 4 steps"]
    assert all(label in svg for label in labels)
    assert svg.count("<polyline") == 1, "of five settings two differ in nothing but the rate and the luck of a rung"
    header, _ = search_table(record)
    assert header[3:5] == ["rung 1: 4 to 5 steps", "rung 2: 7 steps"]
    text = " ".join(check(page_of(record)).text)
    assert "Only settings that differ in nothing but the learning rate are joined." in text
    assert "a rung is the same share of each one's own" in text


def test_the_sweep_marks_what_it_suggests() -> None:
    record = swept()
    assert record.choice is not None
    svg = search_figure(record)
    assert f"suggested {rate_text(record.choice.values['train.optimizer.learning_rate'])}" in svg
    assert "lowest " in svg
