"""``folio finetune`` on two ranks: the steps of one process, checkpoints that open, and resume to the same bits."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from finetuned_runs import BARE, SHORT, data_of, files_of, finetune, lines_of, make_home, weights_of
from rank_processes import Job
from real_runs import curve

import folio

OPTIONS = (*BARE, *SHORT, "--train.optimizer.learning-rate", "1e-2", "--train.checkpoint-every", "2")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("ranks"))


def on_two(folder: Path, *arguments: object) -> dict[str, Any]:
    """What a job of two ranks answers; it must end well."""
    with Job(folder, 2, "-m", "folio", "finetune", *arguments, "--json") as job:
        ended = job.end(timeout_s=200)
    assert ended.code == 0, ended.err
    answer: dict[str, Any] = json.loads(ended.out)
    return answer


def losses(run: Path) -> list[float]:
    """Of every step, then of every validation, of what is held out and of what is learned."""
    train = [line["nats_per_token"] for line in lines_of(run, "train")]
    held = [line[key] for line in lines_of(run, "validation") for key in ("nats_per_token", "train_nats_per_token")]
    return [*train, *held]


def assert_same_run(run: Path, alone: Path) -> None:
    assert losses(run) == pytest.approx(losses(alone), rel=1e-4)
    assert [line["tokens"] for line in lines_of(run, "train")] == [line["tokens"] for line in lines_of(alone, "train")]
    ours, theirs = (folio.load(one) for one in (run, alone))
    ids = [ours.tokenizer.encode("one: a man.")]
    torch.testing.assert_close(ours(ids), theirs(ids), rtol=1e-2, atol=1e-2)
    assert {Path(name).name for name in files_of(run)} >= {"config.json", "report.html", "manifest.json"}


def test_two_ranks_learn_what_one_does(home: Path, tmp_path: Path) -> None:
    """The base is whole on each; examples of other lengths on each count by their tokens."""
    alone, two = tmp_path / "alone", tmp_path / "two"
    whole = (*data_of(home), "--method", "lora", *OPTIONS, "--train.parallel", "ddp")
    finetune(*whole, "--out", alone)
    answer = on_two(tmp_path, *whole, "--out", two)
    assert (answer["resolved"]["world_size"], answer["resolved"]["parallel"]) == (2, "ddp")
    assert_same_run(two, alone)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("method", ["full", "lora", "qlora", "head"])
def test_every_method_on_two_ranks(home: Path, tmp_path: Path, method: str, parallel: str) -> None:
    alone, two = tmp_path / "alone", tmp_path / "two"
    whole = (*data_of(home), "--method", method, *OPTIONS, "--train.parallel", parallel)
    finetune(*whole, "--out", alone)
    answer = on_two(tmp_path, *whole, "--out", two)
    assert answer["resolved"]["parallel"] == parallel
    assert_same_run(two, alone)
    if method in ("full", "head"):
        assert weights_of(two).keys() == weights_of(alone).keys()


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_stopped_and_resumed_two_ranks_end_with_the_same_bits(home: Path, tmp_path: Path, parallel: str) -> None:
    more = (
        "--lora.dropout",
        "0.1",
        "--train.steps",
        "300",
        "--train.validate-every",
        "100",
        "--train.parallel",
        parallel,
    )
    whole = (*data_of(home), "--method", "lora", *OPTIONS, *more, "--train.checkpoint-every", "50")
    alone, run = tmp_path / "alone", tmp_path / "run"
    answer = on_two(tmp_path, *whole, "--out", alone)
    with Job(tmp_path, 2, "-m", "folio", "finetune", *whole, "--out", run) as job:
        job.wait_until(lambda: (run / "metrics.jsonl").exists() and len(lines_of(run, "train")) > 20)
        job.signal(None, signal.SIGTERM)
        job.end(timeout_s=100)
    assert len(lines_of(run, "train")) < 300
    again = on_two(tmp_path, "--resume", run)
    assert again["weights_sha256"] == answer["weights_sha256"]
    assert curve(run) == curve(alone)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_preferences_on_two_ranks(home: Path, tmp_path: Path, parallel: str) -> None:
    whole = (
        home / "base", "--data", home / "pairs.jsonl", "--data.validation", home / "held_pairs.jsonl", "--method",
        "lora", *OPTIONS, "--train.parallel", parallel,
    )  # fmt: skip
    finetune(*whole, "--out", tmp_path / "alone")
    on_two(tmp_path, *whole, "--out", tmp_path / "two")
    for kind in ("train", "validation"):
        ours, theirs = (
            [line["nats_per_pair"] for line in lines_of(tmp_path / name, kind)] for name in ("two", "alone")
        )
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_samples_and_what_was_forgotten_are_made_once(home: Path, tmp_path: Path) -> None:
    """By the first rank, after the last step; the other waits or leaves."""
    run = tmp_path / "run"
    answer = on_two(
        tmp_path, *data_of(home), "--method", "lora", "--out", run, *SHORT, "--train.device", "cpu",
        "--train.precision", "fp32", "--samples.count", "2", "--forgetting.text", home / "text.txt",
        "--train.sample-every", "3", "--generation.max-new-tokens", "8",
    )  # fmt: skip
    assert len(answer["samples"]) == 4
    assert len((run / "samples.jsonl").read_text().splitlines()) == 4
    assert answer["forgetting"]["comparisons"]


@pytest.mark.slow
def test_a_mistake_is_told_once(home: Path, tmp_path: Path) -> None:
    with Job(tmp_path, 2, "-m", "folio", "finetune", home / "base", "--data", home / "nowhere.jsonl", "--out",
             tmp_path / "run", *BARE) as job:  # fmt: skip
        ended = job.end(timeout_s=100)
    assert ended.code != 0
    assert len([line for line in ended.folio_lines if "nowhere.jsonl" in line]) == 1
    assert not (tmp_path / "run").exists()
