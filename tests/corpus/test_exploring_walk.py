"""One walk finds everything, and its record is JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from sources_world import write_parquet

from folio.corpus.exploration import histogram_of
from folio.corpus.exploring import Exploration, explore, source_material
from folio.corpus.exploring.explorer import FEW, RANDOM_CHARACTERS
from folio.corpus.exploring.languages import languages_of
from folio.corpus.sources import open_source
from folio.corpus.statistics import LONGEST_TYPE, Lengths, Statistics
from folio.errors import DataError

ENGLISH = "It was a bright cold day in April, and the clocks were striking thirteen in the old town hall. "
GERMAN = "Als er eines Morgens aus unruhigen Träumen erwachte, fand er sich in seinem Bett verwandelt. "


def explored(tmp_path: Path, texts: list[str], **settings: Any) -> Exploration:
    source = open_source(str(write_parquet(tmp_path / "a.parquet", texts, 7)))
    return explore(source_material(source, **settings), lambda text: len(text.split()))


def test_everything_is_found_and_the_record_is_json(tmp_path: Path) -> None:
    texts = [f"{ENGLISH * (1 + n % 3)} {n}" for n in range(40)] + [GERMAN, GERMAN, "x" * 3000, " "]
    found = json.loads(json.dumps(explored(tmp_path, texts).record))
    kept = [text for text in texts if text.strip()]
    assert (found["documents"], found["cleaning"]["empty"]) == (43, 1)
    assert found["characters"] == sum(map(len, kept))
    assert found["bytes"] == sum(len(text.encode()) for text in kept)
    assert found["encoded_tokens"] == sum(len(text.split()) for text in kept)
    assert found["duplicates"]["duplicates"] == 1
    assert found["languages"]["languages"][0]["language"] == "en"
    assert {one["language"]: one["documents"] for one in found["languages"]["languages"]}["de"] == 2
    assert (found["row_groups"]["count"], found["look"]["how"]) == (7, "whole")
    assert found["estimates"]["bytes_per_token"]["value"] == pytest.approx(found["bytes"] / found["encoded_tokens"])
    assert found["estimates"]["bytes_per_token"]["standard_error"] == 0
    assert found["documents_listed"] == []
    assert all(len(one["text"]) <= RANDOM_CHARACTERS for one in found["random_documents"])


def test_a_few_documents_are_listed(tmp_path: Path) -> None:
    found = explored(tmp_path, [f"text {n}" for n in range(FEW)]).record
    assert [one["words"] for one in found["documents_listed"]] == [2] * FEW
    assert explored(tmp_path / "more", [f"text {n}" for n in range(FEW + 1)]).record["documents_listed"] == []


def test_the_same_seed_shows_the_same_documents(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(100)]
    shown = [explored(tmp_path, texts).record["random_documents"] for _ in range(2)]
    assert shown[0] == shown[1]
    source = open_source(str(tmp_path / "a.parquet"))
    assert explore(source_material(source), seed=1).record["random_documents"] != shown[0]


def test_without_the_package_languages_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from folio.corpus.quality import language

    language._model.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    assert explored(tmp_path, ["some text"]).record["languages"] is None


def test_a_source_of_empty_documents_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no text \\(2 documents, all empty\\)"):
        explored(tmp_path, [" ", "\n"])


def test_a_language_that_is_unsure_is_not_named() -> None:
    from folio.corpus.document import Document

    found = languages_of([Document("1", "12 34 :: --", ""), Document("2", ENGLISH * 3, "")])
    assert {one["language"] for one in found["languages"]} == {"en", "unsure"}
    assert all(one["share_low"] <= one["share"] <= one["share_high"] for one in found["languages"])


def test_types_are_bounded_and_frequent_ones_stay_nearly_exact() -> None:
    found = Statistics(most_types=1000)
    for n in range(300):
        found.add("the sea " * 5 + " ".join(f"rare{n * 20 + i}" for i in range(20)))
    assert len(found.types) <= 1000
    assert found.tokens == 300 * 30
    assert found.missed > 0
    assert 1500 - found.missed <= found.types["the"] <= 1500
    assert found.types_covering(1.0) == len(found.types)
    exact = Statistics()
    exact.add("a b a")
    assert exact.missed == 0


def test_a_line_without_end_is_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    line = " ".join(["word"] * 500) + " " + "y" * 300
    whole = Statistics()
    whole.add(line)
    monkeypatch.setattr("folio.corpus.statistics.LONG_LINE", 64)
    pieces = Statistics()
    pieces.add(line)
    assert pieces.types["word"] == whole.types["word"] == 500
    assert max(map(len, pieces.types)) <= LONGEST_TYPE
    assert pieces.tokens == pieces.types.total()


def test_a_histogram_holds_every_length_once() -> None:
    lengths = Lengths()
    for length in [0, 1, 1, 5, 70, 70, 3000, 100_000]:
        lengths.add(length)
    found = histogram_of(lengths)
    assert sum(count for _, count in found) == 8
    assert [edge for edge, _ in found] == sorted({edge for edge, _ in found})
    assert found[-1] == (100_000, 1)
    assert histogram_of(Lengths()) == []


@pytest.mark.parametrize(
    "text", ["a b\nc", "a\n\n", "\n" * 100, "one two\n" * 50 + "three", "x" * 90 + "\n" + "y " * 60]
)
def test_lines_of_a_long_text_are_those_of_a_short_one(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Statistics()
    whole.add(text)
    monkeypatch.setattr("folio.corpus.statistics.LONG_LINE", 16)
    pieces = Statistics()
    pieces.add(text)
    assert pieces.lines == whole.lines
    assert pieces.line_lengths.counts.total() == whole.line_lengths.counts.total()
    if "x" not in text:
        assert (pieces.types, pieces.tokens) == (whole.types, whole.tokens)
