"""The documents that shards are made of: ids between end-of-text ids, decoded; whole, or a sample.

A sample takes stretches of ids at equal distances, from a random one on, and then documents among those that begin in
them, each with the same chance. A document begins in one stretch only, so every document of the shards has the same
chance whatever its length; going to a random id would meet long documents more often.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from folio.corpus.document import Document
from folio.corpus.exploring.material import Drawn, Look, Material
from folio.corpus.sources.parts import PartCounts
from folio.errors import ArtifactError, DataError
from folio.shards.folder import Shards
from folio.shards.stream import Ids, TokenStream

if TYPE_CHECKING:
    from folio.tokenizer import Tokenizer

BLOCK = 1 << 20
STEP = 1 << 16
STRETCHES = 64
SPARE, SPARE_DOCUMENTS = 1.5, 12
"""Documents looked for: so many times those wanted, and some. How many begin in a stretch varies."""


class Begin(NamedTuple):
    """Where a document lies: the split, and the place of its first id behind its end-of-text id."""

    split: str
    at: int


def shards_material(
    shards: Shards,
    tokenizer: Tokenizer,
    splits: tuple[str, ...] = (),
    *,
    limit: int = 0,
    sample: int = 0,
    seed: int = 0,
) -> Material:
    """Shards as something to explore; ``splits`` none means all.

    :class:`DataError` for a split that there is not, :class:`ArtifactError` for a tokenizer without an end-of-text id.
    """
    if tokenizer.eot_id is None:
        raise ArtifactError(
            f"this {tokenizer.kind} tokenizer has no end-of-text id, which parts the documents of '{shards.path}'",
            "Give the tokenizer that made them.",
        )
    documents = ShardDocuments(shards, tokenizer, tokenizer.eot_id, splits or shards.splits)
    look, walk = Look(population=documents.total), documents.whole
    if limit:
        look = Look("first", population=documents.total, wanted=limit)
        walk = partial(_first, documents.whole, limit)
    elif sample and not (documents.total is not None and sample >= documents.total):
        begins, read, of = documents.sample(sample, seed)
        in_stretches = read < of
        look = Look("sample", documents.total, sample, seed, read if in_stretches else 0, of, "stretches of ids")
        walk = partial(documents.at, begins, in_stretches)
    about = {
        "from": f"shards '{shards.path.name}'",
        "splits": {name: shards.tokens(name) for name in documents.splits},
        "files": sum(len(shards.split(name).paths) for name in documents.splits),
        "tokenizer": shards.manifest.config["tokenizer"],
        "made_of": shards.manifest.config.get("source"),
        "fingerprint": shards.manifest.id,
    }
    return Material(shards.path.name or "shards", "shards", about, look, walk, documents.counts)


class ShardDocuments:
    """The documents of some splits of shards, in order, as text with their number of ids, end-of-text left out."""

    def __init__(self, shards: Shards, tokenizer: Tokenizer, eot_id: int, splits: tuple[str, ...]) -> None:
        self.splits = splits
        self.counts = PartCounts()
        self._streams = {name: shards.split(name) for name in splits}
        self._tokenizer, self._eot = tokenizer, eot_id
        recorded: list[int | None] = [shards.manifest.config["splits"][name].get("documents") for name in splits]
        known = [count for count in recorded if count is not None]
        self.total = sum(known) if len(known) == len(recorded) else None
        """Documents by the manifest; None for files that others made."""

    def whole(self) -> Iterator[Drawn]:
        """All documents, in order; a stretch of ids at a time."""
        number = 0
        for name, stream in self._streams.items():
            for at, ids in _documents(stream, self._eot):
                number += 1
                yield from self._decoded(Begin(name, at), ids, number)

    def sample(self, wanted: int, seed: int) -> tuple[list[tuple[int, Begin]], int, int]:
        """The begins of ``wanted`` documents, each with the number of its stretch; how many stretches were read, and of
        how many."""
        tokens = sum(map(len, self._streams.values()))
        length = max(1024, int((SPARE * wanted + SPARE_DOCUMENTS) * self._mean_length() / STRETCHES))
        stretches = [(name, at) for name, stream in self._streams.items() for at in range(0, len(stream), length)]
        chance = random.Random(f"folio sample {seed} {wanted} {tokens}")
        count = min(STRETCHES, len(stretches))
        offset = chance.random()
        chosen = [int((number + offset) * len(stretches) / count) for number in range(count)]
        found = [(number, begin) for number in chosen for begin in self._begins(*stretches[number], length)]
        kept = sorted(chance.sample(range(len(found)), min(wanted, len(found))))
        return [found[place] for place in kept], count, len(stretches)

    def at(self, begins: list[tuple[int, Begin]], in_stretches: bool) -> Iterator[Drawn]:
        """The documents that begin at these places."""
        for number, (stretch, begin) in enumerate(begins):
            ids = _until(self._streams[begin.split], begin.at, self._eot)
            yield from self._decoded(begin, ids, stretch if in_stretches else number)

    def _begins(self, split: str, start: int, length: int) -> list[Begin]:
        stream = self._streams[split]
        ids = stream.read(start, min(length, len(stream) - start))
        places = (np.flatnonzero(ids == self._eot) + start + 1).tolist()
        first = [0] if start == 0 and len(ids) and ids[0] != self._eot else []
        return [
            Begin(split, at)
            for at in first + places
            if at < len(stream) and stream.read(at, 1)[0] != self._eot  # not one without any text
        ]

    def _mean_length(self) -> float:
        if self.total:
            return sum(map(len, self._streams.values())) / self.total
        ids = next((stream.read(0, min(BLOCK, len(stream))) for stream in self._streams.values() if len(stream)), None)
        return 1.0 if ids is None else len(ids) / max(1, int(np.count_nonzero(ids == self._eot)))

    def _decoded(self, begin: Begin, ids: Ids, number: int) -> Iterator[Drawn]:
        text = self._tokenizer.decode(ids) if len(ids) else ""
        if not text.strip():
            self.counts.cleaning.empty += 1
            return
        self.counts.cleaning.kept += 1
        self.counts.cleaning.characters += len(text)
        yield Drawn(Document(f"{begin.split}:{begin.at}", text, begin.split), number, len(ids))


def _first(walk: Callable[[], Iterator[Drawn]], limit: int) -> Iterator[Drawn]:
    yield from islice(walk(), limit)


def _documents(stream: TokenStream, eot_id: int) -> Iterator[tuple[int, Ids]]:
    """Place and ids of every document; what stands before the first end-of-text id, if anything, is one."""
    held: list[Ids] = []
    begin = position = 0
    for block in stream.blocks(BLOCK):
        start = 0
        for end in np.flatnonzero(block == eot_id).tolist():
            held.append(block[start:end])
            if position + end:
                yield begin, np.concatenate(held)
            held, start, begin = [], end + 1, position + end + 1
        held.append(block[start:])
        position += len(block)
    if begin < position:
        yield begin, np.concatenate(held)


def _until(stream: TokenStream, start: int, eot_id: int) -> Ids:
    """The ids from ``start`` up to the next end-of-text id."""
    parts: list[Ids] = []
    for at in range(start, len(stream), STEP):
        part = stream.read(at, min(STEP, len(stream) - at))
        ends = np.flatnonzero(part == eot_id)
        parts.append(part[: ends[0]] if len(ends) else part)
        if len(ends):
            break
    if not parts:
        raise DataError(f"id {start:,} lies behind the end of the shards", "Check the shards.")
    return np.concatenate(parts)
