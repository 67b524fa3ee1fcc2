"""The page of a search for a learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from folio.finetuning.search.records import SearchRecord
from folio.reports.page import Cell, Page, Stat
from folio.reports.search import search_figure, search_table
from folio.reports.sweeps import sweep_caption, sweep_figure
from folio.training.rate_curve import Spread, Sweep, rate_text


def rates_report(
    to: Path,
    *,
    preset: str,
    rate: float | None,
    muon_rate: float | None,
    why: str,
    notes: Sequence[str],
    spread: Spread,
    sweeps: Mapping[int, Sweep],
    refinement: SearchRecord | None,
    unit: str,
    cost: str,
    command: str,
    facts: Mapping[str, object],
    config: Mapping[str, object],
) -> Path:
    """Write the page of what was found for ``preset`` to ``to``; ``rate`` is None where nothing could be suggested."""
    page = Page("Learning rate" if rate is None else f"Learning rate {rate_text(rate)}", preset, kind="range test")
    stats = [Stat("Use", "–" if rate is None else rate_text(rate), note="peak rate of AdamW")]
    if muon_rate is not None:
        stats.append(Stat("Muon", rate_text(muon_rate), note="peak rate of the matrices"))
    if spread.rate is not None and refinement is not None:
        stats.append(Stat("Range test", rate_text(spread.rate), note="what the sweeps alone suggest"))
    if len(sweeps) > 1 and spread.low is not None and spread.high is not None:
        stats.append(
            Stat("Over seeds", f"{rate_text(spread.low)} – {rate_text(spread.high)}", note=f"{len(sweeps)} sweeps")
        )
    page.headline(stats)
    page.paragraph(f"{why[:1].upper()}{why[1:]}.")
    for note in notes:
        page.note(f"{note[:1].upper()}{note[1:]}.")
    if command:
        page.sample(command, title="Train with it")
    page.section("Range test", "One short training for each seed, its rate rising from step to step.")
    page.figures(sweep_figure(sweeps, unit, spread), caption=sweep_caption(sweeps))
    if len(sweeps) > 1:
        rows: list[list[Cell]] = [
            [
                str(seed),
                "–" if one.rate is None else rate_text(one.rate),
                rate_text(one.lowest_at),
                len(sweeps[seed].losses),
            ]
            for seed, one in spread.each.items()
        ]
        page.table(("seed", "suggested", "lowest at", "steps"), rows)
    if refinement is not None and refinement.results:
        page.section(
            "Trainings around it",
            "The recipe made short, its schedule with it; all begin with the same weights and read the same batches.",
        )
        page.figures(
            search_figure(refinement),
            caption="Bars: ± one standard error over the validation text, the same for every rate.",
        )
        page.table(*search_table(refinement))
    page.section("How it was found")
    page.key_values({"cost": cost, **facts})
    for name in ("asked", "recipe", "environment"):
        value = config.get(name)
        if isinstance(value, Mapping):
            page.details(name, value)
    return page.write(to)
