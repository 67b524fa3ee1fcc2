"""The likelihood of text: nats per token, perplexity and bits per byte, with errors by document.

T block size. Every id but a document's (sliding) or the stream's (blocks) first is a target exactly once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from folio.errors import ConfigError, DataError
from folio.evaluation.engine import Query, token_log_probabilities
from folio.evaluation.estimates import Estimate, exponential, ratio
from folio.evaluation.material import Ids, Passage
from folio.evaluation.results import Item, Measurement, Score
from folio.model.gpt import GPT

NAME = "loss"
WINDOWS_AT_ONCE = 64
FEWEST_DOCUMENTS = 10
"""With fewer, the spread between documents says little, and that between passages is told instead, by that name."""


@dataclass(frozen=True)
class Windows:
    """How text longer than the context is read.

    "blocks": documents follow one another, and every T targets the context begins anew, as in training. "sliding":
    each document by itself; once the context is full the window moves on by ``stride`` targets, so that each target
    has at least T - stride ids before it, or all there are.
    """

    kind: Literal["blocks", "sliding"]
    block_size: int
    stride: int = 0

    def __post_init__(self) -> None:
        if self.kind == "sliding" and not 1 <= self.stride <= self.block_size:
            raise ConfigError(
                f"a stride of {self.stride} does not fit a context of {self.block_size}",
                f"Give 1 to {self.block_size}.",
            )

    @property
    def convention(self) -> str:
        if self.kind == "blocks":
            return f"disjoint blocks of {self.block_size}"
        return f"sliding window of {self.block_size}, stride {self.stride}"


@dataclass
class _Tally:
    """What is known so far of a passage."""

    passage: Passage
    ids: list[int] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)
    total_nats: float = 0.0
    tokens: int = 0


@dataclass
class _Window:
    """Ids seen, ids scored after them, and the passage of each of these."""

    query: Query
    owners: list[_Tally]


def measure_loss(
    model: GPT,
    passages: Iterable[Passage],
    windows: Windows,
    *,
    block_unit: str = "passages",
    per_token: bool = False,
    autocast: AbstractContextManager[object] | None = None,
    poll: Callable[[], None] = lambda: None,
    progress: Callable[[int, float], None] = lambda tokens, nats_per_token: None,
) -> Measurement:
    """The measurement "loss" of ``model`` on ``passages``, a line for each document.

    With fewer than ``FEWEST_DOCUMENTS`` there is a line for each passage instead, and ``block_unit`` is its name.
    ``per_token`` adds to each line the ids that were scored and the nats of each. Where the tokenizer has no
    end-of-text to stand before a document, its first id is never a target, though its bytes count. ``poll`` is called
    between forward passes. :class:`DataError` if there is nothing to score.
    """
    tallies: list[_Tally] = []
    read = _windows(passages, windows, tallies)
    tokens, nats = 0, 0.0
    while together := list(islice(read, WINDOWS_AT_ONCE)):
        found = token_log_probabilities(model, [window.query for window in together], autocast=autocast, poll=poll)
        for window, (log_p,) in zip(together, found, strict=True):
            _add(window, -log_p, per_token)
            tokens, nats = tokens + len(log_p), nats - float(log_p.sum())
        progress(tokens, nats / tokens)
    documents: list[list[_Tally]] = []
    for tally in tallies:
        if tally.passage.number == 0:
            documents.append([])
        documents[-1].append(tally)
    by_document = len(documents) >= FEWEST_DOCUMENTS
    groups = documents if by_document else [[tally] for tally in tallies]
    items = [_item(group, by_document, per_token) for group in groups if sum(tally.tokens for tally in group)]
    if not items:
        raise DataError("there are no tokens to score", "Give a text of at least two tokens.")
    facts = {
        "documents": len(documents),
        "tokens": tokens,
        "bytes": sum(item["bytes"] for item in items),
        "unknown_bytes": sum(item["unknown_bytes"] for item in items),
    }
    return Measurement(
        NAME, _scores(items, windows.convention, "documents" if by_document else block_unit), items, facts
    )


def _windows(passages: Iterable[Passage], windows: Windows, tallies: list[_Tally]) -> Iterator[_Window]:
    """Every window; ``tallies`` grows by one for each passage as it is read."""
    ids = np.empty(0, dtype=np.int64)
    owners: list[_Tally] = []
    scored = 1  # of ids: all before this one have been targets, or never are
    for passage in passages:
        tally = _Tally(replace(passage, ids=passage.ids[:0]))
        if passage.number == 0 and windows.kind == "sliding":
            yield from _cut(ids, owners, scored, windows, whole=True)
            ids, owners, scored = ids[:0], [], 1
        own = [tally] * len(passage.ids)
        if passage.opened and owners:
            own[0] = owners[-1]  # end-of-text is the last target of the document before
        tallies.append(tally)
        ids, owners = np.concatenate([ids, passage.ids]), owners + own
        for window in _cut(ids, owners, scored, windows, whole=False):
            yield window
            scored += len(window.owners)
        spare = max(0, scored - 1 - windows.block_size)
        ids, owners, scored = ids[spare:], owners[spare:], scored - spare
    yield from _cut(ids, owners, scored, windows, whole=True)


def _cut(ids: Ids, owners: list[_Tally], scored: int, windows: Windows, *, whole: bool) -> Iterator[_Window]:
    """The windows over ``ids`` whose targets begin at ``scored``; the last, short one only of the ``whole``."""
    start = scored
    while start < len(ids):
        T = windows.block_size
        stop = start + (T if windows.kind == "blocks" or start == 1 else windows.stride)
        if stop > len(ids) and not whole:
            return
        stop = min(stop, len(ids))
        seen = start - 1 if windows.kind == "blocks" else max(0, stop - 1 - T)
        yield _Window(Query(ids[seen:start].tolist(), (ids[start:stop].tolist(),)), owners[start:stop])
        start = stop


def _add(window: _Window, nats: NDArray[np.float64], per_token: bool) -> None:
    """Share out what was found in a window among its passages."""
    for _, run in groupby(range(len(nats)), key=lambda place: id(window.owners[place])):
        places = list(run)
        tally, own = window.owners[places[0]], nats[places]
        tally.total_nats += float(own.sum())
        tally.tokens += len(own)
        if per_token:
            tally.ids += [window.query.continuations[0][place] for place in places]
            tally.nats += own.tolist()


def bits_spelled(bits: float, unknown_bytes: float) -> float:
    """What a code would spend that spells words outside the vocabulary plainly: 8 bits more for each byte of theirs.

    Both may be sums, or both rates by the byte of text.
    """
    return bits + 8 * unknown_bytes


def _item(group: list[_Tally], by_document: bool, per_token: bool) -> Item:
    nats, unknown = sum(tally.total_nats for tally in group), sum(tally.passage.unknown_bytes for tally in group)
    item: Item = {
        "id": group[0].passage.document if by_document else group[0].passage.id,
        "nats": nats,
        "tokens": sum(tally.tokens for tally in group),
        "bits": nats / math.log(2),
        "bytes": sum(tally.passage.text_bytes for tally in group),
        "unknown_bytes": unknown,
        "bits_spelled": bits_spelled(nats / math.log(2), unknown),
    }
    if per_token:
        item["ids"] = [id for tally in group for id in tally.ids]
        item["token_nats"] = [value for tally in group for value in tally.nats]
    return item


def _scores(items: list[Item], convention: str, unit: str) -> tuple[Score, ...]:
    def column(key: str) -> list[float]:
        return [item[key] for item in items]

    def score(metric: str, estimate: Estimate, over: str, under: str, transform: Literal["", "exp"] = "") -> Score:
        return Score.of(
            estimate,
            task=NAME,
            convention=convention,
            metric=metric,
            unit=unit,
            better="lower",
            numerator=over,
            denominator=under,
            transform=transform,
        )

    nats = ratio(column("nats"), column("tokens"))
    scores = [score("nats_per_token", nats, "nats", "tokens")]
    scores.append(score("perplexity", exponential(nats), "nats", "tokens", "exp"))
    if sum(column("bytes")) > 0:
        scores.append(score("bits_per_byte", ratio(column("bits"), column("bytes")), "bits", "bytes"))
        if any(column("unknown_bytes")):
            spelled = ratio(column("bits_spelled"), column("bytes"))
            scores.append(score("bits_per_byte_spelled", spelled, "bits_spelled", "bytes"))
    return tuple(scores)
