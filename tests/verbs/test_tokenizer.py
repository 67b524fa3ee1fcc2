"""``folio tokenizer``: trains, fetches and looks into tokenizers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from folio.errors import ArtifactError, ConfigError, DataError
from folio.tokenizer import load_tokenizer
from folio.verbs.action import Terminal
from folio.verbs.tokenizer import ACTIONS, GetOptions, InspectOptions, TrainOptions, get, inspect, train

QUIET = Terminal(quiet=True)
TEXT = "To be, or not to be, that is the question:\n" * 200 + "zebra\n" * 100


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


def test_train_saves_a_tokenizer_and_prints_its_merges(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "bpe"
    outcome = train(TrainOptions(what=str(text), to=to, vocab_size=270), Terminal())
    assert outcome.wrote == (to,)
    assert outcome.next == (f"folio tokenizer inspect {to}",)
    assert load_tokenizer(to).fingerprint == outcome.data["fingerprint"]
    assert outcome.data["first_merges"][0] == {"id": 256, "left": "␣", "right": "t"}
    assert outcome.data["bytes_per_token"] > 1
    printed = capsys.readouterr().out
    assert "␣t" in printed
    assert "bytes/token" in printed
    json.dumps(dict(outcome.data))


def test_the_held_out_side_is_not_learnt_from_unless_asked(text: Path, tmp_path: Path) -> None:
    options = TrainOptions(what=str(text), to=tmp_path / "a", kind="char")
    assert not load_tokenizer(train(options, QUIET).wrote[0]).has("z")
    options = TrainOptions(what=str(text), to=tmp_path / "b", kind="char", all_text=True)
    assert load_tokenizer(train(options, QUIET).wrote[0]).has("z")


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_inspect_shows_every_kind(text: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    size = 270 if kind == "bpe" else None
    train(
        TrainOptions.model_validate(
            {"what": str(text), "to": tmp_path / "t", "kind": kind, "vocab_size": size, "all_text": True}
        ),
        QUIET,
    )
    outcome = inspect(InspectOptions(tokenizer=tmp_path / "t", file=text), Terminal())
    assert outcome.data["kind"] == kind
    assert outcome.data["text_bytes"] == len(TEXT)
    assert outcome.data["bytes_per_token"] == pytest.approx(len(TEXT) / outcome.data["tokens"])
    assert "<|endoftext|>" in capsys.readouterr().out


def test_inspect_cuts_a_text_into_readable_tokens(text: Path, tmp_path: Path) -> None:
    train(TrainOptions(what=str(text), to=tmp_path / "t", vocab_size=258), QUIET)
    outcome = inspect(InspectOptions(tokenizer=tmp_path / "t", text="é to\n"), QUIET)
    tokens = [part["token"] for part in outcome.data["segmentation"]]
    assert tokens == ["\\xc3", "\\xa9", "␣t", "o", "\\n"]


def test_a_character_that_is_missing_is_said(text: Path, tmp_path: Path) -> None:
    train(TrainOptions(what=str(text), to=tmp_path / "t", kind="char"), QUIET)
    with pytest.raises(DataError, match="no 'é'"):
        inspect(InspectOptions(tokenizer=tmp_path / "t", text="é"), QUIET)


def test_a_contradiction_is_said_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes no vocab_size"):
        train(TrainOptions(what="nowhere.txt", to=tmp_path / "t", kind="char", vocab_size=9), QUIET)


def test_nothing_is_written_where_something_else_lies(text: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds something else"):
        train(TrainOptions(what=str(text), to=tmp_path), QUIET)


def test_a_misspelt_corpus_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train(TrainOptions(what="shakespear", to=tmp_path / "t"), QUIET)
    assert "shakespeare" in str(caught.value)


def test_a_file_that_is_not_utf8_is_said(text: Path, tmp_path: Path) -> None:
    train(TrainOptions(what=str(text), to=tmp_path / "t", kind="word"), QUIET)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match="is not UTF-8: byte 3"):
        inspect(InspectOptions(tokenizer=tmp_path / "t", file=tmp_path / "latin.txt"), QUIET)


def test_get_refuses_another_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for name in ("encoder.json", "vocab.bpe"):
        (tmp_path / "v" / name).write_text("{}")
    with pytest.raises(DataError, match="is not 'gpt2'"):
        get(GetOptions(name="gpt2", to=tmp_path / "t", from_file=tmp_path / "v"), QUIET)
    assert not (tmp_path / "t").exists()


def test_the_article_in_300_ids(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    article = shared_data("bts_wikipedia.txt")
    outcome = train(TrainOptions(what=str(article), to=tmp_path / "t", vocab_size=300, all_text=True), QUIET)
    merges = [(merge["left"], merge["right"]) for merge in outcome.data["first_merges"]]
    assert merges[:4] == [("␣", "t"), ("␣", "2"), ("i", "n"), ("h", "e")]
    assert outcome.data["vocab_size"] == 300


def test_examples_are_commands_of_this_verb() -> None:
    for name, action in ACTIONS.items():
        assert action.examples
        assert all(example.startswith(f"folio tokenizer {name} ") for example in action.examples)
