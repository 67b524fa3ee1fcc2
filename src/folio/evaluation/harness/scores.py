"""The numbers of lm-evaluation-harness as scores that their items give again: means and perplexities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from folio.evaluation.estimates import Estimate, exponential, mean, proportion, ratio
from folio.evaluation.results import Item, Score

SAME = 1e-6
"""How near a score from the items must be to the harness's, relative to it."""


@dataclass(frozen=True)
class Reported:
    """A number as the harness reports it: the metric, the filter that the answers went through, the standard error.

    The error is not a number where the harness has none.
    """

    metric: str
    filter: str
    value: Any
    error: float

    def name(self, filters: int) -> str:
        """The metric's name; the filter is part of it where there are several."""
        return self.metric if filters <= 1 else f"{self.metric}.{self.filter}"

    def as_dict(self) -> dict[str, Any]:
        return {"value": plain(self.value), "standard_error": self.error}


def reported(numbers: Mapping[str, Any]) -> Iterator[Reported]:
    """The metrics among the entries of a task or a group in the harness's results."""
    for key, value in numbers.items():
        metric, comma, chosen = key.partition(",")
        if comma and not metric.endswith("_stderr"):
            error = numbers.get(f"{metric}_stderr,{chosen}")
            yield Reported(metric, chosen, value, float(error) if isinstance(error, float | int) else math.nan)


def columns(name: str, value: Any, aggregation: str) -> Item:
    """One item's ``value`` of the metric ``name``, under the keys that the score's numerator and denominator have."""
    if aggregation == "perplexity":
        return {_key("nats", name): -float(value)}
    if aggregation in ("weighted_perplexity", "bits_per_byte"):
        log_likelihood, weight = value
        scale = math.log(2) if aggregation == "bits_per_byte" else 1.0
        unit = "bits" if aggregation == "bits_per_byte" else "nats"
        return {_key(unit, name): -float(log_likelihood) / scale, _weight(name): int(weight)}
    return {name: plain(value)}


def score(items: Sequence[Item], number: Reported, name: str, aggregation: str, **facts: Any) -> Score | None:
    """The score called ``name``, or None where the items do not give the harness's own value.

    Its standard error is the harness's; where that has none, the one by documents (a ratio's).
    """
    sources: dict[str, tuple[str, str | None, Callable[[Estimate], Estimate]]] = {
        "mean": (name, None, lambda estimate: estimate),
        "perplexity": (_key("nats", name), None, exponential),
        "weighted_perplexity": (_key("nats", name), _weight(name), exponential),
        "bits_per_byte": (_key("bits", name), _weight(name), lambda estimate: estimate),
    }
    if aggregation not in sources or not isinstance(number.value, float | int):
        return None
    numerator, denominator, transform = sources[aggregation]
    over = _numbers(item.get(numerator) for item in items)
    under = _numbers(item.get(denominator) for item in items) if denominator else []
    if not over or under is None or (denominator and not sum(under)):
        return None
    hits = not denominator and aggregation == "mean" and set(over) <= {0.0, 1.0}
    estimate = transform(ratio(over, under) if denominator else proportion(over) if hits else mean(over))
    if not math.isclose(estimate.value, float(number.value), rel_tol=SAME, abs_tol=SAME):
        return None
    if math.isfinite(number.error):
        estimate = replace(estimate, standard_error=number.error)
    return Score.of(
        estimate,
        metric=name,
        numerator=numerator,
        denominator=denominator,
        transform="exp" if "perplexity" in aggregation else "",
        **facts,
    )


def plain(value: Any) -> Any:
    """``value`` as JSON has it; what it has no form for as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | None) else str(value)


def _key(unit: str, name: str) -> str:
    """``nats``, and the filter where the metric's name has one."""
    return unit + name[name.index(".") :] if "." in name else unit


def _weight(name: str) -> str:
    return "words" if name.startswith("word") else "bytes"


def _numbers(values: Iterable[Any]) -> list[float] | None:
    listed = list(values)
    return [float(value) for value in listed] if all(isinstance(value, float | int) for value in listed) else None
