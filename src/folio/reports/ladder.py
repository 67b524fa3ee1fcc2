"""A ladder as its folder shows it: a figure, a table as page, markdown and csv, and all numbers as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from folio.artifacts import write_file
from folio.reports.charts import standalone
from folio.reports.page import Cell, Page, Stat
from folio.reports.quantities import size_text
from folio.reports.scales import short_number
from folio.reports.staircase import ratio_text, staircase
from folio.reports.tables import as_csv, as_markdown
from folio.studies.ladder.results import Findings, Loss, Row, Spread, harmed

HEADER = (
    "rung", "what it changes", "tokens/s", "x below", "x plain", "least to most", "s/step", "peak memory", "MFU",
    "loss, equal steps", "± s.e.", "above plain", "loss, equal time", "steps",
)  # fmt: skip


def write_ladder(found: Findings, folder: Path) -> tuple[Path, ...]:
    """Write ``ladder.svg``, ``.md``, ``.csv``, ``.json`` and ``report.html`` into ``folder``; returns where."""
    header, rows = ladder_table(found)
    page, figure = folder / "report.html", folder / "ladder.svg"
    write_file(figure, standalone(staircase(found, _title(found))))
    write_file(folder / "ladder.md", markdown(found))
    write_file(folder / "ladder.csv", as_csv((header, rows)))
    write_file(folder / "ladder.json", json.dumps(_plain(found.as_dict()), indent=2, ensure_ascii=False) + "\n")
    ladder_page(found).write(page)
    return (page, figure, *(folder / f"ladder.{ending}" for ending in ("md", "csv", "json")))


def ladder_table(found: Findings) -> tuple[list[str], list[list[Cell]]]:
    """Header and rows, the bottom first; what was not measured is empty."""
    return list(HEADER), [_cells(row) for row in found.rows]


def ladder_page(found: Findings) -> Page:
    """The report: headline, staircase, table, what it was measured with."""
    facts = found.facts
    page = Page(_title(found), str(facts.get("machine", {}).get("name", "")), kind="ladder")
    page.headline(_headline(found))
    page.section("The staircase")
    page.figures(staircase(found, "Each step one change on top of the last"), caption=_caption(found))
    page.section("Every rung")
    header, rows = ladder_table(found)
    measured = [(row, cells) for row, cells in zip(found.rows, rows, strict=True) if row.tokens_per_s is not None]
    page.table(header, [cells for _, cells in measured], caption="Ratios: medians over rounds taken in turns.")
    others = [row for row in found.rows if row.tokens_per_s is None]
    if others:
        page.section("Rungs left out")
        page.table(("rung", "what it would change", "why not"), [(r.name, r.words, r.reason) for r in others])
    page.section("How it was measured")
    for words in explanation(found):
        page.paragraph(words)
    page.details("Settings and machine", facts)
    return page


def explanation(found: Findings) -> list[str]:
    """What the numbers are, with the sizes that they were measured at."""
    facts = found.facts
    ends = dict.fromkeys((found.rows[0].name, found.top_of_speed.name, found.top.name))
    seeds = {row.name: row.loss.seeds for row in found.rows if row.loss}
    most = ", ".join(f"{name} {seeds[name]}" for name in ends if name in seeds)
    whose = "the table" if facts["same_shape"] else f"the larger shape ({facts['speed_shape']})"
    return [
        f"Speed: {facts['speed_shape']}, {_several(facts['sequences'], 'sequence')} in a forward pass; "
        f"{facts['rounds']} rounds. Each rung is a process of its own; up to {facts['together']} of them, the rung "
        "below and the bottom take turns, all others asleep. Ratios are taken within a round. Tokens/s are the "
        "bottom's median times the ratio to it, so that a machine that speeds up or slows down bends no stairs."
        f"{_of_steps(found)}",
        f"Losses: every rung trains a fresh model ({facts['learning_shape']}) for {facts['steps']:,} steps of "
        f"{facts['learning_tokens_per_step']:,} tokens, from the same seeds on the same batches of {facts['corpus']}; "
        f"the loss is a mean over {facts['windows']} held-out windows and over the seeds of a rung ({most}; others "
        f"{facts['seeds']}). The error of a difference holds that over windows, paired, and what a seed alone changes: "
        "the spread of seeds, pooled over the rungs trained from several. Learning is harmed where the loss is above "
        "the bottom's by more than two of these errors. Equal time is that in which the fastest "
        "kept rung takes all its steps: others are stopped, or planned to end, at the share of them that their speed "
        f"allows, by the speeds of {whose}. Here a step has the same tokens for every rung, and accumulation cuts it; "
        "so from accumulate on equal time takes for granted that tokens in larger steps teach as much.",
        "Device, compilation and number of processes are the same for all while losses are measured: they compute the "
        "same numbers in another order. MFU is relative to the best product of matrices measured on the spot (or a "
        "datasheet's), in the fastest dtype of the device.",
    ]


def _of_steps(found: Findings) -> str:
    """What has to be known where rungs were timed at larger steps than the bottom."""
    timed = {row.name: row.tokens_per_step for row in found.rows if row.tokens_per_step}
    words = ""
    if "accumulate" in timed:
        words = (
            f" From accumulate on a step that is timed has {timed['accumulate']:,} tokens in place of "
            f"{timed[found.rows[0].name]:,}, which spreads the optimizer's work over more of them."
        )
    if "muon" in timed:
        words += " Muon's own products take as long whatever the tokens of a step, and weigh less in larger ones."
    return words


def _several(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def markdown(found: Findings) -> str:
    """The table as Markdown, what was left out, and how it was measured."""
    header, rows = ladder_table(found)
    measured = [cells for row, cells in zip(found.rows, rows, strict=True) if row.tokens_per_s is not None]
    lines = [f"# {_title(found)}", "", as_markdown((header, measured))]
    lines += [f"- {row.name}: {row.state}, {row.reason}" for row in found.rows if row.tokens_per_s is None]
    return "\n".join([*lines, "", *(f"{words}\n" for words in explanation(found))])


def verdict(row: Row) -> str:
    """What a rung learned beside the bottom in as many steps, in words."""
    loss = row.loss
    if loss is None:
        return "no loss was measured"
    by = f"{abs(loss.above_bottom):.3f} ± {loss.above_bottom_error:.3f} nats"
    if harmed(loss):
        return f"learns less in as many steps: {by} above the bottom"
    better = loss.above_bottom < -2 * loss.above_bottom_error
    return (
        f"learns more in as many steps: {by} below the bottom"
        if better
        else f"learns as much in as many steps ({by} apart)"
    )


def _headline(found: Findings) -> list[Stat]:
    stats = []
    for row in dict.fromkeys((found.top_of_speed.name, found.top.name)):
        end = found.row(row)
        if end.to_bottom is not None:
            label = "the same model, optimizer and step" if end.speed_part else "to the top"
            ratio = f"{end.to_bottom.middle:.{2 if end.to_bottom.middle < 10 else 0}f}"
            stats.append(Stat(f"{label}: up to {end.name}", ratio, "x the plain one", verdict(end)))
    top = found.top_of_speed
    stats.append(Stat(f"tokens/s at {top.name}", short_number(top.tokens_per_s or 0.0), "", _mfu(top)))
    return stats


def _mfu(row: Row) -> str:
    return f"{row.mfu:.0%} of the matrix peak" if row.mfu is not None else ""


def _caption(found: Findings) -> str:
    out = [row.name for row in found.rows if row.tokens_per_s is None]
    left = f" Left out here: {', '.join(out)}." if out else ""
    return (
        "Over each step: times the rung that it stands on. Below: the held-out loss after equal steps, and after equal "
        f"time, ± one standard error.{left}"
    )


def _title(found: Findings) -> str:
    return f"The ladder: {found.facts.get('shape', '')} on {found.facts.get('device', '')}"


def _cells(row: Row) -> list[Cell]:
    loss, timed = row.loss, row.equal_time
    return [
        row.name,
        row.words if not row.reason else f"{row.words} ({row.reason})",
        None if row.tokens_per_s is None else short_number(row.tokens_per_s),
        _ratio(row.to_below),
        _ratio(row.to_bottom),
        None if row.to_below is None else f"{row.to_below.low:.2f} to {row.to_below.high:.2f}",
        None if row.seconds_per_step is None else short_number(row.seconds_per_step),
        None if row.peak_bytes is None else size_text(row.peak_bytes),
        None if row.mfu is None else f"{row.mfu:.1%}",
        *_loss_cells(loss),
        None if timed is None else f"{timed.nats:.4f}",
        None if timed is None else timed.steps,
    ]


def _loss_cells(loss: Loss | None) -> list[Cell]:
    if loss is None:
        return [None, None, None]
    return [
        f"{loss.nats:.4f}",
        f"{loss.standard_error:.4f}",
        f"{loss.above_bottom:+.4f} ± {loss.above_bottom_error:.4f}",
    ]


def _ratio(spread: Spread | None) -> str | None:
    return None if spread is None else ratio_text(spread.middle).removeprefix("×")


def _plain(value: Any) -> Any:
    """JSON's own types: what is no number becomes null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value
