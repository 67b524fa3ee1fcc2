"""``folio evaluate``: measure models on held-out text and benchmarks, every score with its convention and interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

import tyro
from pydantic import Field

from folio.config import Table
from folio.errors import ConfigError
from folio.verbs.action import Action, Outcome, Terminal
from folio.verbs.evaluate.contamination import ACTION as CONTAMINATION
from folio.verbs.evaluate.oracle import ACTION as ORACLE
from folio.verbs.evaluate.tasks import ACTION as TASKS
from folio.verbs.evaluate.tasks import LOSS

if TYPE_CHECKING:
    from folio.evaluation.results import Evaluation, Measurement


class EvaluateOptions(Table):
    """What to measure, on what."""

    models: tyro.conf.Positional[tuple[str, ...]] = ()
    """Runs, checkpoints, Hugging Face-style folders or hub ids; several share items, and a text if one is named."""
    tasks: tuple[str, ...] = Field(default=("loss",), min_length=1)
    """loss, a benchmark that comes with Folio (folio evaluate tasks), or the path of a description of your own."""
    convention: tuple[str, ...] = ()
    """Of a benchmark: completion, harness, ... Empty: each that it has."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Examples before each item. Empty: none, or with --harness what the task says."""
    data: tuple[str, ...] = ()
    """A benchmark's file, as FILE or TASK=FILE. Empty: fetched by name, once."""
    shots_from: Path | None = None
    """The file that few-shot examples are drawn from. Empty: the benchmark's own training file."""
    limit: int | None = Field(default=None, ge=1)
    """Score only the first this many items of a benchmark."""
    harness: tuple[str, ...] = ()
    """Tasks of lm-evaluation-harness, run by it on this model; instead of --tasks."""
    include_path: Path | None = None
    """With --harness: a folder with task files of your own."""
    text: str | None = None
    """Own text for the loss: a file, folder or glob, all of it. Empty: the held-out split of the run's own corpus."""
    corpus: str | None = None
    """A named corpus, whose held-out split is scored."""
    shards: Path | None = None
    """Shards made with the model's tokenizer, to be scored."""
    split: Literal["train", "val"] = "val"
    """Which split of a corpus or of shards."""
    max_tokens: int = Field(default=0, ge=0)
    """Score only the first this many of the model's own tokens of text; 0 scores all."""
    window: Literal["blocks", "sliding"] = "blocks"
    """How text longer than the context is read: as in training, or with a context that moves along each document."""
    stride: int | None = Field(default=None, ge=1)
    """Targets by which a sliding window moves. Empty: half the context."""
    per_token: bool = False
    """Keep the ids and nats of every single token of text."""
    to: Path | None = None
    """The folder to write. Empty: a new one under evaluations/. With several models, one in it for each."""
    parquet: bool = False
    """Write the items as parquet too."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Dtype of matrix products."""


def evaluate(options: EvaluateOptions, terminal: Terminal) -> Outcome:
    """Score models, print every score with its interval, and keep the items behind them."""
    evaluations = evaluate_models(options.models, options, terminal)
    rows = [
        (one.model, score.task, score.convention, score.metric, score.value, _interval(score), score.n, score.unit)
        for one in evaluations
        for measurement in one.measurements.values()
        for score in measurement.scores
    ]
    columns = ("model", "task", "convention", "metric", "value", "95 % interval", "n", "of")
    alone = len(evaluations) == 1
    terminal.table(columns[alone:], [row[alone:] for row in rows], title=evaluations[0].model if alone else None)
    for one in evaluations:
        for measurement in one.measurements.values():
            for line in _remarks(measurement):
                terminal.print(f"{'' if alone else one.model + ', '}{measurement.name}: {line}", style="dim")
    notes = _different_texts(evaluations)
    for note in notes:
        terminal.print(note, style="yellow")
    data = {"evaluations": [_answer(one) for one in evaluations], "notes": notes}
    paths = tuple(one.path for one in evaluations)
    following = f"folio generate {quote(options.models[0])}"
    if len(paths) > 1:
        following = f"folio compare {' '.join(quote(str(path)) for path in paths)}"
    return Outcome(data, paths, next=(following,))


def evaluate_models(models: Sequence[str], options: EvaluateOptions, terminal: Terminal) -> list[Evaluation]:
    """One evaluation folder for each of ``models``, on the same items, and on the same text where one is named.

    What cannot be measured fails before the first model is: options that nothing reads, unknown models and tasks,
    missing files, damaged records. What was measured is kept, whatever comes after.
    """
    from folio.evaluation.results import read_evaluation
    from folio.verbs.evaluate.asked import refuse_idle
    from folio.verbs.evaluate.measuring import measure, planned

    if not models:
        raise ConfigError("no model was named", "Name a run, a checkpoint, a model folder or a hub id.")
    refuse_idle(options)
    folders = _folders(models, options)
    measure(planned(models, folders, options, terminal), terminal)
    return [read_evaluation(folder) for folder in folders]


def _folders(models: Sequence[str], options: EvaluateOptions) -> list[Path]:
    from folio.verbs.evaluate.tasks import parted
    from folio.verbs.evaluate.text import distinct_short_names
    from folio.verbs.run_folder import fresh_folder

    names = distinct_short_names(models)
    if options.to is not None:
        return [options.to] if len(models) == 1 else [options.to / name for name in names]
    what = "-".join(Path(task).stem for task in parted(options.harness or options.tasks))
    if len(models) == 1:
        return [fresh_folder(Path("evaluations") / f"{names[0]}-{what}")]
    home = fresh_folder(Path("evaluations") / what)
    return [home / name for name in names]


def _interval(score: Any) -> str:
    from folio.verbs.action import cell_text

    return f"{cell_text(score.low)} to {cell_text(score.high)}"


def _remarks(measurement: Measurement) -> Iterator[str]:
    """What a reader of the scores has to know besides."""
    facts = measurement.facts
    if facts.get("left_out"):
        yield f"{facts['left_out']:,} items left out: they hold what the vocabulary does not"
    if facts.get("cut"):
        yield f"{facts['cut']:,} items longer than the context: the start of theirs was cut"
    if facts.get("unknown_bytes"):
        yield (
            f"{facts['unknown_bytes'] / facts['bytes']:.1%} of the text's bytes are in words outside the vocabulary: "
            "bits_per_byte counts <unk> for them, bits_per_byte_spelled their bytes too, which compares"
        )
    if facts.get("items_per_s"):
        yield f"{facts['items_per_s']:,.1f} items/s"


def _different_texts(evaluations: Sequence[Evaluation]) -> list[str]:
    """What has to be said where the losses of several models are not of the same text."""
    measured = [one.measurements[LOSS].facts for one in evaluations if LOSS in one.measurements]
    if len({facts["sha256"] for facts in measured}) > 1:
        return [
            "loss: each model was measured on its own run's shards, and these differ; to hold the losses against each "
            "other, name one text: --text or --corpus"
        ]
    sizes = sorted(round(facts["bytes"]) for facts in measured)
    if len(set(sizes)) == 1 or not sizes:
        return []
    why = "; --max-tokens counts each model's own tokens" if any("max_tokens" in facts for facts in measured) else ""
    return [f"loss: the models were measured on {sizes[0]:,} to {sizes[-1]:,} bytes of the same text{why}"]


def _answer(evaluation: Evaluation) -> dict[str, Any]:
    scores = {
        name: {"scores": [score.as_dict() for score in measurement.scores], "facts": dict(measurement.facts)}
        for name, measurement in evaluation.measurements.items()
    }
    return {"model": evaluation.model, "evaluation": str(evaluation.path), "measurements": scores}


ACTIONS = {
    "": Action(
        EvaluateOptions,
        evaluate,
        "Measure models on held-out text and benchmarks.",
        examples=(
            "folio evaluate runs/shakespeare",
            "folio evaluate MODEL --tasks loss,hellaswag --text my.txt --limit 1000",
            "folio evaluate A B --text my.txt --window sliding --json",
            "folio evaluate MODEL --harness lambada_openai,piqa --num-fewshot 0",
        ),
    ),
    "tasks": TASKS,
    "oracle": ORACLE,
    "contamination": CONTAMINATION,
}
