"""``folio corpus explore`` on whatever it takes: files, stores, shards, samples, and two things side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from folio.artifacts import verify
from folio.cli import main
from folio.corpus.document import Document
from folio.shards import ShardsConfig, write_shards
from folio.tokenizer import TokenizerConfig, train_tokenizer

Run = Callable[..., tuple[int, str, str]]
TEXTS = [f"Boat number {n} went out to sea. " * (1 + n % 7) for n in range(200)]


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
def world(tmp_path: Path) -> Path:
    """Texts as parquet and jsonl, two tokenizers, and shards made by one of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "boats.parquet", row_group_size=20)
    lines = (json.dumps({"text": f"A train of {n} wagons."}) + "\n" for n in range(50))
    (tmp_path / "trains.jsonl").write_text("".join(lines))
    (tmp_path / "empty.jsonl").write_text('{"text": " "}\n')
    train_tokenizer(["x y z <|endoftext|>"], TokenizerConfig(kind="char")).save(tmp_path / "other")
    tokenizer = train_tokenizer([*TEXTS, "A train of wagons."], TokenizerConfig(kind="char"))
    tokenizer.save(tmp_path / "char")
    write_shards(
        {
            "train": lambda: (Document(str(n), text, "") for n, text in enumerate(TEXTS[:180])),
            "val": lambda: (Document(str(n), text, "") for n, text in enumerate(TEXTS[180:])),
        },
        tokenizer,
        tmp_path / "shards",
        ShardsConfig(workers=1),
        source={"corpus": "boats", "fingerprint": "x"},
    )
    return tmp_path


def answer(folio: Run, *args: str) -> dict[str, Any]:
    code, out, err = folio("corpus", "explore", *args, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_shards_are_explored_as_the_documents_they_are_made_of(folio: Run, world: Path) -> None:
    of_text = answer(folio, "boats.parquet", "--tokenizer", "char")
    of_shards = answer(folio, "shards", "--tokenizer", "char", "--block-size", "100")
    same = ("documents", "characters", "bytes", "tokens", "types", "encoded_tokens", "document_encoded", "top_words")
    assert {key: of_shards[key] for key in same} == {key: of_text[key] for key in same}
    assert answer(folio, "shards", "--tokenizer", "char", "--split", "val")["documents"] == 20
    sizes = [one["block_size"] for one in of_shards["packing"]]
    assert {100, 512, 1024, 2048} <= set(sizes)
    assert of_shards["packing_shown"] == [100, 512, 1024, 2048]
    assert of_shards["source"]["made_of"]["corpus"] == "boats"


def test_a_sample_says_of_what_and_estimates_the_whole(folio: Run, world: Path) -> None:
    whole = answer(folio, "boats.parquet", "--tokenizer", "char")
    found = answer(folio, "boats.parquet", "--sample", "60", "--tokenizer", "char")
    assert (found["documents"], found["look"]["how"], found["look"]["population"]) == (60, "sample", 200)
    mean, truth = (one["estimates"]["bytes_per_document"] for one in (found, whole))
    assert truth["standard_error"] == 0
    assert mean["standard_error"] > 0
    assert abs(mean["value"] - truth["value"]) < 4 * mean["standard_error"]
    again = answer(folio, "boats.parquet", "--sample", "60", "--tokenizer", "char", "--to", "again")
    assert {**again, "wrote": 0} == {**found, "wrote": 0}
    other = answer(folio, "boats.parquet", "--sample", "60", "--seed", "1")
    assert other["random_documents"] != found["random_documents"]
    assert answer(folio, "shards", "--tokenizer", "char", "--sample", "50")["documents"] == 50


def test_the_terminal_calls_things_as_the_page_does(folio: Run, world: Path) -> None:
    found = answer(folio, "boats.parquet", "--tokenizer", "char", "--sample", "60")
    _, out, _ = folio("corpus", "explore", "boats.parquet", "--tokenizer", "char", "--sample", "60")
    rows = [" ".join(line.split()) for line in out.splitlines()]
    for label, key in (("words and marks", "tokens"), ("types", "types"), ("tokens of char", "encoded_tokens")):
        assert f"{label} {found[key]:,}" in rows
    page = Path(found["wrote"][1]).read_text()
    for label in (
        "words and marks a document",
        "tokens a document",
        "bytes a token",
        "tokens a word or mark",
        "share of words and marks",
        "least occurrences",
    ):
        assert any(row.startswith(label) for row in rows), label
        assert label in page
    for one in ("words and marks no more than document line", "least occurrences types % of words and marks"):
        assert one in rows
    assert not any(word in out for word in ("per document", "encoded tokens", "share of tokens", "% of tokens"))


def test_two_texts_are_set_side_by_side_and_share_a_tokenizer(folio: Run, world: Path) -> None:
    found = answer(folio, "trains.jsonl", "--against", "shards", "--tokenizer", "char")
    assert found["against"]["documents"] == 200
    assert found["encoded_tokens"] == found["characters"]
    own, others = found["comparison"]["distinctive"]
    assert "train" in [entry["word"].lower() for entry in own[:4]]
    assert "boat" in [entry["word"].lower() for entry in others]
    assert found["comparison"]["documents"]["texts"] == 0
    folder = world / "data" / "explore" / "trains-against-shards"
    assert verify(folder, "exploration").config["against"]["corpus"] == "shards"
    assert "trains against shards" in (folder / "report.html").read_text()


def test_a_thing_may_be_compared_with_itself(folio: Run, world: Path) -> None:
    found = answer(folio, "boats.parquet", "--against", "boats.parquet")
    assert found["against"]["name"] == "boats (again)"
    assert found["comparison"]["distinctive"] == [[], []]
    assert found["comparison"]["overlap"]["divergence_bits"] == 0
    assert found["comparison"]["documents"]["shares"] == [1, 1]


def test_what_lies_in_a_store_is_explored_as_what_lies_here(folio: Run, world: Path) -> None:
    fsspec: Any = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/explored/boats.parquet", (world / "boats.parquet").read_bytes())
    try:
        found = answer(folio, "memory://explored/*.parquet", "--sample", "30")
    finally:
        memory.rm("/explored", recursive=True)
    assert found["documents"] == 30
    assert found["row_groups"]["count"] == 10


def test_copies_are_counted_unless_they_are_to_be_left_out(folio: Run, world: Path) -> None:
    (world / "twice.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("one", "two", "one")))
    assert answer(folio, "twice.jsonl")["duplicates"]["duplicates"] == 1
    found = answer(folio, "twice.jsonl", "--deduplicate")
    assert (found["documents"], found["duplicates"]["duplicates"], found["cleaning"]["duplicate"]) == (2, 0, 1)


def test_progress_tells_documents_and_megabytes_a_second(folio: Run, world: Path) -> None:
    _, out, err = folio("corpus", "explore", "boats.parquet", "--sample", "60")
    assert "explore: 60/60 documents" in err
    assert "MB/s" in err
    assert "A sample: 60 of 200 documents" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("shards",), "were made by a char tokenizer of"),
        (("shards", "--tokenizer", "other"), "were made by another tokenizer"),
        (("shards", "--tokenizer", "nowhere"), "is no tokenizer: it does not exist"),
        (("shards", "--tokenizer", "char", "--split", "test"), "has no split 'test'"),
        (("shards", "--tokenizer", "char", "--nfc"), "--nfc is for text, and 'shards' is none"),
        (("boats.parquet", "--sample", "0"), "sample"),
        (("boats.parquet", "--sample", "5", "--limit", "5"), "--sample and --limit"),
        (("boats.parquet", "--split", "train"), "--split is for a dataset of the hub and for shards"),
        (("boats.parquet", "--configuration", "x"), "--configuration is for a dataset of the hub"),
        (("boats.parquet", "--text-field", "txt"), "Did you mean 'text'?"),
        (("boats.parquet", "--against", "boots.parquet"), "'boots.parquet' does not exist"),
        (("boats.parquet", "--against-tokenizer", "char"), "there is none"),
        (("empty.jsonl",), "holds no text (1 documents, all empty)"),
        (("boatz",), "no named data 'boatz'"),
        (("somebody/something",), "HF_HUB_OFFLINE is set"),
        (("https://127.0.0.1:9/a.parquet",), "127.0.0.1"),
        (("s4://bucket/a.parquet",), "no kind of store"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(folio: Run, world: Path, args: tuple[str, ...], message: str) -> None:
    before = sorted(world.rglob("*"))
    code, out, err = folio("corpus", "explore", *args)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 2
    assert sorted(world.rglob("*")) == before
