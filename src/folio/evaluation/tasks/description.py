"""What a description says, checked: the tables of a task's TOML file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from folio.config import Table, build, read_toml
from folio.errors import ConfigError, nearest
from folio.evaluation.tasks.template import Template, check_cleaners

Paths = tuple[str, ...]
"""Dotted places in a record, the first that is there counts: ``question.stem``; ``choices[].text`` is one of each."""


class Source(Table):
    """Where the file is when none is given."""

    named: str | None = None
    """A row of the named data."""
    repository: str | None = None
    """A dataset on the Hugging Face hub."""
    revision: str = "main"
    """Its commit."""
    file: str = ""
    """The file in it; * stands for any characters."""

    @model_validator(mode="after")
    def _a_hub_file_has_a_name(self) -> Self:
        if self.repository is not None and not self.file:
            raise ValueError("a repository needs the file in it")
        return self


class Label(Table):
    """Which ending is right."""

    field: Paths = Field(min_length=1)
    """Where a record says so."""
    counts: Literal["from-zero", "from-one", "names"] = "from-zero"
    """How it says so: the ending's number, or its name (a letter, mostly)."""
    names: Paths = ()
    """Where the endings' names are, with counts = "names"."""
    beside: str = ""
    """A file of labels beside one whose records have none: {stem} is the name of the latter without its ending."""

    @model_validator(mode="after")
    def _names_have_a_place(self) -> Self:
        if (self.counts == "names") != bool(self.names):
            raise ValueError("names belong to counts = 'names', which needs them")
        return self


class Recovery(Table):
    """Two fields that simplified files lost, cut anew out of one that they kept."""

    field: str
    """The field that holds both."""
    into: tuple[str, str]
    """What stands before and after the last sentence's end; all of it before, if what follows does not begin in lower
    case."""


class Convention(Table):
    """One way to make texts of a record, and what its scores are."""

    name: str
    """The name that a score carries."""
    about: str
    """Whose way it is, in a sentence."""
    encoding: Literal["apart", "pair"]
    """apart: context and ending are encoded each by itself. pair: both at once, then cut at the context's length."""
    normalize: Literal["tokens", "characters"] | None = None
    """What acc_norm divides an ending's log-likelihood by. Empty: there is no acc_norm."""
    context: str
    """What the model is given. With {ending} in it there is a context for each ending."""
    ending: str
    """What is scored, leading space included."""
    clean: tuple[str, ...] = ()
    """Cleaners for the finished context."""
    shots: Literal["none", "others", "any"] = "none"
    """How few-shot examples are drawn, by number generator and seed as in lm-evaluation-harness: others draws one more
    than asked for and leaves the item itself out, any draws as many as asked for. none: the convention has none."""
    shot: str = "{context}{ending}\n\n"
    """One example."""

    @field_validator("context", "ending", "shot")
    @classmethod
    def _is_a_template(cls, text: str) -> str:
        Template.parse(text)
        return text

    @field_validator("clean")
    @classmethod
    def _are_cleaners(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_cleaners(names)
        return names

    @property
    def context_per_ending(self) -> bool:
        return "ending" in Template.parse(self.context).fields


class Description(Table):
    """A benchmark: what it is, where its file is, and what its records hold."""

    name: str = Field(min_length=1)
    """The name that scores carry."""
    about: str
    """What it asks, in a sentence."""
    kind: Literal["multiple-choice", "last-word"]
    """Choose among endings, or guess the last word."""
    id: Paths = ()
    """Where a record's own id is; without one it is the record's number, from 0."""
    fields: dict[str, Paths]
    """The texts that templates may use, each with its places in a record."""
    endings: tuple[str | tuple[str, ...], ...] = ()
    """Where the endings are: a place with a list, or a list of places."""
    choices: int | None = Field(default=None, ge=2)
    """How many endings every record has, if that is fixed."""
    label: Label | None = None
    """Which ending is right."""
    lines: str | None = None
    """The field that a line of a .txt file is, if the benchmark is read from such files."""
    recover: Recovery | None = None
    """Fields that simplified files lost."""
    data: Source = Source()
    """The file of the items."""
    shots: Source | None = None
    """The file of the few-shot examples. Empty: they are drawn from the items' own file."""

    @model_validator(mode="after")
    def _endings_belong_to_choices(self) -> Self:
        if self.kind == "multiple-choice" and not (self.endings and self.label):
            raise ValueError("kind 'multiple-choice' needs endings and [label]")
        if self.kind == "last-word" and (self.endings or self.label):
            raise ValueError("kind 'last-word' has no endings and no [label]")
        if "ending" in self.fields:
            raise ValueError("'ending' is no name for a field: it stands for the endings in turn")
        if self.lines is not None and self.lines not in self.fields:
            raise ValueError(f"lines = '{self.lines}' is no field")
        if self.recover and not {self.recover.field, *self.recover.into} <= set(self.fields):
            raise ValueError("recover names what is no field")
        return self


def read_description(path: Path) -> tuple[Description, dict[str, Convention], str]:
    """A description, its conventions by name, and the sha256 of the file; :class:`ConfigError` for every mistake."""
    content = read_toml(path)
    given = content.pop("conventions", None)
    description = build(Description, content, source=f"'{path}'")
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"'{path}' has no convention", "Add a table such as [conventions.harness].")
    conventions = {name: _convention(path, name, table, description) for name, table in given.items()}
    return description, conventions, hashlib.sha256(path.read_bytes()).hexdigest()


def _convention(path: Path, name: str, table: Any, description: Description) -> Convention:
    source = f"'{path}', [conventions.{name}]"
    if not isinstance(table, dict) or "name" in table:
        raise ConfigError(f"{source} is no table without a name of its own", "Its name is that of the table.")
    convention = build(Convention, {**table, "name": name}, source=source)
    known = {*description.fields, *(["ending"] if description.endings else [])}
    used = Template.parse(convention.context).fields | Template.parse(convention.ending).fields
    _check_fields(source, used, known)
    _check_fields(source, Template.parse(convention.shot).fields, {"context", "ending"})
    return convention


def _check_fields(source: str, used: set[str], known: set[str]) -> None:
    for field in sorted(used - known):
        guess = nearest(field, known)
        hint = f"Did you mean {{{guess}}}? " if guess else ""
        raise ConfigError(f"{source} uses {{{field}}}, which is no field", f"{hint}Fields: {', '.join(sorted(known))}.")
