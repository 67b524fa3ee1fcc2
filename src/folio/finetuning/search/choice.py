"""What a search decides, and why, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from folio.errors import Diverged, UserError
from folio.finetuning.search.halving import Loss, Result, ranked
from folio.finetuning.search.settings import KEYS, RATE, Setting, value_text, words_of
from folio.training.rate_curve import Sweep, suggest


@dataclass(frozen=True)
class Choice:
    """The ``values`` that the run goes by, by the dotted keys of its recipe, the ``reason``, and what else to know."""

    values: dict[str, float | int]
    reason: str
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {"values": self.values, "reason": self.reason, "notes": list(self.notes)}


def choose(settings: Sequence[Setting], results: Iterable[Result], unit: str) -> Choice:
    """The setting that got furthest with the lowest validation loss; losses are nats per ``unit``.

    One that was lost on a later rung is not chosen for an earlier one. :class:`Diverged` if all were lost.
    """
    results = list(results)
    lost = {one.setting for one in results if one.lost}
    sound = [one for one in results if one.setting not in lost]
    if not sound:
        raise Diverged(
            f"none of the {len(settings)} settings could be trained: {results[0].lost}",
            "Search lower learning rates, or clip harder.",
        )
    last = max(one.rung for one in sound)
    finals = {one.setting: one for one in sound if one.rung == last}
    first, *others = ranked(settings, finals.values())
    best = finals[first.number]
    reason = f"{first.words}: the lowest validation loss, {loss_text(best.loss)} nats/{unit} after {best.step:,} steps"
    if others:
        runner_up = finals[others[0].number]
        difference = runner_up.loss.nats - best.loss.nats
        within = best.loss.standard_error is not None and difference <= best.loss.standard_error
        reason += f"; runner-up {others[0].words} with {runner_up.loss.nats:.4f}"
        reason += ", within one standard error" if within else ""
    return Choice(first.keys(), reason, (*_lost_notes(settings, lost), *_edge_notes(settings, first)))


def choose_by_sweep(sweep: Sweep) -> Choice:
    """The rate that a range test suggests; :class:`UserError` if it suggests none."""
    found = suggest(sweep)
    if found.rate is None:
        raise UserError(f"the range test cannot choose a learning rate: {found.why}", "Sweep other rates, or give one.")
    return Choice({KEYS[RATE]: found.rate}, found.why, found.notes)


def loss_text(loss: Loss) -> str:
    """``3.2100 ± 0.0400``, without the error where it is unknown."""
    error = "" if loss.standard_error is None else f" ± {loss.standard_error:.4f}"
    return f"{loss.nats:.4f}{error}"


def _lost_notes(settings: Sequence[Setting], lost: set[int]) -> list[str]:
    named = "; ".join(setting.words for setting in settings if setting.number in lost)
    return [f"could not be trained to the end: {named}"] if lost else []


def _edge_notes(settings: Sequence[Setting], best: Setting) -> list[str]:
    """A line for each value of the best setting that is the highest or lowest of those tried."""
    notes = []
    for name, value in best.values.items():
        tried = {setting.values[name] for setting in settings}
        if len(tried) > 1 and value in (min(tried), max(tried)):
            end, beyond = ("lowest", "lower") if value == min(tried) else ("highest", "higher")
            called = f"{words_of(name)} {value_text(name, value)}"
            notes.append(f"{called} is the {end} that was tried: a {beyond} one may be better")
    return notes
