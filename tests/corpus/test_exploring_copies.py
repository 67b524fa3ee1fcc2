"""Copies are counted exactly while that fits, and fairly beyond; what is held is even and bounded."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from folio.corpus.document import Document
from folio.corpus.exploring.copies import Copies, excerpt, near_copies
from folio.corpus.exploring.held import HeldDocuments


def documents(*texts: str) -> list[Document]:
    return [Document(f"d{n}", text, "here") for n, text in enumerate(texts)]


def counted(texts: list[str], most: int = 1000) -> Copies:
    copies = Copies(most=most)
    for document in documents(*texts):
        copies.add(document)
    return copies


def test_planted_copies_are_all_found_and_the_most_copied_named() -> None:
    found = counted(["a", "b", "a", "c", "a", "b", "d"]).record()
    assert (found["documents"], found["texts"], found["duplicates"]) == (7, 4, 3)
    assert found["share"] == pytest.approx(3 / 7)
    assert found["most_copied"] == [{"copies": 3, "excerpt": "a"}, {"copies": 2, "excerpt": "b"}]


def test_of_more_texts_than_fit_a_fair_share_is_counted() -> None:
    rng = random.Random(0)
    texts = [f"text {n}" for n in range(20_000) for _ in range(3 if n % 10 == 0 else 1)]
    rng.shuffle(texts)
    copies = counted(texts, most=2000)
    found = copies.record()
    assert len(copies.times) <= 2000
    assert found["one_text_in"] >= 8
    assert found["texts"] == pytest.approx(20_000, rel=0.08)
    assert found["share"] == pytest.approx(4000 / 24_000, rel=0.1)
    kept = Counter(copies.times.values())
    assert kept.keys() == {1, 3}, "all copies of a text are counted, or none"


def test_shared_documents_are_those_of_both() -> None:
    one, other = counted(["a", "b", "b", "c"]), counted(["b", "c", "x", "y", "z", "z"])
    shared = one.shared_with(other)
    assert (shared["texts"], shared["documents"]) == (2, [3, 2])
    assert shared["shares"] == [pytest.approx(3 / 4), pytest.approx(2 / 6)]
    itself = one.shared_with(one)
    assert itself["shares"] == [1.0, 1.0]


def test_shared_documents_are_found_where_the_two_were_thinned_differently() -> None:
    common = [f"common {n}" for n in range(4000)]
    one, other = counted(common, most=500), counted([*common, *(f"own {n}" for n in range(4000))], most=5000)
    assert one.every != other.every
    shared = one.shared_with(other)
    assert shared["shares"][0] == 1.0
    assert shared["shares"][1] == pytest.approx(0.5, abs=0.1)


def test_near_copies_name_what_they_are_like() -> None:
    words = [f"word{n}" for n in range(120)]
    changed = [*words[:60], "other", *words[61:]]
    texts = [" ".join(words), " ".join(changed), "something else entirely, and nothing like the others at all"]
    found = near_copies(documents(*texts, texts[0]))
    assert (found["documents"], found["near_duplicates"]) == (4, 1)
    (example,) = found["examples"]
    assert {example["id"], example["like"]} <= {"d0", "d1", "d3"}
    assert 0.8 <= example["similarity"] < 1
    assert near_copies([])["near_duplicates"] == 0


def test_every_document_is_as_likely_to_be_held_whatever_its_length() -> None:
    """Long ones, if there is no room, go with what has like numbers; short ones do not take their place."""
    lengths = [10 if n % 2 else 1000 for n in range(400)]
    met: Counter[int] = Counter()
    sizes = []
    for seed in range(150):
        held = HeldDocuments(seed, most=50, characters=20_000)
        for n, length in enumerate(lengths):
            held.offer(Document(str(n), "x" * length, ""))
        numbers = [int(document.id) for document in held.documents()]
        assert numbers == sorted(numbers)
        assert held.characters <= 20_000
        assert not held.all
        met.update(numbers)
        sizes.append(len(numbers))
    long = sum(count for n, count in met.items() if lengths[n] == 1000)
    assert long / met.total() == pytest.approx(0.5, abs=0.03)
    assert max(sizes) <= 50


def test_a_document_beyond_the_longest_is_held_by_its_beginning() -> None:
    held = HeldDocuments(0, longest=10)
    held.offer(Document("a", "0123456789 and more", ""))
    assert [document.text for document in held.documents()] == ["0123456789"]
    assert held.all
    assert held.random(5) == held.documents()


def test_an_excerpt_is_one_line() -> None:
    assert excerpt("a\n\nb\tc") == "a b c"
    assert excerpt("x" * 500, 10) == "x" * 10 + " …"
