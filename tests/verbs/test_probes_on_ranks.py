"""Measurements while several ranks train: shared out among them, or by the first alone, and those of one rank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rank_processes import Job

from folio.config import build, to_toml
from folio.training.metrics import read_metrics
from folio.verbs.recipe import Recipe

TEXT = "the cook stirs the egg in the pan. a man skis down the hill, and the snow is blue.\n"


def write_recipe(home: Path, parallel: str) -> Path:
    (home / "text.txt").write_text(TEXT * 60)
    scenes = [
        {"ind": i, "activity_label": "a", "ctx": f"the pan is {'in ' * (i % 5)}the hill", "label": i % 4,
         "endings": ["stirs the egg.", "skis.", "is blue.", "and the man in the snow."]}
        for i in range(21)
    ]  # fmt: skip
    (home / "items.jsonl").write_text("".join(json.dumps(scene) + "\n" for scene in scenes))
    recipe = {
        "corpus": {"path": str(home / "text.txt")},
        "tokenizer": {"kind": "bpe", "vocab_size": 270},
        "model": {"vocab_size": 270, "block_size": 32, "n_layer": 1, "n_head": 2, "n_embd": 16},
        "train": {
            "steps": 4,
            "batch_tokens": 128,
            "validation_tokens": 64,
            "device": "cpu",
            "precision": "fp32",
            "parallel": parallel,
            "best_by": "hellaswag.completion.acc",
        },
        "evaluation": {
            "tasks": ["hellaswag"],
            "data": [str(home / "items.jsonl")],
            "texts": [str(home / "text.txt")],
            "items": 0,
            "every": 2,
        },
    }
    path = home / f"{parallel}.toml"
    path.write_text(to_toml(build(Recipe, recipe)))
    return path


def measured(run: Path) -> list[tuple[int, str, dict[str, Any]]]:
    return [
        (line["step"], line["name"], {metric: score["value"] for metric, score in line["scores"].items()})
        for line in read_metrics(run)
        if line["kind"] == "evaluation"
    ]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_ranks_measure_what_one_does(tmp_path: Path, parallel: str) -> None:
    import folio

    recipe = write_recipe(tmp_path, parallel)
    alone = folio.train(recipe, out=tmp_path / "alone")
    with Job(tmp_path, 2, "-m", "folio", "train", recipe, "--out", tmp_path / "two") as job:
        ended = job.end(timeout_s=120)
    assert ended.code == 0, ended.err
    one, two = measured(alone), measured(tmp_path / "two")
    assert [line[:2] for line in one] == [line[:2] for line in two]
    for (_, _, ours), (_, _, theirs) in zip(one, two, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
