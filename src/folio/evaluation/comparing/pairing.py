"""Which items of two sides of a comparison pair up, and the numbers that each model has for them.

n items that every model of both sides has
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from folio.errors import ArtifactError, UserError
from folio.evaluation.comparing.paired import Floats
from folio.evaluation.results import Item, Measurement, Score

SAME_FACTS = {
    "sha256": "the source (another sha256)",
    "split": "the split of the text",
    "max_tokens": "how much of the text was read",
    "description": "the description of the task",
    "num_fewshot": "the number of examples",
    "shots": "the file that examples came from",
    "oracle_sha256": "the oracle (other weights, or another tokenizer)",
    "oracle_dtype": "the dtype of the oracle's weights",
    "prompt_rule": "how prompts were drawn (the rule, the seed or the text)",
    "ratio": "the length of continuations",
    "samples": "the number of continuations of each prompt",
    "generation": "how continuations were drawn",
}
"""Facts of a measurement in which two that are compared must agree, and what it means when they do not."""
SAME_KEYS = ("doc_hash", "label", "prompt")
"""What items of one id must agree in, where they have it."""
LOSS = "loss"
_WINDOW = re.compile(r"(?P<kind>.+) of (?P<block>\d+)(?:, stride (?P<stride>\d+))?")
"""The convention of a loss, as :class:`folio.evaluation.likelihood.Windows` writes it."""
FEW = 0.05
"""Share of items that may be left out because the sides hold unequal amounts of them: the end of a text cut short."""


@dataclass(frozen=True)
class Paired:
    """Numerators (models of the side, n) of both sides, and the denominators (n,) that all models share."""

    first: Floats
    second: Floats
    denominators: Floats
    only_first: int
    only_second: int
    """Items that one side has and the other has not: left out."""
    unequal: int
    """Items of which the sides hold unequal amounts, such as a last document cut short: left out too."""

    @property
    def values(self) -> tuple[float, float]:
        """The score of both sides over the pairs, the mean over their models."""
        total = self.denominators.sum()
        return float(self.first.mean(0).sum() / total), float(self.second.mean(0).sum() / total)


def pair(score: Score, first: Sequence[Measurement], second: Sequence[Measurement], names: tuple[str, str]) -> Paired:
    """The items behind ``score`` that every measurement of both sides has, by id.

    :class:`UserError` where there are none, or where items of one id are not the same item; :class:`Incomparable` where
    models divide by different amounts, as nats per token of two tokenizers do.
    """
    both = f"'{names[0]}' and '{names[1]}'"
    if score.denominator == "tokens" and len({str(one.facts.get("tokenizer")) for one in (*first, *second)}) > 1:
        raise Incomparable(f"{first[0].name} {score.metric}: {both} have other tokenizers: not compared.")
    items = [items_by_id(one) for one in (*first, *second)]
    kept = [usable(one, score) for one in items]
    if not all(kept):
        raise Incomparable(f"{first[0].name} {score.metric} was not measured for every model: not compared.")
    count, name = len(first), first[0].name
    has_first, has_second = (set.intersection(*map(set, side)) for side in (kept[:count], kept[count:]))
    common = [key for key in kept[0] if key in has_first and key in has_second]
    if not common:
        raise UserError(f"{both} share no item of {name}", "Evaluate both on the same items.")
    _refuse_other_items(name, [[one[key] for one in items] for key in common])
    over, under = (np.array([[side[key][part] for key in common] for side in kept]) for part in (0, 1))
    equal = (under == under[0]).all(0)
    unequal = int((~equal).sum())
    if unequal > max(1, FEW * len(common)) or not equal.any():
        raise Incomparable(f"{name} {score.metric}: {both} divide by different {score.denominator}: not compared.")
    over, under = over[:, equal], under[0, equal]
    if not under.sum():
        raise UserError(f"the items of {name} hold no {score.denominator}", "Evaluate on a text that has some.")
    return Paired(over[:count], over[count:], under, len(has_first - has_second), len(has_second - has_first), unequal)


class Incomparable(Exception):
    """This score of these models cannot be compared; others may be. ``str()`` says why."""


def refuse_unlike(measurements: Sequence[Measurement], names: Sequence[str]) -> None:
    """:class:`UserError` if the measurements, each of the model so named, are not of one source in one convention."""
    reference = measurements[0]
    conventions = {score.metric: score for score in reference.scores}
    for one, name in zip(measurements[1:], names[1:], strict=True):
        unlike = [
            f"the convention of {score.metric} ('{conventions[score.metric].convention}' and '{score.convention}')"
            for score in one.scores
            if not same_manner(conventions.get(score.metric, score), score)
        ]
        unlike += [what for key, what in SAME_FACTS.items() if _fact(one, key) != _fact(reference, key)]
        if unlike:
            raise UserError(
                f"{reference.name} of '{names[0]}' and of '{name}' differ in {unlike[0]}",
                "Evaluate both in the same way, a loss with --text or --corpus: folio evaluate MODEL MODEL --tasks ...",
            )


def same_manner(one: Score, other: Score) -> bool:
    """Whether the conventions agree. How far a model sees is its own: a loss may be of another block size.

    Windows that slide must have one stride, or each the default one of half its block.
    """
    if one.convention == other.convention:
        return True
    found = [_WINDOW.fullmatch(score.convention) for score in (one, other) if score.task == LOSS]
    if len(found) < 2 or found[0] is None or found[1] is None or found[0]["kind"] != found[1]["kind"]:
        return False
    blocks, strides = ([int(match[key] or 0) for match in found if match] for key in ("block", "stride"))
    usual = all(stride == max(1, block // 2) for block, stride in zip(blocks, strides, strict=True))
    return usual or strides[0] == strides[1]


def _fact(measurement: Measurement, key: str) -> Any:
    value = measurement.facts.get(key)
    return value.get("sha256", value) if isinstance(value, Mapping) else value


def _refuse_other_items(name: str, together: Sequence[Sequence[Item]]) -> None:
    for first, *others in together:
        for key in SAME_KEYS:
            if key in first and any(key in other and other[key] != first[key] for other in others):
                raise UserError(
                    f"item {first['id']} of {name} is not the same in both: its {key} differs",
                    "Evaluate both on the same file.",
                )


def items_by_id(measurement: Measurement) -> dict[Any, Item]:
    """The items of a measurement; :class:`UserError` if there are none, :class:`ArtifactError` if two share an id."""
    items = {item.get("id"): item for item in measurement.items}
    if not items:
        raise UserError(f"an evaluation of {measurement.name} has no items to compare", "Evaluate again.")
    if len(items) != len(measurement.items):
        raise ArtifactError(f"items of {measurement.name} share an id, so they cannot be paired", "Evaluate again.")
    return items


def usable(items: dict[Any, Item], score: Score) -> dict[Any, tuple[float, float]]:
    """Numerator and denominator by id, of the items that have both as numbers."""
    found = {}
    for key, item in items.items():
        over, under = item.get(score.numerator), 1 if score.denominator is None else item.get(score.denominator)
        if isinstance(over, int | float) and isinstance(under, int | float) and math.isfinite(over):
            found[key] = (float(over), float(under))
    return found
