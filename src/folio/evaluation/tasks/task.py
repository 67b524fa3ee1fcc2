"""A task: a description that was read, which reads its files and makes questions of their items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from folio.errors import ConfigError, nearest
from folio.evaluation.tasks.description import Convention, Description, Source, read_description
from folio.evaluation.tasks.items import Item, TaskData, fits, read_items
from folio.evaluation.tasks.questions import Question, questions_of
from folio.evaluation.tasks.records import Record
from folio.evaluation.tasks.sources import Located, locate

SEED = 1234
"""lm-evaluation-harness's seed for few-shot examples."""
DATA = "--data"
"""How a benchmark's file is given, if the caller does not take it by another flag."""


class Task:
    """A benchmark. ``conventions`` are by name; ``sha256`` is that of the description."""

    def __init__(self, path: Path) -> None:
        """:class:`ConfigError` for a description that cannot be read or has mistakes."""
        self.description: Description
        self.conventions: dict[str, Convention]
        self.description, self.conventions, self.sha256 = read_description(path)

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def about(self) -> str:
        return self.description.about

    @property
    def kind(self) -> str:
        """ "multiple-choice" or "last-word"."""
        return self.description.kind

    @property
    def shots_from_items(self) -> bool:
        """Whether few-shot examples are drawn from the items' own file."""
        return self.description.shots is None

    def convention(self, name: str) -> Convention:
        """:class:`ConfigError`, with the nearest name, for one that the task does not have."""
        if name in self.conventions:
            return self.conventions[name]
        guess = nearest(name, self.conventions)
        hint = f"Did you mean '{guess}'? " if guess else ""
        raise ConfigError(
            f"task '{self.name}' has no convention '{name}'", f"{hint}It has: {', '.join(self.conventions)}."
        )

    def read(self, path: Path | None = None, limit: int = 0, flag: str = DATA) -> TaskData:
        """The items of the file at ``path``, or of the description's own, which is fetched if need be.

        ``limit`` is how many of the first to read, 0 for all; ``flag`` is the caller's name for the option that gives
        the file, for what is said where there is none. :class:`DataError` naming file and line for what is no item of
        this task, :class:`Unreachable` if no place has the file.
        """
        return self._read(self._items_file(path, flag), limit)

    def read_shots(self, path: Path | None = None, items: Path | None = None, flag: str = DATA) -> TaskData:
        """The items that few-shot examples are drawn from: all of ``path``, or of the description's own file for them.

        A task that draws them from its own items takes ``items``, the file given for those by ``flag``.
        """
        if path is None and self.description.shots is None:
            return self._read(self._items_file(items, flag), 0)
        source = self.description.shots or Source()
        return self._read(locate(f"{self.name}, few-shot", source, path, "--shots-from FILE"), 0)

    def questions(
        self,
        items: Sequence[Item],
        convention: Convention | str,
        num_fewshot: int = 0,
        shots: Sequence[Item] | None = None,
        seed: int = SEED,
    ) -> list[Question]:
        """What to score for each item; see :func:`~folio.evaluation.tasks.questions.questions_of`."""
        chosen = self.convention(convention) if isinstance(convention, str) else convention
        return questions_of(items, chosen, num_fewshot, shots, seed)

    def _items_file(self, path: Path | None, flag: str) -> Located:
        return locate(self.name, self.description.data, path, f"{flag} {self.name}=FILE")

    def _read(self, located: Located, limit: int) -> TaskData:
        data = read_items(self.description, located.path, limit, self._task_of)
        return replace(data, facts={**data.facts, "origin": located.origin})

    def _task_of(self, record: Record) -> str | None:
        """The other shipped task whose fields a record has."""
        for name, path in shipped_tasks().items():
            if name != self.name and fits(read_description(path)[0], record):
                return name
        return None


def shipped_tasks() -> dict[str, Path]:
    """The descriptions that come with Folio, by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}


def find_task(given: str | Path) -> Task:
    """The shipped task of that name, or the one that a .toml file describes.

    :class:`ConfigError` with the nearest name for one that is neither.
    """
    name = str(given)
    shipped = shipped_tasks()
    if name in shipped:
        return Task(shipped[name])
    if name.endswith(".toml"):
        return Task(Path(name).expanduser())
    guess = nearest(name, shipped)
    hint = f"Did you mean '{guess}'? " if guess else ""
    remedy = f"{hint}There are: {', '.join(shipped)}; or give the path of a description, FILE.toml."
    raise ConfigError(f"there is no task '{name}'", remedy)
