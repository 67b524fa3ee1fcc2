"""Documents that are there more than once: exactly, of all that pass by; nearly, among those that are held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from folio.corpus.document import Document
from folio.corpus.quality.config import NearConfig
from folio.corpus.quality.exact import text_digest
from folio.corpus.quality.minhash import jaccard
from folio.corpus.quality.near import candidates, find_duplicates, shingles_of, survey

MOST_TEXTS = 500_000
"""Different texts that are counted, about 80 MB; of more, a share that is drawn by their hash."""
MOST_EXCERPTS = 10_000
EXCERPT = 160
SHOWN = 5
NEAR = NearConfig()


def excerpt(text: str, characters: int = EXCERPT) -> str:
    """The beginning of a text as one line."""
    line = " ".join(text[: 4 * characters].split())
    return line if len(line) <= characters else line[:characters].rstrip() + " …"


@dataclass(slots=True)
class Copies:
    """How often each text occurs.

    Of more than ``most`` different texts only those are counted whose hash is a multiple of 2, then of 4, 8, ...
    (adaptive sampling, Flajolet 1990): all copies of a text are counted or none, so shares stay unbiased.
    """

    most: int = MOST_TEXTS
    documents: int = 0
    every: int = 1
    """One text in so many is counted; 1: all."""
    times: dict[bytes, int] = field(default_factory=dict)
    excerpts: dict[bytes, str] = field(default_factory=dict)

    def add(self, document: Document) -> None:
        """Count one document."""
        self.documents += 1
        digest = text_digest(document.text)
        if not self._counts(digest):
            return
        before = self.times.get(digest, 0)
        self.times[digest] = before + 1
        if before == 1 and len(self.excerpts) < MOST_EXCERPTS:
            self.excerpts[digest] = excerpt(document.text)
        while len(self.times) > self.most:
            self.every *= 2
            self.times = {digest: count for digest, count in self.times.items() if self._counts(digest)}
            self.excerpts = {digest: text for digest, text in self.excerpts.items() if self._counts(digest)}

    def record(self) -> dict[str, Any]:
        """Different texts, documents beyond the first of each text and their share, and the most copied texts."""
        counted = sum(self.times.values())
        extra = counted - len(self.times)
        most = sorted(self.excerpts, key=lambda digest: (-self.times[digest], digest))[:SHOWN]
        return {
            "documents": self.documents,
            "texts": len(self.times) * self.every,
            "duplicates": extra * self.every,
            "share": extra / counted if counted else 0.0,
            "one_text_in": self.every,
            "most_copied": [{"copies": self.times[digest], "excerpt": self.excerpts[digest]} for digest in most],
        }

    def shared_with(self, other: Copies) -> dict[str, Any]:
        """Texts that both have, and the share of the documents of each whose text the other has too."""
        every = max(self.every, other.every)
        mine, others = (
            {digest: count for digest, count in side.times.items() if _among(digest, every)} for side in (self, other)
        )
        both = mine.keys() & others.keys()
        documents = [sum(side[digest] for digest in both) for side in (mine, others)]
        totals = [sum(side.values()) for side in (mine, others)]
        return {
            "texts": len(both) * every,
            "documents": [count * every for count in documents],
            "shares": [count / total if total else 0.0 for count, total in zip(documents, totals, strict=True)],
            "one_text_in": every,
        }

    def _counts(self, digest: bytes) -> bool:
        return _among(digest, self.every)


def near_copies(
    documents: Sequence[Document], on_progress: Callable[[int], None] = lambda done: None, config: NearConfig = NEAR
) -> dict[str, Any]:
    """Near-duplicates among ``documents``, by the rules of :mod:`folio.corpus.quality`: of texts that are alike the
    longest stays, and those that would go are counted; examples name the one they are most like."""

    def watched() -> Any:
        for number, document in enumerate(documents, 1):
            yield document
            on_progress(number)

    found = survey(watched(), config)
    shingles = shingles_of(documents, candidates(found), config)
    duplicates = find_duplicates(found, config, shingles)
    faults = [(document, duplicates.fault(document)) for document in documents]
    near = [document for document, fault in faults if fault is not None and fault.reason == "near-duplicate"]
    alike: dict[bytes, Document] = {}
    for document, fault in faults:
        digest = text_digest(document.text)
        if fault is None and digest in shingles:
            alike[digest] = document
    examples = []
    for document in near[:SHOWN]:
        own = shingles[text_digest(document.text)]
        similarity, digest = max((jaccard(own, shingles[digest]), digest) for digest in alike)
        text = excerpt(document.text)
        examples.append({"id": document.id, "like": alike[digest].id, "similarity": similarity, "excerpt": text})
    return {
        "documents": len(documents),
        "near_duplicates": len(near),
        "share": len(near) / len(documents) if documents else 0.0,
        "similarity": config.similarity,
        "shingle_words": config.shingle_words,
        "examples": examples,
    }


def _among(digest: bytes, every: int) -> bool:
    return int.from_bytes(digest[-4:], "little") % every == 0
