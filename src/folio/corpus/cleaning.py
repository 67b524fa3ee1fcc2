"""What is done to every text, and which documents are dropped, each with its count."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from io import IncrementalNewlineDecoder

from folio.corpus.document import Document


@dataclass(slots=True)
class CleaningCounts:
    """Documents kept and dropped, per reason, and the characters of those kept."""

    kept: int = 0
    empty: int = 0
    """Dropped: nothing but white space."""
    duplicate: int = 0
    """Dropped: the text, once cleaned, is exactly that of an earlier document."""
    newlines_normalized: int = 0
    """Kept or dropped, but had CR LF or CR where lines end."""
    nfc_normalized: int = 0
    """Kept or dropped, but was not in Unicode's composed form (NFC)."""
    characters: int = 0
    """Of the documents kept."""


def clean(documents: Iterable[Document], counts: CleaningCounts, *, nfc: bool, deduplicate: bool) -> Iterator[Document]:
    """The documents worth keeping, lines ended by LF alone, NFC on request; ``counts`` is filled on the way.

    Finding duplicates holds 16 bytes of sha256 for every document kept, about 100 bytes of memory.
    """
    seen: set[bytes] = set()
    for document in documents:
        text = document.text
        if "\r" in text:
            text = IncrementalNewlineDecoder(None, translate=True).decode(text, final=True)
            counts.newlines_normalized += 1
        if nfc and not unicodedata.is_normalized("NFC", text):
            text = unicodedata.normalize("NFC", text)
            counts.nfc_normalized += 1
        if not text or text.isspace():
            counts.empty += 1
            continue
        if deduplicate:
            digest = hashlib.sha256(text.encode("utf-8")).digest()[:16]
            if digest in seen:
                counts.duplicate += 1
                continue
            seen.add(digest)
        counts.kept += 1
        counts.characters += len(text)
        yield document if text is document.text else replace(document, text=text)
