"""Which part of a corpus is held out for validation.

Every rule looks at the text or its name alone, never at a seed or the order of reading: a document is on one side, the
same one on every machine and in every run, and equal texts are on the same side.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from folio.corpus.document import Document

Side = Literal["train", "val"]


@dataclass(frozen=True, slots=True)
class HashSplit:
    """By the sha256 of the text: a document is held out if its hash, as a number in [0, 1), is below ``fraction``."""

    fraction: float

    def parts(self, document: Document) -> tuple[tuple[Side, Document], ...]:
        return ((self.side(document.text), document),)

    def side(self, text: str) -> Side:
        digest = hashlib.sha256(text.encode("utf-8")).digest()
        held_out = int.from_bytes(digest[:8], "big") < self.fraction * 2.0**64
        return "val" if held_out else "train"


@dataclass(frozen=True, slots=True)
class ListSplit:
    """By name: the documents whose ids are listed are held out."""

    ids: frozenset[str]

    def parts(self, document: Document) -> tuple[tuple[Side, Document], ...]:
        return (("val" if document.id in self.ids else "train", document),)


@dataclass(frozen=True, slots=True)
class TailSplit:
    """One text cut at its end: training is the first ``int(length * (1 - fraction))`` characters, as in nanoGPT."""

    fraction: float

    def parts(self, document: Document) -> tuple[tuple[Side, Document], ...]:
        cut = int(len(document.text) * (1 - self.fraction))
        sides: tuple[tuple[Side, str], ...] = (("train", document.text[:cut]), ("val", document.text[cut:]))
        return tuple(
            (side, Document(f"{document.id}:{side}", text, document.source)) for side, text in sides if text.strip()
        )


Split = HashSplit | ListSplit | TailSplit
