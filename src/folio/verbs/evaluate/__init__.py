"""``folio evaluate``: measure models on held-out text and benchmarks, every score with its convention and interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from pydantic import Field

from folio.config import Table
from folio.errors import ConfigError
from folio.verbs.action import Action, Outcome, Terminal
from folio.verbs.evaluate.contamination import ACTION as CONTAMINATION
from folio.verbs.evaluate.oracle import ACTION as ORACLE
from folio.verbs.evaluate.tasks import ACTION as TASKS

if TYPE_CHECKING:
    from folio.evaluation.results import Evaluation, Measurement
    from folio.runtime import Runtime
    from folio.verbs.evaluate.tasks import Benchmark


class EvaluateOptions(Table):
    """What to measure, on what."""

    models: tyro.conf.Positional[tuple[str, ...]] = ()
    """Runs, checkpoints, Hugging Face-style folders or hub ids; several are measured on the same text and items."""
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
    """Score only the first this many tokens of text; 0 scores all."""
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
    data = {"evaluations": [_answer(one) for one in evaluations]}
    paths = tuple(one.path for one in evaluations)
    first = options.models[0]
    following = f"folio compare {' '.join(map(str, paths))}" if len(paths) > 1 else f"folio generate {first}"
    return Outcome(data, paths, next=(following,))


def evaluate_models(models: Sequence[str], options: EvaluateOptions, terminal: Terminal) -> list[Evaluation]:
    """One evaluation folder for each of ``models``, all on the same text and items.

    What cannot be measured fails before the first model is: unknown tasks, missing files, damaged records.
    """
    from folio.artifacts import refuse_occupied
    from folio.evaluation.results import KIND, read_evaluation
    from folio.runtime import make_runtime
    from folio.verbs.evaluate.tasks import benchmarks_of

    if not models:
        raise ConfigError("no model was named", "Name a run, a checkpoint, a model folder or a hub id.")
    if sum(source is not None for source in (options.text, options.corpus, options.shards)) > 1:
        raise ConfigError("--text, --corpus and --shards are three ways to say one thing", "Give one of them.")
    folders = _folders(models, options)
    for folder in folders:
        refuse_occupied(folder, allowed_kind=KIND)
    runtime = make_runtime(options.device, options.precision)
    benchmarks = [] if options.harness else list(benchmarks_of(options))
    for given, folder in zip(models, folders, strict=True):
        _evaluate_one(given, folder, benchmarks, options, runtime, terminal)
    return [read_evaluation(folder) for folder in folders]


def _evaluate_one(
    given: str,
    folder: Path,
    benchmarks: Sequence[Benchmark],
    options: EvaluateOptions,
    runtime: Runtime,
    terminal: Terminal,
) -> None:
    from folio.evaluation.results import write_evaluation
    from folio.verbs.evaluate.harness import run_harness
    from folio.verbs.evaluate.tasks import LOSS, names_of, score_benchmark
    from folio.verbs.evaluate.text import score_text, short_name, source_of, training_of
    from folio.verbs.library import load

    model = load(given, device=str(runtime.device))
    measurements: list[Measurement] = []
    if options.harness:
        measurements += run_harness(model, options, terminal, runtime)
    elif LOSS in names_of(options):
        measurements.append(score_text(given, model, options, runtime, terminal))
    measurements += [score_benchmark(model, benchmark, runtime, terminal) for benchmark in benchmarks]
    config = {
        "model": short_name(given) if Path(given).is_absolute() else given,
        "trained": training_of(given),
        "tokenizer": model.tokenizer.fingerprint,
        "precision": runtime.precision,
        "options": options.model_dump(mode="json", exclude={"models", "to"}, exclude_defaults=True),
    }
    parents, device = source_of(model.folder), str(runtime.device)
    write_evaluation(folder, measurements, config, parents=parents, parquet=options.parquet, device=device)


def _folders(models: Sequence[str], options: EvaluateOptions) -> list[Path]:
    from folio.verbs.evaluate.text import short_name
    from folio.verbs.train import fresh_folder

    names = [short_name(model) for model in models]
    names = [name if names.count(name) == 1 else f"{name}-{index + 1}" for index, name in enumerate(names)]
    if options.to is not None:
        return [options.to] if len(models) == 1 else [options.to / name for name in names]
    what = "-".join(Path(task).stem for given in options.harness or options.tasks for task in given.split(","))
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
