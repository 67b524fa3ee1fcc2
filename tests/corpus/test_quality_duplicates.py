"""Planted duplicates and near-duplicates are found, none missed and none wrongly removed, whatever the order."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import combinations, pairwise

import numpy as np
import pytest

from folio.corpus import Document
from folio.corpus.quality import (
    NearConfig,
    QualityConfig,
    QualityReport,
    QualitySteps,
    candidates,
    find_duplicates,
    shingles_of,
    survey,
)
from folio.corpus.quality.exact import Digests, ExactDuplicates, text_digest
from folio.corpus.quality.minhash import MinHash, found_with_probability, jaccard, shingle_words_of
from folio.corpus.quality.near import join_shingles

NEAR = NearConfig()
WORDS = [f"{first}{second}{third}" for first in "bcdfg" for second in "aeiou" for third in "klmnprst"]


def prose(draw: random.Random, count: int) -> list[str]:
    return [draw.choice(WORDS) for _ in range(count)]


def document(name: object, text: str) -> Document:
    return Document(str(name), text, "memory")


def planted(count: int, seed: int = 0) -> list[Document]:
    """Texts of 120 to 200 words, each with a copy that has some words replaced, from none to many."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        words = prose(draw, draw.randrange(120, 200))
        copy = list(words)
        for _ in range(draw.choice([0, 1, 1, 2, 3, 4, 5, 6, 8, 12])):
            copy[draw.randrange(len(copy))] = draw.choice(WORDS)
        found += [document(f"{number}", " ".join(words)), document(f"{number}-copy", " ".join(copy))]
    draw.shuffle(found)
    return found


def walked(documents: list[Document], near: NearConfig = NEAR) -> set[str]:
    steps = QualitySteps(QualityConfig(duplicates="near", near=near))
    return {kept.id for kept in steps.walk(lambda: documents, QualityReport())}


def words_in_runs(text: str, size: int = 5) -> frozenset[tuple[str, ...]]:
    words = text.split()
    return frozenset(zip(*(words[at:] for at in range(size)), strict=False))


def true_similarities(documents: Iterable[Document]) -> dict[frozenset[str], float]:
    """Jaccard similarity of every pair, from the runs themselves; pairs that share none are left out."""
    runs = [(one.id, words_in_runs(one.text)) for one in documents]
    found = {}
    for (name, one), (other_name, other) in combinations(runs, 2):
        if both := len(one & other):
            found[frozenset((name, other_name))] = both / len(one | other)
    return found


def test_equal_texts_are_found_across_files_and_nothing_else_is() -> None:
    documents = [Document("1", "a text", "x"), Document("1", "a text", "y"), Document("2", "a text ", "x")]
    exact = ExactDuplicates()
    faults = [exact.fault(one) for one in documents]
    assert [fault.reason if fault else None for fault in faults] == [None, "duplicate", None]


def test_digests_are_held_at_16_bytes_and_none_is_lost() -> None:
    digests = Digests()
    given = [text_digest(str(number)) for number in range(200_000)] + [bytes(16), b"\1" + bytes(15), bytes(15) + b"\1"]
    assert sum(map(digests.add, given)) == len(given)
    assert len(digests) == len(given)
    assert digests.held_bytes % 16 == 0
    assert digests.held_bytes // 16 + (1 << 16) > len(given)
    assert len(digests._sorted) <= 3
    assert not any(digests.add(digest) for digest in given[::97] + given[-3:])
    assert text_digest("not there") not in digests


def test_near_duplicates_are_those_that_brute_force_finds() -> None:
    documents = planted(500)
    similar = {pair for pair, value in true_similarities(documents).items() if value >= 0.8}
    kept = walked(documents)
    assert len(similar) > 200
    assert [pair for pair in similar if pair <= kept] == []  # none missed
    removed = {one.id for one in documents} - kept
    partners = {name: {other for pair in similar if name in pair for other in pair - {name}} for name in removed}
    assert [name for name, others in partners.items() if not others & kept] == []  # none wrongly removed


def test_pairs_share_a_band_as_often_as_the_curve_says() -> None:
    documents = planted(400, seed=3)
    bands = dict(zip((one.id for one in documents), survey(documents, NEAR).bands, strict=True))
    by_tenth: dict[int, list[tuple[float, bool]]] = {}
    for pair, value in true_similarities(documents).items():
        one, other = pair
        expected = found_with_probability(value, NEAR.bands, NEAR.rows)
        by_tenth.setdefault(min(9, int(value * 10)), []).append((expected, bool((bands[one] == bands[other]).any())))
    assert {4, 5, 6, 7, 8, 9} <= set(by_tenth)
    for pairs in by_tenth.values():
        expected = sum(chance for chance, _ in pairs)
        spread = sum(chance * (1 - chance) for chance, _ in pairs) ** 0.5
        assert abs(sum(shares for _, shares in pairs) - expected) <= 4 * spread + 1


def test_a_signature_agrees_as_often_as_the_sets_do() -> None:
    hashes = MinHash(NearConfig(bands=100, rows=40))
    words = prose(random.Random(1), 2000)
    for size in (1900, 1500, 1000, 100):
        one, other = hashes.shingles(" ".join(words)), hashes.shingles(" ".join(words[:size]))
        true = jaccard(one, other)
        agree = float((hashes.signature(one) == hashes.signature(other)).mean())
        assert abs(agree - true) < 4 * (true * (1 - true) / 4000) ** 0.5


def test_order_and_number_of_processes_change_nothing() -> None:
    documents = planted(150, seed=5)
    documents += [Document(one.id, one.text, "elsewhere") for one in documents[:40]]
    wanted = {(kept.source, kept.id) for kept in near_walk(documents)}
    for workers in (1, 3):
        random.Random(workers).shuffle(documents)
        shares = [documents[worker::workers] for worker in range(workers)]
        first, *others = (survey(share, NEAR) for share in shares)
        found = first.joined(*others)
        runs = join_shingles(shingles_of(share, candidates(found), NEAR) for share in reversed(shares))
        duplicates = find_duplicates(found, NEAR, runs)
        steps = QualitySteps(QualityConfig(duplicates="near"))
        kept = [one for share in shares for one in steps.kept(share, QualityReport(), duplicates)]
        assert {(one.source, one.id) for one in kept} == wanted


def near_walk(documents: list[Document]) -> list[Document]:
    return list(QualitySteps(QualityConfig(duplicates="near")).walk(lambda: documents, QualityReport()))


def test_the_longest_of_near_duplicates_stays_and_one_of_each_equal_text() -> None:
    words = prose(random.Random(2), 300)
    texts = [" ".join(words[:280]), " ".join(words), " ".join(words[10:]), " ".join(words)]
    kept = near_walk([document(name, text) for name, text in enumerate(texts)])
    assert [one.text for one in kept] == [" ".join(words)]
    again = document("same", "one text")
    assert len(near_walk([again, again, again])) == 1


def test_the_far_end_of_a_chain_is_not_dragged_along() -> None:
    words = prose(random.Random(4), 460)
    chain = [" ".join(words[40 * number : 40 * number + 360 - number]) for number in range(3)]
    hashes = MinHash(NEAR)
    near, far = (jaccard(hashes.shingles(chain[0]), hashes.shingles(chain[at])) for at in (1, 2))
    assert far < 0.75 < near
    config = NearConfig(similarity=0.75)
    kept = walked([document(name, text) for name, text in enumerate(chain)], config)
    assert kept == {"0", "2"}


def test_a_crowd_of_templates_costs_no_square() -> None:
    """Pages that share most of their words and are yet apart: each is compared with a bounded number of others."""
    draw = random.Random(6)
    frame = prose(draw, 100)
    documents = [document(number, " ".join([*frame, *prose(draw, 60)])) for number in range(300)]
    similar = true_similarities(documents[:20])
    assert len(similar) == 190
    assert max(similar.values()) < 0.8
    assert len(walked(documents)) == 300
    assert len(walked(documents, NearConfig(similarity=None, bands=40, rows=2))) < 30


def test_another_seed_draws_other_hashes_and_the_same_seed_the_same() -> None:
    one, same, other = (MinHash(NearConfig(seed=seed)) for seed in (0, 0, 1))
    runs = one.shingles("a text of some more words than five")
    assert (one.bands(runs) == same.bands(runs)).all()
    assert not (one.bands(runs) == other.bands(runs)).any()
    assert one.bands(runs)[:2].tolist() == [BAND_0, BAND_1]  # on every machine, in every version


BAND_0, BAND_1 = 14895707407585492456, 12743581714745687532


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't STOP, 3 times.", ["don", "t", "stop", "3", "times"]),
        ("Stra\u00dfe cafe\u0301 CAFÉ", ["strasse", "café", "café"]),
        ("東京は大きい", ["東", "京", "は", "大", "き", "い"]),
        ("snake_case", ["snake", "case"]),
        ("... !", []),
    ],
)
def test_words_that_documents_are_compared_by(text: str, words: list[str]) -> None:
    assert shingle_words_of(text) == words


def test_documents_are_sets_of_runs_so_that_repeating_one_changes_nothing() -> None:
    hashes = MinHash(NEAR)
    words = "one two three four five six seven "
    assert len(hashes.shingles(words * 2)) == len(hashes.shingles(words * 9)) == 7
    assert jaccard(hashes.shingles(words * 2), hashes.shingles(words * 9)) == 1


def test_texts_of_few_words_or_none_are_compared_whole() -> None:
    hashes = MinHash(NEAR)
    assert len(hashes.shingles("only three words")) == 1
    assert jaccard(hashes.shingles("only three words"), hashes.shingles("Only, three words!")) == 1
    assert jaccard(hashes.shingles("only three words"), hashes.shingles("only three")) == 0
    assert jaccard(hashes.shingles("***"), hashes.shingles("---")) == 0
    kept = near_walk(
        [document(number, text) for number, text in enumerate(["", "***", "---", "one", "one two", "One!"])]
    )
    assert {one.text for one in kept} == {"", "***", "---", "one two", "One!"}


def test_a_survey_keeps_so_many_bytes_of_a_document_however_long() -> None:
    for words in (10, 5000):
        found = survey([document(n, " ".join(prose(random.Random(n), words))) for n in range(10)], NEAR)
        held = sum(getattr(found, name).nbytes for name in ("digests", "names", "lengths", "bands"))
        assert held == 10 * (32 + 8 * NEAR.bands)


def test_the_curve_rises_from_nothing_to_certainty() -> None:
    curve = [found_with_probability(similarity, NEAR.bands, NEAR.rows) for similarity in np.linspace(0, 1, 21)]
    assert all(one <= next_one for one, next_one in pairwise(curve))
    assert found_with_probability(0.3, NEAR.bands, NEAR.rows) < 0.06
    assert found_with_probability(0.8, NEAR.bands, NEAR.rows) > 0.9999
    assert found_with_probability(0.9, NEAR.bands, NEAR.rows) > 1 - 1e-9
