"""``folio evaluate``: one table for several models, folders with every item, and mistakes told in one line."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

import folio
from folio.cli import main
from folio.evaluation.results import read_evaluation
from folio.verbs.action import Terminal
from folio.verbs.evaluate import EvaluateOptions, evaluate

QUIET = Terminal(quiet=True)
TEXT = "the cook stirs the egg in the pan. a man skis down the hill, and the snow is blue.\n"
SCENES = [
    {"ind": i, "activity_label": "Cooking", "ctx": f"A pan is on the stove {i}. the cook", "label": i % 4,
     "endings": ["stirs the egg.", "skis down the hill.", "is blue.", "eats a man in the snow."]}
    for i in range(12)
]  # fmt: skip


def recipe(text: Path, kind: str, **tables: Any) -> dict[str, Any]:
    sizes = {"bpe": {"vocab_size": 270}, "word": {"min_count": 2}, "char": {}}[kind]
    return {
        "corpus": {"path": str(text)},
        "tokenizer": {"kind": kind, **sizes},
        "model": {"block_size": 32, "n_layer": 1, "n_head": 2, "n_embd": 16},
        "train": {"steps": 4, "batch_tokens": 128, "validation_tokens": 64, "device": "cpu", **tables.pop("train", {})},
        **tables,
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs on one text, another text, and HellaSwag-like items."""
    home = tmp_path_factory.mktemp("evaluate")
    (home / "text.txt").write_text("0123456789 A C fjqvxyz\n" + TEXT * 60)
    (home / "other.txt").write_text("a blue pan is in the snow, and the man stirs it.\nthe zebra eats.\n" * 90)
    (home / "items.jsonl").write_text("".join(json.dumps(scene) + "\n" for scene in SCENES))
    for kind in ("bpe", "char", "word"):
        folio.train(recipe(home / "text.txt", kind), out=home / "runs" / kind)
    return home


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


def test_models_of_every_tokenizer_stand_in_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ["runs/bpe", "runs/char", "runs/word"]
    assert main(["evaluate", *models, "--text", "other.txt", "--to", str(tmp_path / "e")]) == 0
    printed = capsys.readouterr().out
    assert sum("  bits_per_byte  " in line for line in printed.splitlines()) == 3
    assert "bits_per_byte_spelled" in printed
    assert "of the text's bytes are in words outside the vocabulary" in printed
    assert f"folio compare {tmp_path}/e/bpe {tmp_path}/e/char {tmp_path}/e/word" in printed
    found = [read_evaluation(tmp_path / "e" / kind) for kind in ("bpe", "char", "word")]
    sizes = {one.measurements["loss"].facts["bytes"] for one in found}
    assert sizes == {len(Path("other.txt").read_bytes())}
    assert len({one.measurements["loss"].facts["sha256"] for one in found}) == 1
    assert [one.model for one in found] == models
    ids = {tuple(item["id"] for item in one.measurements["loss"].items) for one in found}
    assert len(ids) == 1


def test_both_conventions_side_by_side_with_every_item_kept(tmp_path: Path) -> None:
    options = EvaluateOptions(
        models=("runs/bpe",), tasks=("hellaswag",), data=("items.jsonl",), to=tmp_path / "e", parquet=True
    )
    outcome = evaluate(options, QUIET)
    found = read_evaluation(tmp_path / "e")
    assert list(found.measurements) == ["hellaswag.completion", "hellaswag.harness"]
    for measurement in found.measurements.values():
        assert [item["id"] for item in measurement.items] == [str(i) for i in range(12)]
        assert all(len(item["log_likelihoods"]) == 4 for item in measurement.items)
        score = measurement.score("acc_norm")
        assert 0 <= score.low <= score.value <= score.high <= 1
        assert (score.n, score.unit) == (12, "items")
    assert "ctx_a and ctx_b recovered from ctx" in found.measurements["hellaswag.harness"].scores[0].convention
    assert found.measurements["hellaswag.completion"].scores[0].convention == "completion, 0-shot"
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "e" / "items" / "hellaswag.harness.parquet").to_pylist()
    assert table == list(found.measurements["hellaswag.harness"].items)
    assert outcome.data["evaluations"][0]["measurements"]["hellaswag.harness"]["facts"]["items_per_s"] > 0


def test_examples_and_limits(tmp_path: Path) -> None:
    options = EvaluateOptions(
        models=("runs/bpe",),
        tasks=("hellaswag,loss",),
        convention=("harness",),
        data=("hellaswag=items.jsonl",),
        shots_from=Path("items.jsonl"),
        num_fewshot=2,
        limit=5,
        max_tokens=100,
        window="sliding",
        stride=8,
        per_token=True,
        to=tmp_path / "e",
    )
    evaluate(options, QUIET)
    found = read_evaluation(tmp_path / "e").measurements
    assert list(found) == ["loss", "hellaswag.harness.2-shot"]
    assert len(found["hellaswag.harness.2-shot"].items) == 5
    assert found["loss"].scores[0].convention == "sliding window of 32, stride 8"
    assert sum(len(item["token_nats"]) for item in found["loss"].items) == found["loss"].facts["tokens"] == 99


def test_a_run_is_measured_on_its_own_held_out_text_as_validation_did(tmp_path: Path) -> None:
    folio.train(recipe(Path("text.txt"), "bpe", train={"validation_tokens": 0}), out=tmp_path / "run")
    options = EvaluateOptions(models=(str(tmp_path / "run"),), to=tmp_path / "e", device="cpu")
    evaluate(options, QUIET)
    last = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (validation,) = [line for line in last if line["kind"] == "validation"]
    measured = read_evaluation(tmp_path / "e").measurements["loss"]
    assert measured.facts["tokens"] == validation["tokens"]
    assert measured.score("nats_per_token").value == pytest.approx(validation["nats_per_token"], rel=2e-3)  # bf16 there


def test_json_is_one_object_with_every_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "runs/char", "--text", "other.txt", "--to", str(tmp_path / "e"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    scores = answer["evaluations"][0]["measurements"]["loss"]["scores"]
    assert [score["metric"] for score in scores] == ["nats_per_token", "perplexity", "bits_per_byte"]
    assert {"value", "n", "unit", "standard_error", "low", "high", "convention"} <= scores[0].keys()
    assert answer["wrote"] == [str(tmp_path / "e")]


def test_results_are_never_lost_to_a_second_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        evaluate(EvaluateOptions(models=(str(home / "runs" / "bpe"),), text=str(home / "other.txt")), QUIET)
    assert sorted(os.listdir("evaluations")) == ["bpe-loss", "bpe-loss-2"]
    assert read_evaluation(Path("evaluations/bpe-loss")).config["trained"]["recipe"]["train"]["steps"] == 4


def test_what_is_not_measured_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    long = {**SCENES[0], "ctx": "A pan is on the stove. " * 40}
    strange = {**SCENES[1], "ctx": "Ein Öfchen?"}
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps({**scene, "ind": i}) + "\n" for i, scene in enumerate((*SCENES, long, strange))))
    asked = ["runs/char", "--tasks", "hellaswag", "--convention", "completion", "--data", str(path)]
    assert main(["evaluate", *asked, "--to", str(tmp_path / "e")]) == 0
    printed = capsys.readouterr().out
    assert "1 items left out: they hold what the vocabulary does not" in printed
    assert "items longer than the context: the start of theirs was cut" in printed


def test_tasks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "tasks", "--json"]) == 0
    names = [task["name"] for task in json.loads(capsys.readouterr().out)["tasks"]]
    assert names == ["arc-challenge", "arc-easy", "hellaswag", "lambada", "openbookqa", "piqa", "winogrande"]


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
def test_a_mistake_is_told_in_a_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, told = MISTAKES[name]
    assert told in refusal(capsys, *arguments)


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
