"""Evaluations of models that never were: items with known answers and losses, in memory or on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from folio.evaluation.estimates import exponential, proportion, ratio
from folio.evaluation.results import Evaluation, Measurement, Score, write_evaluation

SOURCE = {"sha256": "5" * 64}


def choices(
    right: Sequence[int] | np.ndarray,
    *,
    name: str = "quiz.plain",
    ids: Sequence[int] | None = None,
    facts: Mapping[str, Any] = SOURCE,
) -> Measurement:
    """A multiple-choice task with these answers, 1 right and 0 wrong."""
    items = [
        {"id": i, "acc": int(x)} for i, x in zip(ids if ids is not None else range(len(right)), right, strict=True)
    ]
    task, convention = name.split(".")
    score = Score.of(
        proportion(right),
        task=task,
        convention=convention,
        metric="acc",
        unit="items",
        better="higher",
        numerator="acc",
    )
    return Measurement(name, (score,), items, facts)


def losses(
    nats: Sequence[float] | np.ndarray,
    tokens: Sequence[int] | np.ndarray,
    text_bytes: Sequence[int] | np.ndarray,
    *,
    name: str = "loss.blocks",
    facts: Mapping[str, Any] = SOURCE,
) -> Measurement:
    """A loss by document."""
    nats, tokens, text_bytes = (np.asarray(x) for x in (nats, tokens, text_bytes))
    items = [
        {"id": i, "nats": float(x), "bits": float(x) / float(np.log(2)), "tokens": int(t), "bytes": int(b)}
        for i, (x, t, b) in enumerate(zip(nats, tokens, text_bytes, strict=True))
    ]
    by_token, by_byte = ratio(nats, tokens), ratio(nats / np.log(2), text_bytes)
    common: dict[str, Any] = {"task": "loss", "convention": "blocks", "unit": "documents", "better": "lower"}
    scores = (
        Score.of(by_token, metric="nats_per_token", numerator="nats", denominator="tokens", **common),
        Score.of(
            exponential(by_token),
            metric="perplexity", numerator="nats", denominator="tokens", transform="exp", **common,
        ),
        Score.of(by_byte, metric="bits_per_byte", numerator="bits", denominator="bytes", **common),
    )  # fmt: skip
    return Measurement(name, scores, items, facts)


def evaluation(model: str, *measurements: Measurement) -> Evaluation:
    return Evaluation(Path(model), {"model": model}, {one.name: one for one in measurements})


def write(folder: Path, *measurements: Measurement, model: str | None = None) -> Path:
    return write_evaluation(folder, measurements, {"model": model or folder.name})
