"""How likely a model finds the answers of pairs.

N tokens of one pass, P pairs
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from folio.finetuning.examples import Example
from folio.finetuning.preference.pairs import Pair
from folio.finetuning.preference.rows import joined
from folio.model.branches import Branches
from folio.model.gpt import GPT
from folio.ranks import ALONE, Ranks

PASS_TOKENS = 8192


def answer_log_probabilities(
    model: GPT,
    pairs: Sequence[Pair],
    *,
    pass_tokens: int = PASS_TOKENS,
    autocast: AbstractContextManager[object] | None = None,
    ranks: Ranks = ALONE,
    poll: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """log p(answer | prompt) of chosen and rejected answers, end-of-text included, float64 (2, P); no gradients.

    In evaluation mode, answers of about one length in passes of at most ``pass_tokens`` places (one answer at least).
    Neither that number nor how many ``ranks`` share the passes matters, but for rounding. ``poll`` is called between
    passes.
    """
    examples = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    device = next(model.parameters()).device
    found: list[tuple[list[int], NDArray[np.float64]]] = []
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast or nullcontext():
            for members, counts in ranks.in_turns(_passes(examples, pass_tokens)):
                poll()
                values = _one_pass(model, [examples[index] for index in members], device)
                if counts:
                    found.append((members, values))
    finally:
        model.train(was_training)
    log_p = np.full(len(examples), np.nan)
    for members, values in ranks.gather_turns(found):
        log_p[members] = values
    return log_p.reshape(2, -1)


def _one_pass(model: GPT, examples: Sequence[Example], device: torch.device) -> NDArray[np.float64]:
    lengths = [example.length for example in examples]
    ids_1N, targets_1N = (torch.from_numpy(array).to(device) for array in joined(examples))
    alone = Branches(model.config, lengths, [[]] * len(lengths), device=device)
    nats_N = model.token_nats(ids_1N, targets_1N, alone)[0].cpu().double().numpy()  # MPS has no float64
    ends = np.cumsum([0, *lengths])
    return np.array([-nats_N[start:end].sum() for start, end in pairwise(ends)])


def _passes(examples: Sequence[Example], pass_tokens: int) -> list[list[int]]:
    """Which examples share a pass, by index, longest first: each takes as many places as the longest of its pass."""
    passes: list[list[int]] = []
    room = 0
    for index in sorted(range(len(examples)), key=lambda index: (-examples[index].length, index)):
        if not room:
            passes.append([])
            room = max(1, pass_tokens // examples[index].length)
        passes[-1].append(index)
        room -= 1
    return passes
