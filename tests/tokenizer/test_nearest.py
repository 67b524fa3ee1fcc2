"""Rare words read as the nearest word: found by cosine, kept in ``tokenizer.json``, the same ids everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from folio.cli import main
from folio.errors import ArtifactError
from folio.tokenizer import TokenizerConfig, load_tokenizer, train_tokenizer
from folio.tokenizer.nearest import nearest_of, nearest_rows, normalizer_of
from folio.tokenizer.read_words import ReadWords
from folio.tokenizer.training import count_words
from folio.tokenizer.words import WordTokenizer

PETS = "the cat sat on the mat .\nthe dog sat on the rug .\na bird flew over the house !\n" * 12
RARE = "the kitten sat on the mat .\nthe puppy sat on the rug .\nthe hound & the cat #\n"
SMALL = {"width": 12, "epochs": 4}
ODD = {
    "kitten": "cat",
    "kit": "dog",
    "&": "the",
    "e\u0301": "mat",
    "\u0301": "sat",
    "²": "cat",
    "\f": "\n",
    "日": "dog",
}
"""Among them a combining accent alone, which Oniguruma takes for a letter and Python does not, and ², the reverse."""


def train(text: str = PETS + RARE, **config: Any) -> WordTokenizer:
    asked = {"kind": "word", "min_count": 3, "out_of_vocabulary": "nearest", "nearest": SMALL, **config}
    tokenizer = train_tokenizer([text], TokenizerConfig.model_validate(asked))
    assert isinstance(tokenizer, WordTokenizer)
    return tokenizer


@pytest.fixture(scope="module")
def odd() -> WordTokenizer:
    return WordTokenizer.of(["the", "cat", "dog", "mat", "sat", "\n"], (), ODD)


def test_every_rare_word_is_read_as_one_that_has_an_id_and_a_new_one_is_not() -> None:
    tokenizer, plain = train(), train(out_of_vocabulary="unk", nearest={})
    counts = count_words([PETS + RARE])
    assert set(tokenizer.nearest) == {word for word, count in counts.items() if count < 3}
    for word, target in tokenizer.nearest.items():
        assert tokenizer.encode(word) == [tokenizer.id_of(target)]
        assert tokenizer.decode(tokenizer.encode(f"the {word}")) == tokenizer.decode(tokenizer.encode(f"the {target}"))
        assert plain.encode(word) == [plain.unk_id]
    assert tokenizer.encode("zebra") == [tokenizer.unk_id]
    assert [tokenizer.token(id) for id in tokenizer.ids()] == [plain.token(id) for id in plain.ids()]


def test_the_nearest_is_that_of_highest_cosine_among_words_with_an_id() -> None:
    read = ReadWords([PETS, RARE])
    ordered = [word for word, _ in read.counts.most_common()]
    kept = sum(count >= 3 for count in read.counts.values())
    rows = np.random.default_rng(0).normal(size=(len(ordered), 5)).astype(np.float32)
    chosen = nearest_rows(rows[kept:], rows[:kept])
    for rare, place in zip(rows[kept:], chosen, strict=True):
        angles = [rare @ row / np.linalg.norm(rare) / np.linalg.norm(row) for row in rows[:kept]]
        assert place == int(np.argmax(angles))
    same = np.ones((3, 2), dtype=np.float32)
    assert nearest_rows(same[:1], same).tolist() == [0]


def test_words_are_counted_as_without_it() -> None:
    assert list(ReadWords([PETS, RARE]).counts.items()) == list(count_words([PETS, RARE]).items())


def test_nothing_rare_nothing_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("folio.tokenizer.read_words.train_word2vec", lambda *a: pytest.fail("it was trained"))
    tokenizer = train(min_count=1)
    assert not tokenizer.nearest
    assert tokenizer.fingerprint == train(min_count=1, out_of_vocabulary="unk", nearest={}).fingerprint


def test_the_fingerprint_changes_with_what_words_are_read_as(odd: WordTokenizer, tmp_path: Path) -> None:
    words = ["the", "cat", "dog", "mat", "sat", "\n"]
    other = WordTokenizer.of(words, (), {**ODD, "kitten": "dog"})
    prints = {one.fingerprint for one in (odd, other, WordTokenizer.of(words))}
    assert len(prints) == 3
    odd.save(tmp_path / "odd")
    again = load_tokenizer(tmp_path / "odd")
    assert isinstance(again, WordTokenizer)
    assert (again.fingerprint, dict(again.nearest)) == (odd.fingerprint, ODD)


def test_bytes_read_as_another_word_count_as_unknown(odd: WordTokenizer) -> None:
    assert odd.unknown_bytes("the kitten zebra cat") == len("kitten") + len("zebra")


@settings(deadline=None, max_examples=300)
@given(
    st.text(st.sampled_from(" \n\f&#²日\u0301ekitn<|>"))
    | st.lists(st.sampled_from([*ODD, "the", "x", "_"])).map("".join)
)
def test_the_file_says_the_same_to_its_own_reader(odd: WordTokenizer, text: str) -> None:
    assert odd.encode(text) == odd.backend.encode(text, add_special_tokens=False).ids


def test_transformers_gives_the_same_ids(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = train()
    tokenizer.save(tmp_path / "tokenizer")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    text = "The kitten & the puppy sat on the mat.\nA zebra#house hound!\n"
    assert theirs.encode(text, add_special_tokens=False) == tokenizer.encode(text)
    assert theirs.decode(tokenizer.encode(text)) == tokenizer.decode(tokenizer.encode(text))
    assert theirs.encode("<|endoftext|>") == tokenizer.encode("<|endoftext|>", allowed_special=True)


def test_a_real_text_has_the_same_ids_in_the_file(shared_data: Callable[[str], Path]) -> None:
    text = shared_data("tinyshakespeare.txt").read_text(encoding="utf-8")[:60_000]
    tokenizer = train(text, nearest={"width": 16, "epochs": 2})
    part = text[20_000:30_000]
    assert len(tokenizer.nearest) > 1_500
    assert tokenizer.unk_id not in tokenizer.encode(text)
    assert tokenizer.backend.encode(part, add_special_tokens=False).ids == tokenizer.encode(part)


def test_a_normalizer_is_read_back_as_it_was_written() -> None:
    assert nearest_of(normalizer_of(ODD)) == ODD
    assert normalizer_of({}) is None
    assert nearest_of(None) == {}


@pytest.mark.parametrize(
    "step",
    [
        {"type": "Lowercase"},
        {"type": "Replace", "pattern": {"String": "ab"}, "content": " the "},
        {"type": "Replace", "pattern": {"Regex": "a+"}, "content": " the "},
        {"type": "Replace", "pattern": {"String": "&"}, "content": "the"},
        {"type": "Replace", "pattern": {"String": "&"}, "content": " zebra "},
        {"type": "Replace", "pattern": {"Regex": r"(?<!\w)(?:cat)(?!\w)"}, "content": " the "},
        {"type": "Replace", "pattern": {"Regex": r"(?<!\w)(?:c.t)(?!\w)"}, "content": " the "},
    ],
)
def test_another_normalizer_is_refused(odd: WordTokenizer, tmp_path: Path, step: dict[str, Any]) -> None:
    odd.save_into(tmp_path)
    file = tmp_path / "tokenizer.json"
    spec = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**spec, "normalizer": {"type": "Sequence", "normalizers": [step]}}), encoding="utf-8")
    with pytest.raises(ArtifactError) as refused:
        load_tokenizer(tmp_path)
    assert "\n" not in refused.value.problem


def test_the_command_line_trains_one_and_says_how_many_words_it_reads_as_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(PETS + RARE, encoding="utf-8")
    flags = ["--kind", "word", "--min-count", "3", "--out-of-vocabulary", "nearest", "--all-text"]
    flags += ["--nearest.width", "12", "--nearest.epochs", "4", "--to", str(tmp_path / "words")]
    assert main(["tokenizer", "train", str(tmp_path / "text.txt"), *flags]) == 0
    assert load_tokenizer(tmp_path / "words").fingerprint == train().fingerprint
    capsys.readouterr()
    assert main(["tokenizer", "inspect", str(tmp_path / "words")]) == 0
    assert f"words read as another {len(train().nearest)}" in " ".join(capsys.readouterr().out.split()).replace(
        "│ ", ""
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"kind": "bpe", "out_of_vocabulary": "nearest"}, "not to kind 'bpe'"),
        ({"kind": "word", "path": "x", "out_of_vocabulary": "nearest"}, "not to a tokenizer read from path"),
        ({"kind": "word", "nearest": {"width": 8}}, "nearest.* is for out_of_vocabulary 'nearest'"),
    ],
)
def test_what_contradicts_itself_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said.replace("*", r"\*")):
        TokenizerConfig.model_validate(config)
