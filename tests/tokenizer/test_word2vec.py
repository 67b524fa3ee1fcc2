"""Word2vec: the same bits from the same text, a row for each word in the order asked for, lines as sentences."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from folio.errors import ArtifactError, DataError, MissingExtra
from folio.tokenizer import TokenizerConfig, train_tokenizer
from folio.tokenizer.vectors import WordVectors, cosines, load_vectors, movement
from folio.tokenizer.word2vec import MOST_WORDS, Lines, count_ids, train_word2vec
from folio.tokenizer.word2vec_config import Word2VecConfig

TIED = "b a c a\nb d c d\ne f e f\na b\n" * 20
"""Ties in counts: a and b; c, d, e and f."""
QUICK = Word2VecConfig(epochs=3)

TRAINING = """
import hashlib, sys
from test_word2vec import TIED, learn
words, rows = learn(TIED, int(sys.argv[1]))
print(hashlib.sha256(rows.tobytes()).hexdigest(), ascii(words))
"""


def learn(text: str, seed: int = 1, **config: object) -> tuple[list[str], np.ndarray]:
    """All words of ``text`` in the order of ids, and their vectors."""
    tokenizer = train_tokenizer([text], TokenizerConfig(kind="word"))
    ids = tokenizer.encode_array(text)
    words = [tokenizer.token(id) for id in range(tokenizer.vocab_size - 2)]
    counts = dict(zip(words, count_ids([ids], len(words)).tolist(), strict=True))
    lines = Lines(lambda: [ids], words, tokenizer.id_of("\n"), tokenizer.eot_id)
    return words, train_word2vec(lines, counts, 8, QUICK.model_copy(update={"seed": seed, **config}))


def test_two_processes_with_other_hash_seeds_come_to_the_same_bits() -> None:
    told = []
    for hash_seed, seed in (("1", "5"), ("2", "5"), ("1", "6")):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parent)}
        command = [sys.executable, "-W", "error", "-c", TRAINING, seed]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        told.append(done.stdout)
    assert told[0] == told[1]
    assert told[0] != told[2]


def test_a_row_is_its_words_whatever_the_order_asked_for() -> None:
    """By a judge that knows nothing of rows: words that stand together only with each other are near each other."""
    text = "".join(f"x{n} y{n} x{n} y{n} x{n}\n" for n in range(6)) * 60
    words, rows = learn(text, epochs=40, skip_gram=True, subsample=0.0)
    near = cosines(rows)
    for n in range(6):
        x, y = words.index(f"x{n}"), words.index(f"y{n}")
        others = [near[x, words.index(f"y{m}")] for m in range(6) if m != n]
        assert near[x, y] > max(others), f"x{n}"


def test_ties_in_counts_keep_the_order_of_ids() -> None:
    """gensim sorts words of equal count its own way, which is not ours: the order here is that of the dictionary."""
    words, rows = learn(TIED)
    assert words == ["\n", "b", "a", "c", "d", "e", "f"]
    gensim = pytest.importorskip("gensim.models")
    sentences = [[*line.split(" "), "\n"] for line in TIED.splitlines()]
    theirs = gensim.Word2Vec(
        sentences, vector_size=8, window=12, min_count=1, negative=5, sg=0, seed=1, workers=1, epochs=3, sorted_vocab=1
    )
    assert theirs.wv.index_to_key != words, "then this test shows nothing"
    assert rows.shape == (7, 8)


def test_it_is_gensims_own_result_on_the_same_sentences() -> None:
    gensim = pytest.importorskip("gensim.models")
    text = "a b c d e f\n" * 3 + "b c a\n" * 2 + "a b\nf a\nc c c c c\n\n"
    words, rows = learn(text)
    sentences = [[*line.split(), "\n"] for line in text.splitlines()]
    theirs = gensim.Word2Vec(vector_size=8, window=12, min_count=1, seed=1, workers=1, epochs=3, sorted_vocab=0)
    theirs.build_vocab_from_freq({word: sum(s.count(word) for s in sentences) for word in words})
    theirs.train(sentences, total_words=sum(map(len, sentences)), epochs=3)
    np.testing.assert_array_equal(rows, np.array([theirs.wv[word] for word in words]))


def test_lines_are_the_same_however_the_ids_are_cut_into_blocks() -> None:
    ids = np.array([9, 0, 1, 2, 0, 2, 2, 9, 1, 0, 9, 2, 3], dtype=np.uint16)
    words = ["a", "b", "\n", None, *[None] * 5, None]
    whole = list(Lines(lambda: [ids], words, 2, 9))
    assert whole == [["a", "b", "\n"], ["a", "\n"], ["\n"], ["b", "a"], ["\n"]]
    for size in (1, 2, 3, 5):
        blocks = [ids[start : start + size] for start in range(0, len(ids), size)]
        assert list(Lines(lambda blocks=blocks: blocks, words, 2, 9)) == whole


def test_nothing_of_a_long_line_is_dropped() -> None:
    ids = np.zeros(2 * MOST_WORDS + 5, dtype=np.uint16)
    assert [len(line) for line in Lines(lambda: [ids], ["a"], None, None)] == [MOST_WORDS, MOST_WORDS, 5]


def test_a_text_of_one_word_is_refused() -> None:
    with pytest.raises(DataError, match="tells words apart"):
        train_word2vec(Lines(list, ["a"], None, None), {"a": 3}, 8, QUICK)


def test_without_gensim_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(MissingExtra) as missing:
        learn("a b\n")
    assert "folio-lm[study]" in missing.value.remedy


def test_vectors_come_back_from_their_folder_and_damage_is_seen(tmp_path: Path) -> None:
    words, rows = learn(TIED)
    WordVectors(tuple(words), rows, {"epochs": 3}).save(tmp_path / "v")
    again = load_vectors(tmp_path / "v")
    assert (again.words, again.facts["epochs"]) == (tuple(words), 3)
    np.testing.assert_array_equal(again.rows, rows)
    assert again.known(("a", "zebra", "\n")) == [words.index("a"), words.index("\n")]
    file = tmp_path / "v" / "rows.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged"):
        load_vectors(tmp_path / "v")


def test_words_that_do_not_fit_their_vectors_are_refused() -> None:
    rows = np.zeros((2, 3), dtype=np.float32)
    for words in (("a",), ("a", "a")):
        with pytest.raises(ArtifactError, match="do not name 2 vectors"):
            WordVectors(words, rows)


def test_cosines_and_movement_are_those_of_the_formula() -> None:
    rows = np.array([[3, 4], [6, 8], [-4, 3], [0, 0]], dtype=np.float32)
    np.testing.assert_allclose(cosines(rows), [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], atol=1e-7)
    now = np.array([[3, 4], [6, 13], [4, -3], [0, 1]], dtype=np.float32)
    np.testing.assert_allclose(movement(rows, now), [0, 0.5, 2, np.inf])


def test_the_digest_tells_rows_apart() -> None:
    assert hashlib.sha256(learn(TIED, 1)[1].tobytes()).digest() != hashlib.sha256(learn(TIED, 2)[1].tobytes()).digest()
