"""The numbers of an exploration: against the known ones of Tiny Shakespeare, and against plain definitions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.corpus import Corpus, CorpusConfig, Document, open_corpus
from folio.corpus.exploration import coverage_curve, summary
from folio.corpus.statistics import QUANTILES, WORD, Lengths, Statistics, count

COUNTS = st.lists(st.integers(0, 50), min_size=1)


def counted(*texts: str) -> Statistics:
    return count(Document(str(n), text, "memory") for n, text in enumerate(texts))


def test_tiny_shakespeare_has_its_known_counts(shared_data: Callable[[str], Path]) -> None:
    config = CorpusConfig(path=str(shared_data("tinyshakespeare.txt")))
    found = count(open_corpus(config).documents())
    assert (found.documents, found.characters, len(found.alphabet)) == (1, 1_115_394, 65)
    assert (found.tokens, len(found.types)) == (302_927, 13_332)
    kept = [found.with_min_count(least)[0] for least in range(1, 7)]
    assert kept == [13_332, 7_287, 5_338, 4_289, 3_600, 3_153]


@given(st.lists(st.text(st.sampled_from("ab c.\n\t\r'-é_1")), min_size=1))
def test_counting_by_lines_finds_what_the_pattern_finds(texts: list[str]) -> None:
    found = counted(*texts)
    tokens = [WORD.findall(text) for text in texts]
    assert found.types == Counter(token for text in tokens for token in text)
    assert found.document_lengths.counts == Counter(len(text) for text in tokens)
    assert found.bytes == sum(len(text.encode()) for text in texts)


@given(COUNTS)
def test_quantiles_are_numpys(values: list[int]) -> None:
    assert Lengths(Counter(values)).at(QUANTILES) == pytest.approx(list(np.quantile(values, QUANTILES)))
    assert Lengths(Counter(values)).mean == pytest.approx(np.mean(values))


@given(COUNTS, st.integers(1, 20))
def test_sample_of_lengths_is_in_order_and_of_the_size_asked(values: list[int], most: int) -> None:
    sample = Lengths(Counter(values)).sample(most)
    assert sample == sorted(sample)
    assert len(sample) == min(most, len(values))
    assert not Counter(sample) - Counter(values)


def test_coverage_is_by_the_most_frequent_first() -> None:
    found = counted("a a a a a a b b c d")
    assert found.coverage() == [6, 8, 9, 10]
    assert [found.types_covering(share) for share in (0.5, 0.6, 0.61, 0.8, 0.9, 1.0)] == [1, 1, 2, 2, 3, 4]
    assert found.with_min_count(2) == (2, 0.8)
    assert coverage_curve(found, points=10)[-1] == (4, 1.0)


def test_top_words_are_words() -> None:
    assert counted("b, a: b!\n\n\n\n\n").top_words(5) == [("b", 2), ("a", 1)]


def test_tokenizers_ids_are_counted_where_one_is_given() -> None:
    documents = [Document("1", "abc", ""), Document("2", "de", "")]
    assert count(documents, len).encoded_tokens == 5
    assert count(documents).encoded_tokens is None


def test_summary_of_anything_is_json() -> None:
    for statistics in (Statistics(), counted("one two\nthree")):
        assert json.loads(json.dumps(summary(statistics)))["documents"] == statistics.documents


def test_summary_of_the_plays_reaches_90_percent_with_few_types(plays: Corpus) -> None:
    found = summary(count(plays.documents()), plays.counts())
    shares = {entry["share"]: entry["types"] for entry in found["types_covering"]}
    assert (found["tokens"], found["types"], shares[0.9]) == (1_368_753, 28_560, 2_204)
    assert found["cleaning"]["kept"] == 38
