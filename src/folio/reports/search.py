"""What was tried before a run: the figure and the table of a search, and what it decided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import itemgetter

from folio.finetuning.search.halving import Result
from folio.finetuning.search.records import SearchRecord
from folio.finetuning.search.settings import KEYS, RATE, Setting, value_text, words_of
from folio.reports.charts import Series, line_chart
from folio.reports.page import Cell, Page
from folio.reports.sweeps import sweep_caption, sweep_figure

FIGURE = "search.svg"
RATIO_FOR_LOG = 8
"""Values that are further apart than this stand on a logarithmic axis."""


def show_search(page: Page, record: SearchRecord) -> None:
    """A section of ``page``: what was chosen and why, the figure, and every setting."""
    page.section("Learning-rate search", f"Chosen: {record.choice.reason}." if record.choice else "")
    if record.choice is None:
        page.note("The search has not come to its end.")
    for note in record.choice.notes if record.choice else ():
        page.note(note[:1].upper() + note[1:] + ".")
    if not record.results and record.sweep is None:
        return
    page.figures(search_figure(record), caption=_caption(record))
    if record.results:
        header, rows = search_table(record)
        page.table(header, rows)


def search_figure(record: SearchRecord) -> str:
    """Loss against learning rate: a curve for each rung, or the curve of the sweep with what it suggests. SVG."""
    if record.sweep is not None:
        return sweep_figure({0: record.sweep}, record.unit)
    varied = _varied(record.settings)
    across = varied[0] if varied else RATE
    values = [float(setting.values[across]) for setting in record.settings if across in setting.values]
    far = bool(values) and max(values) > RATIO_FOR_LOG * min(values)
    nats = [one.loss.nats for one in record.results if not one.lost]
    steep = bool(nats) and max(nats) > RATIO_FOR_LOG / 2 * min(nats) > 0
    return line_chart(
        _curves(record, across, varied[1:]),
        title="What each setting came to",
        x_label=words_of(across),
        y_label=f"validation, nats per {record.unit}",
        log_x=far,
        log_y=steep,
    )


def search_table(record: SearchRecord) -> tuple[list[str], list[list[Cell]]]:
    """Header and rows: a row for each setting, the best first, with its loss at each rung it came to."""
    names = list(record.settings[0].values) if record.settings else []
    rungs = _rungs(record)
    header = [words_of(name) for name in names]
    header += [_rung_words(record, rung) for rung in rungs]
    trained = any(one.loss.train_nats is not None for one in record.results)
    header += ["± s.e.", *["training"] * trained, "seconds", ""]
    rows: list[list[Cell]] = []
    for setting, results in _best_first(record):
        by_rung = {one.rung: one for one in results}
        last = results[-1]
        losses: list[Cell] = [_nats(by_rung[rung]) if rung in by_rung else None for rung in rungs]
        seconds = sum(one.seconds for one in results)
        values = [value_text(name, setting.values[name]) for name in names]
        training: list[Cell] = [last.loss.train_nats] * trained
        outcome = _outcome(record, setting, last)
        rows.append([*values, *losses, last.loss.standard_error, *training, seconds, outcome])
    return header, rows


def _best_first(record: SearchRecord) -> list[tuple[Setting, list[Result]]]:
    """The settings with their results by rung; those that came furthest first, then by loss, lost ones last."""
    tried = []
    for setting in record.settings:
        results = sorted((one for one in record.results if one.setting == setting.number), key=lambda one: one.rung)
        if results:
            tried.append((setting, results))
    return sorted(
        tried, key=lambda one: (bool(one[1][-1].lost), -one[1][-1].rung, _or_infinite(one[1][-1]), one[0].rate)
    )


def _outcome(record: SearchRecord, setting: Setting, last: Result) -> str:
    if last.lost:
        return f"lost: {last.lost}"
    chosen = record.choice is not None and record.choice.values == setting.keys()
    return "chosen" if chosen else ""


def _curves(record: SearchRecord, across: str, others: Sequence[str]) -> list[Series]:
    """A curve for each rung, and of each for every combination of what else is varied: no other points are joined.

    Where something else is varied, each setting stands where it came to in the end.
    """
    number_of = {setting.number: setting for setting in record.settings}
    groups: dict[str, list[Result]] = {}
    several = len(_rungs(record)) > 1
    if others:
        for setting, results in _best_first(record):
            last = results[-1]
            label = " · ".join(value_text(name, setting.values[name]) for name in others)
            label = f"{words_of(others[0])} {label}" if len(others) == 1 else label
            label += f", {last.step:,} steps" if several else ""
            groups.setdefault(label, []).append(last)
    else:
        for rung in _rungs(record):
            groups[_rung_words(record, rung)] = [one for one in record.results if one.rung == rung]
    curves = []
    for colour, (label, members) in enumerate(groups.items()):
        sound = [one for one in members if not one.lost]
        points = sorted(((float(number_of[one.setting].values[across]), one) for one in sound), key=itemgetter(0))
        curves.append(
            Series(label, [x for x, _ in points], [one.loss.nats for _, one in points], dots=True, colour=colour)
        )
        for x, one in points:
            if one.loss.standard_error is not None:
                ends = [one.loss.nats - one.loss.standard_error, one.loss.nats + one.loss.standard_error]
                curves.append(Series("", [x, x], ends, colour=colour))
    return curves


def _caption(record: SearchRecord) -> str:
    if record.sweep is None:
        others = _varied(record.settings)[1:]
        named = f" Labels: {' · '.join(map(words_of, others))}." if len(others) > 1 else ""
        share = " Settings differ in their number of steps: a rung is the same share of each one's own."
        bars = "Bars: ± one standard error over the validation examples, the same ones for every setting."
        joined = " Only settings that differ in nothing but the learning rate are joined." if others else ""
        return f"{bars}{named}{joined}{share * _steps_differ(record)}"
    return sweep_caption({0: record.sweep})


def _varied(settings: Sequence[Setting]) -> list[str]:
    """What differs between the settings, the learning rate first."""
    names = list(settings[0].values) if settings else []
    return [name for name in KEYS if name in names and len({one.values[name] for one in settings}) > 1]


def _rungs(record: SearchRecord) -> list[int]:
    return sorted({one.rung for one in record.results})


def _rung_words(record: SearchRecord, rung: int) -> str:
    """What a rung is called: by its steps, and by its number too where those are not the same for each setting."""
    steps = {one.step for one in record.results if one.rung == rung}
    if not _steps_differ(record):
        return f"{steps.pop():,} steps"
    return f"rung {rung}: " + " to ".join(f"{end:,}" for end in sorted({min(steps), max(steps)})) + " steps"


def _steps_differ(record: SearchRecord) -> bool:
    """Whether on one rung some settings take more steps than others."""
    return len({(one.rung, one.step) for one in record.results}) > len(_rungs(record))


def _nats(result: Result) -> float | None:
    return None if result.lost else result.loss.nats


def _or_infinite(result: Result) -> float:
    return math.inf if result.lost else result.loss.nats
