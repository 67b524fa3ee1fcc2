"""Items: records of which is known what every convention needs, namely the texts, the endings and the right one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from folio.checksums import sha256_of
from folio.errors import DataError
from folio.evaluation.tasks.description import Description, Paths
from folio.evaluation.tasks.fields import Unfit, endings_of, first_at, texts_of
from folio.evaluation.tasks.labels import label_of, labels_beside, nth_label
from folio.evaluation.tasks.records import Record, read_records


@dataclass(frozen=True)
class Item:
    """One record, read.

    ``number`` counts from 0 in its file; ``record`` is as read; ``label`` is the right ending's, 0 for a last word;
    ``place`` is "file:line"; ``texts`` are the description's fields; ``endings`` are empty for a last word.
    """

    id: str
    number: int
    record: Record
    label: int
    place: str
    texts: Mapping[str, str]
    endings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskData:
    """The items of one file. ``facts`` are JSON values: where the file came from, labels beside it, what was recovered.

    ``source`` is the file's name.
    """

    items: list[Item]
    source: str
    sha256: str
    facts: dict[str, Any] = field(default_factory=dict)


def read_items(
    description: Description, path: Path, limit: int, looks_like: Callable[[Record], str | None]
) -> TaskData:
    """The first ``limit`` items of a file, 0 for all of them.

    ``looks_like`` names the task that a record with missing fields belongs to, if it knows.
    :class:`DataError`, with file and line, for the first record that does not fit.
    """
    items: list[Item] = []
    labels = None
    ids: set[str] = set()
    recovered = 0
    for number, (line, record) in enumerate(
        islice(read_records(path, description.name, description.lines), limit or None)
    ):
        try:
            if number == 0:
                labels = labels_beside(description.label, path, record)
            texts, anew = texts_of(description, record)
            endings, label = _choice(description, record, labels and nth_label(*labels, number))
        except Unfit as unfit:
            remedy = unfit.remedy or "Mend or remove the line."
            if unfit.missing:
                remedy = _of_another_task(description, record, looks_like(record))
            raise DataError(f"'{path}', line {line}: {unfit.problem}", remedy) from None
        name = _own_id(description.id, record, number)
        name = f"{name}#{number}" if name in ids else name
        ids.add(name)
        recovered += anew
        items.append(Item(name, number, record, label, f"{path.name}:{line}", texts, endings))
    if not items:
        raise DataError(f"'{path}' holds no items", f"Give a file of '{description.name}' that is not empty.")
    if labels and not limit and len(labels[1]) != len(items):
        problem = f"'{labels[0]}' has {len(labels[1]):,} labels for {len(items):,} records of '{path.name}'"
        raise DataError(problem, "Give the labels that belong to the file.")
    facts: dict[str, Any] = {"source": path.name, "sha256": sha256_of(path)}
    if labels:
        facts |= {"labels_source": labels[0].name, "labels_sha256": sha256_of(labels[0])}
    if recovered and description.recover:
        before, after = description.recover.into
        facts["recovered"] = {"items": recovered, "fields": [before, after], "from": description.recover.field}
    return TaskData(items, path.name, facts["sha256"], facts)


def fits(description: Description, record: Record) -> bool:
    """Whether a record has all the fields that a description asks for, its label aside."""
    try:
        texts_of(description, record)
        return not description.endings or bool(endings_of(description, record))
    except Unfit:
        return False


def _choice(description: Description, record: Record, beside: str | None) -> tuple[tuple[str, ...], int]:
    if description.label is None:
        return (), 0
    endings = endings_of(description, record)
    wanted = description.choices
    if len(endings) != wanted if wanted else len(endings) < 2:
        raise Unfit(f"{len(endings)} endings, not {wanted or 'two or more'}")
    for number, ending in enumerate(endings):
        if not ending.strip():
            raise Unfit(f"ending {number} (from 0) is empty")
    return endings, label_of(description.label, record, beside, len(endings))


def _own_id(paths: Paths, record: Record, number: int) -> str:
    found = first_at(record, paths)
    return str(found) if isinstance(found, str | int) and found != "" else str(number)


def _of_another_task(description: Description, record: Record, other: str | None) -> str:
    if other:
        return f"It looks like a record of '{other}': evaluate that with --tasks {other} --data {other}=FILE."
    return f"This is no record of '{description.name}'; its fields are: {', '.join(map(str, record)) or 'none'}."
