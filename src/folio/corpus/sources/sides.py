"""Which documents of a planned source are held out: by the hash of each, or the first ones as custom has it.

All look at the source alone, never at who reads it or when.
"""

from __future__ import annotations

from dataclasses import dataclass

from folio.corpus.document import Document
from folio.corpus.sources.plan import Part, Plan
from folio.corpus.splitting import HashSplit, Side
from folio.errors import DataError


@dataclass(frozen=True, slots=True)
class ByHash:
    """The rule of :class:`folio.corpus.splitting.HashSplit`: a document is held out if the sha256 of its text, as a
    number in [0, 1), is below ``fraction``. Equal texts are on one side, wherever in the source they stand."""

    fraction: float

    def side(self, part: Part, document: Document) -> Side:
        return HashSplit(self.fraction).side(document.text)


@dataclass(frozen=True, slots=True)
class FirstParts:
    """The first ``count`` parts are held out, whole. Equal texts may stand on both sides."""

    count: int

    def side(self, part: Part, document: Document) -> Side:
        return "val" if part.number < self.count else "train"


@dataclass(frozen=True, slots=True)
class FirstTokens:
    """The first documents that hold ``tokens`` ids together are held out: a first shard, its last document whole.

    Only the order of all documents tells which these are, so a part calls all of its own "train"; who puts the parts
    together takes the first ones out. Equal texts may stand on both sides.
    """

    tokens: int

    def side(self, part: Part, document: Document) -> Side:
        return "train"


Sides = ByHash | FirstParts | FirstTokens


def first_file(plan: Plan) -> FirstParts:
    """The rule that holds out the first file with anything in it; :class:`DataError` if the source has no second."""
    filled = [file for file in plan.files if file.parts]
    if len(filled) < 2:
        raise DataError(
            "the first file is to be held out, and the source has no second", "Hold out documents by hash instead."
        )
    return FirstParts(filled[0].parts)
