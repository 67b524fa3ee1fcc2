"""Which ending is right: as the record says it, or a file of labels beside."""

from __future__ import annotations

import re
from pathlib import Path

from folio.evaluation.tasks.description import Label
from folio.evaluation.tasks.fields import Unfit, first_at, in_words
from folio.evaluation.tasks.records import Record, read_lines, task_file


def label_of(label: Label, record: Record, beside: str | None, endings: int) -> int:
    found = beside if beside is not None else first_at(record, label.field)
    if isinstance(found, bool) or not isinstance(found, int | str) or found == "":
        remedy = "Splits without answers cannot be scored: give the validation split, or labels beside the file."
        raise Unfit(f"no label in {in_words(label.field)} ({found!r})", remedy)
    said = str(found).strip()
    if label.counts == "names":
        names = first_at(record, label.names)
        named = [str(name).strip() for name in names] if isinstance(names, list) else []
        if said not in named[:endings]:
            raise Unfit(f"label '{said}' is none of the endings' names ({', '.join(named) or 'none given'})")
        return named.index(said)
    first = 1 if label.counts == "from-one" else 0
    if not re.fullmatch(r"-?\d+", said) or not first <= int(said) < endings + first:
        raise Unfit(f"label {said!r} is out of range: there are {endings} endings, from {first}")
    return int(said) - first


def labels_beside(label: Label | None, path: Path, record: Record) -> tuple[Path, list[str]] | None:
    """The file of labels beside ``path`` and its lines, if the records have none themselves and it is there."""
    if label is None or not label.beside or first_at(record, label.field) is not None:
        return None
    file = task_file(path)
    stem = path.name.removesuffix(file.packing).removesuffix(file.kind)
    beside = path.with_name(label.beside.format(stem=stem))
    if not beside.is_file():
        raise Unfit(f"no label here, and no file '{beside.name}' beside it", f"Put the labels in '{beside}'.")
    return beside, read_lines(beside)


def nth_label(path: Path, lines: list[str], number: int) -> str:
    if number >= len(lines):
        raise Unfit(f"'{path.name}' ends before this record ({len(lines):,} labels)")
    return lines[number]
