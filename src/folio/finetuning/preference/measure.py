"""How well a model prefers as the pairs say: loss, accuracy and rewards, each with its error.

P pairs; a leading 2 is chosen and rejected
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from folio.evaluation.estimates import mean, proportion
from folio.finetuning.measure import known_error
from folio.finetuning.preference.likelihood import PASS_TOKENS, answer_log_probabilities
from folio.finetuning.preference.objective import Preference
from folio.finetuning.preference.pairs import Pair
from folio.finetuning.preference.reference import Reference
from folio.model.gpt import GPT
from folio.ranks import ALONE, Ranks


def measure_preferences(
    model: GPT,
    pairs: Sequence[Pair],
    reference: Reference,
    objective: Preference,
    *,
    pass_tokens: int = PASS_TOKENS,
    autocast: AbstractContextManager[object] | None = None,
    ranks: Ranks = ALONE,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The facts of a metrics line; see :func:`answer_log_probabilities` and :func:`measures`."""
    reference.check(pairs)
    log_p_2P = answer_log_probabilities(
        model, pairs, pass_tokens=pass_tokens, autocast=autocast, ranks=ranks, poll=poll
    )
    tokens_2P = np.array([[p.chosen.learned_tokens for p in pairs], [p.rejected.learned_tokens for p in pairs]])
    return measures(objective, log_p_2P - reference.log_p, tokens_2P)


def measures(objective: Preference, log_ratio_2P: NDArray[np.float64], tokens_2P: NDArray[np.int64]) -> dict[str, Any]:
    """What ``log_ratio_2P`` amount to: means over pairs, with standard errors, and the accuracy's 95 % interval.

    A pair is right if its chosen answer has the greater reward; of two equal rewards half counts, so that a model that
    has learned nothing is right in one half.
    """
    log_ratios = torch.from_numpy(log_ratio_2P)
    loss = mean(objective.losses(log_ratios, torch.from_numpy(tokens_2P)).numpy())
    chosen, rejected = objective.rewards(log_ratios).numpy()
    accuracy = proportion((np.sign(chosen - rejected) + 1) / 2)
    margin = mean(chosen - rejected)
    return {
        "nats_per_pair": loss.value,
        "standard_error_nats": known_error(loss),
        "pairs": loss.n,
        "tokens": int(tokens_2P.sum()),
        "accuracy": accuracy.value,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "margin": margin.value,
        "standard_error_margin": known_error(margin),
        "chosen_reward": float(chosen.mean()),
        "rejected_reward": float(rejected.mean()),
    }
