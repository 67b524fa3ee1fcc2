"""Evaluation folders: what was written is read back, whatever the text holds, and a damaged one is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from folio.errors import ArtifactError
from folio.evaluation.estimates import mean, ratio
from folio.evaluation.results import Measurement, Score, is_evaluation, read_evaluation, write_evaluation


def measurement(values: list[float], name: str = "quiz.plain", text: str = "") -> Measurement:
    items = [{"id": str(i), "acc": value, "text": text} for i, value in enumerate(values)]
    facts = {"task": "quiz", "convention": "plain", "metric": "acc", "unit": "items", "numerator": "acc"}
    return Measurement(name, (Score.of(mean(values), better="higher", **facts),), items, {"sha256": "abc"})


@pytest.mark.parametrize("text", ["a\u2028b\u2029c\x85d", "tab\tnew\nline\r", "\x0b\x0c\x1c\x1d", "é 漢字"])
def test_items_hold_any_text(tmp_path: Path, text: str) -> None:
    one = measurement([1.0, 0.0], text=text)
    write_evaluation(tmp_path / "e", [one], {"model": "m"})
    found = read_evaluation(tmp_path / "e").measurements["quiz.plain"]
    assert found == Measurement(one.name, one.scores, one.items, one.facts)


def test_what_is_no_number_is_null_on_disk_and_none_again(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "e", [measurement([1.0])], {"model": "m"})
    assert "NaN" not in (tmp_path / "e" / "scores.json").read_text()
    (listed,) = json.loads((tmp_path / "e" / "scores.json").read_text())
    assert listed["scores"][0]["standard_error"] is None
    score = read_evaluation(tmp_path / "e").measurements["quiz.plain"].score("acc")
    assert math.isnan(score.standard_error)
    assert math.isnan(score.low)
    assert score.denominator is None


def test_an_older_evaluation_is_replaced_whole_and_nothing_else_is(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "e", [measurement([1.0, 0.0], "old.plain")], {"model": "m"})
    write_evaluation(tmp_path / "e", [measurement([1.0, 0.0], "new.plain")], {"model": "m"})
    assert list(read_evaluation(tmp_path / "e").measurements) == ["new.plain"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ArtifactError, match="holds something else"):
        write_evaluation(tmp_path / "mine", [measurement([1.0])], {"model": "m"})


def test_a_changed_item_is_noticed(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "e", [measurement([1.0, 0.0])], {"model": "m"})
    path = tmp_path / "e" / "items" / "quiz.plain.jsonl"
    path.write_text(path.read_text().replace("1.0", "0.0"))
    with pytest.raises(ArtifactError, match=r"quiz\.plain\.jsonl' is damaged"):
        read_evaluation(tmp_path / "e")
    assert is_evaluation(tmp_path / "e")
    assert not is_evaluation(tmp_path)


def test_few_units_do_not_look_more_certain_than_they_are() -> None:
    one = ratio([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert one.standard_error == pytest.approx(1 / math.sqrt(3))
    t_2 = 4.302653  # Student's 97.5 % point with 2 degrees of freedom
    assert one.high - one.value == pytest.approx(t_2 / math.sqrt(3), rel=1e-6)
    assert math.isnan(ratio([1.0], [1.0]).low)
