"""A sample is even, repeatable, of the size that was asked, and reads no more than it must."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sources_world import write_parquet

from folio.corpus import CorpusConfig, open_corpus
from folio.corpus.exploring import Material, corpus_material, deduplicated, source_material, walking
from folio.corpus.exploring.sampling import PLACES, Draw, draw_rows
from folio.corpus.sources import Source, SourceConfig, open_source


def numbers(draw: Draw, rows: list[int]) -> list[int]:
    """The rows of a draw, counted over all parts."""
    starts = np.concatenate([[0], np.cumsum(rows)])
    return [int(starts[pick.part]) + row for pick in draw.picks for row in pick.rows]


def texts(material: Material) -> list[str]:
    return [drawn.document.text for drawn in material.walk()]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=300), st.integers(1, 400), st.integers(0, 5))
def test_a_sample_has_the_size_asked_without_repetition(rows: list[int], wanted: int, seed: int) -> None:
    drawn = numbers(draw_rows(rows, wanted, seed), rows)
    assert len(drawn) == len(set(drawn)) == min(wanted, sum(rows))
    assert drawn == sorted(drawn)
    assert not drawn or 0 <= drawn[0] <= drawn[-1] < sum(rows)
    assert numbers(draw_rows(rows, wanted, seed), rows) == drawn


@pytest.mark.parametrize(
    ("rows", "wanted", "staged"),
    [
        ([5, 1, 40, 3, 0, 17], 20, False),
        ([1] * 500, 60, False),
        ([100, 3, 900, 40, 1] * 60, 500, True),
        ([7, 9] * 300, 130, True),
        ([1, 2, 14] * 200, 400, True),
    ],
    ids=["few parts", "a row each", "uneven parts", "small parts", "parts of less than a share"],
)
def test_every_row_has_the_same_chance(rows: list[int], wanted: int, staged: bool) -> None:
    rounds = 1500
    met: Counter[int] = Counter()
    for seed in range(rounds):
        draw = draw_rows(rows, wanted, seed)
        assert bool(draw.places) is staged
        met.update(numbers(draw, rows))
    total = sum(rows)
    # by part, since single rows are met too seldom to tell
    ends = np.cumsum(rows)
    share = rounds * wanted / total
    for part, (end, count) in enumerate(zip(ends, rows, strict=True)):
        found = sum(met[row] for row in range(int(end) - count, int(end)))
        # rows of a part come together where places are drawn: a deviation for a part, not for a row
        per_draw = max(1.0, wanted / PLACES) if staged else 1.0
        deviation = np.sqrt(max(count * share * per_draw, 1))
        assert abs(found - count * share) < 5.5 * deviation, (part, found, count * share)
    halves = sum(met[row] for row in range(total // 2)) / met.total()
    assert halves == pytest.approx(0.5, abs=0.02)


def test_two_stages_read_few_parts() -> None:
    draw = draw_rows([1000] * 5000, 2000, 0)
    assert len(draw.picks) <= PLACES
    assert {len(pick.rows) for pick in draw.picks} <= {31, 32}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    for number in range(4):
        first = number * 250
        write_parquet(tmp_path / f"{number}.parquet", [f"text {n}" for n in range(first, first + 250)], 10)
    return open_source(str(tmp_path))


def test_a_sample_of_parquet_holds_the_rows_that_were_drawn(source: Source) -> None:
    material = source_material(source, sample=50, seed=3)
    drawn = texts(material)
    assert len(set(drawn)) == 50
    assert drawn == texts(source_material(source, sample=50, seed=3))
    assert drawn != texts(source_material(source, sample=50, seed=4))
    assert (material.look.how, material.look.population, material.look.places_of) == ("sample", 1000, 100)
    expected = numbers(draw_rows([10] * 100, 50, 3), [10] * 100)
    assert drawn == [f"text {n}" for n in expected]
    clusters = [each.cluster for each in material.walk()]
    assert clusters == sorted(clusters)
    assert len(set(clusters)) == material.look.places


def test_empty_rows_do_not_shift_the_others(tmp_path: Path) -> None:
    rows = [f"text {n}" if n % 3 else "  " for n in range(60)]
    source = open_source(str(write_parquet(tmp_path / "a.parquet", rows, 20)))
    drawn = texts(source_material(source, sample=30, seed=1))
    expected = numbers(draw_rows([20] * 3, 30, 1), [20] * 3)
    assert drawn == [rows[n] for n in expected if n % 3]


def test_a_sample_of_all_is_the_whole(source: Source) -> None:
    material = source_material(source, sample=1000)
    assert material.look.how == "whole"
    assert texts(material) == [f"text {n}" for n in range(1000)]


def lines(path: Path, first: int, count: int) -> None:
    written = "".join(json.dumps({"text": f"line {first + n}"}) + "\n" for n in range(count))
    path.write_bytes(gzip.compress(written.encode()))


def test_lines_are_counted_first_so_that_each_has_the_same_chance(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl.gz", 0, 5)
    lines(tmp_path / "b.jsonl.gz", 5, 45)
    source = open_source(str(tmp_path))
    met: Counter[str] = Counter()
    for seed in range(200):
        drawn = texts(source_material(source, sample=10, seed=seed))
        assert len(drawn) == 10
        met.update(drawn)
    assert len(met) == 50
    assert max(met.values()) < 2.2 * min(met.values())


def test_of_many_large_files_some_are_drawn_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        lines(tmp_path / f"{number:02}.jsonl.gz", 100 * number, 100)
    source = open_source(str(tmp_path))
    monkeypatch.setattr(walking, "READ_TWICE_BYTES", source.plan.bytes // 2 + 30)
    material = source_material(source, sample=45, seed=0)
    drawn = list(material.walk())
    assert (len(drawn), material.look.population) == (45, None)
    assert 8 <= material.look.places <= 15
    by_file = Counter(each.document.source for each in drawn)
    assert len(by_file) > 6


def test_of_files_drawn_by_size_short_and_long_lines_have_the_same_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of one size, every second of lines fifty times as long: 1,020 lines, of which 20 are long."""
    for number in range(20):
        count, text = (100, "short") if number % 2 else (2, "long " * 299)
        records = "".join(json.dumps({"text": f"{text} {number} {line}"}) + "\n" for line in range(count))
        (tmp_path / f"{number:02}.jsonl").write_text(records.ljust(3100) + "\n")
    source = open_source(str(tmp_path))
    monkeypatch.setattr(walking, "READ_TWICE_BYTES", source.plan.bytes // 2)
    drawn = [text for seed in range(60) for text in texts(source_material(source, sample=50, seed=seed))]
    long = [text.startswith("long") for text in drawn]
    assert len(long) == 3000
    assert 0.5 * 20 / 1020 < sum(long) / len(long) < 2 * 20 / 1020


def test_a_named_corpus_and_files_of_text_are_sampled_by_document(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.txt").write_text(f"text {number}")
    material = source_material(open_source(str(tmp_path)), sample=7, seed=0)
    assert (len(texts(material)), material.look.population, material.look.places) == (7, 20, 0)
    corpus = open_corpus(CorpusConfig(path=str(tmp_path)))
    again = corpus_material(corpus, sample=7, seed=0)
    assert (len(set(texts(again))), again.look.how, again.look.population) == (7, "sample", 20)


def test_the_first_documents_are_the_first(source: Source) -> None:
    material = source_material(source, limit=12)
    assert texts(material) == [f"text {n}" for n in range(12)]
    assert "the first 12 of 1,000 documents" in material.look.sentence(12).lower()


def test_duplicates_can_be_left_out(tmp_path: Path) -> None:
    source = open_source(str(write_parquet(tmp_path / "a.parquet", ["one", "two", "one", "three", "one"], 2)))
    material = deduplicated(source_material(source))
    assert texts(material) == ["one", "two", "three"]
    cleaning = material.counts.cleaning
    assert (cleaning.kept, cleaning.duplicate, cleaning.characters) == (3, 2, 11)


def test_damage_that_is_passed_over_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{broken\n{"text": "two"}\n{"text": "three"}\n')
    told: list[str] = []
    material = source_material(open_source(SourceConfig(path=str(path), damaged="skip")), tell=told.append)
    assert texts(material) == ["one", "two", "three"]
    assert material.counts.damaged == 1
    assert len(told) == 1
