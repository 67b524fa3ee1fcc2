"""Training figures as files for print: one each, in the width of a column, told apart without colour.

Needs matplotlib, of the extra ``study``. Curves differ by colour (Okabe and Ito 2008) and by dashes or markers, so that
a grey copy still reads. Equal numbers give equal bytes of SVG.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from folio.artifacts import write_file
from folio.errors import require
from folio.reports.drawing import LIGHT_PALETTE
from folio.reports.figures import Curve, TrainingFigure
from folio.reports.records import RunRecord, number
from folio.reports.scales import log_ticks, runs_of_points, short_number, thin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Format = Literal["svg", "png", "pdf"]
EXTRA = "study"
INCHES = {1: (3.3, 2.2), 2: (7.0, 3.0)}
"""Width and height over one column of a page, and over two: 84 and 178 mm wide."""
DOTS_PER_INCH = 300
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MARKED = 40
"""A curve of more points than this is drawn without markers."""
BUCKETS = 500
"""A long curve is thinned to four points for each of so many parts, its highs and lows kept."""
TICKS = 5
"""About how many a logarithmic axis has."""
INK = "#1d2126"
STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dcdfe2",
    "grid.linewidth": 0.4,
    "axes.axisbelow": True,
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "pdf.fonttype": 42,
    "svg.hashsalt": "folio",
    "text.parse_math": False,
    "path.simplify": True,
}


def require_matplotlib() -> None:
    """:class:`~folio.errors.MissingExtra` if it is not installed; to be asked before anything is written."""
    require("matplotlib", EXTRA)


def write_figures(
    figures: Iterable[TrainingFigure],
    folder: Path,
    *,
    formats: Sequence[Format] = ("svg",),
    columns: int = 1,
    fonts: Literal["text", "paths"] = "text",
) -> list[Path]:
    """Write each figure into ``folder`` in each format, named by its name, as wide as one or two ``columns`` of a page.

    Returns where they lie, in order. ``fonts``: text stays text in an SVG, to be searched and set in the font of the
    page, or becomes paths, which look the same anywhere. Other files of the folder are left alone.
    :class:`~folio.errors.MissingExtra` without matplotlib.
    """
    require_matplotlib()
    import matplotlib

    style: Any = {**STYLE, "svg.fonttype": "none" if fonts == "text" else "path"}
    written = []
    for figure in figures:
        with matplotlib.rc_context(style):
            drawn = _drawn(figure, INCHES[columns])
            for kind in formats:
                buffer = io.BytesIO()
                date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
                drawn.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=date)
                write_file(folder / f"{figure.name}.{kind}", buffer.getvalue())
                written.append(folder / f"{figure.name}.{kind}")
    return written


def _drawn(figure: TrainingFigure, inches: tuple[float, float]) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullLocator

    drawn = Figure(figsize=inches, layout="constrained")
    axes = drawn.add_subplot()
    if figure.log_y:
        axes.set_yscale("log")
    lines: dict[str, Line2D] = {}
    for curve in figure.curves:
        line = _draw(axes, curve, figure)
        if line is not None and not curve.quiet and curve.label in figure.labels:
            lines.setdefault(curve.label, line)
    axes.set_xlabel(figure.x_label)
    axes.set_ylabel(f"{figure.quantity} ({figure.y_label})" if figure.quantity else figure.y_label)
    axes.margins(x=0.02)
    if figure.log_y:
        axes.set_yticks(log_ticks(*axes.get_ylim(), TICKS))
        axes.yaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, place: short_number(value)))
    _legend(axes, figure, lines)
    return drawn


def _draw(axes: Axes, curve: Curve, figure: TrainingFigure) -> Line2D | None:
    """One curve, cut where a value cannot be drawn; its first piece, or None if there is no value."""
    first = None
    colour = LIGHT_PALETTE[curve.number % len(LIGHT_PALETTE)]
    by_dashes = figure.several and not any(one.dashed for one in figure.curves)
    dashes = DASHES[curve.number % len(DASHES)] if by_dashes and not curve.faint else "--" if curve.dashed else "-"
    for piece in runs_of_points(curve.xs, curve.ys, log_x=False, log_y=figure.log_y):
        points = thin(piece, BUCKETS)
        marked = len(points) == 1 or (curve.dots and len(points) <= MARKED)
        (line,) = axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=colour,
            alpha=0.5 if curve.faint else 1.0,
            linewidth=0.6 if curve.faint else None,
            linestyle=dashes,
            marker=MARKERS[curve.number % len(MARKERS)] if marked else None,
            zorder=2 if curve.faint else 3,
        )
        first = first or line
    return first


def _legend(axes: Axes, figure: TrainingFigure, lines: Mapping[str, Line2D]) -> None:
    from matplotlib.lines import Line2D

    if not lines:
        return
    named = list(lines.items())
    if any(curve.dashed for curve in figure.curves):
        styles: Any = (("training", "-"), ("validation", "--"))
        named += [(label, Line2D([], [], color="#5d656d", linestyle=style)) for label, style in styles]
    legend = axes.legend([line for _, line in named], ["."] * len(named), loc="best")
    for text, (label, _) in zip(legend.get_texts(), named, strict=True):
        text.set_text(label)  # one that begins with an underscore would be left out


def write_curves(names: Sequence[str], records: Sequence[RunRecord], to: Path) -> Path:
    """Write every number of training and validation of these runs to ``to`` as CSV, a row for each line of metrics.

    Columns are run, kind and step, then each numeric key that a line has, by its name in ``metrics.jsonl``; what a line
    lacks, or is no finite number, stays empty.
    """
    rows = [
        (name, line)
        for name, record in zip(names, records, strict=True)
        for line in record.lines
        if line["kind"] in ("train", "validation")
    ]
    keys = dict.fromkeys(key for _, line in rows for key in line if key not in ("kind", "step"))
    numeric = [key for key in keys if any(math.isfinite(number(line, key)) for _, line in rows)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "kind", "step", *numeric])
    for name, line in rows:
        values = (line[key] if math.isfinite(number(line, key)) else "" for key in numeric)
        writer.writerow([name, line["kind"], line["step"], *values])
    write_file(to, out.getvalue())
    return to
