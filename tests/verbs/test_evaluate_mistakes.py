"""What ``folio evaluate`` cannot do is told in one line, before any work; no option is read and ignored."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from evaluated_runs import QUIET, SCENES, make_home

from folio.cli import main
from folio.errors import ConfigError
from folio.verbs.evaluate import EvaluateOptions, evaluate


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(autouse=True)
def _there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a mistaken command says; it must be one message, exit 2, and leave nothing behind."""
    before = sorted(Path().rglob("*"))
    assert main(["evaluate", *arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("folio: ")
    assert "Traceback" not in told
    assert len(told.strip().splitlines()) <= 2
    assert sorted(Path().rglob("*")) == before
    return told


MISTAKES = {
    "no model": ((), "no model was named"),
    "two texts": (("runs/bpe", "--text", "other.txt", "--corpus", "shakespeare"), "three ways to say one thing"),
    "unknown task": (("runs/bpe", "--tasks", "helaswag"), "Did you mean 'hellaswag'?"),
    "unknown convention": (
        ("runs/bpe", "--tasks", "hellaswag", "--data", "items.jsonl", "--convention", "completions"),
        "Did you mean 'completion'?",
    ),
    "whose file": (
        ("runs/bpe", "--tasks", "hellaswag,piqa", "--data", "items.jsonl"),
        "--data items.jsonl does not say whose file it is",
    ),
    "no such file": (("runs/bpe", "--tasks", "hellaswag", "--data", "nowhere.jsonl"), "'nowhere.jsonl'"),
    "another task's file": (("runs/bpe", "--tasks", "piqa", "--data", "items.jsonl"), "looks like"),
    "a stride of nothing": (("runs/bpe", "--stride", "4"), "--stride is that of a sliding window"),
    "a stride too long": (("runs/bpe", "--window", "sliding", "--stride", "33"), "does not fit a context of 32"),
    "no such model": (("runs/nothing", "--text", "other.txt"), "'runs/nothing'"),
    "no such text": (("runs/bpe", "--text", "nothing.txt"), "nothing.txt"),
    "a model that is not there, after one that is": (("runs/bpe", "runs/typo", "--text", "other.txt"), "'runs/typo'"),
    "a model without a text, after one that has its own": (("runs/bpe", "plain"), "'plain' is not in a run"),
    "a stride too long for the second": (
        ("runs/bpe", "runs/short", "--text", "other.txt", "--window", "sliding", "--stride", "24"),
        "does not fit a context of 16",
    ),
    "shards of another tokenizer": (("runs/bpe", "runs/char", "--shards", "shards"), "made by another tokenizer"),
    "a split that is not there": (("runs/bpe", "--shards", "shards", "--split", "train"), "no split 'train'"),
    "no task": (("runs/bpe", "--tasks", ","), "--tasks names nothing"),
    "no task of the harness": (("runs/bpe", "--harness", ","), "--harness names no task"),
    "a task without the convention": (
        ("runs/bpe", "--tasks", "hellaswag,piqa", "--convention", "completion", "--data", "hellaswag=items.jsonl"),
        "task 'piqa' has no convention 'completion', and would be left out\n       It has: harness.",
    ),
    "a task without examples": (
        ("runs/bpe", "--tasks", "riddles.toml", "--num-fewshot", "2", "--data", "items.jsonl"),
        "no convention of task 'riddles' has few-shot examples (plain)",
    ),
    "two tasks of one name": (
        ("runs/bpe", "--tasks", "riddles.toml,again.toml"),
        "--tasks names 'riddles' twice: riddles.toml and again.toml",
    ),
    "two files of one task": (
        ("runs/bpe", "--tasks", "hellaswag", "--data", "hellaswag=items.jsonl", "--data", "hellaswag=b.jsonl"),
        "--data gives 'hellaswag' two files: items.jsonl and b.jsonl",
    ),
    "two files of the only task": (
        ("runs/bpe", "--tasks", "hellaswag", "--data", "items.jsonl", "b.jsonl"),
        "--data gives 'hellaswag' two files: items.jsonl and b.jsonl",
    ),
    "too few examples": (
        (
            "runs/bpe",
            "--tasks",
            "hellaswag",
            "--data",
            "items.jsonl",
            "--shots-from",
            "items.jsonl",
            "--num-fewshot",
            "40",
        ),
        "few-shot examples are drawn from at least 41 items",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_a_line_before_all_work(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any weights are read, so before the first of several models is measured."""
    monkeypatch.setattr("folio.verbs.library.load", lambda *_, **__: pytest.fail("a model was loaded"))
    arguments, told = MISTAKES[name]
    assert told in refusal(capsys, *arguments)


ITEMS = ("--tasks", "hellaswag", "--data", "items.jsonl")


IDLE = {
    "--text": ((*ITEMS, "--text", "other.txt"), "loss is measured"),
    "--corpus": ((*ITEMS, "--corpus", "shakespeare"), "loss is measured"),
    "--shards": ((*ITEMS, "--shards", "shards"), "loss is measured"),
    "--split": ((*ITEMS, "--split", "train"), "loss is measured"),
    "--window": ((*ITEMS, "--window", "sliding"), "loss is measured"),
    "--stride": ((*ITEMS, "--stride", "4"), "loss is measured"),
    "--max-tokens": ((*ITEMS, "--max-tokens", "9"), "loss is measured"),
    "--per-token": ((*ITEMS, "--per-token"), "loss is measured"),
    "--num-fewshot": (("--num-fewshot", "2"), "benchmarks are asked"),
    "--convention": (("--convention", "harness"), "benchmarks are asked"),
    "--limit": (("--limit", "2"), "benchmarks are asked"),
    "--data": (("--data", "items.jsonl"), "benchmarks are asked"),
    "--shots-from, with loss": (("--shots-from", "items.jsonl"), "benchmarks are asked"),
    "--shots-from": ((*ITEMS, "--shots-from", "items.jsonl"), "examples come from"),
    "--include-path": (("--include-path", "tasks"), "--harness"),
    "--split, of a text": (("--text", "other.txt", "--split", "val"), "scored whole"),
    "--tasks, with the harness": (("--harness", "piqa", *ITEMS), "--harness stands instead"),
    "--convention, with the harness": (("--harness", "piqa", "--convention", "harness"), "--harness stands instead"),
    "--text, with the harness": (("--harness", "piqa", "--text", "other.txt"), "--harness stands instead"),
    "--data, with the harness": (("--harness", "piqa", "--data", "items.jsonl"), "--harness stands instead"),
}


@pytest.mark.parametrize("name", IDLE)
def test_no_option_is_read_and_ignored(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, why = IDLE[name]
    told = refusal(capsys, "runs/bpe", *arguments)
    assert told.startswith(f"folio: {name.partition(',')[0]} ")
    assert why in told


def test_nor_when_comparing_or_from_python(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "runs/bpe", "runs/char", "--limit", "3"]) == 2
    assert "--limit says how benchmarks are asked" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="--per-token says how the loss is measured"):
        evaluate(EvaluateOptions(models=("runs/bpe",), tasks=("hellaswag",), per_token=True), QUIET)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"ind": 3, "ctx": "A', "line 13 is not JSON"),
        (json.dumps({**SCENES[0], "ind": 90, "label": 4}), "line 13"),
        (json.dumps({**SCENES[0], "ind": 91, "endings": ["a", "", "c", "d"]}), "line 13"),
    ],
)
def test_a_damaged_item_is_named_by_file_and_line(
    line: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "damaged.jsonl"
    path.write_text(Path("items.jsonl").read_text() + line + "\n")
    said = refusal(capsys, "runs/bpe", "--tasks", "hellaswag", "--data", str(path))
    assert "damaged.jsonl" in said
    assert told in said.replace(":13", " line 13")


def test_a_missing_file_is_told_within_two_seconds_offline(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOLIO_CACHE", str(tmp_path))
    begun = time.perf_counter()
    said = refusal(capsys, "runs/bpe", "--tasks", "arc-easy")
    assert time.perf_counter() - begun < 2
    assert "--data arc-easy=FILE" in said


def test_what_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    said = refusal(capsys, "runs/bpe", "--text", "other.txt", "--to", str(tmp_path / "mine"))
    assert "already exists and holds something else" in said


def test_parquet_without_its_package_is_refused_before_all_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("folio.verbs.library.load", lambda *_, **__: pytest.fail("a model was loaded"))
    assert "'pyarrow', which is not installed" in refusal(capsys, "runs/bpe", "--text", "other.txt", "--parquet")


def test_tasks_of_the_harness_that_are_not_there_are_refused_before_all_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setattr("folio.verbs.library.load", lambda *_, **__: pytest.fail("a model was loaded"))
    told = refusal(capsys, "runs/bpe", "--harness", "scenes", "--include-path", "nowhere")
    assert "there is no folder 'nowhere' with task files" in told
