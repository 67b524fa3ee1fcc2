"""A report as one HTML file: everything inline, nothing fetched, readable from disk in a light or a dark room."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from folio.artifacts import write_file
from folio.reports.scales import short_number
from folio.reports.style import SCRIPT, STYLE

Cell = str | int | float | None
NUMBER = ' class="number"'
LONG = ' class="long"'
TALL = 40
"""A table of more rows than this scrolls in a box of its own; a shorter one stands there whole."""
AS_NUMBER = re.compile(r"[<+−-]?[\d,]*\.?\d+(e-?\d+)?[kMGT]?( ?%| points| [kMGT]?B)?|[−-]?∞|–|")
"""Text that is a number: it stands right as numbers do."""


@dataclass(frozen=True, slots=True)
class Stat:
    """A headline number: what it is, its value as written, its unit, and a note beneath (n, standard error)."""

    label: str
    value: str
    unit: str = ""
    note: str = ""


class Page:
    """A report that is written from top to bottom; every text given to it is escaped, only ``figures`` takes markup.

    Nothing here draws: charts come ready from :mod:`folio.reports.charts`.
    """

    def __init__(self, title: str, subtitle: str = "", *, kind: str = "report") -> None:
        self.title = title
        self.subtitle = subtitle
        self.kind = kind
        self._body: list[str] = []
        self._sections: list[str] = []

    def section(self, title: str, intro: str = "") -> None:
        """Begin a section; it also appears in the line of links under the title."""
        self._sections.append(title)
        self._body.append(f'<h2 id="section-{len(self._sections)}">{_text(title)}</h2>')
        if intro:
            self.paragraph(intro)

    def paragraph(self, text: str) -> None:
        self._body.append(f"<p>{_text(text)}</p>")

    def note(self, text: str) -> None:
        """A paragraph set apart: something the reader should know before trusting the rest."""
        self._body.append(f'<p class="note">{_text(text)}</p>')

    def headline(self, stats: Iterable[Stat]) -> None:
        """The numbers that matter, large."""
        cards = "".join(
            f'<div class="stat"><dt>{_text(one.label)}</dt><dd>{_text(one.value)}'
            + (f'<span class="unit"> {_text(one.unit)}</span>' if one.unit else "")
            + (f'<span class="aside">{_text(one.note)}</span>' if one.note else "")
            + "</dd></div>"
            for one in stats
        )
        self._body.append(f'<dl class="headline">{cards}</dl>')

    def figures(self, *svgs: str, caption: str = "") -> None:
        """Charts in a grid: wide ones fill the page, half ones stand two in a row. Takes SVG as it is."""
        cells = "".join(f'<div class="cell">{svg}</div>' for svg in svgs)
        below = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
        self._body.append(f'<figure><div class="grid">{cells}</div>{below}</figure>')

    def table(self, header: Sequence[str], rows: Iterable[Sequence[Cell]], *, caption: str = "") -> None:
        """A table; numbers stand right. Fractions of a column share their decimals, and show in full on hover."""
        columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in header]
        classes = [NUMBER if _is_numeric(column) else "" for column in columns]
        written = [_cells(column) for column in columns]
        head = "".join(f"<th{c}>{_text(name)}</th>" for c, name in zip(classes, header, strict=True))
        lines = "".join(f"<tr>{''.join(row)}</tr>" for row in zip(*written, strict=True))
        title = f"<caption>{_text(caption)}</caption>" if caption else ""
        box = "scroll tall" if max(map(len, columns), default=0) > TALL else "scroll"
        self._body.append(
            f'<div class="{box}"><table>{title}<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
        )

    def key_values(self, values: Mapping[str, object]) -> None:
        """Names and values, a line each; nested mappings are written as ``outer.inner``."""
        self._body.append(_key_values(values))

    def sample(self, text: str, *, title: str = "", prompt: str = "") -> None:
        """Text as the model wrote it, spaces and line ends kept; ``prompt`` is set off before it."""
        head = f'<div class="sample-title">{_text(title)}</div>' if title else ""
        lead = f"<b>{_text(prompt)}</b>" if prompt else ""
        self._body.append(f'<div class="sample">{head}<pre>{lead}{_text(text)}</pre></div>')

    def samples(self, texts: Iterable[tuple[str, str]], *, prompt: str = "") -> None:
        """Texts with their titles, side by side where there is room; above them the ``prompt`` that they go on from."""
        cells = "".join(
            f'<div class="sample"><div class="sample-title">{_text(title)}</div><pre>{_text(text)}</pre></div>'
            for title, text in texts
        )
        lead = f'<pre class="prompt"><b>{_text(prompt)}</b></pre>' if prompt else ""
        self._body.append(f'{lead}<div class="beside">{cells}</div>')

    def details(self, summary: str, content: Mapping[str, object] | str, *, open: bool = False) -> None:
        """Something folded away: a mapping as key-value lines, or text as it is."""
        inner = f"<pre>{_text(content)}</pre>" if isinstance(content, str) else _key_values(content)
        shown = " open" if open else ""
        self._body.append(f"<details{shown}><summary>{_text(summary)}</summary>{inner}</details>")

    def html(self) -> str:
        """The whole page."""
        links = "".join(f'<a href="#section-{n}">{_text(t)}</a>' for n, t in enumerate(self._sections, 1))
        nav = f"<nav>{links}</nav>" if len(self._sections) > 2 else ""
        subtitle = f'<p class="subtitle">{_text(self.subtitle)}</p>' if self.subtitle else ""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f"<title>{_text(self.title)} · Folio</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
            f'<header><p class="kind">Folio · {_text(self.kind)}</p><h1>{_text(self.title)}</h1>{subtitle}{nav}'
            "</header>\n"
            + "\n".join(self._body)
            + f"\n<footer>Written by Folio on {now}. This page is one file and fetches nothing.</footer>\n"
            f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
        )

    def write(self, path: Path) -> Path:
        """Write the page, atomically, and return where."""
        write_file(path, self.html())
        return path


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested mappings as one level, keys joined with dots; an empty mapping stays as a value."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _key_values(values: Mapping[str, object]) -> str:
    rows = "".join(
        f"<div><dt>{_text(key)}</dt><dd>{_text(_written(value))}</dd></div>" for key, value in flatten(values).items()
    )
    return f'<dl class="pairs">{rows}</dl>'


def _written(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return "–" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _is_numeric(column: Iterable[Cell]) -> bool:
    values = [value for value in column if value is not None and value != ""]
    return bool(values) and all(not isinstance(one, str) or AS_NUMBER.fullmatch(one) for one in values)


def _cells(column: Sequence[Cell]) -> list[str]:
    """The ``<td>`` elements of one column."""
    finite = [abs(value) for value in column if isinstance(value, float) and math.isfinite(value)]
    decimals = _decimals(finite)
    css = NUMBER if _is_numeric(column) else ""
    cells = []
    for value in column:
        if isinstance(value, float):
            short = f"{value:,.{decimals}f}" if decimals is not None and math.isfinite(value) else short_number(value)
            cells.append(f'<td{css} title="{value!r}">{short}</td>')
        elif isinstance(value, str):
            cells.append(f"<td{LONG if len(value) > 60 else css}>{_text(value)}</td>")
        else:
            cells.append(f"<td{css}>{'–' if value is None else f'{value:,}'}</td>")
    return cells


def _decimals(sizes: Sequence[float]) -> int | None:
    """Decimals that give the largest number five digits (three if it is below 0.1); fewer where all would end in 0.

    None if that would hide the smallest one.
    """
    largest, smallest = max(sizes, default=0.0), min((size for size in sizes if size), default=0.0)
    if not smallest:
        return 0
    if smallest < 1e-5 or largest > 1e12:
        return None
    most = max(0, (4 if largest >= 0.1 else 2) - math.floor(math.log10(largest)))
    if smallest < 10.0 ** (1 - most):
        return None
    written = [f"{size:.{most}f}".rstrip("0").partition(".")[2] for size in sizes]
    return max(map(len, written))


def _text(text: str) -> str:
    """Escaped for HTML, also within quotes; a character that UTF-8 cannot hold becomes ``?``, and NUL ``�``."""
    return escape(text.encode("utf-8", "replace").decode("utf-8").replace("\0", "�"))
