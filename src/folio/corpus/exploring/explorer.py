"""One walk over a material, and what is found on it.

Memory beside that of reading: a million types (120 MB), half a million different texts (80 MB), 32 million characters
of documents that are held, and their survey for near-duplicates; 300 MB, and 100 MB for the model of languages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from folio.corpus.document import Document
from folio.corpus.exploration import length_record, summary
from folio.corpus.exploring.copies import Copies, near_copies
from folio.corpus.exploring.estimates import RatioEstimates
from folio.corpus.exploring.held import HeldDocuments
from folio.corpus.exploring.languages import MOST_DOCUMENTS, languages_of
from folio.corpus.exploring.material import Material
from folio.corpus.exploring.words import content_words
from folio.corpus.statistics import Lengths, Statistics
from folio.errors import DataError, MissingExtra

FEW = 12
"""Up to so many documents are listed one by one."""
RANDOM_DOCUMENTS, RANDOM_CHARACTERS = 6, 1200
CLOUD_WORDS = 120
QUANTITIES = ("documents", "characters", "bytes", "words", "tokens")
RATIOS = {
    "characters_per_document": ("characters", "documents"),
    "bytes_per_document": ("bytes", "documents"),
    "words_per_document": ("words", "documents"),
    "tokens_per_document": ("tokens", "documents"),
    "bytes_per_token": ("bytes", "tokens"),
    "tokens_per_byte": ("tokens", "bytes"),
    "tokens_per_word": ("tokens", "words"),
}
Tell = Callable[[str, int, int], None]
"""Told of the stage, the documents done and the bytes of text done."""


@dataclass(frozen=True)
class Exploration:
    """What was found. ``record`` is all of it in JSON's own types but the lengths and types themselves."""

    material: Material
    statistics: Statistics
    copies: Copies
    record: dict[str, Any]

    @property
    def name(self) -> str:
        return self.material.name

    @property
    def row_bytes(self) -> Lengths:
        """Of the row groups: bytes of their text and id columns, unpacked."""
        found = Lengths()
        for _, size in self.material.row_groups:
            found.add(size)
        return found


def explore(
    material: Material,
    tokens_of: Callable[[str], int] | None = None,
    *,
    seed: int = 0,
    tell: Tell = lambda stage, documents, size: None,
) -> Exploration:
    """Walk ``material`` once. ``tokens_of`` counts a tokenizer's ids of a text; of shards they are known.

    ``seed`` decides which documents are shown and read closely. :class:`DataError` if there is no document.
    """
    look = material.look
    statistics, copies, held = Statistics(), Copies(), HeldDocuments(seed)
    share: float | None = 0.0
    if look.how == "whole":
        share = None
    elif look.how == "sample" and look.population and not look.places:
        share = min(1.0, (look.wanted or 0) / look.population)
    estimates = RatioEstimates(QUANTITIES, share)
    few: list[dict[str, Any]] = []
    for document, cluster, known in material.walk():
        tokens = known if known is not None or tokens_of is None else tokens_of(document.text)
        before = statistics.bytes, statistics.tokens
        statistics.add(document.text, tokens)
        copies.add(document)
        held.offer(document)
        size, words = statistics.bytes - before[0], statistics.tokens - before[1]
        estimates.add((1, len(document.text), size, words, tokens or 0), cluster)
        if len(few) <= FEW:
            few.append({"id": document.id, "characters": len(document.text), "words": words, "tokens": tokens})
        tell("explore", statistics.documents, statistics.bytes)
    if not statistics.documents:
        empty = material.counts.cleaning.empty
        raise DataError(
            f"'{material.name}' holds no text" + (f" ({empty:,} documents, all empty)" if empty else ""),
            "Give one with at least one document that is more than white space.",
        )
    cleaning = material.counts.cleaning if look.how == "whole" else None
    record = {
        **summary(statistics, cleaning),
        "name": material.name,
        "kind": material.kind,
        "source": material.about,
        "look": {**look.record(), "sentence": look.sentence(statistics.documents)},
        "damaged": material.counts.damaged,
        "estimates": _estimates(estimates, statistics.encoded_tokens is not None),
        "documents_listed": few if len(few) <= FEW else [],
        "row_groups": _row_groups(material),
        "cloud": [{"word": word, "count": times} for word, times in content_words(statistics.types, CLOUD_WORDS)],
        "duplicates": copies.record(),
        **_held(held, tell),
    }
    return Exploration(material, statistics, copies, record)


def _estimates(estimates: RatioEstimates, encoded: bool) -> dict[str, Any]:
    found = {}
    for name, (over, under) in RATIOS.items():
        if encoded or "tokens" not in (over, under):
            estimate = estimates.ratio(over, under)
            found[name] = estimate.record() if estimate is not None else None
    return found


def _held(held: HeldDocuments, tell: Tell) -> dict[str, Any]:
    """What only the documents that are held are asked."""
    documents = held.documents()
    read = documents if len(documents) <= MOST_DOCUMENTS else held.random(MOST_DOCUMENTS)
    try:
        languages: dict[str, Any] | None = languages_of(read, lambda done: tell("languages", done, 0))
    except MissingExtra:
        languages = None
    return {
        "near_duplicates": near_copies(documents, lambda done: tell("near-duplicates", done, 0)),
        "languages": languages,
        "random_documents": [_shown(document) for document in held.random(RANDOM_DOCUMENTS)],
    }


def _shown(document: Document) -> dict[str, Any]:
    text = document.text[:RANDOM_CHARACTERS]
    return {"id": document.id, "characters": len(document.text), "text": text, "cut": len(document.text) > len(text)}


def _row_groups(material: Material) -> dict[str, Any] | None:
    if not material.row_groups:
        return None
    rows, sizes = Lengths(), Lengths()
    for count, size in material.row_groups:
        rows.add(count)
        sizes.add(size)
    return {
        "count": len(material.row_groups),
        "rows": length_record(rows, "rows"),
        "bytes": length_record(sizes, "bytes"),
    }
