"""A few of the documents that pass by, kept whole: to be shown, to be read for their language, to find copies among.

Every document has the same chance to be among them, whatever its length and place. What is held is bounded in number
and in characters, so when long ones come by there are fewer.
"""

from __future__ import annotations

import heapq
import random

from folio.corpus.document import Document

MOST_DOCUMENTS = 20_000
MOST_CHARACTERS = 32_000_000
LONGEST = 2_000_000
"""Characters; of a longer document the beginning is held."""


class HeldDocuments:
    """Those with the least random numbers; the numbers depend on ``seed`` and on the order of the walk alone."""

    def __init__(
        self, seed: int, *, most: int = MOST_DOCUMENTS, characters: int = MOST_CHARACTERS, longest: int = LONGEST
    ) -> None:
        self._chance = random.Random(f"folio held {seed}")
        self._most, self._room, self._longest = most, characters, longest
        self._heap: list[tuple[float, int, Document]] = []
        self._bar = 1.0
        self.offered = 0
        self.characters = 0

    def __len__(self) -> int:
        return len(self._heap)

    def offer(self, document: Document) -> None:
        """Keep ``document`` if its number is among the least so far, and let go of what there is no room for."""
        number = self._chance.random()
        self.offered += 1
        if number >= self._bar:
            return
        if len(document.text) > self._longest:
            document = Document(document.id, document.text[: self._longest], document.source)
        heapq.heappush(self._heap, (-number, self.offered, document))
        self.characters += len(document.text)
        while len(self._heap) > self._most or (self.characters > self._room and len(self._heap) > 1):
            negative, _, gone = heapq.heappop(self._heap)
            self._bar = -negative  # nothing beyond it may come in any more, or short documents would be preferred
            self.characters -= len(gone.text)

    def documents(self) -> list[Document]:
        """All that are held, in the order in which they passed by."""
        return [document for _, _, document in sorted(self._heap, key=lambda entry: entry[1])]

    def random(self, count: int) -> list[Document]:
        """``count`` of them, or all, in a random order that is always the same."""
        return [document for _, _, document in sorted(self._heap, reverse=True)[:count]]

    @property
    def all(self) -> bool:
        """Whether nothing was let go."""
        return len(self._heap) == self.offered
