"""Which languages documents are in, by the model of :mod:`folio.corpus.quality.language`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from folio.corpus.document import Document
from folio.corpus.exploring.estimates import share_interval
from folio.corpus.quality.language import NAMES, likeliest

CONFIDENCE = 0.65
"""As for the step ``language``: below it a document counts as unsure."""
UNSURE = "unsure"
MOST_DOCUMENTS = 5_000
"""Documents that are read for their language, at about a millisecond each."""


def languages_of(
    documents: Iterable[Document], on_progress: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """The share of ``documents`` in each language, most frequent first, with its 95 % interval.

    :class:`folio.errors.MissingExtra` without py3langid.
    """
    found: Counter[str] = Counter()
    total = 0
    for document in documents:
        language, probability = likeliest(document.text)
        found[language if probability >= CONFIDENCE else UNSURE] += 1
        total += 1
        on_progress(total)
    languages = []
    for language, count in sorted(found.items(), key=lambda item: (-item[1], item[0])):
        low, high = share_interval(count, total)
        languages.append(
            {"language": language, "documents": count, "share": count / total, "share_low": low, "share_high": high}
        )
    return {"documents": total, "confidence": CONFIDENCE, "languages": languages}


def language_name(code: str) -> str:
    """The English name of a language, or its code."""
    return NAMES.get(code, code)
