"""One sitting at a run: train with metrics, probes, checkpoints and a bar until it ends or is asked to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from folio.artifacts import write_file
from folio.errors import Diverged
from folio.evaluation.loss import loss_on
from folio.generation.engine import generate
from folio.training import checkpoint as checkpoints
from folio.training.loop import Hooks, Line, Probe, fit
from folio.training.metrics import METRICS, MetricsLog, read_metrics
from folio.training.sinks import open_sinks
from folio.training.state import TrainingState
from folio.verbs.action import Terminal
from folio.verbs.session import Session

SAMPLES = "samples.md"


def run_session(session: Session, run: Path, terminal: Terminal) -> None:
    """Train to the end (or a request to stop), with metrics, probes, checkpoints and a progress bar."""
    config = session.config
    resumed = (run / METRICS).exists()
    known = [line for line in read_metrics(run) if line["step"] <= session.state.step] if resumed else []
    validation = [line["nats_per_token"] for line in known if line["kind"] == "validation"]
    session.pace.best = min(validation, default=math.inf)
    with (
        MetricsLog(run / METRICS) as log,
        open_sinks(config.track, run, session.state.step) as sinks,
        terminal.progress("train", config.steps, "step") as bar,
    ):
        if resumed:
            log.log(kind="event", step=session.state.step, event="resumed")
            checkpoints.remove_surplus(run, keep_last=config.keep_last, keep_every=config.keep_every)
            _rewrite_samples(run, known)

        def record(line: Line) -> None:
            log.log(**line)
            for sink in sinks:
                sink(line)

        def save(state: TrainingState, facts: Line) -> None:
            log.sync()
            checkpoints.save_checkpoint(
                run,
                state,
                facts,
                eos_id=session.prepared.tokenizer.eot_id,
                tokenizer_files=session.prepared.tokenizer.save_into,
                card=_card(session, facts),
            )
            checkpoints.remove_surplus(run, keep_last=config.keep_last, keep_every=config.keep_every)

        hooks = Hooks(record, save, _probes(session, run), _show(session, bar.update))
        try:
            fit(session.state, session.source, session.plan, hooks, session.pace)
        except Diverged as error:
            log.log(kind="event", step=session.state.step, event="diverged", reason=error.problem)
            raise


def _rewrite_samples(run: Path, lines: Iterable[Line]) -> None:
    """Leave in ``samples.md`` what ``lines`` hold: a resumed run writes the rest again."""
    samples = [line for line in lines if line["kind"] == "sample"]
    if samples or (run / SAMPLES).exists():
        write_file(run / SAMPLES, "".join(map(_sample_section, samples)))


def _sample_section(line: Line) -> str:
    return f"## Step {line['step']:,}\n\n```text\n{line['prompt']}{line['text']}\n```\n\n"


def _probes(session: Session, run: Path) -> list[Probe]:
    config, prepared, model = session.config, session.prepared, session.state.model
    drawing = session.recipe.generation
    if drawing.seed is None:
        drawing = drawing.model_copy(update={"seed": config.seed})

    def validation(step: int) -> Line:
        score = loss_on(
            model,
            prepared.shards.split("val"),
            bytes_per_token=prepared.shards.bytes_per_token("val"),
            max_tokens=config.validation_tokens,
            autocast=session.runtime.autocast(),
        )
        return {"kind": "validation", **score.as_dict()}

    def sample(step: int) -> Line:
        text = generate(model, prepared.tokenizer, [config.sample_prompt], drawing)[0].text
        line = {"kind": "sample", "step": step, "prompt": config.sample_prompt, "text": text}
        with open(run / SAMPLES, "a", encoding="utf-8") as file:
            file.write(_sample_section(line))
        return line

    probes = [Probe(config.validate_every, validation)]
    if config.sample_every:
        probes.append(Probe(config.sample_every, sample))
    return probes


def _show(session: Session, update: Callable[..., None]) -> Callable[[Line], None]:
    bits = 1 / math.log(2) / session.prepared.shards.bytes_per_token("train")
    smooth: dict[str, float] = {}

    def show(line: Line) -> None:
        if line["kind"] == "validation":
            update(line["step"], {"val": f"{line['nats_per_token']:.3f} ({line['bits_per_byte']:.3f} bits/byte)"})
        if line["kind"] != "train":
            return
        for key in ("nats_per_token", "tokens_per_s", "mfu"):
            smooth[key] = 0.9 * smooth.setdefault(key, line[key]) + 0.1 * line[key]
        loss = smooth["nats_per_token"]
        fields = {
            "loss": f"{loss:.3f}",
            "bits/byte": f"{loss * bits:.3f}",
            "tokens/s": f"{smooth['tokens_per_s']:,.0f}",
            "MFU": f"{smooth['mfu']:.0%}",
        }
        update(line["step"], fields)

    return show


def _card(session: Session, facts: Line) -> str:
    """What the model card says of the run."""
    source: dict[str, Any] = session.prepared.shards.manifest.config.get("source") or {}
    corpus = source.get("corpus") or "shards of unnamed text"
    lines = [f"Trained by Folio on {corpus} for {facts['tokens_seen']:,} tokens."]
    if "nats_per_token" in facts:
        scored = f"the first {facts['tokens']:,} tokens" if session.config.validation_tokens else "all"
        lines.append(
            f"Held-out loss {facts['nats_per_token']:.4f} nats/token, {facts['bits_per_byte']:.4f} bits/byte "
            f"(disjoint blocks, {scored} of the validation split)."
        )
    return "\n\n".join(lines)
