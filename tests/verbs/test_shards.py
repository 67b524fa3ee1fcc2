"""``folio shards`` from a text to verified files, through the same functions that the command line calls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from folio.cli import main
from folio.errors import ArtifactError, ConfigError, DataError
from folio.shards import ShardsConfig, open_shards
from folio.tokenizer import TokenizerConfig, load_tokenizer, train_tokenizer
from folio.verbs.action import Terminal
from folio.verbs.shards import InspectOptions, VerifyOptions, WriteOptions, inspect, verify, write

QUIET = Terminal(quiet=True)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"To be, or not to be: {number} times.\n" * (number + 1))
    return folder


@pytest.fixture
def tokenizer(texts: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "tokenizer"
    train_tokenizer((file.read_text() for file in texts.iterdir()), TokenizerConfig(kind="char")).save(folder)
    return folder


def options(texts: Path, tokenizer: Path) -> WriteOptions:
    shards = ShardsConfig(tokens_per_shard=1000, workers=1)
    return WriteOptions(what=str(texts), tokenizer=tokenizer, to=tokenizer.parent / "shards", shards=shards)


def test_write_inspect_verify(texts: Path, tokenizer: Path) -> None:
    outcome = write(options(texts, tokenizer), QUIET)
    (folder,) = outcome.wrote
    splits = outcome.data["splits"]
    assert splits["train"]["documents"] + splits["val"]["documents"] == 30
    assert splits["train"]["text_bytes"] + splits["val"]["text_bytes"] == sum(
        file.stat().st_size for file in texts.iterdir()
    )
    seen = inspect(InspectOptions(shards=folder, tokenizer=tokenizer), QUIET)
    assert seen.data["splits"] == splits
    assert seen.data["begins"]["train"].startswith("<|endoftext|>To be, or not to be: ")
    checked = verify(VerifyOptions(shards=folder), QUIET).data
    assert checked["verified_files"] == splits["train"]["files"] + splits["val"]["files"]
    assert checked["sha256"] is True
    json.dumps(dict(checked), allow_nan=False)


def test_no_document_is_on_both_sides(texts: Path, tokenizer: Path) -> None:
    """Read back from the ids themselves, cut at end-of-text."""
    write(options(texts, tokenizer), QUIET)
    made_by = load_tokenizer(tokenizer)
    shards = open_shards(tokenizer.parent / "shards", made_by)
    sides = []
    for name in ("train", "val"):
        text = made_by.decode(shards.split(name).read(0, shards.tokens(name)))
        documents = text.split("<|endoftext|>")[1:]
        assert len(documents) == shards.documents(name) > 0
        sides.append(set(documents))
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == {file.read_text() for file in texts.iterdir()}


def test_the_split_can_be_listed(texts: Path, tokenizer: Path) -> None:
    given = options(texts, tokenizer).model_dump() | {"corpus": {"split": "list", "validation_documents": ("3.txt",)}}
    assert write(WriteOptions.model_validate(given), QUIET).data["splits"]["val"]["documents"] == 1


def test_a_damaged_file_is_named_and_the_exit_code_is_two(
    texts: Path, tokenizer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder,) = write(options(texts, tokenizer), QUIET).wrote
    file = folder / "train_000001.bin"
    content = bytearray(file.read_bytes())
    content[-1] ^= 4
    file.write_bytes(content)
    assert main(["shards", "verify", str(folder)]) == 2
    assert "train_000001.bin' is damaged: its sha256 is not the manifest's" in capsys.readouterr().err


def test_files_made_by_others(texts: Path, tokenizer: Path) -> None:
    (folder,) = write(options(texts, tokenizer), QUIET).wrote
    recorded = inspect(InspectOptions(shards=folder), QUIET).data
    (folder / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="without a manifest"):
        inspect(InspectOptions(shards=folder), QUIET)
    size = load_tokenizer(tokenizer).vocab_size
    bare = inspect(InspectOptions(shards=folder, vocab_size=size), QUIET).data
    assert bare["splits"]["train"]["documents"] is None
    assert verify(VerifyOptions(shards=folder, vocab_size=size), QUIET).data["sha256"] is False
    assert inspect(InspectOptions(shards=folder, tokenizer=tokenizer), QUIET).data["splits"] == recorded["splits"]


def test_bad_input_is_one_line(texts: Path, tokenizer: Path, tmp_path: Path) -> None:
    given = options(texts, tokenizer)
    with pytest.raises(ConfigError, match="shakespeare"):
        write(given.model_copy(update={"what": "shakespear"}), QUIET)
    with pytest.raises(ArtifactError, match="nowhere"):
        write(given.model_copy(update={"tokenizer": tmp_path / "nowhere"}), QUIET)
    (texts / "31.txt").write_text("a character it lacks")
    with pytest.raises(DataError, match=r"document '31\.txt'.*LATIN SMALL LETTER A"):
        write(given, QUIET)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts", "tokenizer"]
