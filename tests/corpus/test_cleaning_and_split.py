"""Cleaning counts what it drops; a document is on one side of the split, the same one everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.corpus import CleaningCounts, Corpus, CorpusConfig, Document, open_corpus
from folio.corpus.cleaning import clean
from folio.corpus.splitting import HashSplit, ListSplit, TailSplit
from folio.errors import ConfigError, DataError

MakeCorpus = Callable[..., Corpus]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
MANY = {f"{n:03}.txt": f"document number {n}" for n in range(200)}


def cleaned(texts: list[str], *, nfc: bool = False, deduplicate: bool = True) -> tuple[list[str], CleaningCounts]:
    counts = CleaningCounts()
    documents = (Document(str(n), text, "memory") for n, text in enumerate(texts))
    return [document.text for document in clean(documents, counts, nfc=nfc, deduplicate=deduplicate)], counts


def texts_of(corpus: Corpus, split: str | None = None) -> list[str]:
    return [document.text for document in corpus.documents(split)]  # type: ignore[arg-type]


def test_every_dropped_document_is_counted_under_its_reason() -> None:
    texts, counts = cleaned(["a\r\nb\rc", "", " \n\t", "a\nb\nc", "d", "d"])
    assert texts == ["a\nb\nc", "d"]
    assert counts == CleaningCounts(kept=2, empty=2, duplicate=2, newlines_normalized=1, characters=6)


def test_nfc_and_duplicates_are_the_users_choice() -> None:
    assert cleaned(["e\u0301", "\u00e9"])[0] == ["e\u0301", "\u00e9"]
    texts, counts = cleaned(["e\u0301", "\u00e9"], nfc=True)
    assert texts == ["\u00e9"]
    assert (counts.nfc_normalized, counts.duplicate) == (1, 1)
    assert cleaned(["a", "a"], deduplicate=False)[0] == ["a", "a"]


@given(st.lists(TEXTS))
def test_cleaned_text_is_unique_without_cr_and_all_accounted_for(texts: list[str]) -> None:
    kept, counts = cleaned(texts)
    assert len(set(kept)) == len(kept) == counts.kept
    assert counts.kept + counts.empty + counts.duplicate == len(texts)
    assert not any("\r" in text for text in kept)
    assert cleaned(kept)[0] == kept


@given(st.text(st.sampled_from("\r\n\x0b\u2028 aé🙂")))
def test_lines_end_in_lf_wherever_they_ended_before(text: str) -> None:
    expected = text.replace("\r\n", "\n").replace("\r", "\n")
    assert cleaned([text])[0] == ([expected] if text.strip() else [])


@given(TEXTS, st.text(), st.text())
def test_hash_looks_at_the_text_alone(text: str, one: str, other: str) -> None:
    split = HashSplit(0.3)
    assert split.parts(Document(one, text, one))[0][0] == split.parts(Document(other, text, other))[0][0]


def test_hash_is_the_rule_as_written() -> None:
    """Fixed by the definition, so that a split made today is the same in later versions."""
    for text in MANY.values():
        number = int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) / 2**64
        assert HashSplit(0.1).parts(Document("", text, ""))[0][0] == ("val" if number < 0.1 else "train")


def test_sides_are_disjoint_and_make_up_the_corpus(corpus_of: MakeCorpus) -> None:
    corpus = corpus_of(MANY, validation_fraction=0.2)
    train, val = texts_of(corpus, "train"), texts_of(corpus, "val")
    assert not set(train) & set(val)
    assert sorted(train + val) == sorted(texts_of(corpus))
    assert 20 <= len(val) <= 60


def test_smaller_fraction_holds_out_a_part_of_what_a_larger_one_does(corpus_of: MakeCorpus) -> None:
    small = set(texts_of(corpus_of(MANY, validation_fraction=0.1), "val"))
    assert small < set(texts_of(corpus_of(MANY, validation_fraction=0.2), "val"))


def test_list_holds_out_what_it_names(corpus_of: MakeCorpus) -> None:
    corpus = corpus_of(MANY, validation_documents=("007.txt", "011.txt"))
    assert [document.id for document in corpus.documents("val")] == ["007.txt", "011.txt"]
    assert len(texts_of(corpus, "train")) == 198


def test_listed_id_that_is_not_there_is_answered_with_the_nearest(corpus_of: MakeCorpus) -> None:
    files = {"hamlet.txt": "to be", "othello.txt": "put out the light"}
    with pytest.raises(DataError, match=r"no document 'hamlt\.txt'") as caught:
        texts_of(corpus_of(files, validation_documents=("hamlt.txt",)), "train")
    assert "Did you mean 'hamlet.txt'?" in caught.value.remedy


def test_tiny_shakespeare_is_cut_where_nanogpt_cuts_it(shared_data: Callable[[str], Path]) -> None:
    file = shared_data("tinyshakespeare.txt")
    text = file.read_text(encoding="utf-8")
    for config in (CorpusConfig(name="tinyshakespeare", from_file=file), CorpusConfig(path=str(file))):
        corpus = open_corpus(config)
        (train,), (val,) = texts_of(corpus, "train"), texts_of(corpus, "val")
        assert (len(train), len(val)) == (1_003_854, 111_540)
        assert train + val == text


@given(TEXTS.filter(str.strip), st.floats(0.01, 0.99))
def test_cut_text_is_whole_and_in_order(text: str, fraction: float) -> None:
    parts = TailSplit(fraction).parts(Document("a", text, "a"))
    cut = int(len(text) * (1 - fraction))
    assert [(side, part.text) for side, part in parts] == [
        (side, piece) for side, piece in (("train", text[:cut]), ("val", text[cut:])) if piece.strip()
    ]
    assert len({part.id for _, part in parts}) == len(parts)


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({"a.txt": "one", "b.txt": "two"}, {"validation_fraction": 0.001}, "leaves no document for val"),
        ({"a.txt": "one", "b.txt": "two"}, {"validation_fraction": 0.999}, "leaves no document for train"),
        ({"a.txt": "one", "b.txt": "two"}, {"split": "tail"}, "has more documents"),
        ({"a.txt": "one"}, {"split": "hash"}, "leaves no document for val"),
        ({"a.txt": "x"}, {}, "leaves no document for train"),
        ({"a.txt": " \n", "b.txt": ""}, {}, r"holds no text \(2 documents, all empty\)"),
    ],
)
@pytest.mark.parametrize("side", ["train", "val"])
def test_split_without_two_sides_is_an_error_whichever_is_read(
    corpus_of: MakeCorpus, files: dict[str, str], settings: dict[str, object], message: str, side: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        texts_of(corpus_of(files, **settings), side)
    assert caught.value.remedy


def test_rule_is_chosen_by_what_there_is(corpus_of: MakeCorpus, plays: Corpus) -> None:
    assert isinstance(corpus_of({"a.txt": "one text", "b.txt": ""}).split, TailSplit)
    assert isinstance(corpus_of({"a.txt": "one text", "b.txt": "more"}).split, HashSplit)
    assert isinstance(corpus_of({}, validation_documents=("a.txt",)).split, ListSplit)
    assert isinstance(plays.split, ListSplit)


def test_corpus_can_be_walked_again_and_counts_are_of_a_whole_walk(corpus_of: MakeCorpus) -> None:
    corpus = corpus_of({**MANY, "again.txt": MANY["000.txt"], "empty.txt": ""})
    next(corpus.documents())
    expected = CleaningCounts(kept=200, empty=1, duplicate=1, characters=sum(map(len, MANY.values())))
    assert corpus.counts() == expected
    assert texts_of(corpus) == texts_of(corpus)
    assert corpus.counts() == expected


def test_fingerprint_is_of_the_content_and_the_rules(tmp_path: Path) -> None:
    def fingerprint(folder: str, content: str = "one", **settings: object) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "a.txt").write_text(content)
        (tmp_path / folder / "b.txt").write_text("two")
        return open_corpus(CorpusConfig(path=str(tmp_path / folder), **settings)).fingerprint  # type: ignore[arg-type]

    here = fingerprint("here")
    assert fingerprint("elsewhere") == here
    others = [
        fingerprint("here", "One"),
        fingerprint("here", nfc=True),
        fingerprint("here", deduplicate=False),
        fingerprint("here", validation_fraction=0.2),
        fingerprint("here", validation_documents=("a.txt",)),
    ]
    assert len({here, *others}) == 6


def test_fingerprint_of_the_plays_is_the_same_on_every_machine(plays: Corpus) -> None:
    assert plays.fingerprint == "cd4c5df68273aa4c1fad0dfd0493c341423c1787408e6a0f76ee1be5e8ff4d2b"


def test_contradictions_are_refused() -> None:
    for settings in (
        {"name": None},
        {"path": "x", "from_file": "y"},
        {"split": "tail", "validation_documents": ("a",)},
        {"validation_fraction": 1.0},
    ):
        with pytest.raises(ValueError, match="validation error"):
            CorpusConfig(**settings)  # type: ignore[arg-type]
    assert CorpusConfig(path="x").name is None
    with pytest.raises(ConfigError, match="'gpt2' is a vocabulary"):
        open_corpus(CorpusConfig(name="gpt2"))


def test_list_without_a_list_is_refused(corpus_of: MakeCorpus) -> None:
    with pytest.raises(ConfigError, match="split 'list' has no list"):
        texts_of(corpus_of(MANY, split="list"), "train")
