"""Studies that were never trained: cells by the library, run folders made up, scores by a formula."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import train_line, validation_line

from folio.artifacts import write_manifest
from folio.checksums import sealed_json
from folio.studies.grid.cells import Cell, cells_of, distinct
from folio.studies.grid.study_file import read_study
from folio.studies.running.records import CellLog, StudyFolder
from folio.training.metrics import MetricsLog
from folio.verbs.study.opening import recipe_keys

SHAPE = {"vocab_size": 65, "block_size": 32, "n_layer": 1, "n_head": 1, "n_embd": 32}
MakeStudy = Callable[..., StudyFolder]


def write_cell(
    run: Path,
    nats: float,
    *,
    steps: int = 40,
    diverged: bool = False,
    width: int = 32,
    losses: Mapping[int, float] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """A run whose validation loss falls to ``nats``, or one that went wrong half-way.

    ``losses`` by step (the last is that of the last checkpoint) are the curve instead; ``facts`` stand in config.json.
    """
    run.mkdir(parents=True)
    recipe = {"model": {**SHAPE, "n_embd": width}}
    config = {"recipe": recipe, "resolved": {"parameters": 100 * width}}
    (run / "config.json").write_text(sealed_json({**config, **(facts or {})}))
    steps = max(losses) if losses else steps
    last = steps // 2 if diverged else steps
    with MetricsLog(run / "metrics.jsonl") as log:
        for step in range(1, last + 1):
            log.log(**train_line(step))
            if step in losses if losses else step % 10 == 0:
                fallen = nats + 2 * math.exp(-step / 5) - 2 * math.exp(-steps / 5)
                loss = losses[step] if losses else fallen
                log.log(**{**validation_line(step), "nats_per_token": loss, "bits_per_byte": loss / math.log(2)})
        if diverged:
            log.log(kind="event", step=last, event="diverged", reason="the loss diverged: 9.1 around step 20")
        else:
            log.log(kind="event", step=last, event="finished")
    if not diverged:
        checkpoint = run / "checkpoints" / f"step-{steps:08}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "weights.bin").write_bytes(bytes(10))
        write_manifest(checkpoint, "checkpoint", {"step": steps})


@pytest.fixture
def make_study(tmp_path: Path) -> MakeStudy:
    """``make_study(toml, score)``: the folder of a study whose cells came to ``score(cell)``.

    None: not begun. Infinite: diverged. A text: failed, with that error. A mapping: losses by step. ``facts_of(cell)``
    stand in the run's config.json.
    """

    def make(
        toml: str,
        score: Callable[[Cell], float | str | Mapping[int, float] | None],
        name: str = "made-up",
        facts_of: Callable[[Cell], Mapping[str, Any]] = lambda cell: {},
    ) -> StudyFolder:
        (tmp_path / f"{name}.toml").write_text(toml)
        study, folder = read_study(str(tmp_path / f"{name}.toml")), StudyFolder(tmp_path / name)
        keys = recipe_keys()
        cells = cells_of(study, keys, keys)
        facts = {}
        folder.path.mkdir()
        with CellLog(folder) as log:
            for members, content in distinct(cells, lambda cell: cell.settings, study.equal_cells == "merge"):
                cell = members[0]
                known = cell.name(content)
                facts[known] = {
                    "cells": [{"values": dict(one.values), "seed": one.seed} for one in members],
                    "steps": 40,
                    "parameters": 100,
                    "training_flops": 1e9,
                }
                came = score(cell)
                if came is None:
                    continue
                log.tell("began", known, threads=1)
                if isinstance(came, str):
                    log.tell("failed", known, error=came)
                    continue
                if isinstance(came, Mapping):
                    write_cell(folder.run(known), 3.0, losses=came, facts=facts_of(cell))
                    continue
                write_cell(
                    folder.run(known),
                    3.0 if math.isinf(came) else came,
                    diverged=math.isinf(came),
                    facts=facts_of(cell),
                )
        folder.write(study, facts)
        return folder

    return make


@pytest.fixture
def chance() -> Callable[[Cell], float]:
    """A number about 0 for each cell, the same every time."""

    def draw(cell: Cell) -> float:
        return random.Random(cell.words).gauss(0, 0.01)

    return draw
