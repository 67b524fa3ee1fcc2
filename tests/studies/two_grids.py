"""A made-up study of words and characters: two grids of which one lacks axes of the other, and an oracle's scores."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from folio.checksums import read_sealed_json, sealed_json
from folio.evaluation.oracle.judge import Continuation, Judgement
from folio.evaluation.oracle.prompts import Passage, Prompt
from folio.evaluation.oracle.scores import measurement
from folio.evaluation.results import write_evaluation
from folio.studies.grid.cells import Cell
from folio.studies.running.records import StudyFolder

WIDTHS, COUNTS, STARTS = (64, 128, 256), (1, 3), ("frozen", "warm", "random")
STUDY = """
title = "Made up"
seeds = 3
measures = ["bits_per_byte_spelled", "oracle.log_probability"]
[axes]
width = { key = "model.n_embd", values = [64, 128, 256] }
[grids.words.axes]
min_count = { key = "tokenizer.min_count", values = [1, 3] }
[grids.words.variants.embeddings]
frozen = { "train.clip_norm" = 1 }
warm = { "train.clip_norm" = 2 }
random = { "train.clip_norm" = 3 }
[grids.characters.recipe.tokenizer]
kind = "char"
"""
UNKNOWN = {1: 0.0, 3: 0.02}
"""Of each byte of the text, the part in words outside the vocabulary."""


def bits(cell: Cell) -> float:
    """Bits per byte of a cell, by a formula."""
    start = {"frozen": 0.3, "warm": 0.1, "random": 0.2, None: 0.5}[cell.values.get("embeddings")]
    return 2.0 + start + 16 / cell.values["width"] + 0.01 * cell.values.get("min_count", 0) + 0.002 * (cell.seed % 3)


def nats(cell: Cell) -> float:
    """The loss that made-up runs write as so many bits per byte."""
    return bits(cell) * math.log(2)


def score(values: Mapping[str, Any], seed: int) -> float:
    """The oracle's score of a cell, by a formula."""
    return -6 + values["width"] / 256 + 0.1 * (seed % 3) - 0.2 * (values.get("embeddings") == "frozen")


def placed(folder: StudyFolder) -> dict[str, tuple[dict[str, Any], int]]:
    """Each cell's values and seed by its name."""
    _, cells = folder.read()
    return {name: (facts["cells"][0]["values"], facts["cells"][0]["seed"]) for name, facts in cells.items()}


def change_config(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Another ``config.json`` for a run."""
    config = read_sealed_json(run / "config.json")
    change(config)
    (run / "config.json").write_text(sealed_json(config))


def tell_tokenizers(folder: StudyFolder) -> None:
    """What runs of words and of characters say of their tokenizers, and of words outside the vocabulary."""
    for name, (values, _) in placed(folder).items():
        run = folder.run(name)
        if not run.exists():
            continue
        kind = "word" if values["grid"] == "words" else "char"
        change_config(run, lambda config, kind=kind: config["recipe"].update(tokenizer={"kind": kind, "path": None}))
        if kind == "word":
            lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            for line in lines:
                if line["kind"] == "validation":
                    line["bits_per_byte_spelled"] = line["bits_per_byte"] + 8 * UNKNOWN[values["min_count"]]
            (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def judge(folder: StudyFolder, real: float = -3.0) -> None:
    """An oracle's scores of every cell that is there, as ``folio evaluate oracle`` writes them."""
    names = {name: score(*place) for name, place in placed(folder).items() if folder.run(name).exists()}
    for name, value in {**names, "reference": real}.items():
        write_judged(folder.path / "oracle" / name, value)
    z = [{"id": str(p), "z": {name: value + p for name, value in names.items()}} for p in (0, 1)]
    (folder.path / "oracle" / "z_scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in z))


def write_judged(to: Path, value: float) -> None:
    """The evaluation of one model whose score is ``value``: the mean of two prompts."""
    prompts = [Prompt(str(number), Passage("a b", 0, 3)) for number in (0, 1)]
    judgements = [[Judgement(10 * (value + offset), 10)] for offset in (-0.5, 0.5)]
    write_evaluation(to, [measurement(prompts, [[Continuation("c")]] * 2, judgements, {})], {"model": to.name})
