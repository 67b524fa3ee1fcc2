"""What the quality steps did: documents by step and reason, a few examples, joined over any number of processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

EXAMPLES = 3
"""Kept for each reason: those whose source and id hash lowest, so that no order and no number of processes matters."""
COLUMNS = ("step", "what", "documents", "share", "characters", "hits")
EXAMPLE_COLUMNS = ("step", "what", "document", "found", "text")
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Example:
    """A document that a rule caught: what was ``found`` (a measure, may be empty) and an ``excerpt`` of its text."""

    id: str
    source: str
    found: str
    excerpt: str

    @property
    def rank(self) -> tuple[bytes, str, str, str, str]:
        name = f"{self.source}\0{self.id}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(name, digest_size=8).digest(), self.source, self.id, self.found, self.excerpt


@dataclass(frozen=True, slots=True)
class Tally:
    """Documents under one reason, the characters they lost with it, hits (lines, addresses; documents if dropped)."""

    documents: int = 0
    characters: int = 0
    hits: int = 0
    examples: tuple[Example, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        examples = sorted((*self.examples, *other.examples), key=lambda example: example.rank)[:EXAMPLES]
        return Tally(
            self.documents + other.documents,
            self.characters + other.characters,
            self.hits + other.hits,
            tuple(examples),
        )


@dataclass(slots=True)
class QualityReport:
    """Counts of one walk, or of the parts of one joined by ``+``, which is associative and commutative.

    ``steps`` are those in force, in order. Documents dropped stand under (step, reason), and so do the changed ones,
    which may be under several reasons; what a step took from a document in all is under the first of them. ``met`` are
    the items of benchmarks that were found in documents, by benchmark: at most as many as there are.
    """

    steps: tuple[str, ...] = ()
    documents: int = 0
    characters: int = 0
    kept: int = 0
    kept_characters: int = 0
    dropped: dict[Key, Tally] = field(default_factory=dict)
    changed: dict[Key, Tally] = field(default_factory=dict)
    met: dict[str, set[str]] = field(default_factory=dict)

    def __add__(self, other: QualityReport) -> QualityReport:
        assert self.steps == other.steps or not self.steps or not other.steps
        return QualityReport(
            self.steps or other.steps,
            self.documents + other.documents,
            self.characters + other.characters,
            self.kept + other.kept,
            self.kept_characters + other.kept_characters,
            _joined(self.dropped, other.dropped),
            _joined(self.changed, other.changed),
            {name: self.met.get(name, set()) | other.met.get(name, set()) for name in sorted({*self.met, *other.met})},
        )

    @property
    def dropped_documents(self) -> int:
        return sum(tally.documents for tally in self.dropped.values())

    def rows(self) -> list[tuple[str, ...]]:
        """Cells under :data:`COLUMNS`: what was read, each step with its reasons by documents, what is kept."""
        rows = [self._row("read", "", Tally(self.documents, self.characters))]
        for step in self.steps:
            found = [
                self._row(step, f"{verb} {reason}", tally)
                for verb, tallies in (("dropped:", self.dropped), ("changed:", self.changed))
                for (_, reason), tally in _of_step(tallies, step)
            ]
            rows += found or [self._row(step, "nothing", Tally())]
        return [*rows, self._row("kept", "", Tally(self.kept, self.kept_characters))]

    def example_rows(self) -> list[tuple[str, ...]]:
        """Cells under :data:`EXAMPLE_COLUMNS`, by step and reason."""
        return [
            (step, f"{verb} {reason}", f"{example.source}: {example.id}", example.found, example.excerpt)
            for step in self.steps
            for verb, tallies in (("dropped:", self.dropped), ("changed:", self.changed))
            for (_, reason), tally in _of_step(tallies, step)
            for example in tally.examples
        ]

    def record(self) -> dict[str, Any]:
        """The report as JSON values; :meth:`from_record` reads it back to an equal one."""
        names = ("documents", "characters", "kept", "kept_characters")
        return {
            "steps": list(self.steps),
            **{name: getattr(self, name) for name in names},
            **{name: _records(getattr(self, name)) for name in ("dropped", "changed")},
            "met": {name: sorted(ids) for name, ids in sorted(self.met.items())},
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> QualityReport:
        tallies = {
            name: {
                (one["step"], one["reason"]): Tally(
                    one["documents"], one["characters"], one["hits"], tuple(Example(**each) for each in one["examples"])
                )
                for one in record[name]
            }
            for name in ("dropped", "changed")
        }
        met = {name: set(ids) for name, ids in record.get("met", {}).items()}
        return cls(**{**record, "steps": tuple(record["steps"]), **tallies, "met": met})

    def _row(self, step: str, what: str, tally: Tally) -> tuple[str, ...]:
        share = f"{tally.documents / self.documents:.2%}" if self.documents else ""
        hits = f"{tally.hits:,}" if tally.hits else ""
        return step, what, f"{tally.documents:,}", share, f"{tally.characters:,}", hits


def joined(reports: Iterable[QualityReport]) -> QualityReport:
    """The report of all."""
    return sum(reports, QualityReport())


def _joined(one: Mapping[Key, Tally], other: Mapping[Key, Tally]) -> dict[Key, Tally]:
    return {key: one.get(key, Tally()) + other.get(key, Tally()) for key in sorted({*one, *other})}


def _of_step(tallies: Mapping[Key, Tally], step: str) -> list[tuple[Key, Tally]]:
    return sorted((item for item in tallies.items() if item[0][0] == step), key=lambda item: (-item[1].documents, item))


def _records(tallies: Mapping[Key, Tally]) -> list[dict[str, Any]]:
    return [{"step": key[0], "reason": key[1], **asdict(tally)} for key, tally in sorted(tallies.items())]
