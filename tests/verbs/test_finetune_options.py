"""What ``folio finetune`` is told otherwise: recipes, lengths, probes, templates, rows, preferences, other bases."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from evaluated_runs import SCENES
from finetuned_runs import (
    BARE,
    SHORT,
    data_of,
    finetune,
    lines_of,
    make_home,
    part_of,
    tune,
)

import folio
from folio.training.checkpoint import list_checkpoints
from folio.training.metrics import read_metrics


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("options"))


@pytest.fixture(scope="module")
def runs(home: Path) -> dict[str, dict[str, Any]]:
    """By method: the answer of a short run at ``home/METHOD``."""
    rate = ("--train.optimizer.learning-rate", "1e-2")
    return {method: tune(home, home / method, method, *rate) for method in ("full", "lora", "qlora")}


Runs = dict[str, dict[str, Any]]


def test_a_recipe_in_a_file_and_flags_over_it(home: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'method = "lora"\n[data]\npath = "{(home / "train.jsonl").as_posix()}"\nvalidation_fraction = 0.3\n'
        "[lora]\nrank = 2\n[train]\nsteps = 9\nbatch_tokens = 128\n"
        "[samples]\ncount = 0\n[forgetting]\nmeasure = false\n"
    )
    answer = finetune(home / "base", "--recipe", recipe, "--out", tmp_path / "run", "--train.steps", "2", *BARE)
    config = json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]
    assert (config["lora"]["rank"], config["data"]["validation_fraction"]) == (2, 0.3)
    assert (answer["steps"], config["train"]["steps"]) == (2, 2)
    assert config["train"]["optimizer"]["learning_rate"] == 2e-4  # the usual of the method


def test_without_steps_epochs_say_how_long_and_each_ends_with_a_validation(home: Path, tmp_path: Path) -> None:
    answer = finetune(*data_of(home), "--method", "head", "--out", tmp_path / "run", *BARE, "--train.epochs", "2",
                      "--train.batch-tokens", "64")  # fmt: skip
    assert answer["steps"] == 6  # two epochs of three rows
    lines = lines_of(tmp_path / "run", "validation")
    assert [(line["step"], line["epoch"]) for line in lines] == [(0, 0), (3, 1), (6, 2)]


def test_validation_tokens_takes_whole_examples(home: Path, tmp_path: Path) -> None:
    tune(home, tmp_path / "run", "head", "--train.validation-tokens", "20")
    line = lines_of(tmp_path / "run", "validation")[0]
    assert (line["examples"], line["tokens"]) == (2, len("a man.") + len("the egg.") + 2)


def test_accumulated_it_takes_the_same_steps(home: Path, runs: Runs, tmp_path: Path) -> None:
    tune(home, tmp_path / "run", "lora", "--train.optimizer.learning-rate", "1e-2", "--train.micro-batch", "1")
    once, parts = (
        [line["nats_per_token"] for line in lines_of(run, "train")] for run in (home / "lora", tmp_path / "run")
    )
    assert parts == pytest.approx(once, rel=1e-5)


@pytest.mark.parametrize("flags", [("--train.dropout", "0.3"), ("--lora.dropout", "0.3"), ("--train.recompute",)])
def test_dropout_is_that_of_training_alone_and_recomputing_changes_nothing(
    home: Path, runs: Runs, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    tune(home, tmp_path / "run", "lora", "--train.optimizer.learning-rate", "1e-2", *flags)
    both = (tmp_path / "run", home / "lora")
    ours, plain = ([line["nats_per_token"] for line in lines_of(run, "train")] for run in both)
    before = [lines_of(run, "validation")[0]["nats_per_token"] for run in both]
    assert before[0] == before[1]
    if "--train.recompute" in flags:
        assert ours == pytest.approx(plain, rel=1e-5)
    else:
        assert ours[1] != pytest.approx(plain[1], rel=1e-4)


def test_what_evaluation_asks_for_is_measured_of_an_adapted_model(home: Path, tmp_path: Path) -> None:
    items, run = tmp_path / "items.jsonl", tmp_path / "run"
    items.write_text("".join(json.dumps(scene) + "\n" for scene in SCENES))
    tune(
        home, run, "lora", "--train.sample-every", "3", "--train.sample-prompt", "the ", "--evaluation.every", "3",
        "--evaluation.tasks", "hellaswag", "--evaluation.convention", "completion", "--evaluation.data", items,
        "--evaluation.texts", home / "text.txt", "--generation.max-new-tokens", "8",
    )  # fmt: skip
    seen = [(line["step"], line["name"]) for line in lines_of(run, "evaluation")]
    names = ("hellaswag.completion", "loss.text")
    assert sorted(seen) == [(step, name) for step in (3, 6) for name in names]
    assert all(score["value"] is not None for line in lines_of(run, "evaluation") for score in line["scores"].values())
    samples = lines_of(run, "sample")
    assert [line["step"] for line in samples] == [3, 6]
    assert "## Step 3" in (run / "samples.md").read_text()
    assert "hellaswag" in (part_of(run) / "README.md").read_text()


def test_best_by_a_score_of_the_adapted_model(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tune(home, run, "lora", "--evaluation.every", "2", "--evaluation.texts", home / "text.txt",
         "--train.best-by", "loss.text.nats_per_token", "--train.optimizer.learning-rate", "3e-2")  # fmt: skip
    scores = {line["step"]: line["scores"]["nats_per_token"]["value"] for line in lines_of(run, "evaluation")}
    kept = [checkpoint.step for checkpoint in list_checkpoints(run)]
    assert min(scores, key=scores.__getitem__) in kept
    assert min(scores.values()) < max(scores.values())


def test_chats_leave_their_template_in_the_tokenizer(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finetune(home / "base", "--data", home / "chats.jsonl", "--data.template", "plain", "--method", "lora", "--out",
             run, *BARE, *SHORT, "--data.validation-fraction", "0.3", "--data.unknown-characters", "drop")  # fmt: skip
    model = folio.load(run)
    assert model.tokenizer.settings["chat_template"]
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(part_of(run))
    assert "one" in theirs.apply_chat_template([{"role": "user", "content": "one"}], tokenize=False)


def test_rows_that_attend_across_are_trained_and_measured_as_they_lie(home: Path, runs: Runs, tmp_path: Path) -> None:
    tune(home, tmp_path / "run", "lora", "--data.attend-across", "--train.optimizer.learning-rate", "1e-2")
    across, alone = (lines_of(run, "validation")[0] for run in (tmp_path / "run", home / "lora"))
    assert across["convention"] != alone["convention"]
    assert across["nats_per_token"] != pytest.approx(alone["nats_per_token"], rel=1e-6)
    assert lines_of(tmp_path / "run", "train")[-1]["nats_per_token"] < across["train_nats_per_token"]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_preferences_end_to_end(home: Path, tmp_path: Path, method: str) -> None:
    run = tmp_path / "run"
    answer = finetune(
        home / "base", "--data", home / "pairs.jsonl", "--data.validation", home / "held_pairs.jsonl", "--method",
        method, "--out", run, *BARE, "--train.steps", "8", "--train.validate-every", "4", "--train.batch-tokens", "256",
        "--train.optimizer.learning-rate", "5e-3", "--dpo.beta", "0.2",
    )  # fmt: skip
    lines = lines_of(run, "validation")
    assert [line["step"] for line in lines] == [0, 4, 8]
    assert lines[0]["nats_per_pair"] == pytest.approx(math.log(2), rel=1e-4)  # the policy is its own reference
    assert lines_of(run, "train")[0]["nats_per_pair"] == pytest.approx(math.log(2), rel=1e-4)
    assert lines[-1]["nats_per_pair"] < lines[0]["nats_per_pair"]
    assert lines[-1]["train_nats_per_pair"] < math.log(2)
    assert lines[-1]["accuracy"] > 0.5
    assert answer["best"]["nats_per_pair"] == min(line["nats_per_pair"] for line in lines[1:])
    assert folio.load(run).generate("one: ", max_new_tokens=4)
    assert (run / "report.html").stat().st_size > 1000


def test_nothing_held_out_is_trained_to_the_end(home: Path, tmp_path: Path) -> None:
    answer = finetune(home / "base", "--data", home / "train.jsonl", "--data.validation-fraction", "0", "--method",
                      "head", "--out", tmp_path / "run", *BARE, *SHORT)  # fmt: skip
    assert (answer["steps"], answer["validation"], answer["best"]["step"]) == (6, None, 6)
    assert lines_of(tmp_path / "run", "validation") == []
    assert (tmp_path / "run" / "report.html").is_file()


def test_it_goes_on_from_a_fine_tuned_model(home: Path, runs: Runs, tmp_path: Path) -> None:
    """A model that was fine-tuned whole is a base like any other: its tokenizer, its weights."""
    answer = finetune(home / "full", *data_of(home)[1:], "--method", "lora", "--out", tmp_path / "run", *BARE, *SHORT)
    first = lines_of(tmp_path / "run", "validation")[0]["nats_per_token"]
    assert first == pytest.approx(runs["full"]["validation"]["nats_per_token"], rel=1e-5)
    assert answer["steps"] == 6


def test_without_out_the_run_is_named_after_base_and_method(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    arguments = ("base", "--data", "train.jsonl", "--method", "head", *BARE, *SHORT, "--train.steps", "1")
    first, second = finetune(*arguments), finetune(*arguments)
    assert first["run"] == "runs/base-head"
    assert Path(second["run"]).parent == Path("runs")
    assert second["run"] != first["run"]
    assert json.loads((home / first["run"] / "config.json").read_text())["base"]["given"] == "base"


def test_weights_are_told_so_that_two_runs_can_be_held_together(home: Path, runs: Runs, tmp_path: Path) -> None:
    again = tune(home, tmp_path / "again", "qlora", "--train.optimizer.learning-rate", "1e-2")
    assert again["weights_sha256"] == runs["qlora"]["weights_sha256"]
    other = tune(home, tmp_path / "other", "qlora", "--train.optimizer.learning-rate", "1e-2", "--train.seed", "5")
    assert other["weights_sha256"] != again["weights_sha256"]
    assert [line["kind"] for line in read_metrics(tmp_path / "again")] == [
        line["kind"] for line in read_metrics(home / "qlora")
    ]
