"""Models measured one after the other: all that can be known to fail fails first, and what is done is kept at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from folio.errors import ArtifactError, Interrupted, UserError, require
from folio.verbs.action import Terminal
from folio.verbs.evaluate.asked import kept_options
from folio.verbs.evaluate.tasks import LOSS, Benchmark, benchmarks_of, names_of, score_benchmark

if TYPE_CHECKING:
    from folio.evaluation.harness.tasks import Tasks
    from folio.evaluation.results import Measurement
    from folio.model.config import GPTConfig
    from folio.runtime import Runtime
    from folio.tokenizer import Tokenizer
    from folio.verbs.evaluate import EvaluateOptions
    from folio.verbs.library import Model


@dataclass(frozen=True)
class Subject:
    """A model under measurement: the name it was ``given`` by, its ``folder``, and where its evaluation goes."""

    given: str
    folder: Path
    to: Path


@dataclass(frozen=True)
class Plan:
    """What is measured, on which models; everything in it was found to be there."""

    subjects: tuple[Subject, ...]
    benchmarks: tuple[Benchmark, ...]
    harness: Tasks | None
    options: EvaluateOptions
    runtime: Runtime


def planned(
    models: Sequence[str],
    folders: Sequence[Path],
    options: EvaluateOptions,
    terminal: Terminal,
    *,
    data_flag: str = "--data",
) -> Plan:
    """The plan for ``models``, whose evaluations go to ``folders``. ``data_flag``: see :func:`benchmarks_of`.

    No weights are read. What cannot be measured is refused here: models, texts, tasks or files that are not there,
    records that are damaged, windows that do not fit a context.
    """
    from folio.artifacts import refuse_occupied
    from folio.evaluation.results import KIND
    from folio.model.find import other_checkpoints
    from folio.runtime import make_runtime
    from folio.verbs.adapted import place_of
    from folio.verbs.evaluate.continuing import tokenizer_and_shape
    from folio.verbs.evaluate.harness import harness_tasks
    from folio.verbs.evaluate.text import shared_corpus
    from folio.verbs.hub import model_folder

    for folder in folders:
        refuse_occupied(folder, allowed_kind=KIND)
    if options.parquet:
        require("pyarrow", "data")
    runtime = make_runtime(options.device, options.precision)
    subjects = tuple(Subject(given, model_folder(given), to) for given, to in zip(models, folders, strict=True))
    shared_corpus(options)
    for subject in subjects:
        place_of(subject.folder)  # a base that is missing is told of as that
        try:
            tokenizer, config = tokenizer_and_shape(subject.folder)
        except ArtifactError as error:
            own = str(subject.folder) in error.problem
            others = other_checkpoints(subject.given, subject.folder) if own else ""
            raise ArtifactError(error.problem, others or error.remedy) from None
        if _has_loss(options):
            _check_text(subject.given, tokenizer, config, options)
    benchmarks = () if options.harness else tuple(benchmarks_of(options, data_flag))
    return Plan(subjects, benchmarks, harness_tasks(options, terminal) if options.harness else None, options, runtime)


def measure(plan: Plan, terminal: Terminal) -> None:
    """Carry out ``plan``. An evaluation is written after each of its measurements, so that none is lost to the next.

    :class:`Interrupted` on Ctrl-C once anything was written; an error names what was.
    """
    done: dict[Path, list[str]] = {}
    whole: set[Path] = set()
    try:
        for subject in plan.subjects:
            _measure_one(subject, plan, terminal, done)
            whole.add(subject.to)
    except KeyboardInterrupt:
        if not done:
            raise
        left = " ".join(quote(subject.given) for subject in plan.subjects if subject.to not in whole)
        go_on = f"\n       Not measured, or not on everything: {left}" if left else ""
        raise Interrupted(f"stopped; {_kept(done)}{go_on}") from None
    except UserError as error:
        if done:
            error.problem += f"; {_kept(done)}"
        raise
    except Exception:
        if done:
            terminal.print(_kept(done), style="yellow")
        raise


def _measure_one(subject: Subject, plan: Plan, terminal: Terminal, done: dict[Path, list[str]]) -> None:
    from folio.evaluation.results import write_evaluation
    from folio.verbs.evaluate.text import short_name, source_of, training_of
    from folio.verbs.library import load

    given, device = subject.given, str(plan.runtime.device)
    model = load(given, device=device)
    config = {
        "model": short_name(given) if Path(given).is_absolute() else given,
        "trained": training_of(given),
        "tokenizer": model.tokenizer.fingerprint,
        "precision": plan.runtime.precision,
        "options": kept_options(plan.options),
    }
    measurements: list[Measurement] = []
    steps = list(_steps(given, model, plan, terminal))
    for number, (_, step) in enumerate(steps, 1):
        measurements += step()
        left = [name for name, _ in steps[number:]]
        write_evaluation(
            subject.to,
            measurements,
            {**config, **({"not_measured": left} if left else {})},
            parents=source_of(model.folder),
            parquet=plan.options.parquet,
            device=device,
        )
        done[subject.to] = [measurement.name for measurement in measurements]


def _steps(
    given: str, model: Model, plan: Plan, terminal: Terminal
) -> Iterator[tuple[str, Callable[[], list[Measurement]]]]:
    """What is to be measured, in order, each with its name."""
    from folio.verbs.evaluate.harness import run_harness
    from folio.verbs.evaluate.text import score_text

    options, runtime = plan.options, plan.runtime
    if plan.harness is not None:
        names = ",".join(plan.harness["tasks"])
        yield names, lambda: run_harness(model, options, terminal, runtime, tasks=plan.harness)
    if _has_loss(options):
        yield LOSS, lambda: [score_text(given, model, options, runtime, terminal)]
    for benchmark in plan.benchmarks:
        yield benchmark.name, lambda one=benchmark: [score_benchmark(model, one, runtime, terminal)]  # type: ignore[misc]


def _has_loss(options: EvaluateOptions) -> bool:
    return not options.harness and LOSS in names_of(options)


def _kept(done: dict[Path, list[str]]) -> str:
    return "kept are " + ", ".join(f"{', '.join(names)} in {quote(str(path))}" for path, names in done.items())


def _check_text(given: str, tokenizer: Tokenizer, config: GPTConfig, options: EvaluateOptions) -> None:
    """:class:`folio.errors.UserError` if the loss of this model cannot be measured as asked; no shard is read whole."""
    from folio.verbs.evaluate.text import shards_for, windows_of

    windows_of(options, config.block_size)
    if options.text is None and options.corpus is None:
        shards_for(given, tokenizer, options, verify=False).split(options.split)
