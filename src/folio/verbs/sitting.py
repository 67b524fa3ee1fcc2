"""One sitting at a run: train with metrics, probes, checkpoints and a bar until it ends or is asked to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from folio.errors import Diverged
from folio.training.attending import Wait
from folio.training.checkpoint import remove_surplus
from folio.training.loop import Hooks, Line, fit, loss_in
from folio.training.metrics import METRICS, MetricsLog, read_metrics
from folio.training.objective import loss_key
from folio.training.saving import Saver
from folio.training.sinks import open_sinks
from folio.training.state import TrainingState
from folio.verbs.action import Terminal, cell_text
from folio.verbs.probes import judge_of, rewrite_samples
from folio.verbs.session import Session


def run_session(session: Session, run: Path, terminal: Terminal, *, unprobed: bool = False) -> None:
    """Train to the end (or a request to stop), with metrics, probes, checkpoints and a progress bar.

    On several ranks all train, probe and save together; the first alone writes metrics and samples, and shows.
    """
    ranks = session.runtime.ranks
    known = ranks.share(_known(session, run) if ranks.first else None)
    judge = judge_of(session.config.best_by)
    again = session.state.step if unprobed else math.inf  # what was cut short is measured again, and counts then
    judged = [number for line in known or () if 0 < line["step"] < again and (number := judge(line)) is not None]
    session.pace.best = min(judged, default=math.inf)
    session.pace.since_best = len(judged) - 1 - judged.index(session.pace.best) if judged else 0
    with ExitStack() as stack:
        record = stack.enter_context(_recorder(session, run, terminal, known)) if ranks.first else _Silent()
        saver = stack.enter_context(_saver(session, run))

        def save(state: TrainingState, facts: Line) -> None:
            record.sync()
            saver.save(state, facts)

        measured = any(line["kind"] == "validation" and line["step"] == 0 for line in known or ())
        before = None if measured else session.before_training()
        hooks = Hooks(record.log, save, session.probes(run), record.show, saver.finish, judge, before)

        def tell(wait: Wait) -> None:
            if wait.stage != "on":
                event = {"begun": "data_stalled", "over": "data_back"}[wait.stage]
                told = {"waited_s": wait.seconds, "rank": wait.rank, "reason": wait.why}
                record.log({"kind": "event", "step": session.state.step, "event": event, **told})
            terminal.print(wait_in_words(wait, ranks.world_size), style="yellow")

        source = stack.enter_context(session.feeding(tell))
        try:
            fit(session.state, source, session.plan, hooks, session.pace, unprobed=unprobed)
        except Diverged as error:
            record.log({"kind": "event", "step": session.state.step, "event": "diverged", "reason": error.problem})
            raise


def _known(session: Session, run: Path) -> list[Line] | None:
    """The lines of metrics that still hold, None for a run that has none yet."""
    if not (run / METRICS).exists():
        return None
    return [line for line in read_metrics(run) if line["step"] <= session.state.step]


def wait_in_words(wait: Wait, ranks: int) -> str:
    """What is said of a wait for data while a run waits, and when it goes on."""
    on = f" on rank {wait.rank}" if ranks > 1 else ""
    if wait.stage == "over":
        return f"the data{on} are back after {wait.seconds:,.0f} s"
    return f"waiting for data{on}: {wait.seconds:,.0f} s, {wait.why}"


class _Silent:
    """What a rank other than the first records and shows."""

    def log(self, line: Line) -> None:
        pass

    def show(self, line: Line) -> None:
        pass

    def sync(self) -> None:
        pass


@dataclass
class _Recorder(_Silent):
    """Lines of metrics go to ``metrics.jsonl`` and the trackers; numbers of them to the bar."""

    metrics: MetricsLog
    sinks: Sequence[Callable[[Line], None]]
    bar: Callable[[Line], None]

    def log(self, line: Line) -> None:
        self.metrics.log(**line)
        for sink in self.sinks:
            sink(line)

    def show(self, line: Line) -> None:
        self.bar(line)

    def sync(self) -> None:
        self.metrics.sync()


@contextmanager
def _recorder(session: Session, run: Path, terminal: Terminal, known: list[Line] | None) -> Iterator[_Recorder]:
    config, step = session.config, session.state.step
    with (
        MetricsLog(run / METRICS) as log,
        open_sinks(config.track, run, step) as sinks,
        terminal.progress("train", config.steps, "step") as bar,
    ):
        if known is not None:
            log.log(kind="event", step=step, event="resumed")
            remove_surplus(run, keep_last=config.keep_last, keep_every=config.keep_every)
            rewrite_samples(run, known)
        yield _Recorder(log, sinks, _show(session, bar.update))


def _saver(session: Session, run: Path) -> Saver:
    config = session.config
    return Saver(
        run,
        session.runtime.ranks,
        session.contents(),
        keep_last=config.keep_last,
        keep_every=config.keep_every,
        beside=config.checkpoint_async,
    )


def _show(session: Session, update: Callable[..., None]) -> Callable[[Line], None]:
    bits, loss_name = session.bits_per_nat, loss_key(session.state.objective.unit)
    smooth: dict[str, float] = {}

    def show(line: Line) -> None:
        if line["kind"] == "validation":
            more = f" ({line['bits_per_byte']:.3f} bits/byte)" if "bits_per_byte" in line else ""
            update(line["step"], {"val": f"{loss_in(line):.3f}{more}"})
        if line["kind"] == "evaluation" and line["scores"]:
            metric, score = list(line["scores"].items())[-1]
            update(line["step"], {f"{line['name']} {metric}": cell_text(score["value"])})
        if line["kind"] != "train":
            return
        for key in (loss_name, "tokens_per_s", "mfu"):
            smooth[key] = 0.9 * smooth.setdefault(key, line[key]) + 0.1 * line[key]
        loss = smooth[loss_name]
        fields = {
            "loss": f"{loss:.3f}",
            "bits/byte": None if bits is None else f"{loss * bits:.3f}",
            "tokens/s": f"{smooth['tokens_per_s']:,.0f}",
            "MFU": f"{smooth['mfu']:.0%}",
        }
        update(line["step"], {name: value for name, value in fields.items() if value is not None})

    return show


def scores_in_words(facts: Line) -> list[str]:
    """Each score among the ``facts`` of a checkpoint as a sentence of its model card."""
    return [
        f"{name}, {score['convention']}: {metric} {_with_interval(score)}."
        for name, scores in facts.get("scores", {}).items()
        for metric, score in scores.items()
    ]


def _with_interval(score: Line) -> str:
    """A score in words; of one unit alone there is no interval."""
    between = "" if score["low"] is None else f"95 % interval {score['low']:.4f} to {score['high']:.4f}, "
    value = "no number" if score["value"] is None else f"{score['value']:.4f}"
    return f"{value} ({between}n = {score['n']:,} {score['unit']})"
