"""``folio corpus``: what it prints and writes, and its one-line errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from folio.artifacts import verify
from folio.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folio(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``folio("corpus", "explore", ...)`` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        code = main(args)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def poems(tmp_path: Path) -> Path:
    folder = tmp_path / "poems"
    folder.mkdir()
    (folder / "a.txt").write_text("the sea, the sea\nand a boat\n")
    (folder / "b.txt").write_text("<script>alert('the')</script>\r\n")
    (folder / "c.txt").write_text("\n")
    return folder


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_explore_prints_the_tables_and_writes_record_and_page(folio: Run, poems: Path, tmp_path: Path) -> None:
    code, out, _ = folio("corpus", "explore", "poems/")
    assert code == 0
    for part in (
        "documents",
        "words and marks no more than",
        "top words: the 3, script 2, sea 2, a 1",
        "share of words and marks",
        "least occurrences",
    ):
        assert part in out
    folder = tmp_path / "data" / "explore" / "poems"
    found = json.loads((folder / "explore.json").read_text())
    assert (found["documents"], found["cleaning"]["empty"], found["cleaning"]["newlines_normalized"]) == (2, 1, 1)
    page = Tags()
    page.feed((folder / "report.html").read_text())
    assert page.seen.count("svg") >= 4
    assert page.seen.count("script") == 1  # the page's own; the text's is text
    assert any("Vocabulary coverage" in text for text in page.text)
    assert verify(folder, "exploration").config["corpus"] == "poems"


def test_explore_answers_json_alone_and_replaces_its_own_folder(folio: Run, poems: Path) -> None:
    for limit, documents in (("0", 2), ("1", 1)):
        code, out, _ = folio("corpus", "explore", "poems/*.txt", "--to", "seen", "--limit", limit, "--json")
        answer = json.loads(out)
        assert (code, answer["documents"]) == (0, documents)
    assert [Path(path).name for path in answer["wrote"]] == ["explore.json", "report.html"]


def test_explore_counts_what_a_tokenizer_makes_of_it(folio: Run, poems: Path) -> None:
    from folio.tokenizer import TokenizerConfig, train_tokenizer

    train_tokenizer(["the sea, and a boat\n<script>alert('the')</script>"], TokenizerConfig(kind="char")).save(
        poems / "t"
    )
    code, out, _ = folio("corpus", "explore", "poems/", "--tokenizer", "poems/t", "--json")
    answer: dict[str, Any] = json.loads(out)
    assert code == 0
    assert answer["encoded_tokens"] == answer["characters"] == 58


def test_get_takes_a_given_file_and_says_how_it_is_split(
    folio: Run, shared_data: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLIO_CACHE", str(tmp_path / "cache"))
    file = shared_data("tinyshakespeare.txt")
    code, out, _ = folio("corpus", "get", "tinyshakespeare", "--from-file", str(file), "--json")
    answer = json.loads(out)
    assert code == 0
    assert [split["characters"] for split in answer["splits"].values()] == [1_003_854, 111_540]
    code, out, _ = folio("corpus", "get", "tinyshakespeare")
    assert (code, "already in the cache" in out, "1,003,854" in out) == (0, True, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("get", "gpt3"), "no named data 'gpt3'"),
        (("get", "tinyshakespeare", "--from-file", "poems/a.txt"), "is not 'tinyshakespeare': the sha256"),
        (("explore", "tinyshakespear"), "Did you mean 'tinyshakespeare'?"),
        (("explore", "poem/a.txt"), "'poem/a.txt' does not exist"),
        (("explore", "poems/*.md"), "nothing matches 'poems/*.md'"),
        (("explore", "poems/c.txt"), "holds no text"),
        (("explore", "poems/", "--from-file", "x"), "--from-file belongs to a named corpus"),
        (("explore", "gpt2"), "is a vocabulary"),
        (("explore", "poems/", "--to", "poems"), "already exists and holds something else"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(folio: Run, poems: Path, args: tuple[str, ...], message: str) -> None:
    before = sorted(poems.parent.rglob("*"))
    code, out, err = folio("corpus", *args)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert sorted(poems.parent.rglob("*")) == before
