"""What is explored, whatever it is made of: documents to walk, and how much of the whole they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from folio.corpus.document import Document
from folio.corpus.sources.parts import PartCounts


class Drawn(NamedTuple):
    """A document on its way to being counted."""

    document: Document
    cluster: int
    """Documents drawn together (from one row group, file or stretch) share a number, and follow one another."""
    tokens: int | None = None
    """Ids of a tokenizer, end-of-text left out, where they are known already."""


@dataclass(frozen=True, slots=True)
class Look:
    """How much of the whole is looked at."""

    how: Literal["whole", "first", "sample"] = "whole"
    population: int | None = None
    """Documents of the whole, the empty ones among them; None where only reading all tells."""
    wanted: int | None = None
    seed: int | None = None
    places: int = 0
    """Row groups, files or stretches that a sample is drawn from; 0 where each document is drawn on its own."""
    places_of: int = 0
    unit: str = "files"

    def sentence(self, documents: int) -> str:
        """What was looked at, in words; ``documents`` were."""
        of = f" of {self.population:,}" if self.population is not None else ""
        if self.how == "whole":
            return f"The whole: {documents:,} {'document' if documents == 1 else 'documents'}."
        if self.how == "first":
            return f"The first {documents:,}{of} documents; what comes later may be different."
        from_where = "each on its own" if not self.places else f"from {self.places:,} of {self.places_of:,} {self.unit}"
        return (
            f"A sample: {documents:,}{of} documents, drawn evenly over the whole, {from_where} (seed {self.seed}). "
            "Counts are the sample's; means and shares are estimates for the whole."
        )

    def record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Material:
    """A text to explore. ``walk`` goes over its documents once; ``counts`` is filled on the way."""

    name: str
    kind: Literal["corpus", "source", "shards"]
    about: dict[str, Any]
    """Where it is from and how much it is, in JSON's own types; its ``fingerprint`` among them."""
    look: Look
    walk: Callable[[], Iterator[Drawn]]
    counts: PartCounts = field(default_factory=PartCounts)
    row_groups: tuple[tuple[int, int], ...] = ()
    """(rows, bytes of text and ids unpacked) of each row group of a parquet source."""
