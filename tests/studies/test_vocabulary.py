"""What is said of the words of a study's texts is what its tokenizers do with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from folio.corpus import CorpusConfig, open_corpus
from folio.errors import ArtifactError
from folio.studies.findings.vocabulary import ReadText, facts_of_text, read_text, text_files, write_texts
from folio.studies.running.records import StudyFolder
from folio.tokenizer import TokenizerConfig, count_words, train_tokenizer
from folio.tokenizer.words import UNKNOWN

TRAINING = "the cat sat.\nthe cat\n\nthe dog!\n"
HELD_OUT = "the bird sat\nthe the dog\n"
WORDS = TokenizerConfig(kind="word")


def test_coverage_and_lines_of_a_text_that_is_counted_by_hand() -> None:
    facts = facts_of_text([TRAINING], [HELD_OUT], [3])
    # training: the 3, cat 2, sat 1, . 1, dog 1, ! 1, line breaks 4; held out: the 3, bird 1, sat 1, dog 1, breaks 2
    assert (facts["training"]["words"], facts["training"]["types"]) == (13, 7)
    assert (facts["held_out"]["words"], facts["held_out"]["unseen_words"], facts["held_out"]["unseen_types"]) == (
        8,
        1,
        1,
    )
    rows = {row.pop("min_count"): row for row in facts["coverage"]}
    assert list(rows) == list(range(1, 11))
    assert rows[1] == {"types": 7, "training": 1.0, "held_out": 7 / 8}
    assert rows[2] == {"types": 3, "training": 9 / 13, "held_out": 5 / 8}
    assert rows[3] == {"types": 2, "training": 7 / 13, "held_out": 5 / 8}
    assert rows[4] == {"types": 1, "training": 4 / 13, "held_out": 2 / 8}
    assert rows[5] == {"types": 0, "training": 0.0, "held_out": 0.0}
    lines = facts["training"]["line_words"]
    assert facts["training"]["lines"] == 3
    assert lines["counts"] == [[2, 1], [3, 1], [4, 1]]
    assert lines["mean"] == 3
    assert {one["quantile"]: one["words"] for one in lines["quantiles"]}[0.5] == 3
    assert facts_of_text(["a b\na"], [])["coverage"][0] == {
        "min_count": 1,
        "types": 3,
        "training": 1.0,
        "held_out": None,
    }


NASTY = [
    "caf\u00e9 na\u00efve \u4f60\u597d \u0e01\u0e33 \u00b2\u2167 a_b\n\n\u0301e \ud800 x\r\ny\fz\tw",
    "no end" + " word" * 90_000,
    "",
    "\n \n",
]


def test_words_are_those_of_the_word_tokenizer_in_any_script_and_however_long_a_line_is() -> None:
    assert ReadText(NASTY).counts == count_words(text.replace("\ud800", "\ufffd") for text in NASTY)
    assert ReadText(NASTY).lines.counts[90_002] == 1
    for least in (1, 2):
        tokenizer = train_tokenizer(NASTY, TokenizerConfig(kind="word", min_count=least))
        row = facts_of_text(NASTY, [HELD_OUT])["coverage"][least - 1]
        assert row["types"] == tokenizer.vocab_size - 2  # <unk> and end-of-text
        ids = tokenizer.encode(HELD_OUT)
        assert row["held_out"] == sum(id != tokenizer.id_of(UNKNOWN) for id in ids) / len(ids)


def test_lines_beyond_the_longest_are_counted_together_and_in_quantiles_whole() -> None:
    lines = facts_of_text(["word " * 3_000 + "\none two"], [])["training"]["line_words"]
    assert (lines["counts"], lines["longer"]) == ([[2, 1]], 1)
    assert lines["quantiles"][-1]["words"] == 3_000


def test_tiny_shakespeare_has_the_vocabularies_that_are_known_of_it(shared_data: Callable[[str], Path]) -> None:
    whole = shared_data("tinyshakespeare.txt").read_text(encoding="utf-8")
    facts = facts_of_text([whole], [])
    assert (facts["training"]["words"], facts["training"]["types"]) == (302_927, 13_332)
    assert [row["types"] for row in facts["coverage"][1:6]] == [7_287, 5_338, 4_289, 3_600, 3_153]


@pytest.fixture
def corpus(tmp_path: Path) -> CorpusConfig:
    (tmp_path / "play.txt").write_text("one two two three three three\n" * 30 + "one four\n" * 10)
    return CorpusConfig(path=str(tmp_path / "play.txt"))


def test_a_file_for_each_text_with_all_min_counts_made_once(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StudyFolder(tmp_path / "study")
    asked = [(corpus, WORDS), (corpus, TokenizerConfig(kind="word", min_count=20)), (corpus, TokenizerConfig())]
    (path,) = write_texts(folder, asked)
    assert text_files(folder) == [path] == [folder.path / "texts" / "play.txt.json"]
    facts = read_text(path)
    assert facts["min_counts"] == [1, 20]
    assert facts["fingerprint"] == open_corpus(corpus).fingerprint
    assert [row["min_count"] for row in facts["coverage"]] == [*range(1, 11), 20]
    sides = {side: count_words(one.text for one in open_corpus(corpus).documents(side)) for side in ("train", "val")}
    assert (facts["training"]["words"], facts["held_out"]["words"]) == (sides["train"].total(), sides["val"].total())

    def unread(self: object, split: str) -> Iterator[str]:
        raise AssertionError("the text was counted before")

    with monkeypatch.context() as patch:
        patch.setattr("folio.corpus.Corpus.documents", unread)
        assert write_texts(folder, asked) == [path]
        with pytest.raises(AssertionError):
            write_texts(folder, asked[:1])
    path.write_text(path.read_text().replace("20", "21"))
    with pytest.raises(ArtifactError):
        read_text(path)
    write_texts(folder, asked)
    assert read_text(path) == facts


def test_two_texts_of_one_name_have_a_file_each_and_texts_that_are_gone_have_none(
    corpus: CorpusConfig, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "play.txt").write_text("another text\n" * 30)
    other = CorpusConfig(path=str(tmp_path / "other" / "play.txt"))
    folder = StudyFolder(tmp_path / "study")
    same = corpus.model_copy(update={"validation_fraction": 0.1})
    assert len(write_texts(folder, [(corpus, WORDS), (other, WORDS), (same, WORDS)])) == 2
    assert {read_text(path)["training"]["types"] for path in text_files(folder)} == {5, 3}
    write_texts(folder, [(other, WORDS)])
    assert [read_text(path)["training"]["types"] for path in text_files(folder)] == [3]
    assert write_texts(folder, [(corpus, TokenizerConfig(kind="char"))]) == text_files(folder) == []
