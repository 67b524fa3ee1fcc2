"""``folio train``: a model from a preset or a TOML file, or a run taken up where it stopped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import tyro

from folio.config import Table, build, leaves, to_toml
from folio.errors import ArtifactError, ConfigError, Interrupted
from folio.verbs.action import Action, Outcome, Terminal
from folio.verbs.options import over_recipe, read_flags
from folio.verbs.recipe import Recipe

if TYPE_CHECKING:
    from folio.verbs.prepare import Prepared
    from folio.verbs.session import Session


class TrainOptions(Recipe):
    """A recipe, and what to do with it."""

    recipe: tyro.conf.Positional[str | None] = None
    """A preset's name or a TOML file."""
    out: Path | None = None
    """The run's folder. Empty: runs/ and the recipe's name."""
    resume: Path | None = None
    """A run to go on with, from its newest sound checkpoint, bit for bit."""
    overfit: bool = False
    """Only check that the model can learn a single small batch by heart; writes nothing."""


def starting_values(args: Sequence[str]) -> Table | None:
    """The recipe that flags start from: the preset, the file, or the run to be resumed."""
    given, loose, _ = read_flags(dict(leaves(TrainOptions)), args)
    if "resume" in given:
        saved = saved_recipe(Path(given["resume"]), loose[0] if loose else None)
        return build(TrainOptions, saved, source=f"'{given['resume']}/config.json'")
    return over_recipe(TrainOptions)(args)


def saved_recipe(run: Path, preset: str | None = None) -> dict[str, Any]:
    """The tables of the recipe that ``run`` was made by; :class:`ArtifactError` if it is no run, or damaged."""
    path = run / "config.json"
    try:
        saved = json.loads(path.read_bytes())
        recipe: dict[str, Any] = saved["recipe"]
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"'{run}' is not a run: it has no config.json", "Give the folder of a run.") from None
    except KeyError:
        raise ArtifactError(f"'{run}' is not a run: its config.json holds no recipe", "Give a run's folder.") from None
    except (ValueError, TypeError):
        raise ArtifactError(f"'{path}' is damaged", "Restore it, or start a new run.") from None
    if preset is not None and preset != saved.get("preset"):
        raise ConfigError(
            f"--resume goes on with the run's own recipe ({saved.get('preset')}), not with '{preset}'",
            "Leave the recipe out.",
        )
    if "vocab_size" in recipe.get("model", {}):
        del recipe["model"]["vocab_size"]
    return recipe


def train(options: TrainOptions, terminal: Terminal) -> Outcome:
    """Run a recipe from text to a trained model."""
    if options.recipe is None and options.resume is None:
        raise ConfigError("nothing to train", "Give a preset or a TOML file: folio train shakespeare")
    recipe = Recipe.model_validate({name: getattr(options, name) for name in Recipe.model_fields})
    if options.overfit:
        from folio.verbs.overfit import overfit

        if options.out is not None:
            raise ConfigError("--overfit writes nothing", "Leave --out out.")
        return overfit(recipe, terminal)
    if options.resume is not None:
        if options.out is not None:
            raise ConfigError("--resume writes into the run's own folder", "Leave --out out.")
        return resume(recipe, options.resume, terminal)
    assert options.recipe is not None
    run = options.out or fresh_folder(Path("runs") / recipe_name(options.recipe))
    return start(recipe, run, options.recipe, terminal)


def recipe_name(given: str) -> str:
    return Path(given).stem if given.endswith(".toml") else Path(given).name


def fresh_folder(path: Path) -> Path:
    """``path``, or the first of ``path-2``, ``path-3``, ... that does not exist."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def start(recipe: Recipe, run: Path, preset: str, terminal: Terminal, prepared: Prepared | None = None) -> Outcome:
    """A new run in ``run``, on ``prepared`` data if it is at hand already."""
    from folio.artifacts import refuse_occupied
    from folio.verbs.prepare import prepare
    from folio.verbs.session import create_run, open_session

    refuse_occupied(run)
    session = open_session(recipe, prepared or prepare(recipe, terminal))
    terminal.print(to_toml(session.recipe), style="dim")
    create_run(run, session, preset)
    return _go(session, run, terminal)


def resume(recipe: Recipe, run: Path, terminal: Terminal) -> Outcome:
    """Go on with ``run`` from its newest sound checkpoint."""
    from folio.training.checkpoint import load_checkpoint, newest_sound_checkpoint, set_aside_after
    from folio.verbs.prepare import prepare
    from folio.verbs.session import continue_run, open_session, refuse_another_recipe

    if not any(run.glob("checkpoints/step-*")) and not any(run.glob("checkpoints/damaged-*")):
        terminal.print("resume     nothing was saved yet: from the start")
        session = open_session(recipe, prepare(recipe, terminal))
        refuse_another_recipe(run, session)
        continue_run(run, session)
        return _go(session, run, terminal)
    checkpoint, damaged = newest_sound_checkpoint(run)
    for problem in damaged:
        terminal.print(f"passed over: {problem}", style="yellow")
    if checkpoint.step > recipe.train.steps or (checkpoint.step == recipe.train.steps and _finished(run)):
        raise ConfigError(
            f"'{run}' is finished: it has done all {checkpoint.step:,} steps",
            f"To train longer, ask for more: --train.steps {2 * checkpoint.step}",
        )
    session = open_session(recipe, prepare(recipe, terminal))
    refuse_another_recipe(run, session)
    load_checkpoint(checkpoint, session.state)
    continue_run(run, session)
    set_aside_after(run, checkpoint.step)
    session.pace.elapsed_s = checkpoint.elapsed_s
    terminal.print(f"resume     {checkpoint.path}")
    return _go(session, run, terminal)


def _finished(run: Path) -> bool:
    """Whether the run came to its end; a kill after its last save leaves that to be done."""
    from folio.training.metrics import read_metrics

    return any(line.get("event") == "finished" for line in read_metrics(run))


def _go(session: Session, run: Path, terminal: Terminal) -> Outcome:
    from folio.reports.run import run_report
    from folio.training.checkpoint import best_checkpoint, list_checkpoints, weights_sha256
    from folio.training.metrics import read_metrics
    from folio.verbs.sitting import run_session

    resolved = session.resolved()
    terminal.print(
        f"model      {resolved['parameters']:,} parameters\n"
        f"device     {session.runtime.describe()}; compile {session.compiled}\n"
        f"batch      {session.plan.describe()}; {resolved['epochs']:.2f} epochs\n"
    )
    try:
        run_session(session, run, terminal)
    except Interrupted as stopped:
        raise Interrupted(f"{stopped}\n       Go on with: folio train --resume {quote(str(run))}") from None
    report = run_report(run)
    best = best_checkpoint(list_checkpoints(run))
    assert best is not None
    scores = [line for line in read_metrics(run) if line["kind"] == "validation"]
    last = scores[-1]
    error = last["standard_error_nats"]  # none over a single block
    terminal.print(
        f"\nvalidation {last['nats_per_token']:.4f}{'' if error is None else f' ± {error:.4f}'} nats/token, perplexity "
        f"{last['perplexity']:.2f}, {last['bits_per_byte']:.4f} bits/byte over {last['tokens']:,} tokens"
    )
    if best.nats_per_token is not None and best.step != session.state.step:
        terminal.print(f"best       {best.nats_per_token:.4f} nats/token at step {best.step:,}")
    digest = weights_sha256(session.state.model)
    terminal.print(f"weights    sha256 {digest}")
    data = {
        "run": str(run),
        "steps": session.state.step,
        "validation": last,
        "best": {"step": best.step, "nats_per_token": best.nats_per_token, "path": str(best.path)},
        "weights_sha256": digest,
        "elapsed_s": session.pace.elapsed_s,
        "resolved": resolved,
    }
    return Outcome(
        data,
        (best.path, report),
        tuple(f"folio {verb} {quote(str(run))}" for verb in ("generate", "evaluate", "report")),
    )


ACTIONS = {
    "": Action(
        TrainOptions,
        train,
        "Train a model from a preset or a TOML file.",
        examples=(
            "folio train tiny-shakespeare-char",
            "folio train my.toml --train.steps 500 --train.optimizer.learning-rate 1e-3",
            "folio train --resume runs/my",
            "folio train shakespeare --overfit",
        ),
        default=starting_values,
    )
}
