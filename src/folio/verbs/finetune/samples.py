"""The samples of a finished run: ``samples.md`` for a person, ``samples.jsonl`` for a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folio.verbs.action import Terminal

if TYPE_CHECKING:
    from folio.finetuning.samples import Sample, SamplePrompt, SamplesConfig
    from folio.generation.config import GenerationConfig
    from folio.model.gpt import GPT
    from folio.tokenizer import Tokenizer


def write_samples(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[SamplePrompt],
    config: SamplesConfig,
    drawing: GenerationConfig,
    run: Path,
    terminal: Terminal,
    *,
    step: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Write what ``model``, that of ``step``, says after ``prompts`` at each temperature; each sample as JSON values.

    ``drawing`` is the recipe's [generation]; ``seed`` stands in where it has none. What stands in ``samples.md`` is
    made anew from ``metrics.jsonl`` (the samples taken while training) and these samples, so that nothing is in it
    twice however often a run is finished.
    """
    from folio.artifacts import write_file
    from folio.finetuning.samples import FILE, as_lines, draw_samples, sections
    from folio.training.metrics import read_metrics
    from folio.verbs.probes import SAMPLES, sample_section

    if drawing.seed is None:
        drawing = drawing.model_copy(update={"seed": seed})
    with terminal.progress("samples", len(prompts) * len(config.temperatures), "text") as bar:
        samples = draw_samples(
            model,
            tokenizer,
            prompts,
            config.temperatures,
            drawing,
            step=step,
            on_progress=lambda done: bar.update(done),
        )
    while_training = [sample_section(line) for line in read_metrics(run) if line["kind"] == "sample"]
    text = "".join(while_training) + sections(samples)
    if text or (run / SAMPLES).exists():
        write_file(run / SAMPLES, text)
    if samples or (run / FILE).exists():
        write_file(run / FILE, as_lines(samples))
    _show(samples, terminal)
    return [asdict(one) for one in samples]


def _show(samples: Sequence[Sample], terminal: Terminal) -> None:
    """How many ended by themselves, in a line."""
    from folio.finetuning.samples import ended_shares

    if samples:
        name, share = ended_shares(samples)[-1]
        at = "" if name == "all" else f" at temperature {name}"
        terminal.print(
            f"samples    {round(share.value * share.n)} of {share.n}{at} ended by themselves "
            f"(95 % {share.low:.0%} to {share.high:.0%})"
        )
