"""A training run from its first step, or from its newest sound checkpoint, to its end; on one rank or many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import cast

from folio.artifacts import refuse_occupied
from folio.checksums import read_sealed_json
from folio.config import Table, to_toml
from folio.errors import REFUSALS, ArtifactError, ConfigError, DataLost, Interrupted, RankLost, UserError
from folio.launch import finish_speaking
from folio.locks import locked
from folio.ranks import ALONE, Ranks, lost_rank
from folio.reports.quantities import duration
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
from folio.training.loop import FINISHED
from folio.training.metrics import read_metrics
from folio.training.objective import loss_key
from folio.training.saving import load_checkpoint
from folio.verbs.action import Outcome, Terminal
from folio.verbs.losses import loss_in_words
from folio.verbs.session import Job, Session, continue_run, create_run, resolved_of
from folio.verbs.sitting import run_session

LOCK = ".writing"
"""A file in a run's folder that the process which trains it keeps locked."""


def start(job: Job, run: Path, terminal: Terminal, ranks: Ranks = ALONE) -> Outcome:
    """A new run in ``run``."""
    ranks.attempt(lambda: refuse_occupied(run) if ranks.first else None)
    session = _opened(job, terminal, ranks)
    ranks.attempt(lambda: create_run(run, session.description(job.preset)) if ranks.first else None)
    with only_writer(run, ranks):
        return _begin(session, run, terminal)


def start_inside(job: Job, run: Path, terminal: Terminal, ranks: Ranks) -> Outcome:
    """A new run in the folder ``run``, which is there and whose only writer this is."""
    session = _opened(job, terminal, ranks)
    ranks.attempt(lambda: continue_run(run, session) if ranks.first else None)
    return _begin(session, run, terminal)


def _begin(session: Session, run: Path, terminal: Terminal) -> Outcome:
    if session.runtime.ranks.first:
        session.begun(run, terminal)
    return _go(session, run, terminal)


def _opened(job: Job, terminal: Terminal, ranks: Ranks) -> Session:
    session = job.open(ranks)
    terminal.print(to_toml(cast(Table, session.recipe)), style="dim")
    return session


@contextmanager
def only_writer(run: Path, ranks: Ranks) -> Iterator[None]:
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


def resume(job: Job, run: Path, terminal: Terminal, ranks: Ranks = ALONE, *, started_again: bool = False) -> Outcome:
    """Go on with ``run`` from its newest sound checkpoint.

    A run with nothing left to do is a mistake, unless a launcher or a scheduler ``started_again`` what had ended well.
    """
    with only_writer(run, ranks):
        if started_again and ranks.share(_is_done(run, job)):
            terminal.print(f"resume     '{run}' is finished")
            return Outcome({"run": str(run)}, next=job.following(run))
        return _resume(job, run, terminal, ranks)


def _is_done(run: Path, job: Job) -> bool:
    checkpoints = list_checkpoints(run)
    return bool(checkpoints) and ending_of(run, job, checkpoints[-1].step) is not None


def _resume(job: Job, run: Path, terminal: Terminal, ranks: Ranks) -> Outcome:
    checkpoint = ranks.share(ranks.attempt(lambda: _place_to_go_on(job, run, terminal) if ranks.first else None))
    session = job.open(ranks, begun=resolved_of(run))
    session.refuse_another(run, read_sealed_json(run / "config.json"))
    if checkpoint is not None:
        load_checkpoint(checkpoint, session.state, session.contents(), verify=False)
        session.pace.elapsed_s = checkpoint.elapsed_s
    ranks.wait()  # until all have read
    if ranks.first:
        continue_run(run, session)
        set_aside_after(run, checkpoint.step if checkpoint else -1)
        if checkpoint is None:
            session.begun(run, terminal)
    terminal.print(f"resume     {checkpoint.path if checkpoint else 'nothing was saved yet: from the start'}")
    return _go(session, run, terminal, unprobed=checkpoint is not None and checkpoint.unprobed)


def _place_to_go_on(job: Job, run: Path, terminal: Terminal) -> Checkpoint | None:
    """The newest sound checkpoint, None if none was saved yet; :class:`ConfigError` if nothing is left to do."""
    put_back_exchanged(run)
    if not any(run.glob("checkpoints/step-*")) and not any(run.glob("checkpoints/damaged-*")):
        return None
    read_metrics(run)  # a damaged one is told before anything is changed
    checkpoint, damaged = newest_sound_checkpoint(run)
    for problem in damaged:
        terminal.print(f"passed over: {problem}", style="yellow")
    ending = ending_of(run, job, checkpoint.step)
    if ending is not None:
        raise ConfigError(f"'{run}' is finished: {ending[0]}", f"To train longer, ask for more: {ending[1]}")
    return checkpoint


def ending_of(run: Path, job: Job, step: int) -> tuple[str, str] | None:
    """Why a run whose newest checkpoint is that of ``step`` is finished, and what would train it on; None if it is not.

    A kill after the last save leaves the end itself to be done.
    """
    finished = next((line for line in reversed(read_metrics(run)) if line.get("event") == FINISHED), None)
    here = finished is not None and finished["step"] == step
    if step > job.steps or (step == job.steps and here):
        return f"it has done all {step:,} steps", f"--train.steps {2 * step}"
    if finished is not None and here and (reason := finished.get("reason")):
        patience = int(finished.get("patience", 0))
        if 0 < job.patience <= patience:
            return f"it ended at step {step:,}, with {reason}", f"--train.patience {2 * patience}"
    return None


def _go(session: Session, run: Path, terminal: Terminal, *, unprobed: bool = False) -> Outcome:
    resolved = session.resolved()
    terminal.print(
        f"model      {resolved['parameters']:,} parameters{session.trained_in_words()}\n"
        f"device     {session.runtime.describe()}; compile {session.compiled}\n"
        f"batch      {session.plan.describe()}; {resolved['epochs']:.2f} epochs\n"
        + (f"memory     {session.fits}\n" if session.fits else "")
    )
    go_on = go_on_with(session.verb, run)
    try:
        run_session(session, run, terminal, unprobed=unprobed)
    except Interrupted as stopped:
        raise Interrupted(f"{stopped}\n       {go_on}") from None
    except DataLost as error:
        raise DataLost(error.problem, f"{error.remedy} {go_on}") from None
    except OSError as error:
        raise UserError(f"the run cannot be written: {_trouble(error)}; {_kept(run)}", go_on) from None
    except (RankLost, RuntimeError) as error:
        lost = error if isinstance(error, RankLost) else lost_rank(error, session.runtime.ranks.launch)
        if lost is None:
            raise
        finish_speaking()
        raise _with_place(lost, session, run, go_on) from None
    model = session.state.parallel.gathered()
    if model is None:
        return Outcome()
    digest = weights_sha256(model)
    del model
    return _ending(session, run, terminal, digest)


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
    """What was measured last, the fingerprint of the weights, what comes after, and the report."""
    best = best_checkpoint(list_checkpoints(run))
    assert best is not None
    last = next((line for line in reversed(read_metrics(run)) if line["kind"] == "validation"), None)
    name = loss_key(unit := session.state.objective.unit)
    finished = [line for line in read_metrics(run) if line.get("event") == FINISHED][-1]
    if reason := finished.get("reason"):
        terminal.print(
            f"\nstopped early at step {finished['step']:,} of {session.config.steps:,}: {reason}; to go on: folio "
            f"{session.verb} --resume {quote(str(run))} --train.patience {2 * session.config.patience}"
        )
    terminal.print(f"\nvalidation {'none: nothing was held out' if last is None else loss_in_words(last)}")
    if best.loss is not None and best.step != session.state.step:
        terminal.print(f"best       {best.loss:.4f} nats/{unit} at step {best.step:,}")
    terminal.print(f"weights    sha256 {digest}")
    peak = (
        "" if finished["peak_bytes"] is None else f", {finished['peak_bytes'] / 2**20:,.0f} MiB of memory at the most"
    )
    terminal.print(f"took       {duration(session.pace.elapsed_s)}{peak}")
    with coming_back(session.verb, run):
        after = session.after_training(run, terminal)
    report = write_report(run)
    data = {
        "run": str(run),
        "steps": session.state.step,
        "validation": {key: value for key, value in (last or {}).items() if key != "each"} or None,
        "best": {"step": best.step, name: best.loss, "path": str(best.path)},
        "weights_sha256": digest,
        "left_out": session.state.spikes.left_out,
        "elapsed_s": session.pace.elapsed_s,
        "peak_bytes": finished["peak_bytes"],
        "resolved": session.resolved(),
        **after,
    }
    return Outcome(data, (best.path, report), session.following(run))


@contextmanager
def coming_back(verb: str, run: Path) -> Iterator[None]:
    """An interrupt inside, after the last step of ``run``, says that nothing is lost and how to go on."""
    try:
        yield
    except (KeyboardInterrupt, Interrupted):
        told = f"the run is finished and saved, but not what comes after it\n       {go_on_with(verb, run)}"
        raise Interrupted(told) from None


def go_on_with(verb: str, run: Path) -> str:
    return f"Go on with: folio {verb} --resume {quote(str(run))}"


def write_report(run: Path) -> Path:
    """The report of a finished run; :class:`UserError` if it cannot be written."""
    try:
        return run_report(run)
    except OSError as error:
        raise UserError(
            f"the report cannot be written: {_trouble(error)}; the run is finished, {_kept(run)}",
            f"Write it when that is mended: folio report {quote(str(run))}",
        ) from None
