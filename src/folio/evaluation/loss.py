"""The loss of a model on a stream of tokens, every token weighed once, with its standard error.

B windows of one forward pass, T block size
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from folio.errors import DataError
from folio.model.gpt import GPT
from folio.model.loss import IGNORE
from folio.ranks import ALONE, Ranks
from folio.shards.batches import evaluation_windows
from folio.shards.stream import TokenStream

CONVENTION = "disjoint blocks"
FORWARD_TOKENS = 8192


@dataclass(frozen=True)
class LossScore:
    """Mean negative log-likelihood over ``tokens`` tokens, in disjoint blocks of ``block_size``.

    ``standard_error_nats`` is that of ``nats_per_token``, taking the ``blocks`` as independent (ratio estimator).
    ``bits_per_byte`` divides by the bytes of the text itself, so models with different tokenizers compare.
    """

    total_nats: float
    tokens: int
    blocks: int
    block_size: int
    nats_per_token: float
    standard_error_nats: float
    perplexity: float
    bits_per_byte: float
    convention: str = CONVENTION

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def loss_on(
    model: GPT,
    stream: TokenStream,
    *,
    bytes_per_token: float,
    max_tokens: int = 0,
    autocast: AbstractContextManager[object] | None = None,
    ranks: Ranks = ALONE,
    poll: Callable[[], None] = lambda: None,
) -> LossScore:
    """Score ``model`` on the first ``max_tokens`` of ``stream`` (0: all). Contexts begin anew at every block.

    ``bytes_per_token`` is the UTF-8 bytes of the stream's text over its tokens. The result does not depend on how many
    blocks share a forward pass, nor on how many ``ranks`` share them. ``poll`` is called between forward passes.
    :class:`DataError` if there is nothing to score.
    """
    device = next(model.parameters()).device
    block_size = model.config.block_size
    own: list[tuple[np.ndarray, np.ndarray]] = []
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast or nullcontext():  # FSDP gathers for good what inference mode would mark
            for rows_BT, counts in ranks.in_turns(_batches(stream, block_size, max_tokens, FORWARD_TOKENS)):
                poll()
                rows_BT = rows_BT.to(device)
                targets_BT = rows_BT[:, 1:].contiguous()
                nats_BT = model.token_nats(rows_BT[:, :-1].clamp(min=0), targets_BT)
                if counts:
                    nats_B = nats_BT.cpu().double().sum(1).numpy()  # MPS has no float64
                    own.append((nats_B, (targets_BT != IGNORE).sum(1).cpu().numpy()))
    finally:
        model.train(was_training)
    scored = ranks.gather_turns(own)
    if not scored:
        raise DataError("there are no tokens to score", "Give a text of at least two tokens.")
    nats, tokens = zip(*scored, strict=True)
    return _score(np.concatenate(nats), np.concatenate(tokens), block_size, bytes_per_token)


def _batches(stream: TokenStream, block_size: int, max_tokens: int, forward_tokens: int) -> Iterator[Tensor]:
    """Windows of block_size + 1 ids in order, some a forward pass, the last short one filled up with ``IGNORE``."""
    size = max(1, forward_tokens // block_size)
    windows = evaluation_windows(stream, block_size)
    count = len(windows) if not max_tokens else min(len(windows), max(1, max_tokens // block_size))
    for first in range(0, count, size):
        chosen = [windows.read(i) for i in range(first, min(first + size, count))]
        width = max(len(ids) for ids in chosen)
        rows = torch.full((len(chosen), width), IGNORE, dtype=torch.int64)
        for row, ids in zip(rows, chosen, strict=True):
            row[: len(ids)] = torch.from_numpy(ids.astype(np.int64))
        yield rows


def _score(nats: np.ndarray, tokens: np.ndarray, block_size: int, bytes_per_token: float) -> LossScore:
    total, count, blocks = float(nats.sum()), int(tokens.sum()), len(nats)
    mean = total / count
    residual = nats - mean * tokens
    spread = float((residual**2).sum()) * blocks / (blocks - 1) if blocks > 1 else math.nan
    return LossScore(
        total_nats=total,
        tokens=count,
        blocks=blocks,
        block_size=block_size,
        nats_per_token=mean,
        standard_error_nats=math.sqrt(spread) / count,
        perplexity=math.exp(min(mean, 700.0)),
        bits_per_byte=mean / math.log(2) / bytes_per_token if bytes_per_token else math.nan,
    )
