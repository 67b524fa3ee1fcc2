"""The documents of a part as they are to be encoded: read, and better for the quality steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folio.corpus.document import Document
from folio.corpus.quality import QualityConfig, QualityReport, QualitySteps
from folio.corpus.quality.near import Duplicates
from folio.corpus.sources import Part, PartCounts, Source
from folio.shards.parts.duplicates import load_duplicates

if TYPE_CHECKING:
    from folio.corpus.quality.contamination import Contamination

Note = Callable[[str], None]


@dataclass(frozen=True)
class Refining:
    """A source and the quality steps that its documents go through, in whatever process.

    ``decided`` is the file that says which documents are duplicates, once that is known. The steps see each document
    with its place, so that any two can be told apart, whichever process meets them.
    """

    source: Source
    quality: QualityConfig = field(default_factory=QualityConfig)
    contamination: Contamination | None = None
    decided: Path | None = None

    @property
    def seeks_duplicates(self) -> bool:
        return self.quality.duplicates != "keep"

    def described(self) -> dict[str, Any]:
        """What decides the documents besides the source; empty if nothing is done to them."""
        about: dict[str, Any] = {}
        if self.quality != QualityConfig():
            about["quality"] = self.quality.model_dump(mode="json", exclude_defaults=True)
        if self.contamination is not None:
            about["contamination"] = self.contamination.fingerprint
        return about

    def documents(self, part: Part, counts: PartCounts, report: QualityReport, tell: Note) -> Iterator[Document]:
        """The documents of ``part`` that stay, in order; ``counts`` and ``report`` are filled on the way."""
        read = self.source.documents(part, counts, tell)
        return self._steps.kept(_placed(part, read), report, self._duplicates) if self._refines else read

    def singly(self, part: Part, tell: Note) -> Iterator[Document]:
        """The same, as all steps but the search for duplicates leave them."""
        return self._steps.singly(_placed(part, self.source.documents(part, tell=tell)))

    def with_duplicates(self, decided: Path) -> Refining:
        """The same, once it is known which documents are duplicates."""
        return replace(self, decided=decided)

    @property
    def _refines(self) -> bool:
        return bool(self._steps.names)

    @cached_property
    def _steps(self) -> QualitySteps:
        return QualitySteps(self.quality, self.contamination)

    @cached_property
    def _duplicates(self) -> Duplicates | None:
        assert not self.seeks_duplicates or self.decided is not None
        return load_duplicates(self.decided) if self.decided is not None else None

    def __getstate__(self) -> dict[str, Any]:
        """What is worked out here is worked out anew in another process: steps hold functions, which do not travel."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_steps", "_duplicates")}


def _placed(part: Part, documents: Iterator[Document]) -> Iterator[Document]:
    for row, document in enumerate(documents):
        yield Document(document.id, document.text, document.source, part.number << 32 | row)
