"""``folio shards write`` of what is read part by part, and a recipe that trains on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from folio.artifacts import read_manifest
from folio.cli import main
from folio.shards import open_shards
from folio.tokenizer import TokenizerConfig, train_tokenizer

Run = Any

LINES = [f"To be, or not to be: that is question {number}.\n" * 20 for number in range(60)]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(3):
        table = pa.table({"text": LINES[number * 20 : number * 20 + 20], "rank": list(range(20))})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=5)
    return folder


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    folder = tmp_path / "tokenizer"
    train_tokenizer(LINES, TokenizerConfig(kind="char")).save(folder)
    return folder


@pytest.fixture
def run(tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line; gives its exit code, standard output and error."""

    def call(what: Path | str, *flags: str, to: str = "shards", wanted: int = 0) -> Any:
        fixed = ["--tokenizer", str(tokenizer), "--to", str(tmp_path / to), "--shards.workers", "1"]
        code = main(["shards", "write", str(what), *fixed, *flags])
        out, err = capsys.readouterr()
        assert code == wanted, err
        return json.loads(out) if "--json" in flags and not code else out + err

    return call


def test_parquet_is_read_part_by_part(texts: Path, run: Run, tmp_path: Path) -> None:
    said = run(texts, "--source.held-out", "first-file")
    assert "3 files, 12 parts, 60 rows" in said
    shards = open_shards(tmp_path / "shards")
    assert (shards.documents("val"), shards.documents("train")) == (20, 40)
    assert shards.manifest.config["source"]["corpus"] == "texts"
    assert str(tmp_path) not in (tmp_path / "shards" / "manifest.json").read_text()
    again = run(texts, "--source.held-out", "first-file")
    assert "shards verify" in again


def test_a_corpus_flag_reads_parquet_in_one_walk(texts: Path, run: Run, tmp_path: Path) -> None:
    run(texts, "--corpus.validation-fraction", "0.3")
    assert "sides" not in read_manifest(tmp_path / "shards").config["source"]


def test_tokens_and_quality_make_any_text_a_source(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    for number, text in enumerate([*LINES[:10], LINES[0], "short\n"]):
        (folder / f"{number:02}.txt").write_text(text)
    flags = ("--quality.duplicates", "exact", "--quality.min-words", "5", "--source.validation-fraction", "0.3")
    data = run(folder, *flags, "--json")
    assert data["documents"]["kept"] == 12
    assert data["quality"]["kept"] == 10
    assert {entry["reason"]: entry["documents"] for entry in data["quality"]["dropped"]} == {
        "too few words": 1,
        "duplicate": 1,
    }
    assert sum(split["documents"] for split in data["splits"].values()) == 10
    said = run(folder, *flags, to="told")
    assert "dropped: too few words" in said
    tokens = run(
        folder, "--tokens", "3k", "--source.held-out", "first-shard", "--shards.tokens-per-shard", "1k", to="t"
    )
    assert "3,000/3,000 token" in tokens or "val" in tokens
    shards = open_shards(tmp_path / "t")
    total = shards.tokens("train") + shards.tokens("val")
    assert 3000 <= total < 3000 + len(LINES[0]) + 1


def test_decontamination_drops_planted_items(texts: Path, run: Run, tmp_path: Path) -> None:
    item = "the quick brown fox jumps over the lazy dog while nine old men watch from a wall in silence"
    bench = tmp_path / "bench.jsonl"
    bench.write_text(json.dumps({"text": item}) + "\n")
    planted = [LINES[0] + item.upper().replace(" ", "\n") + LINES[1], LINES[2]]
    pq.write_table(pa.table({"text": [*planted, *LINES[3:30]]}), tmp_path / "p.parquet", row_group_size=4)
    data = run(
        tmp_path / "p.parquet", "--source.decontaminate", str(bench), "--source.validation-fraction", "0.3", "--json"
    )
    dropped = {(entry["step"], entry["documents"]) for entry in data["quality"]["dropped"]}
    assert dropped == {("contamination", 1)}
    assert data["quality"]["kept"] == 28


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--source.text-field", "txt"], "text"),
        (["--source.text-field", "rank"], "'rank'"),
        (["--source.id-field", "name"], "no column 'name'"),
        (["--tokens", "ten"], "10B"),
        (["--tokens", "0"], "10B"),
        (["--source.held-out", "first"], "first-shard"),
        (["--source.decontaminate", "helaswag"], "hellaswag"),
        (["--corpus.nfc", "--tokens", "1k"], "--tokens means a source"),
        (["--quality.languages", "xx"], "xx"),
        (["--source.configuration", "en"], "no hub dataset"),
        (["--source.revision", "v1"], "has no revision 'v1'"),
        (["--tokens", "1k", "--source.held-out", "first-shard"], "leaves nothing to train on"),
        (["--source.held-out", "first-file", "--source.validation-fraction", "0.2"], "held out by hash"),
        (["--quality.near.bands", "9"], "duplicates = 'near'"),
        (["--quality.language-confidence", "0.9"], "none is named"),
        (["--quality.contamination.n", "9"], "source.decontaminate"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_nothing_is_left(
    texts: Path, run: Run, tmp_path: Path, flags: list[str], told: str
) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    said = run(texts, *flags, wanted=2)
    assert told in said
    assert "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_named_corpus_is_no_source(run: Run) -> None:
    assert "'shakespeare' is a named corpus" in run("shakespeare", "--tokens", "1M", wanted=2)
    assert "shakespeare" in run("shakespear", wanted=2)


def test_a_dataset_out_of_reach_is_told_at_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    said = run("fineweb-edu", "--tokens", "10B", wanted=2)
    assert "HuggingFaceFW/fineweb-edu" in said


def test_damage_stops_or_is_passed_over_and_counted(texts: Path, run: Run) -> None:
    file = texts / "1.parquet"
    content = bytearray(file.read_bytes())
    footer = pq.read_metadata(file)
    column = footer.row_group(2).column(0)
    start = column.data_page_offset
    content[start : start + 40] = b"\xff" * 40
    file.write_bytes(content)
    assert "row group 2, is damaged" in run(texts, wanted=2)
    data = run(texts, "--source.damaged", "skip", "--source.validation-fraction", "0.3", "--json", to="skipped")
    assert data["documents"]["damaged_places_passed_over"] == 1
    assert data["documents"]["rows_in_damaged_groups"] == 5
    assert data["documents"]["kept"] == 55


def recipe_in(folder: Path, texts: Path, tokenizer: Path, source: str, more: str = "") -> Path:
    path = folder / "recipe.toml"
    path.write_text(
        f'''
[source]
path = "{texts}"
{source}
{more}
[tokenizer]
path = "{tokenizer}"
[model]
n_layer = 1
n_head = 1
n_embd = 16
block_size = 16
[train]
steps = 2
batch_tokens = 64
'''
    )
    return path


def test_a_recipe_trains_on_a_source(texts: Path, tokenizer: Path, tmp_path: Path) -> None:
    source, quality = 'held_out = "first-file"\ntokens = "20k"', '[quality]\nduplicates = "exact"'
    recipe = recipe_in(tmp_path, texts, tokenizer, source, quality)
    assert main(["train", str(recipe), "--out", str(tmp_path / "run"), "--train.device", "cpu"]) == 0
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["recipe"]["source"]["tokens"] == 20_000
    assert saved["resolved"]["validation_tokens"] == sum(len(text) + 1 for text in LINES[:20])
    assert main(["train", str(recipe), "--out", str(tmp_path / "two"), "--tokenizer.path", "none"]) == 2


def test_source_keys_need_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "shakespeare", "--source.tokens", "1M", "--out", str(tmp_path / "run")]) == 2
    assert "give source.path" in capsys.readouterr().err


def test_a_run_goes_on_when_its_source_is_gone(texts: Path, tokenizer: Path, tmp_path: Path) -> None:
    recipe, run = recipe_in(tmp_path, texts, tokenizer, "validation_fraction = 0.3"), tmp_path / "run"
    assert main(["train", str(recipe), "--out", str(run)]) == 0
    texts.rename(tmp_path / "elsewhere")
    assert main(["train", "--resume", str(run), "--train.steps", "3"]) == 0
    assert main(["train", str(recipe), "--out", str(tmp_path / "another")]) == 2


def test_a_source_that_lacks_what_was_asked_says_so(texts: Path, run: Run) -> None:
    flags = ("--tokens", "1M", "--source.validation-fraction", "0.3")
    assert "not the 1,000,000 asked for" in run(texts, *flags)
    assert run(texts, *flags, "--json")["lacking_tokens"] > 0
