"""The loss of a model on examples: on what is learned of each, every example seen alone.

N real tokens of one pass
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from folio.evaluation.estimates import exponential, ratio
from folio.finetuning.batches import PackedRows, evaluation_rows
from folio.finetuning.examples import Example
from folio.finetuning.objective import PackedTokens
from folio.model.gpt import GPT
from folio.model.loss import IGNORE
from folio.ranks import ALONE, Ranks
from folio.tokenizer import Tokenizer

CONVENTION = "examples, each seen alone"
ACROSS = "examples, each seen after those before it in its row"
PASS_TOKENS = 8192


@dataclass(frozen=True)
class Held:
    """Examples to be measured, cut into passes beforehand.

    ``text_bytes`` are the UTF-8 bytes of the text that is learned: special tokens, the end-of-text first of all, are
    none of it.
    """

    examples: tuple[Example, ...]
    text_bytes: int
    passes: tuple[PackedRows, ...]

    @classmethod
    def of(
        cls, examples: Sequence[Example], tokenizer: Tokenizer, block_size: int, packing: bool, max_tokens: int = 0
    ) -> Held:
        """The first ``examples`` that hold ``max_tokens`` learned tokens, at least one; 0: all."""
        chosen = list(first_tokens(examples, max_tokens)) if max_tokens else list(examples)
        special = np.array(list(tokenizer.special_ids.values()))
        texts = (one.ids[one.learned & ~np.isin(one.ids, special)] for one in chosen)
        rows = max(1, PASS_TOKENS // block_size)
        passes = tuple(evaluation_rows(chosen, block_size, rows, packing))
        return cls(tuple(chosen), sum(len(tokenizer.decode_bytes(ids)) for ids in texts), passes)


def first_tokens(examples: Sequence[Example], tokens: int) -> Iterator[Example]:
    """The first ``examples``, as many as it takes to reach so many learned ``tokens``, or one fewer to stay below."""
    total = 0
    for index, example in enumerate(examples):
        total += example.learned_tokens
        if index and total > tokens:
            return
        yield example


def loss_of_examples(
    model: GPT,
    held: Held,
    objective: PackedTokens,
    *,
    autocast: AbstractContextManager[object] | None = None,
    ranks: Ranks = ALONE,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Nats per learned token over all of ``held``, with the standard error over examples, for a line of metrics.

    ``bits_per_byte`` divides by the bytes of the learned text, and counts what the end-of-text costs. ``ranks`` share
    the passes; the numbers are the same for any number of them. ``poll`` is called between passes.
    """
    device = model.embed.weight.device
    own: list[list[tuple[float, int]]] = []
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast or nullcontext():
            for rows, counts in ranks.in_turns(held.passes):
                poll()
                ids, targets, context = objective.inputs(rows, device)
                each = model.token_nats(ids, targets, context).cpu().double().flatten()
                if counts:
                    own.append(list(_by_example(each.numpy(), rows, objective.across)))
    finally:
        model.train(was_training)
    nats, tokens = zip(*(example for part in ranks.gather_turns(own) for example in part), strict=True)
    loss, count = ratio(nats, tokens), sum(tokens)
    return {
        "nats_per_token": loss.value,
        "standard_error_nats": loss.standard_error,
        "perplexity": exponential(loss).value,
        "bits_per_byte": loss.value * count / math.log(2) / held.text_bytes if held.text_bytes else math.nan,
        "tokens": count,
        "examples": loss.n,
        "convention": ACROSS if objective.across else CONVENTION,
    }


def _by_example(nats_N: np.ndarray, rows: PackedRows, across: bool) -> Iterator[tuple[float, int]]:
    """Summed nats and learned tokens of each example in ``rows``; nats are those of real tokens, or of all places."""
    places, start = rows.targets.shape[1], 0
    for row, lengths in enumerate(rows.lengths):
        if across:
            start = row * places
        within = 0
        for length in lengths:
            learned = int((rows.targets[row, within : within + length] != IGNORE).sum())
            yield float(nats_N[start : start + length].sum()), learned
            start, within = start + length, within + length
