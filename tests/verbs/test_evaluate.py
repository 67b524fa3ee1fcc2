"""``folio evaluate``: one table for several models, folders with every item, and nothing that was measured lost."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from evaluated_runs import QUIET, RIDDLES, SCENES, make_home, recipe

import folio
from folio.cli import main
from folio.evaluation.results import read_evaluation
from folio.verbs.evaluate import EvaluateOptions, evaluate
from folio.verbs.evaluate.tasks import score_benchmark

HARNESS_TASK = """
task: scenes
dataset_path: json
dataset_kwargs: {{data_files: {{validation: "{file}"}}}}
validation_split: validation
fewshot_split: validation
output_type: multiple_choice
doc_to_text: "{{{{ctx}}}}"
doc_to_choice: endings
doc_to_target: label
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(autouse=True)
def _there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


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


def test_what_was_measured_survives_an_interruption(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from folio.verbs.evaluate import measuring

    calls: list[str] = []

    def interrupted(model: Any, benchmark: Any, *rest: Any) -> Any:
        calls.append(benchmark.name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return score_benchmark(model, benchmark, *rest)

    monkeypatch.setattr(measuring, "score_benchmark", interrupted)
    models = ("runs/bpe", "runs/char", "runs/word")
    asked = ["--tasks", "loss,hellaswag", "--data", "items.jsonl", "--text", "other.txt", "--to", str(tmp_path / "e")]
    assert main(["evaluate", *models, *asked]) == 3
    told = capsys.readouterr().err
    assert "Not measured, or not on everything: runs/char runs/word\n" in told
    assert f"kept are loss, hellaswag.completion, hellaswag.harness in {tmp_path}/e/bpe" in told
    assert f"loss, hellaswag.completion in {tmp_path}/e/char" in told
    whole, begun = (read_evaluation(tmp_path / "e" / name) for name in ("bpe", "char"))
    assert list(whole.measurements) == ["loss", "hellaswag.completion", "hellaswag.harness"]
    assert "not_measured" not in whole.config
    assert list(begun.measurements) == ["loss", "hellaswag.completion"]
    assert begun.config["not_measured"] == ["hellaswag.harness"]


def test_an_interruption_before_anything_was_measured_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("folio.evaluation.likelihood.measure_loss", interrupted)
    assert main(["evaluate", "runs/bpe", "--text", "other.txt", "--to", str(tmp_path / "e")]) == 3
    assert "unfinished work was not saved" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_what_was_measured_survives_a_mistake_that_only_the_model_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({**SCENES[0], "ctx": "Ein Öfchen?"}))
    asked = ["runs/char", "--tasks", "loss,hellaswag", "--convention", "completion", "--data", str(path)]
    assert main(["evaluate", *asked, "--text", "other.txt", "--to", str(tmp_path / "e")]) == 2
    told = capsys.readouterr().err
    assert f"can be written in this model's vocabulary; kept are loss in {tmp_path}/e\n" in told
    assert list(read_evaluation(tmp_path / "e").measurements) == ["loss"]


def test_what_is_kept_of_the_options_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RIDDLES + 'shots = "others"\n')
    for name in ("items.jsonl", "other.txt"):
        shutil.copy(name, tmp_path)
    options = EvaluateOptions(
        models=("runs/bpe",),
        tasks=(f"loss,{tmp_path}/mine.toml",),
        data=(f"riddles={tmp_path}/items.jsonl",),
        text=os.path.relpath(tmp_path / "other.txt"),
        shots_from=Path("./items.jsonl"),
        num_fewshot=1,
        limit=2,
        to=tmp_path / "e",
    )
    evaluate(options, QUIET)
    assert read_evaluation(tmp_path / "e").config["options"] == {
        "tasks": ["loss,mine.toml"],
        "data": ["riddles=items.jsonl"],
        "text": "other.txt",
        "shots_from": "items.jsonl",
        "num_fewshot": 1,
        "limit": 2,
    }


def test_models_of_one_name_have_folders_of_their_own_and_the_next_command_can_be_pasted(tmp_path: Path) -> None:
    for place in ("a/bpe", "b/bpe", "c/bpe-1"):
        shutil.copytree("plain", tmp_path / place)
    models = tuple(str(tmp_path / place) for place in ("a/bpe", "b/bpe", "c/bpe-1"))
    options = EvaluateOptions(models=models, text="other.txt", max_tokens=100, to=tmp_path / "my scores")
    outcome = evaluate(options, QUIET)
    assert len(set(outcome.wrote)) == len(os.listdir(tmp_path / "my scores")) == 3
    assert shlex.split(outcome.next[0]) == ["folio", "compare", *map(str, outcome.wrote)]
    alone = evaluate(options.model_copy(update={"models": models[:1], "to": tmp_path / "one"}), QUIET)
    assert shlex.split(alone.next[0])[2:] == [models[0]]


def test_losses_of_different_texts_are_not_shown_as_if_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def notes(*arguments: str) -> str:
        assert main(["evaluate", *arguments, "--to", str(tmp_path / "e")]) == 0
        return " ".join(capsys.readouterr().out.split())

    assert "loss: each model was measured on its own run's shards, and these differ" in notes("runs/bpe", "runs/char")
    cut = notes("runs/bpe", "runs/char", "--text", "other.txt", "--max-tokens", "100")
    assert "bytes of the same text; --max-tokens counts each model's own tokens" in cut
    assert "loss: " not in notes("runs/bpe", "runs/char", "--text", "other.txt")
    assert "loss: " not in notes("runs/char", "runs/char")


def test_models_measured_together_by_the_harness_score_as_each_alone(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    (tmp_path / "scenes.yaml").write_text(HARNESS_TASK.format(file=Path("items.jsonl").resolve()))
    options = EvaluateOptions(
        models=("runs/bpe", "runs/char"), harness=("scenes",), include_path=tmp_path, num_fewshot=1, limit=8
    )
    evaluate(options.model_copy(update={"to": tmp_path / "both"}), QUIET)
    for kind in ("bpe", "char"):
        one = {"models": (f"runs/{kind}",), "to": tmp_path / kind}
        evaluate(options.model_copy(update=one), QUIET)
        (together,) = read_evaluation(tmp_path / "both" / kind).measurements.values()
        (alone,) = read_evaluation(tmp_path / kind).measurements.values()
        assert (together.items, together.scores) == (alone.items, alone.scores)
        assert len(alone.items) == 8
        assert alone.scores[0].convention.endswith("1-shot")
