"""Scores with and without contaminated items: recomputed from the items, and only of the file that was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from folio.errors import ArtifactError, DataError
from folio.evaluation.contamination.clean_scores import clean_scores, difference
from folio.evaluation.estimates import Estimate, mean, proportion
from folio.evaluation.results import Evaluation, Measurement, Score, read_evaluation, write_evaluation

STATES = {"a": "clean", "b": "clean", "c": "clean", "d": "contaminated", "e": "contaminated", "f": "too short"}
HITS = {"a": 0, "b": 1, "c": 0, "d": 1, "e": 1, "f": 0}


def evaluation(path: Path, facts: dict[str, Any] | None = None, items: dict[str, int] = HITS) -> Evaluation:
    lines = [{"id": id, "acc": hit, "nats": 1.5 + hit, "tokens": 2} for id, hit in items.items()]
    names = {"task": "hellaswag", "convention": "completion", "unit": "items"}
    acc = Score.of(proportion(list(items.values())), metric="acc", better="higher", numerator="acc", **names)
    nats = Score.of(
        mean([1.0, 2.0]),
        metric="nats",
        better="lower",
        numerator="nats",
        denominator="tokens",
        transform="exp",
        **names,
    )
    facts = {"sha256": "f" * 64} if facts is None else facts
    write_evaluation(path, [Measurement("hellaswag.completion", (acc, nats), lines, facts)], {"model": "mine"})
    return read_evaluation(path)


def test_each_score_on_all_clean_and_contaminated_items(tmp_path: Path) -> None:
    acc, perplexity = clean_scores(evaluation(tmp_path / "e"), "hellaswag", "f" * 64, STATES)
    assert (acc.model, acc.score.metric) == ("mine", "acc")
    assert acc.all == proportion([0, 1, 0, 1, 1, 0])
    assert acc.clean == proportion([0, 1, 0])
    assert acc.contaminated == proportion([1, 1])
    assert acc.difference is not None
    assert acc.difference.value == pytest.approx(1 - 1 / 3)
    assert acc.difference.n == 5
    assert perplexity.clean is not None
    assert perplexity.clean.value == pytest.approx(2.718281828 ** ((1.5 + 2.5 + 1.5) / 6))


def test_a_part_without_items_has_no_score(tmp_path: Path) -> None:
    (acc, _) = clean_scores(evaluation(tmp_path / "e"), "hellaswag", "f" * 64, dict.fromkeys(STATES, "clean"))
    assert acc.clean == acc.all
    assert acc.contaminated is None
    assert acc.difference is None


def test_the_interval_of_a_difference_is_newcombes() -> None:
    """The worked example of Newcombe (1998), table II (a): 56/70 - 48/80, method 10."""
    apart = difference(proportion([1] * 56 + [0] * 14), proportion([1] * 48 + [0] * 32))
    assert apart.value == pytest.approx(0.2)
    assert (apart.low, apart.high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))
    one, other = Estimate(3.0, 10, 0.3, 2.4, 3.6), Estimate(1.0, 10, 0.4, 0.2, 1.8)
    assert difference(one, other) == Estimate(2.0, 20, 0.5, 1.0, 3.0)


def test_an_evaluation_of_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="another file"):
        clean_scores(evaluation(tmp_path / "a"), "hellaswag", "e" * 64, STATES)
    with pytest.raises(ArtifactError, match="a file that it does not name"):
        clean_scores(evaluation(tmp_path / "b", {}), "hellaswag", "f" * 64, STATES)


def test_an_evaluation_of_unknown_items_or_without_the_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="item 'z'"):
        clean_scores(evaluation(tmp_path / "a", items={"a": 1, "z": 0}), "hellaswag", "f" * 64, STATES)
    with pytest.raises(ArtifactError, match="no scores of 'piqa', only of hellaswag"):
        clean_scores(evaluation(tmp_path / "b"), "piqa", "f" * 64, STATES)


def test_an_evaluation_of_some_of_the_items_is_taken(tmp_path: Path) -> None:
    (acc, _) = clean_scores(evaluation(tmp_path / "e", items={"a": 1, "d": 0}), "hellaswag", "f" * 64, STATES)
    assert (acc.all.n, acc.clean and acc.clean.n, acc.contaminated and acc.contaminated.n) == (2, 1, 1)
