"""Standard errors are those of the formula, and say how far samples really lie from the truth."""

from __future__ import annotations

import numpy as np
import pytest

from folio.corpus.exploring.estimates import RatioEstimates, share_interval
from folio.corpus.exploring.sampling import draw_rows

NAMES = ("documents", "tokens")


def estimated(tokens: list[float], clusters: list[int], share: float | None = 0.0) -> RatioEstimates:
    found = RatioEstimates(NAMES, share)
    for value, cluster in zip(tokens, clusters, strict=True):
        found.add((1, value), cluster)
    return found


def test_of_documents_drawn_on_their_own_it_is_the_textbooks_error_of_a_mean() -> None:
    values = np.random.default_rng(0).lognormal(5, 1, 400)
    mean = estimated(list(values), list(range(400))).ratio("tokens", "documents")
    assert mean is not None
    assert mean.value == pytest.approx(values.mean())
    assert mean.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(400))
    half = estimated(list(values), list(range(400)), share=0.5).ratio("tokens", "documents")
    assert half is not None
    assert half.standard_error == pytest.approx(mean.standard_error * np.sqrt(0.5))


def test_of_clusters_it_is_that_of_their_totals() -> None:
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(12), rng.integers(1, 9, 12))
    values = rng.normal(100, 5, len(clusters)) + 30 * rng.normal(size=12)[clusters]
    found = estimated(list(values), list(clusters)).ratio("tokens", "documents")
    counts, totals = np.bincount(clusters), np.bincount(clusters, values)
    ratio = totals.sum() / counts.sum()
    variance = ((totals - ratio * counts) ** 2).sum() / (12 * 11 * counts.mean() ** 2)
    assert found is not None
    assert (found.value, found.standard_error) == (pytest.approx(ratio), pytest.approx(np.sqrt(variance)))


def test_the_whole_has_no_error_and_one_cluster_tells_none() -> None:
    whole = estimated([1, 2, 3], [0, 1, 2], share=None).ratio("tokens", "documents")
    single = estimated([1, 2, 3], [0, 0, 0]).ratio("tokens", "documents")
    assert whole is not None
    assert single is not None
    assert (whole.standard_error, single.standard_error) == (0.0, None)
    assert estimated([], []).ratio("tokens", "documents") is None


def test_intervals_of_two_stage_samples_hold_the_truth_as_often_as_they_say() -> None:
    """Documents of a part are alike, which an error that takes them for independent would miss."""
    rng = np.random.default_rng(2)
    rows = [50] * 300
    level = np.repeat(rng.lognormal(0, 0.5, 300), 50)
    tokens = level * rng.lognormal(5, 0.5, 15_000)
    held = naive = 0
    for seed in range(200):
        found = RatioEstimates(NAMES)
        drawn: list[float] = []
        for pick in draw_rows(rows, 1000, seed).picks:
            for row in pick.rows:
                drawn.append(tokens[50 * pick.part + row])
                found.add((1, drawn[-1]), pick.place)
        mean = found.ratio("tokens", "documents")
        assert mean is not None
        assert mean.standard_error is not None
        held += abs(mean.value - tokens.mean()) < 1.96 * mean.standard_error
        naive += abs(mean.value - tokens.mean()) < 1.96 * np.std(drawn) / np.sqrt(len(drawn))
    assert 0.88 <= held / 200 <= 1.0
    assert naive / 200 < 0.8


def test_shares_have_wilsons_interval() -> None:
    # Brown, Cai & DasGupta 2001 and any calculator: 1 of 10
    assert share_interval(1, 10) == (pytest.approx(0.0179, abs=1e-4), pytest.approx(0.4042, abs=1e-4))
    assert share_interval(0, 0) == (0.0, 1.0)
