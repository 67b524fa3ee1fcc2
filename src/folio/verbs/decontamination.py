"""Benchmarks whose items training text is to be free of, by name or file, made ready to be looked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from folio.errors import ConfigError, DataError, nearest
from folio.verbs.action import Terminal
from folio.verbs.evaluate.tasks import parted

if TYPE_CHECKING:
    from folio.corpus.quality import Contamination, ContaminationConfig
    from folio.evaluation.tasks import Task

Items = Mapping[str, Sequence[str]]


def contamination_of(
    names: Sequence[str], terminal: Terminal, config: ContaminationConfig | None = None
) -> Contamination:
    """The items of the benchmarks that ``names`` mean (each may hold several, with commas), for the quality steps.

    A name is that of a shipped task, whose file is fetched if need be; TASK=FILE for such a task's file; a description
    (.toml), or DESCRIPTION=FILE; or a file alone (.jsonl, .txt, also packed): records of a shipped task, as which they
    are then read, or texts, one a line, in .jsonl as the field ``text``.

    :class:`ConfigError`, with the nearest name, for what is none of these; :class:`DataError` for files that cannot be
    read or whose items are all too short; :class:`Unreachable` for a file that no place has.
    """
    from folio.corpus.quality import Contamination, ContaminationConfig

    config = config or ContaminationConfig()
    benchmarks: dict[str, Items] = {}
    for given in parted(names):
        name, items = _benchmark(given, config)
        if name in benchmarks:
            raise ConfigError(f"two benchmarks are called '{name}', the second is '{given}'", "Rename the file.")
        benchmarks[name] = items
    if not benchmarks:
        raise ConfigError("no benchmark is named", "Name one, such as hellaswag.")
    found = Contamination(benchmarks, config)
    for name, counts in found.describe()["benchmarks"].items():
        short = f", {counts['too_short']:,} of them too short to be looked for" if counts["too_short"] else ""
        terminal.print(f"looks for {name}: {counts['grams']:,} grams of {counts['items']:,} items{short}")
    return found


def _benchmark(given: str, config: ContaminationConfig) -> tuple[str, Items]:
    """Its name, and its items' texts."""
    from folio.corpus.files import text_file
    from folio.evaluation.tasks import find_task, shipped_tasks

    shipped = shipped_tasks()
    known, equals, file = given.partition("=")
    if known in shipped or known.endswith(".toml"):
        task = find_task(known)
        return task.name, _of_task(task, Path(file) if equals else None, config)
    kind = text_file(Path(given), given)
    if kind is None or kind.kind == ".parquet":
        guess = nearest(known, shipped)
        hint = f"Did you mean '{guess}'? " if guess else ""
        raise ConfigError(
            f"there is no benchmark '{given}'",
            f"{hint}There are: {', '.join(shipped)}; or give TASK=FILE, or a file: .toml, .jsonl or .txt.",
        )
    name = Path(given).name.partition(".")[0]
    task_like = _task_like(Path(given)) if kind.kind == ".jsonl" else None
    return name, _of_task(task_like, Path(given), config) if task_like else _of_lines(Path(given))


def _of_task(task: Task, file: Path | None, config: ContaminationConfig) -> Items:
    """As ``folio evaluate contamination`` looks for them: in the form of every convention."""
    from folio.evaluation.contamination.search import question_texts

    items = task.read(file, flag="name it as").items
    forms = zip(*(task.questions(items, convention) for convention in task.conventions), strict=True)
    return {item.id: question_texts(form, config.answers) for item, form in zip(items, forms, strict=True)}


def _task_like(path: Path) -> Task | None:
    """The shipped task with answers to choose from that the first record of a file has all fields of."""
    from folio.evaluation.tasks import find_task, shipped_tasks
    from folio.evaluation.tasks.items import fits
    from folio.evaluation.tasks.records import read_records

    _, record = next(read_records(path, path.name, None), (0, {}))
    for name in shipped_tasks():
        task = find_task(name)
        if task.kind == "multiple-choice" and fits(task.description, record):
            return task
    return None


def _of_lines(path: Path) -> Items:
    """Texts, one a line, by the number of the line."""
    from folio.evaluation.tasks.records import read_records

    items: dict[str, tuple[str, ...]] = {}
    for line, record in read_records(path, path.name, "text"):
        text = record.get("text")
        if not isinstance(text, str):
            fields = ", ".join(map(str, record)) or "none"
            raise DataError(
                f"'{path}', line {line} has no field 'text', and is no record of a known task; its fields: {fields}",
                "Name the field 'text', or describe the file: DESCRIPTION.toml=FILE.",
            )
        items[str(line)] = (text,)
    if not items:
        raise DataError(f"'{path}' holds no items", "Give a file that is not empty.")
    return items
