"""The loss of a model on examples: on what is learned of each, every example seen alone.

N real tokens of one pass
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from folio.evaluation.estimates import Estimate, exponential, ratio
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
EACH = 2000
"""Of up to so many examples a line of metrics holds the loss of each."""


class Learned(Protocol):
    """Something of which tokens are learned: an example, or a pair."""

    @property
    def learned_tokens(self) -> int: ...


T = TypeVar("T", bound=Learned)


@dataclass(frozen=True)
class Held:
    """Examples to be measured, cut into passes beforehand.

    ``text_bytes`` are the UTF-8 bytes of the text that is learned: special tokens, the end-of-text first of all, are
    none of it.
    """

    examples: tuple[Example, ...]
    text_bytes: int
    passes: tuple[PackedRows, ...]
    end_id: int | None
    """What a whole example ends in."""

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
        return cls(tuple(chosen), sum(len(tokenizer.decode_bytes(ids)) for ids in texts), passes, tokenizer.eot_id)


def first_tokens(examples: Sequence[T], tokens: int) -> Iterator[T]:
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

    ``bits_per_byte`` divides by the bytes of the learned text, and counts what the end-of-text costs. ``end_nats`` is
    that cost alone, its mean over examples that have their end, and left out if none has it: how well the model knows
    when to stop. ``each``, of up to :data:`EACH` examples, lists the nats (six digits, None if they are no number) and
    tokens of every one in the order of ``held``. ``ranks`` share the passes; the numbers are the same for any number of
    them. ``poll`` is called between passes.
    """
    device = model.embed.weight.device
    own: list[list[_ExampleLoss]] = []
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast or nullcontext():
            for rows, counts in ranks.in_turns(held.passes):
                poll()
                ids, targets, context = objective.inputs(rows, device)
                each = model.token_nats(ids, targets, context).cpu().double().flatten()
                if counts:
                    own.append(list(_by_example(each.numpy(), rows, objective.across, held.end_id)))
    finally:
        model.train(was_training)
    examples = sorted(example for part in ranks.gather_turns(own) for example in part)
    loss = ratio([one.nats for one in examples], [one.tokens for one in examples])
    count = sum(one.tokens for one in examples)
    ends = [one.end_nats for one in examples if one.end_nats is not None]
    return {
        "nats_per_token": loss.value,
        "standard_error_nats": known_error(loss),
        "perplexity": exponential(loss).value,
        "bits_per_byte": loss.value * count / math.log(2) / held.text_bytes if held.text_bytes else math.nan,
        "tokens": count,
        "examples": loss.n,
        **({"end_nats": sum(ends) / len(ends)} if ends else {}),
        **({"each": [one.brief for one in examples]} if len(examples) <= EACH else {}),
        "convention": ACROSS if objective.across else CONVENTION,
    }


def known_error(estimate: Estimate) -> float | None:
    """The standard error of ``estimate``; of a single unit it is not known."""
    return estimate.standard_error if estimate.n > 1 else None


class _ExampleLoss(NamedTuple):
    """Which example, its summed nats and learned tokens, and the nats of its end-of-text; None if it was cut off."""

    number: int
    nats: float
    tokens: int
    end_nats: float | None

    @property
    def brief(self) -> list[float | int | None]:
        """Nats to six digits, tokens."""
        return [float(f"{self.nats:.6g}") if math.isfinite(self.nats) else None, self.tokens]


def _by_example(nats_N: np.ndarray, rows: PackedRows, across: bool, end_id: int | None) -> Iterator[_ExampleLoss]:
    """The loss of each example in ``rows``; ``nats_N`` are those of real tokens, or of all places."""
    places, start = rows.targets.shape[1], 0
    for row, lengths in enumerate(rows.lengths):
        if across:
            start = row * places
        within = 0
        for index, length in zip(rows.members[row], lengths, strict=True):
            targets = rows.targets[row, within : within + length]
            nats = nats_N[start : start + length]
            end = float(nats[-1]) if targets[-1] == end_id else None
            yield _ExampleLoss(index, float(nats.sum()), int((targets != IGNORE).sum()), end)
            start, within = start + length, within + length
