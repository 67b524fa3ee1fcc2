"""The oracle's scores: of each model the mean over prompts, its place among the others, its distance from each.

P prompts, M models
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from folio.errors import DataError
from folio.evaluation.comparing.paired import Difference, paired_ratios
from folio.evaluation.estimates import Estimate
from folio.evaluation.oracle.judge import Continuation, Judgement
from folio.evaluation.oracle.prompts import Prompt
from folio.evaluation.results import Measurement, Score

NAME = "oracle"
METRIC = "log_probability"
CONVENTION = "mean natural log-probability per oracle token of the continuation given its prompt"


def bootstrapped(values: ArrayLike) -> Estimate:
    """The mean of independent values with its bootstrap interval over them (that of :func:`paired_ratios`)."""
    array = np.asarray(values, dtype=float)
    against_zero = paired_ratios(np.zeros(len(array)), array, np.ones(len(array)))
    parts = (against_zero.standard_error, against_zero.low, against_zero.high)
    return Estimate(against_zero.value, against_zero.n, *parts)


def prompt_means(judgements: Sequence[Sequence[Judgement]]) -> NDArray[np.float64]:
    """(P,): of each prompt, the mean of its continuations' scores; not a number where none has one."""
    means = []
    for row in judgements:
        scores = [score for judgement in row if (score := judgement.log_probability) is not None]
        means.append(sum(scores) / len(scores) if scores else np.nan)
    return np.array(means, dtype=float)


def measurement(
    prompts: Sequence[Prompt],
    written: Sequence[Sequence[Continuation]],
    judgements: Sequence[Sequence[Judgement]],
    facts: Mapping[str, Any],
) -> Measurement:
    """One model's score: the mean over prompts of the mean over samples, a line for each prompt that has a score.

    :class:`DataError` if no continuation has one.
    """
    means = prompt_means(judgements)
    if np.isnan(means).all():
        raise DataError(
            f"none of the {sum(map(len, written)):,} continuations has a score: empty, or not for this oracle to read",
            "Look at what the model writes: folio generate MODEL",
        )
    items = [
        {
            "id": prompt.id,
            METRIC: float(mean),
            "prompt": prompt.text,
            "samples": [_sample(*pair) for pair in zip(texts, row, strict=True)],
        }
        for prompt, mean, texts, row in zip(prompts, means, written, judgements, strict=True)
        if not np.isnan(mean)
    ]
    score = Score.of(
        bootstrapped(means[~np.isnan(means)]),
        task=NAME,
        convention=CONVENTION,
        metric=METRIC,
        unit="prompts",
        better="higher",
        numerator=METRIC,
    )
    return Measurement(NAME, (score,), items, {**counts(prompts, judgements), **facts})


def _sample(continuation: Continuation, judgement: Judgement) -> dict[str, Any]:
    return {
        "text": continuation.text,
        "seed": continuation.seed,
        METRIC: judgement.log_probability,
        "log_likelihood": None if judgement.unscored else judgement.log_likelihood,
        "oracle_tokens": judgement.tokens,
        "bytes": len(continuation.text.encode("utf-8", "replace")),
        "cut": judgement.cut,
        "unscored": judgement.unscored or None,
        **continuation.facts,
    }


def counts(prompts: Sequence[Prompt], judgements: Sequence[Sequence[Judgement]]) -> dict[str, Any]:
    """How many continuations there are, how many have no score and why, and what the judge could not hold."""
    means = prompt_means(judgements)
    every = [judgement for row in judgements for judgement in row]
    return {
        "continuations": len(every),
        "empty": sum(judgement.unscored == "empty" for judgement in every),
        "unreadable": sum(judgement.unscored == "unreadable" for judgement in every),
        "prompts_without_score": [prompt.id for prompt, mean in zip(prompts, means, strict=True) if np.isnan(mean)],
        "oracle_tokens": sum(judgement.tokens for judgement in every),
        "cut_continuations": sum(judgement.cut > 0 for judgement in every),
        "cut_tokens": sum(judgement.cut for judgement in every),
    }


def standardized(scores_PM: NDArray[np.float64]) -> NDArray[np.float64]:
    """z of each score among the models of its prompt, by that prompt's mean and standard deviation over models (1 / M).

    Zero where all models score the same. With two models every z is 1 or -1: it says which won.
    """
    centred_PM = scores_PM - scores_PM.mean(1, keepdims=True)
    spread_P1 = np.sqrt((centred_PM**2).mean(1, keepdims=True))
    tiny = spread_P1 <= 1e-12 * np.maximum(1.0, np.abs(scores_PM).max(1, keepdims=True))
    return np.where(tiny, 0.0, centred_PM / np.where(tiny, 1.0, spread_P1))


def mean_z(scores_PM: NDArray[np.float64]) -> list[Estimate]:
    """Each model's mean z over the prompts for which all have a score; empty without two models or any such prompt."""
    shared_PM = scores_PM[~np.isnan(scores_PM).any(1)]
    if not len(shared_PM) or shared_PM.shape[1] < 2:
        return []
    return [bootstrapped(column) for column in standardized(shared_PM).T]


def difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> Difference | None:
    """The second minus the first, paired by prompt; None if no prompt has a score of both."""
    shared = ~(np.isnan(first) | np.isnan(second))
    if not shared.any():
        return None
    return paired_ratios(first[shared], second[shared], np.ones(int(shared.sum())))
