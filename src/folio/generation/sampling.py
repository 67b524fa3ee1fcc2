"""From logits to the next token, as small pure functions, in fp32.

The order is fixed, and the one Hugging Face uses: repetition penalty, temperature, top-k, top-p, min-p, draw.

B rows, V vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from folio.generation.config import GenerationConfig

NEVER = float("-inf")
NUCLEUS_GUESS = 1024


def penalize_repetition(logits_BV: Tensor, seen_BV: Tensor, penalty: float) -> Tensor:
    """Seen tokens less likely: positive logits divided, negative ones multiplied (Keskar et al. 2019, section 4.1)."""
    penalized_BV = torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
    return torch.where(seen_BV, penalized_BV, logits_BV)


def keep_top_k(logits_BV: Tensor, k: int) -> Tensor:
    """Only the k greatest, and what ties with the least of them (Fan et al. 2018)."""
    if k >= logits_BV.shape[-1]:
        return logits_BV
    least_B1 = logits_BV.topk(k, dim=-1).values[:, -1:]
    return logits_BV.masked_fill(logits_BV < least_B1, NEVER)


def keep_top_p(logits_BV: Tensor, p: float) -> Tensor:
    """The smallest set of likeliest tokens whose probability reaches p, never empty (nucleus, Holtzman et al. 2020)."""
    if p >= 1:
        return logits_BV
    probs_BV = logits_BV.softmax(dim=-1)
    V = logits_BV.shape[-1]
    guess = min(NUCLEUS_GUESS, V)  # sorting all of a large vocabulary takes longer than a small model's step
    sorted_Bg, order_Bg = probs_BV.topk(guess, dim=-1)
    if guess < V and bool((sorted_Bg.double().sum(-1) < p).any()):
        sorted_Bg, order_Bg = probs_BV.sort(dim=-1, descending=True)
    before_Bg = sorted_Bg.double().cumsum(dim=-1) - sorted_Bg
    kept_BV = torch.zeros_like(logits_BV, dtype=torch.bool).scatter_(-1, order_Bg, before_Bg < p)
    return logits_BV.masked_fill(~kept_BV, NEVER)


def keep_min_p(logits_BV: Tensor, min_p: float) -> Tensor:
    """Tokens whose probability is at least ``min_p`` times the greatest (Nguyen et al. 2024)."""
    probs_BV = logits_BV.softmax(dim=-1)
    return logits_BV.masked_fill(probs_BV < min_p * probs_BV.amax(dim=-1, keepdim=True), NEVER)


def shape_logits(logits_BV: Tensor, seen_BV: Tensor | None, config: GenerationConfig) -> Tensor:
    """Every change that ``config`` asks for, in the order above; minus infinity where a token must not come.

    Temperature 0 needs no shaping beyond the penalty. ``seen_BV`` is true for the ids in the text so far, and may be
    None without a penalty.
    """
    logits_BV = logits_BV.float()
    if config.repetition_penalty != 1.0:
        assert seen_BV is not None
        logits_BV = penalize_repetition(logits_BV, seen_BV, config.repetition_penalty)
    if config.temperature == 0:
        return logits_BV
    logits_BV = logits_BV / config.temperature
    if config.top_k is not None:
        logits_BV = keep_top_k(logits_BV, config.top_k)
    if config.top_p is not None:
        logits_BV = keep_top_p(logits_BV, config.top_p)
    if config.min_p is not None:
        logits_BV = keep_min_p(logits_BV, config.min_p)
    return logits_BV


def draw(logits_BV: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One id a row, (B,), row i by one uniform number of generator i: the inverse of the distribution function.

    What a row draws depends on its logits and its generator alone. Ids of probability zero never come.
    """
    probs_BV = logits_BV.softmax(dim=-1)
    cumulative_BV = probs_BV.cumsum(dim=-1, dtype=torch.float64)
    uniform = [torch.rand((), generator=generator, dtype=torch.float64) for generator in generators]
    target_B1 = torch.stack(uniform)[:, None].to(logits_BV.device) * cumulative_BV[:, -1:]
    return torch.searchsorted(cumulative_BV, target_B1, right=True)[:, 0]


def next_ids(
    logits_BV: Tensor, seen_BV: Tensor | None, config: GenerationConfig, generators: Sequence[torch.Generator]
) -> Tensor:
    """The next id of every row, (B,): the likeliest at temperature 0, otherwise drawn."""
    device = logits_BV.device
    if device.type == "mps":  # it has no float64, which drawing needs
        logits_BV, seen_BV = logits_BV.cpu(), None if seen_BV is None else seen_BV.cpu()
    shaped_BV = shape_logits(logits_BV, seen_BV, config)
    ids_B = shaped_BV.argmax(dim=-1) if config.temperature == 0 else draw(shaped_BV, generators)
    return ids_B.to(device)
