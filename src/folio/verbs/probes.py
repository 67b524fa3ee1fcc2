"""What a run measures while it trains: validation, samples of text, benchmarks and other texts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from folio.artifacts import write_file
from folio.config import build
from folio.corpus import CorpusConfig, open_corpus
from folio.errors import ConfigError, nearest
from folio.evaluation.harness.quiet import quietly
from folio.evaluation.harness.tasks import load_tasks
from folio.evaluation.likelihood import Windows, measure_loss
from folio.evaluation.material import passages_of
from folio.evaluation.multiple_choice import measure_task, metrics_of
from folio.evaluation.oracle.scores import METRIC
from folio.evaluation.results import Measurement
from folio.generation.engine import generate
from folio.model.gpt import GPT
from folio.ranks import ALONE, PATIENCE_S, Ranks
from folio.runtime import Runtime
from folio.tokenizer import Tokenizer
from folio.training.loop import Line, Poll, Probe, validation_loss
from folio.verbs.action import Terminal, json_value
from folio.verbs.evaluate import EvaluateOptions
from folio.verbs.evaluate.harness import run_harness
from folio.verbs.evaluate.oracle_probe import Measuring
from folio.verbs.evaluate.tasks import Benchmark, benchmarks_of
from folio.verbs.library import Model

if TYPE_CHECKING:
    from folio.verbs.session import Session, SessionRecipe

SAMPLES = "samples.md"
QUESTIONS_AT_ONCE = 64
"""Between two looks at whether the run is to stop."""


@dataclass(frozen=True)
class Measure:
    """A measurement that can be made of any state of the model.

    ``run`` gets the whole model, the ranks that share the work and what to call now and then; ``metrics`` are the
    scores it will have, empty where only a run can tell. One that is not ``shared`` is made by the first rank alone.
    """

    name: str
    metrics: tuple[str, ...]
    run: Callable[[GPT, Ranks, Poll], Measurement]
    shared: bool = False


def measures_of(
    recipe: SessionRecipe, tokenizer: Tokenizer, runtime: Runtime, oracle: Measuring | None = None
) -> list[Measure]:
    """What ``[evaluation]`` asks for; files are read, and what cannot be measured is refused, before training begins.

    ``oracle`` judges what the model writes, where that is asked for.
    :class:`ConfigError` too if ``train.best_by`` is none of its scores.
    """
    measures = [_task(benchmark, recipe, tokenizer, runtime) for benchmark in _sampled(recipe)]
    measures += [_text(path, recipe, tokenizer, runtime) for path in recipe.evaluation.texts]
    if oracle is not None:
        measures.append(Measure("oracle", (METRIC,), lambda model, ranks, poll: oracle(model, poll)))
    measures += [_harness(task, recipe, tokenizer, runtime) for task in recipe.evaluation.harness]
    names = [measure.name for measure in measures]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(
            f"[evaluation] measures two things by the name '{repeated}'", "Leave one out, or rename its file."
        )
    known = ["loss", *(f"{measure.name}.{metric}" for measure in measures for metric in measure.metrics)]
    best_by = recipe.train.best_by
    unsure = [measure.name for measure in measures if not measure.metrics]
    if best_by not in known and best_by.rpartition(".")[0] not in unsure:
        guess = nearest(best_by, known)
        raise ConfigError(
            f"train.best_by is '{best_by}', which this run does not measure",
            (f"Did you mean '{guess}'? " if guess else "") + f"There are: {', '.join(known)}.",
        )
    return measures


def _sampled(recipe: SessionRecipe) -> Iterator[Benchmark]:
    """Each benchmark with the questions that are measured."""
    config = recipe.evaluation
    if not config.tasks:
        return
    options = EvaluateOptions(tasks=config.tasks, convention=config.convention, data=config.data)
    for benchmark in benchmarks_of(options, "--evaluation.data"):
        questions = benchmark.questions
        if 0 < config.items < len(questions):
            chosen = sorted(random.Random(config.seed).sample(range(len(questions)), config.items))
            benchmark = replace(benchmark, questions=[questions[index] for index in chosen])
        yield benchmark


def _task(benchmark: Benchmark, recipe: SessionRecipe, tokenizer: Tokenizer, runtime: Runtime) -> Measure:
    def run(model: GPT, ranks: Ranks, poll: Poll) -> Measurement:
        return measure_task(
            model,
            tokenizer,
            benchmark.task,
            benchmark.convention,
            benchmark.questions,
            note=benchmark.note,
            autocast=runtime.autocast(),
            ranks=ranks,
            poll=poll,
            at_once=QUESTIONS_AT_ONCE,
        )

    name = f"{benchmark.task.name}.{benchmark.convention.name}"
    return Measure(name, metrics_of(benchmark.task, benchmark.convention), run, shared=True)


def _text(path: str, recipe: SessionRecipe, tokenizer: Tokenizer, runtime: Runtime) -> Measure:
    passages = list(passages_of(open_corpus(build(CorpusConfig, {"path": path})).documents(), tokenizer))
    name = f"loss.{Path(path).stem or Path(path).name}"

    def run(model: GPT, ranks: Ranks, poll: Poll) -> Measurement:
        windows = Windows("blocks", model.config.block_size)
        measured = measure_loss(model, passages, windows, autocast=runtime.autocast(), poll=poll)
        return replace(measured, name=name)

    return Measure(name, ("nats_per_token", "perplexity", "bits_per_byte"), run)


def _harness(task: str, recipe: SessionRecipe, tokenizer: Tokenizer, runtime: Runtime) -> Measure:
    options = EvaluateOptions(harness=(task,), limit=recipe.evaluation.items or None)
    with quietly():
        single = list(load_tasks((task,), None)["tasks"])
    if len(single) != 1:
        raise ConfigError(
            f"evaluation.harness has '{task}', which is {len(single)} tasks: {', '.join(single[:5])}",
            "Name each task by itself.",
        )

    def run(model: GPT, ranks: Ranks, poll: Poll) -> Measurement:
        (measured,) = run_harness(Model(model, Path(), tokenizer), options, Terminal(quiet=True), runtime, poll=poll)
        return replace(measured, name=name)

    name = f"harness.{single[0]}"
    return Measure(name, (), run)


def judge_of(best_by: str) -> Callable[[Line], float | None]:
    """What of a line of metrics decides which checkpoint is best, lower is better; None of other lines."""
    if best_by == "loss":
        return validation_loss
    name, _, metric = best_by.rpartition(".")

    def judge(line: Line) -> float | None:
        if line["kind"] != "evaluation" or line["name"] != name or metric not in line["scores"]:
            return None
        score = line["scores"][metric]
        if score["value"] is None:
            return None
        return float(score["value"]) * (1.0 if score["better"] == "lower" else -1.0)

    return judge


def probes_of(session: Session, run: Path) -> list[Probe]:
    """The probes of any run but for the validation; on several ranks all take part in each."""
    sample_every, every = session.config.sample_every, session.recipe.evaluation.every
    samples = [Probe(sample_every, _sample(session, run))] if sample_every else []
    return [*samples, *(Probe(every, _measurement(session, measure)) for measure in session.measures)]


def _sample(session: Session, run: Path) -> Callable[[int, Poll], Line]:
    drawing, prompt = session.recipe.generation, session.config.sample_prompt
    if drawing.seed is None:
        drawing = drawing.model_copy(update={"seed": session.config.seed})

    def sample(step: int, poll: Poll) -> Line:
        line = {"kind": "sample", "step": step, "prompt": prompt}
        whole = session.state.parallel.gathered()
        if whole is None:
            return line
        line["text"] = generate(whole, session.tokenizer, [prompt], drawing)[0].text
        with open(run / SAMPLES, "a", encoding="utf-8") as file:
            file.write(sample_section(line))
        return line

    return sample


def _measurement(session: Session, measure: Measure) -> Callable[[int, Poll], Line]:
    state, ranks = session.state, session.runtime.ranks
    together = measure.shared and state.parallel.kind != "fsdp"
    patient = ranks if together else ranks.another(PATIENCE_S)  # the others wait for the first, however long it takes

    def by_the_first(poll: Poll) -> Measurement:
        whole = state.parallel.gathered()
        poll_alone = poll if ranks.world_size == 1 else lambda: None  # to poll is for all ranks at once
        found = patient.attempt(lambda: None if whole is None else measure.run(whole, ALONE, poll_alone))
        return patient.share(cast(Measurement, found))

    def measurement(step: int, poll: Poll) -> Line:
        measured = measure.run(state.model, ranks, poll) if together else by_the_first(poll)
        keys = ("value", "n", "unit", "standard_error", "low", "high", "better", "convention")
        scores = {score.metric: {key: json_value(getattr(score, key)) for key in keys} for score in measured.scores}
        return {"kind": "evaluation", "name": measure.name, "scores": scores}

    return measurement


def rewrite_samples(run: Path, lines: list[Line]) -> None:
    """Leave in ``samples.md`` what ``lines`` hold: a resumed run writes the rest again."""
    samples = [line for line in lines if line["kind"] == "sample"]
    if samples or (run / SAMPLES).exists():
        write_file(run / SAMPLES, "".join(map(sample_section, samples)))


def sample_section(line: Line) -> str:
    return f"## Step {line['step']:,}\n\n```text\n{line['prompt']}{line['text']}\n```\n\n"
