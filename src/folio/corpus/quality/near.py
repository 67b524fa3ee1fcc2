"""Near-duplicates of a whole corpus: a survey of it, and from that which documents go.

The documents are walked twice or three times: for the survey, for the runs of words of those that share a band with
another (unless sharing one is enough), and to leave out what goes. Every walk can be shared among processes; surveys
and runs are joined, in any order, to the same result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from folio.corpus.document import Document
from folio.corpus.quality.config import NearConfig
from folio.corpus.quality.exact import DIGEST, holds, text_digest
from folio.corpus.quality.minhash import MinHash, jaccard
from folio.corpus.quality.verdict import Fault

Ints = NDArray[Any]
_BLOCK = 4096
MOST_COMPARED = 1000
"""Of the documents that stay and share a band, those that a band remembers; keeps crowds of templates from growing
costly with their square."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What is kept of each document: 32 bytes, and 8 for each band."""

    FIELDS: ClassVar = ("digests", "names", "lengths", "bands")

    digests: Ints
    """Of the texts, (documents,)."""
    names: Ints
    """A 64-bit hash of source and id, or the place in a source that has parts, (documents,)."""
    lengths: Ints
    """In characters, (documents,)."""
    bands: Ints
    """(documents, bands)."""

    def __len__(self) -> int:
        return len(self.digests)

    def joined(self, *others: Survey) -> Survey:
        """One survey of all; which comes first makes no difference to what is found."""
        parts = (self, *others)
        return Survey(*(np.concatenate([getattr(part, name) for part in parts]) for name in Survey.FIELDS))


def survey(documents: Iterable[Document], config: NearConfig | None) -> Survey:
    """Walk ``documents`` once. Without a ``config`` equal texts alone are sought, and there are no bands."""
    hashes = MinHash(config) if config is not None else None
    width = config.bands if config is not None else 0
    blocks = [_survey_of([], width)]
    rows: list[tuple[bytes, int, int, Ints]] = []
    for document in documents:
        bands = hashes.bands(hashes.shingles(document.text)) if hashes is not None else np.empty(0, dtype=np.uint64)
        rows.append((text_digest(document.text), _name_hash(document), len(document.text), bands))
        if len(rows) == _BLOCK:
            blocks.append(_survey_of(rows, width))
            rows = []
    return blocks[0].joined(*blocks[1:], _survey_of(rows, width))


def candidates(found: Survey) -> Ints:
    """The digests of documents that share a band with one of another text, sorted."""
    first = np.unique(found.digests, return_index=True)[1]
    return found.digests[first][_sharing(found.bands[first]).any(axis=1)]


def shingles_of(documents: Iterable[Document], wanted: Ints, config: NearConfig) -> dict[bytes, Ints]:
    """The runs of words of the ``wanted`` texts, by digest: 8 bytes for each distinct run, and 300 for each text."""
    hashes = MinHash(config)
    found: dict[bytes, Ints] = {}
    for document in documents:
        digest = text_digest(document.text)
        if digest not in found and holds(wanted, digest):
            found[digest] = hashes.shingles(document.text)
    return found


class Duplicates:
    """Which documents of a surveyed corpus go, as a pure function of the documents.

    Of equal texts the one whose hash of source and id is least stays. Different texts are taken the longest first,
    equally long ones by digest: each goes if a text that stays is a near-duplicate of it, and stays otherwise. So every
    text that goes is near one that stays, and no two texts that stay were found to be near each other; of a chain of
    texts, each near the next alone, the far end is not dragged along.

    Of documents that have places the first stays, and they are taken in that order, so that none goes for the sake of
    a later one, which a budget may leave out.
    """

    FIELDS: ClassVar = ("copied", "stays", "near")

    def __init__(self, copied: Ints, stays: Ints, near: Ints) -> None:
        """``copied``: digests met more than once, sorted, and the name that ``stays`` of each; ``near``: those gone,
        sorted."""
        self.copied, self.stays, self.near = copied, stays, near
        self._met: set[bytes] = set()

    def fault(self, document: Document) -> Fault | None:
        """``duplicate`` or ``near-duplicate``; documents of one text, source and id are told apart by order alone."""
        digest = text_digest(document.text)
        if holds(self.near, digest):
            return Fault("near-duplicate")
        if not holds(self.copied, digest):
            return None
        at = int(np.searchsorted(self.copied, np.array(digest, dtype=DIGEST)))
        if int(self.stays[at]) != _name_hash(document) or digest in self._met:
            return Fault("duplicate")
        self._met.add(digest)
        return None

    @property
    def near_texts(self) -> int:
        """Different texts that go because another is near."""
        return len(self.near)


def find_duplicates(
    found: Survey,
    config: NearConfig | None,
    shingles: Mapping[bytes, Ints] | None = None,
    *,
    in_order: bool = False,
) -> Duplicates:
    """Decide, from the ``shingles`` of all :func:`candidates`, or by bands alone without them, or without a ``config``
    by equal texts alone. ``in_order``: texts are taken by their first documents' places, and not the longest first.

    Takes as much memory as the survey again, and about 200 bytes for each band that a candidate shares.
    """
    assert (shingles is None) == (config is None or config.similarity is None)
    order = np.lexsort((found.names, found.digests))
    digests = found.digests[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = digests[1:] != digests[:-1]
    starts = np.flatnonzero(new)
    several = np.diff(starts, append=len(order)) > 1
    first = order[starts]
    lengths, bands = found.lengths[first], found.bands[first]
    digests = digests[starts]
    by_rank = np.argsort(found.names[first]) if in_order else np.lexsort((digests, -lengths))
    shared = _sharing(bands)
    crowd = by_rank[shared[by_rank].any(axis=1)]
    goes = _going(digests, bands, shared, crowd, config, shingles)
    return Duplicates(digests[several], found.names[first][several], np.sort(digests[goes]))


def _going(
    digests: Ints,
    bands: Ints,
    shared: Ints,
    crowd: Ints,
    config: NearConfig | None,
    shingles: Mapping[bytes, Ints] | None,
) -> Ints:
    """The numbers of texts that go, of those in the ``crowd``, which is in order."""
    staying: list[dict[int, list[int]]] = [{} for _ in range(bands.shape[1])]
    going = []
    for number in crowd.tolist():
        keys = [(band, int(bands[number, band])) for band in np.flatnonzero(shared[number]).tolist()]
        others = _others([staying[band].get(key, []) for band, key in keys])
        if any(_is_near(digests, number, other, config, shingles) for other in others):
            going.append(number)
            continue
        for band, key in keys:
            bucket = staying[band].setdefault(key, [])
            if len(bucket) < MOST_COMPARED:
                bucket.append(number)
    return np.array(going, dtype=np.int64)


def _others(buckets: list[list[int]]) -> Iterator[int]:
    """Every number in the buckets, once."""
    met: set[int] = set()
    for bucket in buckets:
        for number in bucket:
            if number not in met:
                met.add(number)
                yield number


def _is_near(
    digests: Ints, one: int, other: int, config: NearConfig | None, shingles: Mapping[bytes, Ints] | None
) -> bool:
    if shingles is None or config is None or config.similarity is None:
        return True
    # numpy drops the zero bytes a digest may end with
    first, second = (shingles[bytes(digests[number]).ljust(DIGEST.itemsize, b"\0")] for number in (one, other))
    if min(len(first), len(second)) < config.similarity * max(len(first), len(second)):
        return False
    return jaccard(first, second) >= config.similarity


def _sharing(bands: Ints) -> Ints:
    """Which bands of which documents another has too, bool (documents, bands)."""
    shared = np.zeros(bands.shape, dtype=bool)
    for band in range(bands.shape[1]):
        _, inverse, counts = np.unique(bands[:, band], return_inverse=True, return_counts=True)
        shared[:, band] = counts[inverse] > 1
    return shared


def _survey_of(rows: list[tuple[bytes, int, int, Ints]], bands: int) -> Survey:
    return Survey(
        np.array([row[0] for row in rows], dtype=DIGEST),
        np.array([row[1] for row in rows], dtype=np.uint64),
        np.array([row[2] for row in rows], dtype=np.int64),
        np.array([row[3] for row in rows], dtype=np.uint64).reshape(len(rows), bands),
    )


def _name_hash(document: Document) -> int:
    if document.place >= 0:
        return document.place
    name = f"{document.source}\0{document.id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def join_shingles(parts: Iterable[Mapping[bytes, Ints]]) -> dict[bytes, Ints]:
    """What several processes found, as one."""
    joined: dict[bytes, Ints] = {}
    for part in parts:
        joined.update(part)
    return joined
