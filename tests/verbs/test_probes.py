"""Benchmarks and texts measured while training: on a fixed sample, without a trace, and deciding what is best."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

import folio
from folio.artifacts import read_manifest
from folio.errors import ConfigError, UserError
from folio.model.find import find_model
from folio.reports.probes import scores_over_steps
from folio.reports.records import read_run
from folio.training.checkpoint import weights_sha256
from folio.training.metrics import read_metrics
from folio.verbs.action import Terminal

TEXT = "the cook stirs the egg in the pan. a man skis down the hill, and the snow is blue.\n"
QUIET = Terminal(quiet=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT * 60)
    (tmp_path / "other.txt").write_text("a blue pan is in the snow.\n" * 40)
    scenes = [
        {"ind": i, "activity_label": "a", "ctx": f"the pan is {'in ' * (i % 5)}the hill", "label": i % 4,
         "endings": ["stirs the egg.", "skis.", "is blue.", "and the man in the snow."]}
        for i in range(30)
    ]  # fmt: skip
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(scene) + "\n" for scene in scenes))
    return tmp_path


def recipe(home: Path, evaluation: dict[str, Any] | None = None, **train: Any) -> dict[str, Any]:
    asked = {"tasks": ["hellaswag"], "data": [str(home / "items.jsonl")], "items": 10, "every": 2}
    return {
        "corpus": {"path": str(home / "text.txt")},
        "tokenizer": {"kind": "bpe", "vocab_size": 270},
        "model": {"block_size": 32, "n_layer": 1, "n_head": 2, "n_embd": 16, "dropout": 0.1},
        "train": {
            "steps": 6,
            "batch_tokens": 128,
            "validate_every": 2,
            "validation_tokens": 64,
            "device": "cpu",
            "keep_last": 9,
            "checkpoint_every": 2,
            "optimizer": {"learning_rate": 1e-2},
            **train,
        },
        "evaluation": asked if evaluation is None else {**asked, **evaluation},
    }


def sha256_of_weights(run: Path) -> str:
    return weights_sha256(folio.load(run / "checkpoints" / "step-00000006", device="cpu").gpt)


def evaluations(run: Path) -> list[dict[str, Any]]:
    return [line for line in read_metrics(run) if line["kind"] == "evaluation"]


def test_measuring_leaves_no_trace_on_the_weights(home: Path) -> None:
    plain = folio.train(recipe(home, {"tasks": []}), out=home / "plain")
    probed = folio.train(recipe(home, {"texts": [str(home / "other.txt")]}), out=home / "probed")
    assert sha256_of_weights(plain) == sha256_of_weights(probed)
    losses = [
        [line["nats_per_token"] for line in read_metrics(run) if line["kind"] == "train"] for run in (plain, probed)
    ]
    assert losses[0] == losses[1]
    assert evaluations(plain) == []
    assert [(line["step"], line["name"]) for line in evaluations(probed)] == [
        (step, name) for step in (2, 4, 6) for name in ("hellaswag.completion", "hellaswag.harness", "loss.other")
    ]


def test_the_sample_is_drawn_once_by_its_seed(home: Path) -> None:
    lines = [evaluations(folio.train(recipe(home), out=home / name)) for name in ("a", "b")]
    scores = [[line["scores"] for line in found] for found in lines]
    assert scores[0] == scores[1]
    assert {score["n"] for line in scores[0] for score in line.values()} == {10}
    other = evaluations(folio.train(recipe(home, {"seed": 5, "items": 29}), out=home / "c"))
    assert [line["scores"] for line in other] != scores[0]


def test_the_best_checkpoint_is_the_best_by_what_was_asked(home: Path) -> None:
    run = folio.train(recipe(home, {"items": 0}, best_by="hellaswag.completion.acc"), out=home / "run")
    accuracy = {
        line["step"]: line["scores"]["acc"]["value"]
        for line in evaluations(run)
        if line["name"] == "hellaswag.completion"
    }
    best = max(accuracy, key=lambda step: (accuracy[step], step))
    assert find_model(run).parent.name == f"step-{best:08d}"
    for folder in (run / "checkpoints").iterdir():
        facts = read_manifest(folder).config
        assert facts["judged"] == -accuracy[facts["step"]]
        assert facts["scores"]["hellaswag.completion"]["acc"]["value"] == accuracy[facts["step"]]


def test_by_loss_of_another_text_lower_is_better(home: Path) -> None:
    asked = {"tasks": [], "texts": [str(home / "other.txt")]}
    run = folio.train(recipe(home, asked, best_by="loss.other.bits_per_byte"), out=home / "run")
    bits = {line["step"]: line["scores"]["bits_per_byte"]["value"] for line in evaluations(run)}
    assert find_model(run).parent.name == f"step-{min(bits, key=lambda step: bits[step]):08d}"


def test_a_checkpoint_that_was_not_judged_is_not_the_best(home: Path) -> None:
    run = folio.train(
        recipe(home, {"every": 4, "items": 0}, best_by="hellaswag.completion.acc", steps=7), out=home / "r"
    )
    judged = {
        read_manifest(path).config["step"]: read_manifest(path).config["judged"]
        for path in (run / "checkpoints").iterdir()
    }
    assert judged[2] is None
    assert judged[4] is not None
    assert find_model(run).parent.name != "step-00000002"


def test_a_stopped_run_goes_on_with_the_same_measurements(home: Path) -> None:
    from folio.config import build
    from folio.verbs.pretraining import PretrainingJob
    from folio.verbs.recipe import Recipe
    from folio.verbs.run import resume

    whole = folio.train(recipe(home), out=home / "whole")
    part = home / "part"
    shutil.copytree(whole, part)
    shutil.rmtree(part / "checkpoints" / "step-00000006")
    resume(PretrainingJob(build(Recipe, recipe(home)), "", QUIET), part, QUIET)
    assert sha256_of_weights(whole) == sha256_of_weights(part)
    last = [[line["scores"] for line in evaluations(run) if line["step"] == 6] for run in (whole, part)]
    assert last[0] == last[1]


def test_the_report_shows_what_was_measured(home: Path) -> None:
    run = folio.train(recipe(home), out=home / "run")
    page = (run / "report.html").read_text()
    assert "Measured while training" in page
    assert "hellaswag.completion, acc_norm" in page
    found = scores_over_steps(read_run(run))
    assert {key: [step for step, _ in points] for key, points in found.items()}[("hellaswag.harness", "acc")] == [
        2,
        4,
        6,
    ]


def test_an_oracle_judges_what_is_written_after_prompts_that_stay(home: Path) -> None:
    words = TEXT.replace(".", "").replace(",", "").split()
    lines = [f"{one} {other}." for one in dict.fromkeys(words) for other in dict.fromkeys(words)]
    (home / "text.txt").write_text("\n\n".join(lines) + "\n")
    plain = folio.train(recipe(home, {"tasks": []}), out=home / "judge")
    asked = {"tasks": [], "oracle": str(plain), "prompts": 3}
    run = folio.train(recipe(home, asked, best_by="oracle.log_probability"), out=home / "run")
    measured = evaluations(run)
    assert [(line["step"], line["name"]) for line in measured] == [(step, "oracle") for step in (2, 4, 6)]
    scores = {line["step"]: line["scores"]["log_probability"] for line in measured}
    assert all(score["value"] < 0 and score["n"] <= 3 for score in scores.values())
    best = max(scores, key=lambda step: scores[step]["value"])
    assert find_model(run).parent.name == f"step-{best:08d}"
    assert sha256_of_weights(run) == sha256_of_weights(plain)


def test_tasks_of_the_harness_are_measured_too(home: Path) -> None:
    pytest.importorskip("lm_eval")
    (home / "mine.yaml").write_text(
        f"task: mine\ndataset_path: json\ndataset_kwargs: {{data_files: {{validation: {home / 'items.jsonl'}}}}}\n"
        "validation_split: validation\noutput_type: multiple_choice\ndoc_to_text: ctx\ndoc_to_choice: endings\n"
        "doc_to_target: label\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    task = str(home / "mine.yaml")
    run = folio.train(recipe(home, {"tasks": [], "harness": [task], "every": 0, "items": 12}), out=home / "run")
    (line,) = evaluations(run)
    assert line["scores"]["acc"]["n"] == 12


@pytest.mark.parametrize(
    ("asked", "best_by", "told"),
    [
        ({}, "hellaswag.completion.acc_nrom", "Did you mean 'hellaswag.completion.acc_norm'?"),
        ({"tasks": []}, "hellaswag.completion.acc", "which this run does not measure"),
        ({"tasks": ["helaswag"]}, "loss", "Did you mean 'hellaswag'?"),
        ({"data": ["nowhere.jsonl"]}, "loss", "does not exist"),
        ({"texts": ["nowhere.txt"]}, "loss", "nowhere.txt"),
        ({"tasks": [], "harness": ["hellaswagg"]}, "loss", "hellaswagg"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_written(
    home: Path, asked: dict[str, Any], best_by: str, told: str
) -> None:
    with pytest.raises(UserError) as caught:
        folio.train(recipe(home, asked, best_by=best_by), out=home / "run")
    assert told in str(caught.value)
    assert not (home / "run").exists()


def test_two_texts_of_one_name_are_refused(home: Path) -> None:
    for folder in ("a", "b"):
        (home / folder).mkdir()
        (home / folder / "test.txt").write_text(TEXT * 9)
    texts = [str(home / folder / "test.txt") for folder in ("a", "b")]
    with pytest.raises(ConfigError, match=r"two things by the name 'loss\.test'"):
        folio.train(recipe(home, {"tasks": [], "texts": texts}), out=home / "run")


def test_a_stop_amid_measuring_does_not_lose_the_best(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation at step 2 was logged, the benchmark after it never ran: both are made again, and step 2 is kept."""
    from dataclasses import replace

    from folio.config import build
    from folio.errors import Interrupted
    from folio.verbs import pretraining, probes
    from folio.verbs.pretraining import PretrainingJob
    from folio.verbs.recipe import Recipe
    from folio.verbs.run import resume

    losses, stopped = iter([1.0, 1.0, 2.0]), []
    measure_task, loss_on = probes.measure_task, pretraining.loss_on

    def stop_once(*arguments: Any, **settings: Any) -> Any:
        if not stopped:
            stopped.append(True)
            os.kill(os.getpid(), signal.SIGTERM)
            settings["poll"]()
        return measure_task(*arguments, **settings)

    monkeypatch.setattr(probes, "measure_task", stop_once)
    monkeypatch.setattr(
        pretraining, "loss_on", lambda *given, **more: replace(loss_on(*given, **more), nats_per_token=next(losses))
    )
    asked = recipe(home, steps=3, keep_last=1, checkpoint_every=0)
    with pytest.raises(Interrupted):
        folio.train(asked, out=home / "run")
    resume(PretrainingJob(build(Recipe, asked), "", QUIET), home / "run", QUIET)
    facts = [read_manifest(path).config for path in (home / "run" / "checkpoints").iterdir()]
    assert {one["step"]: one["judged"] for one in facts} == {2: 1.0, 3: 2.0}
    assert find_model(home / "run").parent.name == "step-00000002"


def test_what_fails_to_be_measured_does_not_cost_the_steps_before(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from folio.errors import DataError
    from folio.verbs import probes

    def fail(*arguments: Any, **settings: Any) -> Any:
        raise DataError("nothing to measure", "Look again.")

    monkeypatch.setattr(probes, "measure_task", fail)
    with pytest.raises(DataError):
        folio.train(recipe(home, checkpoint_every=0, validate_every=0), out=home / "run")
    (checkpoint,) = (home / "run" / "checkpoints").iterdir()
    assert read_manifest(checkpoint).config["unprobed"]


def test_what_decides_the_best_cannot_be_changed_on_the_way(home: Path) -> None:
    from folio.config import build
    from folio.verbs.pretraining import PretrainingJob
    from folio.verbs.recipe import Recipe
    from folio.verbs.run import resume

    by = {"best_by": "hellaswag.completion.acc"}
    part = folio.train(recipe(home, steps=4, **by), out=home / "part")
    job = PretrainingJob(build(Recipe, recipe(home, {"items": 12}, **by)), "", QUIET)
    with pytest.raises(ConfigError, match=r"begun with another evaluation\.items"):
        resume(job, part, QUIET)


def test_what_is_best_cannot_be_changed_on_the_way(home: Path) -> None:
    from folio.config import build
    from folio.verbs.pretraining import PretrainingJob
    from folio.verbs.recipe import Recipe
    from folio.verbs.run import resume

    part = folio.train(recipe(home, steps=4), out=home / "part")
    job = PretrainingJob(build(Recipe, recipe(home, best_by="hellaswag.completion.acc")), "", QUIET)
    with pytest.raises(ConfigError, match=r"begun with another train\.best_by"):
        resume(job, part, QUIET)
