"""``folio shards mix`` from command line to a mixture, and what it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from letters import ByteTokenizer, documents

from folio.errors import ArtifactError, ConfigError
from folio.shards import Shards, ShardsConfig, open_shards, verify_shards, write_shards
from folio.tokenizer import TokenizerConfig, train_tokenizer
from folio.verbs.action import Terminal
from folio.verbs.options import parse, print_help
from folio.verbs.shards import WriteOptions, write
from folio.verbs.shards.mix import MixOptions, mix, names_of

QUIET = Terminal(quiet=True)
WORDS = "To be, or not to be: that is the question. "


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Shards of 60 and of 20 short documents, and their tokenizer."""
    tokenizer = tmp_path / "tokenizer"
    train_tokenizer([WORDS + "0123456789"], TokenizerConfig(kind="char")).save(tokenizer)
    made = []
    for name, count in (("web", 60), ("books", 20)):
        texts = tmp_path / f"{name}.jsonl"
        texts.write_text("".join(json.dumps({"text": f"{number}. {WORDS}"}) + "\n" for number in range(count)))
        to = tmp_path / name / "shards"
        write(WriteOptions(what=str(texts), tokenizer=tokenizer, to=to, shards=ShardsConfig(workers=1)), QUIET)
        made.append(to)
    return made[0], made[1], tokenizer


def options(*words: object) -> MixOptions:
    return parse(MixOptions, [str(word) for word in words])


def test_a_mixture_from_the_command_line(
    sources: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web, books = sources[:2]
    given = options(web, books, "--weights", "0.5,0.5", "--tokens", "3k", "--to", tmp_path / "mix")
    outcome = mix(given, Terminal())
    said = capsys.readouterr().out
    shards = open_shards(tmp_path / "mix")
    verify_shards(shards)
    first, second = outcome.data["splits"]["train"]["sources"]
    assert (first["name"], second["name"]) == ("web/shards", "books/shards")
    assert 1500 <= first["tokens"] < 1560
    assert second["epochs"] == second["tokens"] / open_shards(books).tokens("train") > 1
    assert f"books/shards: {second['epochs']:.2f} epochs of {second['available']:,} tokens, " in said
    assert outcome.wrote == (tmp_path / "mix",)
    assert json.loads(json.dumps(outcome.answer()))["splits"]["train"]["tokens"] == shards.tokens("train")
    assert outcome.data["id"] == shards.manifest.id
    assert outcome.data["mixture"]["weights"] == [0.5, 0.5]


@pytest.mark.parametrize("weights", [["0.7,0.3"], ["0.7", "0.3"], ["0.7,", "0.3"]])
def test_weights_are_written_with_commas_or_spaces(weights: list[str]) -> None:
    assert options("a", "b", "--to", "c", "--weights", *weights).weights == (0.7, 0.3)


def test_mistakes_on_the_command_line() -> None:
    for weights in ("0.7,x", "0.7,0", "0.7,-1", "nan,1"):
        with pytest.raises(ConfigError, match="--weights"):
            options("a", "b", "--to", "c", "--weights", weights)
    with pytest.raises(ConfigError, match="--tokens 'many': must be a whole number of at least 1, such as 10B"):
        options("a", "b", "--to", "c", "--tokens", "many")
    with pytest.raises(ConfigError, match="SOURCES is required"):
        options("--to", "c")


def test_too_many_epochs_are_refused_before_anything_is_written(
    sources: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="'books/shards' would be repeated for") as caught:
        mix(options(*sources[:2], "--weights", "1,9", "--tokens", "20k", "--to", tmp_path / "mix"), QUIET)
    assert "--max-epochs is 4" in caught.value.problem
    assert not (tmp_path / "mix").exists()
    given = options(
        *sources[:2], "--weights", "1,9", "--tokens", "20k", "--max-epochs", "none", "--to", tmp_path / "mix"
    )
    assert mix(given, QUIET).data["splits"]["train"]["sources"][1]["epochs"] > 4


def test_a_damaged_source_is_refused(sources: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (file,) = sources[0].glob("train_*.bin")
    content = bytearray(file.read_bytes())
    content[2000] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"train_000000\.bin"):
        mix(options(*sources[:2], "--to", tmp_path / "mix"), QUIET)


def test_files_made_by_others_need_their_tokenizer(sources: tuple[Path, Path, Path], tmp_path: Path) -> None:
    web, _, tokenizer = sources
    others = tmp_path / "others"
    others.mkdir()
    for file in web.glob("*.bin"):
        (others / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ArtifactError, match="State the tokenizer"):
        mix(options(others, "--to", tmp_path / "mix"), QUIET)
    mix(options(others, "--tokenizer", tokenizer, "--to", tmp_path / "mix"), QUIET)
    made, given = open_shards(tmp_path / "mix"), open_shards(web)

    def documents(shards: Shards) -> list[str]:
        ids = shards.split("train").read(0, shards.tokens("train"))
        return sorted(map(str, np.split(ids, np.flatnonzero(ids == ids[0])[1:])))

    assert documents(made) == documents(given)
    assert made.text_bytes("train") == given.text_bytes("train")


def test_sources_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    assert names_of([tmp_path / "web", tmp_path / "books"]) == ["web", "books"]
    assert names_of([tmp_path / "web" / "shards", tmp_path / "books" / "shards"]) == ["web/shards", "books/shards"]
    deep = [tmp_path / one / "b" / "c" / "d" for one in ("x", "y")]
    assert names_of(deep) == ["x/b/c/d", "y/b/c/d"]
    assert names_of([Path("/a"), Path("/b/a")]) == ["/a", "b/a"]


def test_a_folder_that_is_given_twice_is_named_as_it_was_given(
    sources: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    web = sources[0]
    for other, said in ((web, f"'{web}' is given twice"), ("web/shards", f"'{web}' and 'web/shards' are one folder")):
        with pytest.raises(ConfigError) as caught:
            mix(options(web, other, "--to", "mix"), QUIET)
        assert caught.value.problem == said
    shutil.copytree(web, "copy")
    with pytest.raises(ConfigError, match="'shards' and 'copy' are the same shards"):
        mix(options(web, "copy", "--to", "mix"), QUIET)


def test_what_to_do_next_is_a_whole_command_for_shards_of_gpt2(
    sources: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    verify, train = mix(options(*sources[:2], "--to", tmp_path / "a b"), QUIET).next
    assert verify == f"folio shards verify '{tmp_path}/a b'"
    assert train == f"folio train RECIPE.toml --shards.path '{tmp_path}/a b' --tokenizer.path TOKENIZER"
    made = [tmp_path / "one", tmp_path / "two"]
    for folder in made:
        texts = {"train": documents(folder.name, "more")}
        write_shards(texts, ByteTokenizer(kind="gpt2"), folder, ShardsConfig(workers=1), source={})
    _, train = mix(options(*made, "--to", tmp_path / "mix"), QUIET).next
    assert train == f"folio train gpt2 --shards.path {tmp_path / 'mix'} --tokenizer.kind gpt2"


def test_help_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    print_help(MixOptions, "folio shards mix", "Mix.")
    page = capsys.readouterr().out
    assert "Empty: all there are; with weights, as many as" in " ".join(page.split())
    for name in ("SOURCES", "--weights", "--tokens", "--max-epochs", "--seed", "--run-tokens", "--to", "--tokenizer"):
        assert name in page
