"""A training run from its first step, or from its newest sound checkpoint, to its end; on one rank or many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shlex import quote

from folio.artifacts import refuse_occupied
from folio.config import to_toml
from folio.errors import REFUSALS, ArtifactError, ConfigError, Interrupted, RankLost, UserError
from folio.launch import finish_speaking
from folio.locks import locked
from folio.ranks import ALONE, Ranks, lost_rank
from folio.reports.run import run_report
from folio.training.checkpoint import (
    Checkpoint,
    best_checkpoint,
    list_checkpoints,
    newest_sound_checkpoint,
    put_back_exchanged,
    set_aside_after,
    weights_sha256,
)
from folio.training.metrics import read_metrics
from folio.training.saving import load_checkpoint
from folio.verbs.action import Outcome, Terminal
from folio.verbs.prepare import Prepared, prepare
from folio.verbs.recipe import Recipe
from folio.verbs.session import Session, continue_run, create_run, open_session, refuse_another_recipe, resolved_of
from folio.verbs.sitting import run_session

LOCK = ".writing"
"""A file in a run's folder that the process which trains it keeps locked."""


def start(
    recipe: Recipe,
    run: Path,
    preset: str,
    terminal: Terminal,
    prepared: Prepared | None = None,
    ranks: Ranks = ALONE,
) -> Outcome:
    """A new run in ``run``, on ``prepared`` data if it is at hand already."""
    ranks.attempt(lambda: refuse_occupied(run) if ranks.first else None)
    session = open_session(recipe, prepared or _prepare(recipe, terminal, ranks), ranks)
    terminal.print(to_toml(session.recipe), style="dim")
    ranks.attempt(lambda: create_run(run, session, preset) if ranks.first else None)
    with _only_writer(run, ranks):
        return _go(session, run, terminal)


@contextmanager
def _only_writer(run: Path, ranks: Ranks) -> Iterator[None]:
    """Keep other processes from training the same run meanwhile, such as those that a killed launcher left behind."""
    with ExitStack() as stack:

        def take() -> None:
            if ranks.first and not stack.enter_context(locked(run / LOCK, wait=False)):
                raise ArtifactError(f"another process is training '{run}'", "Wait until it ends, or stop it.")

        ranks.attempt(take)
        try:
            yield
        finally:
            if ranks.first:
                with suppress(OSError):
                    (run / LOCK).unlink()  # still locked: nobody else can have taken it


def _prepare(recipe: Recipe, terminal: Terminal, ranks: Ranks) -> Prepared:
    """Data for every rank: made, and compared byte by byte, by the first on each machine."""
    return ranks.first_on_each_machine(lambda: prepare(recipe, terminal, verify=ranks.launch.local_rank == 0))


def resume(
    recipe: Recipe, run: Path, terminal: Terminal, ranks: Ranks = ALONE, *, started_again: bool = False
) -> Outcome:
    """Go on with ``run`` from its newest sound checkpoint.

    A run with nothing left to do is a mistake, unless a launcher or a scheduler ``started_again`` what had ended well.
    """
    with _only_writer(run, ranks):
        if started_again and ranks.share(_is_done(run, recipe)):
            terminal.print(f"resume     '{run}' is finished")
            return Outcome({"run": str(run)}, next=_next(run))
        return _resume(recipe, run, terminal, ranks)


def _is_done(run: Path, recipe: Recipe) -> bool:
    steps = [checkpoint.step for checkpoint in list_checkpoints(run)]
    return bool(steps) and steps[-1] == recipe.train.steps and _finished(run)


def _resume(recipe: Recipe, run: Path, terminal: Terminal, ranks: Ranks) -> Outcome:
    checkpoint = ranks.share(ranks.attempt(lambda: _place_to_go_on(recipe, run, terminal) if ranks.first else None))
    session = open_session(recipe, _prepare(recipe, terminal, ranks), ranks, begun=resolved_of(run))
    refuse_another_recipe(run, session)
    if checkpoint is not None:
        load_checkpoint(checkpoint, session.state, verify=False)
        session.pace.elapsed_s = checkpoint.elapsed_s
    ranks.wait()  # until all have read
    if ranks.first:
        continue_run(run, session)
        set_aside_after(run, checkpoint.step if checkpoint else -1)
    terminal.print(f"resume     {checkpoint.path if checkpoint else 'nothing was saved yet: from the start'}")
    return _go(session, run, terminal, unprobed=checkpoint is not None and checkpoint.unprobed)


def _place_to_go_on(recipe: Recipe, run: Path, terminal: Terminal) -> Checkpoint | None:
    """The newest sound checkpoint, None if none was saved yet; :class:`ConfigError` if nothing is left to do."""
    put_back_exchanged(run)
    if not any(run.glob("checkpoints/step-*")) and not any(run.glob("checkpoints/damaged-*")):
        return None
    read_metrics(run)  # a damaged one is told before anything is changed
    checkpoint, damaged = newest_sound_checkpoint(run)
    for problem in damaged:
        terminal.print(f"passed over: {problem}", style="yellow")
    if checkpoint.step > recipe.train.steps or (checkpoint.step == recipe.train.steps and _finished(run)):
        raise ConfigError(
            f"'{run}' is finished: it has done all {checkpoint.step:,} steps",
            f"To train longer, ask for more: --train.steps {2 * checkpoint.step}",
        )
    return checkpoint


def _finished(run: Path) -> bool:
    """Whether the run came to its end; a kill after its last save leaves that to be done."""
    return any(line.get("event") == "finished" for line in read_metrics(run))


def _go(session: Session, run: Path, terminal: Terminal, *, unprobed: bool = False) -> Outcome:
    resolved = session.resolved()
    terminal.print(
        f"model      {resolved['parameters']:,} parameters\n"
        f"device     {session.runtime.describe()}; compile {session.compiled}\n"
        f"batch      {session.plan.describe()}; {resolved['epochs']:.2f} epochs\n"
        + (f"memory     {session.fits}\n" if session.fits else "")
    )
    go_on = f"Go on with: folio train --resume {quote(str(run))}"
    try:
        run_session(session, run, terminal, unprobed=unprobed)
    except Interrupted as stopped:
        raise Interrupted(f"{stopped}\n       {go_on}") from None
    except OSError as error:
        raise UserError(f"the run cannot be written: {_trouble(error)}; {_kept(run)}", go_on) from None
    except (RankLost, RuntimeError) as error:
        lost = error if isinstance(error, RankLost) else lost_rank(error, session.runtime.ranks.launch)
        if lost is None:
            raise
        finish_speaking()
        raise _with_place(lost, session, run, go_on) from None
    model = session.state.parallel.gathered()
    return Outcome() if model is None else _ending(session, run, terminal, weights_sha256(model))


def _with_place(lost: RankLost, session: Session, run: Path, go_on: str) -> RankLost:
    problem = f"{lost.problem}, after step {session.state.step}; {_kept(run)}"
    return RankLost(problem, f"{lost.remedy} {go_on}")


def _trouble(error: OSError) -> str:
    where = f" at '{error.filename}'" if error.filename else ""
    return f"{REFUSALS.get(error.errno or 0) or error.strerror or error}{where}"


def _kept(run: Path) -> str:
    """Which checkpoint is there to go on from, as far as can be seen."""
    try:
        checkpoints = list_checkpoints(run)
    except OSError:
        return "its checkpoints cannot be read now"
    return f"the checkpoint of step {checkpoints[-1].step} is whole" if checkpoints else "nothing was saved before"


def _ending(session: Session, run: Path, terminal: Terminal, digest: str) -> Outcome:
    """The report, what was measured last, and the fingerprint of the weights."""
    try:
        report = run_report(run)
    except OSError as error:
        raise UserError(
            f"the report cannot be written: {_trouble(error)}; the run is finished, {_kept(run)}",
            f"Write it when that is mended: folio report {quote(str(run))}",
        ) from None
    best = best_checkpoint(list_checkpoints(run))
    assert best is not None
    scores = [line for line in read_metrics(run) if line["kind"] == "validation"]
    last = scores[-1]
    spread = last["standard_error_nats"]  # none over a single block
    terminal.print(
        f"\nvalidation {last['nats_per_token']:.4f}{'' if spread is None else f' ± {spread:.4f}'} nats/token, "
        f"perplexity {last['perplexity']:.2f}, {last['bits_per_byte']:.4f} bits/byte over {last['tokens']:,} tokens"
    )
    if best.nats_per_token is not None and best.step != session.state.step:
        terminal.print(f"best       {best.nats_per_token:.4f} nats/token at step {best.step:,}")
    terminal.print(f"weights    sha256 {digest}")
    data = {
        "run": str(run),
        "steps": session.state.step,
        "validation": last,
        "best": {"step": best.step, "nats_per_token": best.nats_per_token, "path": str(best.path)},
        "weights_sha256": digest,
        "left_out": session.state.spikes.left_out,
        "elapsed_s": session.pace.elapsed_s,
        "resolved": session.resolved(),
    }
    return Outcome(data, (best.path, report), _next(run))


def _next(run: Path) -> tuple[str, ...]:
    return tuple(f"folio {verb} {quote(str(run))}" for verb in ("generate", "evaluate", "report"))
