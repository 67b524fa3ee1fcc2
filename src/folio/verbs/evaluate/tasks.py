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
    def name(self) -> str:
        """What is measured, in words."""
        return f"{self.task.name}.{self.convention.name}"

    @property
    def note(self) -> str:
        """What the convention's name has to say of the file."""
        recovered = self.facts.get("recovered")
        if not recovered or not any(f"{{{field}" in self.convention.context for field in recovered["fields"]):
            return ""
        return f"{' and '.join(recovered['fields'])} recovered from {recovered['from']}"


def parted(given: Sequence[str]) -> list[str]:
    """The names in a list, whose elements may hold several with commas between; each once."""
    names = (name.strip() for several in given for name in several.split(","))
    return list(dict.fromkeys(name for name in names if name))


def names_of(options: EvaluateOptions) -> list[str]:
    """What ``--tasks`` names, each once; :class:`ConfigError` if that is nothing."""
    names = parted(options.tasks)
    if not names:
        raise ConfigError("--tasks names nothing", "Name loss, or a benchmark such as hellaswag.")
    return names


def benchmarks_of(options: EvaluateOptions, data_flag: str = "--data") -> Iterator[Benchmark]:
    """The benchmarks that ``--tasks`` asks for, their files read, once for each convention.

    Of several conventions asked for, a task takes those that it has. Where none is asked for but few-shot examples are,
    those that have none are passed over. ``data_flag`` is how the caller names the option that gives a file.
    :class:`ConfigError`, before any file is read, for a task that is left with no
    convention, and for two descriptions of one name.
    """
    from folio.evaluation.tasks import find_task

    given = [name for name in names_of(options) if name != LOSS]
    tasks = [find_task(name) for name in given]
    _refuse_one_name(given, tasks)
    files = files_of(options.data, [task.name for task in tasks], data_flag)
    wanted = parted(options.convention)
    few = options.num_fewshot or 0
    chosen = [_conventions(task, tasks, wanted, few) for task in tasks]
    for task, conventions in zip(tasks, chosen, strict=True):
        file = files.get(task.name)
        data = task.read(file, limit=options.limit or 0, flag=data_flag)
        shots = task.read_shots(options.shots_from, file, flag=data_flag) if few else None
        facts = {**data.facts, "description": task.sha256}
        if shots is not None:
            facts["shots"] = {"source": shots.source, "sha256": shots.sha256}
        for convention in conventions:
            questions = task.questions(data.items, convention, few, shots.items if shots else None)
            yield Benchmark(task, convention, questions, few, facts)


def _conventions(task: Task, tasks: Sequence[Task], wanted: Sequence[str], few: int) -> list[Convention]:
    """Those of a task that are wanted, or all that can have ``few`` examples."""
    for name in wanted:
        if not any(name in other.conventions for other in tasks):
            task.convention(name)
    own = task.conventions
    found = [own[name] for name in own if name in wanted or not wanted]
    if not found:
        problem = f"task '{task.name}' has no convention '{', '.join(wanted)}', and would be left out"
        raise ConfigError(problem, f"It has: {', '.join(own)}. Add one to --convention, or leave the task out.")
    if few and not wanted:
        found = [convention for convention in found if convention.shots != "none"]
    if not found:
        problem = f"no convention of task '{task.name}' has few-shot examples ({', '.join(own)})"
        raise ConfigError(problem, "Leave --num-fewshot out, or leave the task out.")
    return found


def _refuse_one_name(given: Sequence[str], tasks: Sequence[Task]) -> None:
    by_name: dict[str, str] = {}
    for text, task in zip(given, tasks, strict=True):
        if task.name in by_name:
            raise ConfigError(
                f"--tasks names '{task.name}' twice: {by_name[task.name]} and {text}",
                "Give one of the descriptions another name, or leave one out.",
            )
        by_name[task.name] = text


def files_of(given: Sequence[str], tasks: Sequence[str], flag: str = "--data") -> dict[str, Path]:
    """The file of each task that ``flag`` names; :class:`ConfigError` for a second file of one task."""
    files: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (equals and name in tasks):
            if len(tasks) != 1:
                which = ", ".join(f"{flag} {task}=FILE" for task in tasks) or "--tasks with a benchmark"
                raise ConfigError(f"{flag} {text} does not say whose file it is", f"Say {which}.")
            name, path = tasks[0], text
        if name in files:
            raise ConfigError(f"{flag} gives '{name}' two files: {files[name]} and {path}", "Give one of them.")
        files[name] = Path(path)
    return files


def score_benchmark(model: Model, benchmark: Benchmark, runtime: Runtime, terminal: Terminal) -> Measurement:
    """The measurement of ``model`` on a benchmark, with how long it took among its facts."""
    from folio.evaluation.multiple_choice import measure_task

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
