"""What a search for a learning rate says: on the terminal, in ``lr.json``, and on its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from folio.artifacts import write_file
from folio.checksums import read_sealed_json, sealed_json
from folio.reports.quantities import duration
from folio.reports.rates import rates_report
from folio.reports.search import search_table
from folio.training.rate_curve import rate_text
from folio.verbs.action import Terminal, json_value
from folio.verbs.lr.answer import Cost, FoundRate, trial_steps
from folio.verbs.lr.asked import RateQuestion, steps_of_trial
from folio.verbs.lr.folder import ANSWER, CONFIG, PAGE, UNIT
from folio.verbs.lr.plan import MUON_RATE, RATE, train_command
from folio.verbs.recipe import Recipe


def say_plan(recipe: Recipe, asked: RateQuestion, terminal: Terminal) -> None:
    """What is going to be done, and how much that is beside a whole training."""
    steps, passes = asked.seeds * (asked.steps + 1), asked.seeds * asked.steps
    sweeps = "1 sweep" if asked.seeds == 1 else f"{asked.seeds} sweeps"
    said = f"{sweeps} of {asked.steps} steps from {rate_text(asked.low)} to {rate_text(asked.high)}"
    if asked.refine.rates:
        longest = steps_of_trial(asked.refine, recipe.train.steps)
        steps += trial_steps(asked.refine.rates, longest, asked.refine.reduction)
        said += f", then {asked.refine.rates} trainings of up to {longest:,} steps"
    share = (steps + passes / 3) / recipe.train.steps
    terminal.print(f"asked      {said}")
    terminal.print(
        f"           at most {_share(steps, passes, share)} of the {recipe.train.steps:,} steps of a training"
    )
    if recipe.train.optimizer.kind == "muon":
        terminal.print(f"           {_ratio(recipe)}")


def say_answer(found: FoundRate, recipe: Recipe, terminal: Terminal) -> None:
    """The rate, why, what to beware of, and what it took."""
    if found.record.refinement is not None:
        header, rows = search_table(found.record.refinement)
        terminal.table(header, rows)
        terminal.print(f"sweeps     {found.spread.why}")
    terminal.print(f"found      {found.why}")
    for note in found.notes:
        terminal.print(f"           {note}", style="yellow")
    if MUON_RATE in found.rates:
        terminal.print(f"           muon_learning_rate {rate_text(found.rates[MUON_RATE])}")
    terminal.print(f"cost       {cost_words(found.cost, recipe)}")


def cost_words(cost: Cost, recipe: Recipe) -> str:
    share = _share(cost.steps, cost.forward_passes, cost.share)
    return f"{share} of the {recipe.train.steps:,} steps of a training; {duration(cost.seconds)}"


def write_answer(found: FoundRate, recipe: Recipe, preset: str, folder: Path) -> Path:
    """Write ``lr.json`` and ``report.html`` into ``folder``, and return where the page lies."""
    command = "" if found.rate is None else train_command(recipe, preset, found.rate)
    curves = {
        seed: {
            "learning_rates": sweep.rates,
            "nats_per_token": sweep.losses,
            "untouched_nats_per_token": sweep.untouched,
            "smoothed_nats_per_token": found.spread.each[seed].smoothed,
            "ended": sweep.ended,
            "elapsed_s": found.record.seconds[seed],
        }
        for seed, sweep in found.record.sweeps.items()
    }
    answer: dict[str, Any] = {"preset": preset, **found.as_dict(), "command": command, "curves": curves}
    write_file(folder / ANSWER, sealed_json(json_value(answer)))
    saved = read_sealed_json(folder / CONFIG)
    optimizer = recipe.train.optimizer
    configured = rate_text(optimizer.learning_rate)
    notes = [*found.notes, *([_ratio(recipe)] if optimizer.kind == "muon" else [])]
    rates_report(
        folder / PAGE,
        preset=preset,
        rate=found.rate,
        muon_rate=found.rates.get(MUON_RATE),
        why=found.why,
        notes=notes,
        spread=found.spread,
        sweeps=found.record.sweeps,
        refinement=found.record.refinement,
        unit=UNIT,
        cost=cost_words(found.cost, recipe),
        command=command,
        facts={
            "optimizer": optimizer.kind,
            f"{RATE} in the recipe": configured,
            **{key: saved["resolved"][key] for key in ("parameters", "device", "precision", "train_tokens")},
            "batch_tokens": recipe.train.batch_tokens,
            "seeds": ", ".join(map(str, found.record.sweeps)),
        },
        config=saved,
    )
    return folder / PAGE


def _share(steps: int, passes: int, share: float) -> str:
    return f"{steps:,} steps and {passes:,} forward passes, {share:.2g} times the work"


def _ratio(recipe: Recipe) -> str:
    optimizer = recipe.train.optimizer
    ratio = optimizer.muon_learning_rate / optimizer.learning_rate
    return f"AdamW's rate is searched, and Muon's moves along: {ratio:.4g} times as high, as configured"
