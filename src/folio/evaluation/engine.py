"""Log-likelihoods of continuations, as fast as the arithmetic allows.

A context is computed once and shared by its continuations; trees of about one size go through the model together with
nothing padded but attention; the output head sees only positions whose next id is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from folio.model.branches import Branches
from folio.model.gpt import GPT
from folio.model.loss import chosen_log_probabilities
from folio.model.reordered import reordered, reordering_helps, scoring_head

Float64s = NDArray[np.float64]

PASS_TOKENS = {"cpu": 2048, "cuda": 65536, "mps": 8192}
"""Slots of one forward pass, by kind of device; the longest tree alone may have more."""
WORTH_REORDERING = 2048
"""Tokens from which on laying out the weights anew is sooner done than the time that it saves."""


@dataclass(frozen=True, slots=True)
class Query:
    """Continuations to be scored after one context, in ids; neither it nor any of them is empty."""

    context: Sequence[int]
    continuations: tuple[Sequence[int], ...]


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Of one continuation: summed natural log-probability, its length in ids, whether each id was the likeliest.

    ``cut`` counts the ids at the start of the context that the model did not see, since the whole is longer than its
    own context.
    """

    log_likelihood: float
    tokens: int
    greedy: bool
    cut: int = 0

    @classmethod
    def of(cls, pieces: Sequence[_Piece]) -> Likelihood:
        values = np.concatenate([piece.values for piece in pieces])
        return cls(float(values.sum()), len(values), all(piece.likeliest for piece in pieces), pieces[0].cut)


@dataclass(slots=True)
class _Piece:
    """Ids that are scored together, and what is found: their natural log-probabilities, and which were likeliest."""

    ids: Sequence[int]
    cut: int
    values: Float64s = field(default_factory=lambda: np.empty(0))
    likeliest: bool = False


@dataclass(frozen=True, slots=True)
class _Tree:
    """A context, and the continuations of it that are computed together."""

    context: Sequence[int]
    pieces: list[_Piece]

    @property
    def slots(self) -> int:
        """Tokens to be computed: the last of a continuation is only predicted."""
        return len(self.context) + sum(len(piece.ids) - 1 for piece in self.pieces)


def log_likelihoods(
    model: GPT,
    queries: Sequence[Query],
    *,
    autocast: AbstractContextManager[object] | None = None,
    poll: Callable[[], None] = lambda: None,
    pass_tokens: int = 0,
) -> list[tuple[Likelihood, ...]]:
    """A :class:`Likelihood` for every continuation of every query, in the order given.

    What fits into the model's context with its continuation is seen whole; otherwise the context is cut from the left,
    as lm-evaluation-harness does. A continuation that is longer than the model's context by itself is scored a piece
    at a time, each id with at least half a context before it. ``poll`` is called between forward passes;
    ``pass_tokens`` bounds the size of one (0: what suits the device).
    """
    scored = _scored(model, queries, autocast, poll, pass_tokens)
    return [tuple(Likelihood.of(pieces) for pieces in continuations) for continuations in scored]


def token_log_probabilities(
    model: GPT,
    queries: Sequence[Query],
    *,
    autocast: AbstractContextManager[object] | None = None,
    poll: Callable[[], None] = lambda: None,
    pass_tokens: int = 0,
) -> list[tuple[Float64s, ...]]:
    """Natural log-probabilities of every id of every continuation; see :func:`log_likelihoods`."""
    scored = _scored(model, queries, autocast, poll, pass_tokens)
    return [tuple(np.concatenate([piece.values for piece in pieces]) for pieces in query) for query in scored]


def _scored(
    model: GPT,
    queries: Sequence[Query],
    autocast: AbstractContextManager[object] | None,
    poll: Callable[[], None],
    pass_tokens: int,
) -> list[list[list[_Piece]]]:
    """The pieces, one but for those that are too long, of every continuation of every query."""
    block_size, device = model.config.block_size, model.embed.weight.device
    most = pass_tokens or PASS_TOKENS[device.type]
    scored: list[list[list[_Piece]]] = [[[] for _ in query.continuations] for query in queries]
    trees: list[_Tree] = []
    for query, pieces in zip(queries, scored, strict=True):
        trees += _trees(query, pieces, block_size, most)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast or nullcontext():
            reader, logits = _reading(model, sum(tree.slots for tree in trees))
            for together in _passes(trees, most):
                poll()
                _score(reader, logits, together)
    finally:
        model.train(was_training)
    return scored


def _reading(model: GPT, tokens: int) -> tuple[GPT, Callable[[Tensor], Tensor]]:
    """The model laid out for reading ``tokens`` as fast as its device can, and its head, in the precision in force."""
    device = model.embed.weight.device.type
    lower = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if lower else model.embed.weight.dtype
    if tokens >= WORTH_REORDERING and reordering_helps(model, dtype):
        reader = reordered(model, dtype)
        return reader, reader.logits
    if lower:
        head_VC = scoring_head(model, dtype)
        return model, lambda hidden: F.linear(hidden, head_VC)
    return model, model.logits


def _trees(query: Query, pieces: Sequence[list[_Piece]], block_size: int, most: int) -> list[_Tree]:
    """What is computed for a query: continuations that see the same part of its context share a tree."""
    assert len(query.context) > 0
    trees: list[_Tree] = []
    newest: dict[int, _Tree] = {}  # by cut
    for continuation, own in zip(query.continuations, pieces, strict=True):
        assert len(continuation) > 0
        parts = pieces_of(query.context, continuation, block_size)
        own += [_Piece(ids, cut) for cut, _, ids in parts]
        if len(parts) > 1:
            trees += [_Tree(seen, [piece]) for (_, seen, _), piece in zip(parts, own, strict=True)]
            continue
        ((cut, seen, _),) = parts
        tree = newest.get(cut)
        if tree is None or tree.slots + len(continuation) > max(most, block_size):
            tree = newest[cut] = _Tree(seen, [])
            trees.append(tree)
        tree.pieces.extend(own)
    return trees


def pieces_of(
    context: Sequence[int], continuation: Sequence[int], block_size: int
) -> list[tuple[int, Sequence[int], Sequence[int]]]:
    """How a continuation is scored by a model that sees ``block_size`` ids: what is seen, and what is scored after it.

    One piece where the continuation fits behind at least one id of context, of which the first ``cut`` are left out if
    need be (lm-evaluation-harness's rule). Otherwise pieces of half a context, each with as much before it. Each is
    (cut, seen, scored).
    """
    cut = max(0, len(context) + len(continuation) - 1 - block_size)
    if cut < len(context):
        return [(cut, context[cut:], continuation)]
    ids, step = [*context, *continuation], max(1, block_size // 2)
    pieces: list[tuple[int, Sequence[int], Sequence[int]]] = []
    for start in range(len(context), len(ids), step):
        seen = min(start, max(1, block_size - step))
        pieces.append((max(0, start - seen), ids[start - seen : start], ids[start : start + step]))
    return pieces


def _passes(trees: Sequence[_Tree], pass_tokens: int) -> Iterator[list[_Tree]]:
    """Trees of about one size together, the largest first: what does not fit into memory shows at once."""
    together: list[_Tree] = []
    for tree in sorted(trees, key=lambda tree: -tree.slots):
        if together and (len(together) + 1) * together[0].slots > pass_tokens:
            yield together
            together = []
        together.append(tree)
    if together:
        yield together


def _score(model: GPT, logits: Callable[[Tensor], Tensor], trees: Sequence[_Tree]) -> None:
    """One forward pass, which fills in the trees' pieces."""
    ids: list[int] = []
    rows: list[int] = []  # after which token of the pass each target stands
    targets: list[int] = []
    for tree in trees:
        ids += tree.context
        root = len(ids) - 1
        for piece in tree.pieces:
            rows += [root, *range(len(ids), len(ids) + len(piece.ids) - 1)]
            targets += piece.ids
            ids += piece.ids[:-1]
    device = model.embed.weight.device
    lengths = [[len(piece.ids) - 1 for piece in tree.pieces] for tree in trees]
    branches = Branches(model.config, [len(tree.context) for tree in trees], lengths, device=device)
    hidden_NC = model.hidden(torch.tensor([ids], device=device), branches)[0]
    rows_M, order_M = torch.tensor(rows).sort(stable=True)
    log_p_M, likeliest_M = chosen_log_probabilities(
        hidden_NC, logits, rows_M.to(device), torch.tensor(targets)[order_M].to(device), model.config.vocab_size
    )
    values, hits = np.empty(len(rows)), np.empty(len(rows), dtype=bool)
    values[order_M.numpy()], hits[order_M.numpy()] = log_p_M.cpu().double().numpy(), likeliest_M.cpu().numpy()
    start = 0
    for piece in (piece for tree in trees for piece in tree.pieces):
        stop = start + len(piece.ids)
        piece.values, piece.likeliest = values[start:stop], bool(hits[start:stop].all())
        start = stop
