"""Named corpora and sources as material: whole, their first documents, or a sample.

A sample of parquet files reads the row groups that its rows lie in. A file of text is a document. Only a ``.jsonl``
does not tell how many documents it has: up to ``READ_TWICE_BYTES`` of them are read twice, first to count, which keeps
every document's chance equal; of more, some files are drawn by their size and read once.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from heapq import heappush, heappushpop
from itertools import accumulate, islice

from folio.corpus.corpus import Corpus
from folio.corpus.document import Document
from folio.corpus.exploring.material import Drawn, Look, Material
from folio.corpus.exploring.sampling import PLACES, Draw, Pick, draw_rows
from folio.corpus.quality.exact import ExactDuplicates
from folio.corpus.sources.parts import PartCounts
from folio.corpus.sources.plan import Part
from folio.corpus.sources.retrying import Tell, silently
from folio.corpus.sources.source import Source

READ_TWICE_BYTES = 1 << 30
"""Of a source whose documents have to be counted first, as it is stored."""
LEAST_FILES = 8
Read = Callable[[Part], Iterator[tuple[int, Document]]]
"""From a part to its documents and the numbers of their rows."""


def corpus_material(corpus: Corpus, *, limit: int = 0, sample: int = 0, seed: int = 0) -> Material:
    """A named corpus: small, and all of it here."""
    about = {"from": f"named corpus {corpus.name}", "fingerprint": corpus.fingerprint}
    counts = PartCounts()

    def walk() -> Iterator[Drawn]:
        wanted = None
        if sample:
            total = corpus.counts().kept
            wanted = set(random.Random(f"folio sample {seed}").sample(range(total), min(sample, total)))
        for number, document in enumerate(islice(corpus.documents(), limit or None)):
            if wanted is None or number in wanted:
                yield Drawn(document, number)
        if not limit:
            counts.add(PartCounts(cleaning=corpus.counts()))

    look = Look()
    if limit:
        look = Look("first", wanted=limit)
    elif sample and sample < (total := corpus.counts().kept):
        look = Look("sample", population=total, wanted=sample, seed=seed)
    return Material(corpus.name, "corpus", about, look, walk, counts)


def source_material(
    source: Source,
    *,
    limit: int = 0,
    sample: int = 0,
    seed: int = 0,
    tell: Tell = silently,
) -> Material:
    """Any source that :func:`folio.corpus.sources.open_source` opens."""
    counts = PartCounts()
    read: Read = partial(_numbered, source, counts, tell)
    rows = rows_of(source)
    look = Look(population=_sum(rows))
    walk: Callable[[], Iterator[Drawn]] = partial(_whole, source, read)
    if limit:
        look = replace(look, how="first", wanted=limit)
        walk = partial(_first, walk, limit)
    elif sample:
        look, walk = _sampled(source, rows, read, sample, seed)
    about = {key: value for key, value in source.describe().items() if key != "rows"}
    groups = tuple((part.rows or 0, part.unpacked_bytes) for part in source.parts() if part.rows is not None)
    return Material(source.name, "source", about, look, walk, counts, groups)


def deduplicated(material: Material) -> Material:
    """``material`` without exact duplicates of what was walked before; 16 to 32 bytes of memory a document."""

    def walk() -> Iterator[Drawn]:
        copies, cleaning = ExactDuplicates(), material.counts.cleaning
        for drawn in material.walk():
            if copies.fault(drawn.document) is None:
                yield drawn
            else:
                cleaning.duplicate += 1
                cleaning.kept -= 1
                cleaning.characters -= len(drawn.document.text)

    return replace(material, walk=walk)


def rows_of(source: Source) -> list[int | None]:
    """Documents of each part, the empty ones among them; None where a file has to be read for it."""
    texts = {file.name for file in source.plan.files if file.kind == ".txt"}
    return [1 if part.file in texts else part.rows for part in source.parts()]


def _sum(rows: list[int | None]) -> int | None:
    known = [count for count in rows if count is not None]
    return sum(known) if len(known) == len(rows) else None


def _numbered(source: Source, counts: PartCounts, tell: Tell, part: Part) -> Iterator[tuple[int, Document]]:
    """The documents of a part with the numbers of their rows, the empty ones counted with them."""
    own = PartCounts()
    try:
        for document in source.documents(part, own, tell):
            yield own.cleaning.kept + own.cleaning.empty - 1, document
    finally:
        counts.add(own)


def _whole(source: Source, read: Read) -> Iterator[Drawn]:
    for part in source.parts():
        for _, document in read(part):
            yield Drawn(document, part.number)


def _first(walk: Callable[[], Iterator[Drawn]], limit: int) -> Iterator[Drawn]:
    yield from islice(walk(), limit)


def _sampled(
    source: Source, rows: list[int | None], read: Read, sample: int, seed: int
) -> tuple[Look, Callable[[], Iterator[Drawn]]]:
    parts = list(source.parts())
    if None in rows and source.plan.bytes > READ_TWICE_BYTES and len(parts) > LEAST_FILES:
        files = _files_by_size([part.bytes for part in parts], seed)
        look = Look("sample", wanted=sample, seed=seed, places=len(files), places_of=len(parts), unit="files, by size")
        return look, partial(_of_files, source, files, read, sample, seed)
    if None in rows:
        rows = [count if count is not None else _counted(source, part) for part, count in zip(parts, rows, strict=True)]
    known = [count for count in rows if count is not None]
    if sample >= sum(known):
        return Look(population=sum(known)), partial(_whole, source, read)
    draw = draw_rows(known, sample, seed)
    unit = "row groups" if all(part.rows is not None for part in parts) else "parts"
    places = len(draw.picks) if draw.places else 0
    look = Look("sample", sum(known), sample, seed, places=places, places_of=len(parts), unit=unit)
    return look, partial(_of_rows, parts, draw, read)


def _counted(source: Source, part: Part) -> int:
    counts = PartCounts()
    for _ in source.documents(part, counts):
        pass
    return counts.cleaning.kept + counts.cleaning.empty


def _of_rows(parts: list[Part], draw: Draw, read: Read) -> Iterator[Drawn]:
    number = 0
    for pick in draw.picks:
        for document in _taken(pick, read(parts[pick.part])):
            number += 1
            yield Drawn(document, pick.place if draw.places else number)


def _taken(pick: Pick, documents: Iterator[tuple[int, Document]]) -> Iterator[Document]:
    wanted, last = set(pick.rows), pick.rows[-1]
    for row, document in documents:
        if row in wanted:
            yield document
        if row >= last:
            return


def _files_by_size(sizes: list[int], seed: int) -> dict[int, int]:
    """File numbers, each with how often it is drawn: a random point in each of equal stretches of the bytes; as many as
    come to ``READ_TWICE_BYTES``, within ``LEAST_FILES`` and ``PLACES``."""
    ends = list(accumulate(sizes))
    points = max(LEAST_FILES, min(PLACES, len(sizes) * READ_TWICE_BYTES // max(1, ends[-1])))
    chance = random.Random(f"folio sample {seed} {points} {ends[-1]}")
    drawn: dict[int, int] = defaultdict(int)
    for point in range(points):
        at = min(ends[-1] - 1, int((point + chance.random()) * ends[-1] / points))
        drawn[bisect_right(ends, at)] += 1
    return dict(drawn)


def _of_files(source: Source, files: dict[int, int], read: Read, sample: int, seed: int) -> Iterator[Drawn]:
    """Documents of the files drawn, each document of the source with the same chance; the files are read twice.

    A file is drawn as often as its size has it, so a document of it is to be kept with a chance that is the inverse of
    that: those with the lowest random number times size are kept (sequential Poisson sampling, Ohlsson 1998).
    """
    parts = {part.number: part for part in source.parts() if part.number in files}
    lowest: list[tuple[float, int, int]] = []
    for number, times in files.items():
        chance = random.Random(f"folio sample {seed} {number}")
        for row, _ in _numbered(source, PartCounts(), silently, parts[number]):
            rank = -chance.random() * parts[number].bytes / times, number, row
            if len(lowest) < sample:
                heappush(lowest, rank)
            else:
                heappushpop(lowest, rank)
    rows: dict[int, list[int]] = defaultdict(list)
    for _, number, row in sorted(lowest, key=lambda rank: rank[1:]):
        rows[number].append(row)
    for place, (number, chosen) in enumerate(rows.items()):
        for document in _taken(Pick(number, tuple(chosen), place), read(parts[number])):
            yield Drawn(document, place)
