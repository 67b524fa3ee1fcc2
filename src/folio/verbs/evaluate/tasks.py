"""Benchmarks of ``folio evaluate``: which are asked for, their files read, a model measured on them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folio.config import Table
from folio.errors import ConfigError
from folio.verbs.action import Action, Outcome, Terminal

if TYPE_CHECKING:
    from folio.evaluation.estimates import Estimate
    from folio.evaluation.results import Measurement
    from folio.evaluation.tasks import Convention, Question, Task
    from folio.runtime import Runtime
    from folio.verbs.evaluate import EvaluateOptions
    from folio.verbs.library import Model

LOSS = "loss"


@dataclass(frozen=True)
class Benchmark:
    """A task under one convention: its questions, with ``num_fewshot`` examples each, and facts about their source."""

    task: Task
    convention: Convention
    questions: Sequence[Question]
    num_fewshot: int
    facts: dict[str, Any]

    @property
    def note(self) -> str:
        """What the convention's name has to say of the file."""
        recovered = self.facts.get("recovered")
        if not recovered or not any(f"{{{field}" in self.convention.context for field in recovered["fields"]):
            return ""
        return f"{' and '.join(recovered['fields'])} recovered from {recovered['from']}"


def names_of(options: EvaluateOptions) -> list[str]:
    """What ``--tasks`` names, each once."""
    return list(dict.fromkeys(name for given in options.tasks for name in given.split(",") if name))


def benchmarks_of(options: EvaluateOptions) -> Iterator[Benchmark]:
    """The benchmarks that ``--tasks`` asks for, their files read, once for each convention.

    Where no convention is asked for but few-shot examples are, those that have none are passed over.
    """
    from folio.evaluation.tasks import find_task

    tasks = [find_task(name) for name in names_of(options) if name != LOSS]
    files = files_of(options.data, [task.name for task in tasks])
    wanted = [name for given in options.convention for name in given.split(",")]
    for name in wanted:
        if tasks and not any(name in task.conventions for task in tasks):
            tasks[0].convention(name)
    few = options.num_fewshot or 0
    for task in tasks:
        data = task.read(files.get(task.name), limit=options.limit or 0)
        shots = task.read_shots(options.shots_from, files.get(task.name)) if few else None
        facts = {**data.facts, "description": task.sha256}
        if shots is not None:
            facts["shots"] = {"source": shots.source, "sha256": shots.sha256}
        for name, convention in task.conventions.items():
            if name in wanted or (not wanted and not (few and convention.shots == "none")):
                questions = task.questions(data.items, convention, few, shots.items if shots else None)
                yield Benchmark(task, convention, questions, few, facts)


def files_of(given: Sequence[str], tasks: Sequence[str]) -> dict[str, Path]:
    """The file of each task that ``--data`` names."""
    files: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if equals and name in tasks:
            files[name] = Path(path)
        elif len(tasks) == 1:
            files[tasks[0]] = Path(text)
        else:
            which = ", ".join(f"--data {task}=FILE" for task in tasks) or "--tasks with a benchmark"
            raise ConfigError(f"--data {text} does not say whose file it is", f"Say {which}.")
    return files


def score_benchmark(model: Model, benchmark: Benchmark, runtime: Runtime, terminal: Terminal) -> Measurement:
    from folio.evaluation.multiple_choice import measure_task

    """The measurement of ``model`` on a benchmark, with how long it took among its facts."""
    task, convention, questions = benchmark.task, benchmark.convention, benchmark.questions
    begun = time.perf_counter()
    with terminal.progress(f"{task.name}, {convention.name}", len(questions), "item") as bar:

        def running(done: int, metrics: dict[str, Estimate]) -> None:
            bar.update(
                done, {key: f"{one.value:.1%} ({one.low:.1%} to {one.high:.1%})" for key, one in metrics.items()}
            )

        measured = measure_task(
            model.gpt,
            model.tokenizer,
            task,
            convention,
            questions,
            num_fewshot=benchmark.num_fewshot,
            note=benchmark.note,
            autocast=runtime.autocast(),
            running=running,
        )
    seconds = time.perf_counter() - begun
    speed = {"seconds": seconds, "items_per_s": len(questions) / seconds}
    return replace(measured, facts={**benchmark.facts, **measured.facts, **speed})


class TasksOptions(Table):
    """Nothing to choose."""


def tasks(options: TasksOptions, terminal: Terminal) -> Outcome:
    """Print every benchmark that comes with Folio, its conventions, and where its file comes from."""
    from folio.evaluation.tasks import find_task, shipped_tasks

    known = [find_task(name) for name in shipped_tasks()]
    terminal.table(
        ("task", "conventions", "what it is"), [(task.name, ", ".join(task.conventions), task.about) for task in known]
    )
    listed = [{"name": task.name, "about": task.about, "conventions": list(task.conventions)} for task in known]
    return Outcome({"tasks": listed}, next=("folio evaluate MODEL --tasks hellaswag",))


ACTION = Action(TasksOptions, tasks, "List the benchmarks that come with Folio.")
