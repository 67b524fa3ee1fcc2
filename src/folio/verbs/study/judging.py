"""The oracle of a study: there before anything is trained, trained once beside the cells, and then their judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from folio.artifacts import write_file
from folio.checksums import read_sealed_json, sealed_json
from folio.config import build
from folio.errors import ArtifactError, ConfigError, Interrupted, UserError
from folio.studies.grid.cells import Cell
from folio.studies.grid.spec import Study
from folio.studies.running.records import StudyFolder
from folio.verbs.action import Terminal
from folio.verbs.options import nested
from folio.verbs.recipe import Recipe
from folio.verbs.study.opening import OpenedCell, Planned

ORACLE = "oracle"
ASKED = "asked.json"
SHARED = ("prompts", "samples", "ratio", "min_words", "max_words", "temperature", "seed", "reference")


def oracle_cells(study: Study) -> list[tuple[Cell, Recipe]]:
    """What the oracle is trained by; none where it is there already, or not asked for."""
    from folio.studies.grid.axes import SEED_KEY, check_keys
    from folio.verbs.study.opening import recipe_keys

    if study.oracle is None or study.oracle.model:
        return []
    check_keys(study.oracle.recipe, recipe_keys(), "oracle.recipe")
    recipe = build(Recipe, nested(study.oracle.recipe), source="oracle.recipe")
    seed = recipe.train.seed
    return [(Cell({ORACLE: study.name}, seed, {**study.oracle.recipe, SEED_KEY: seed}), recipe)]


def refuse_oracle(study: Study, planned: Planned) -> None:
    """:class:`ConfigError`, before anything is trained, for cells that cannot be judged alike.

    They hold out different text, or none that is at hand, or the oracle would judge other checkpoints than are scored.
    """
    if study.oracle is None:
        return
    first = planned[0]
    for cell, recipe in planned:
        if not recipe.corpus_is_read:
            raise ConfigError(
                f"an oracle draws prompts from a corpus, and ({cell.words}) reads shards or a source",
                "Leave [oracle] out, or give all cells a [corpus].",
            )
        if recipe.corpus != first[1].corpus:
            raise ConfigError(
                f"an oracle gives all cells the same prompts, and ({first[0].words}) and ({cell.words}) hold out "
                "different text",
                "Leave [oracle] out, or give all cells one [corpus].",
            )
        if study.scores_at == "last" and recipe.train.save_best:
            raise ConfigError(
                "an oracle judges the best checkpoint of a cell, and scores_at is the last step",
                'Take scores_at = "best", or recipe.train.save_best = false.',
            )


def refuse_missing_oracle(study: Study, planned: Planned) -> None:
    """:class:`ConfigError` for an oracle that is to be there, and is missing or damaged, and for too few prompts."""
    if study.oracle is None:
        return
    from folio.corpus import open_corpus
    from folio.evaluation.oracle.prompts import draw
    from folio.runtime import make_runtime
    from folio.verbs.evaluate.held_out import HeldOut
    from folio.verbs.evaluate.judging import open_judge
    from folio.verbs.hub import model_folder
    from folio.verbs.study.rates import release_memory

    if study.oracle.model:
        try:
            open_judge(model_folder(study.oracle.model), make_runtime("auto", "fp32"), "fp32").check_weights()
        except UserError as error:
            raise ConfigError(f"the oracle cannot judge: {error.problem}", error.remedy) from None
        release_memory()
    oracle, text = study.oracle, HeldOut(open_corpus(planned[0][1].corpus), "")
    try:
        draw(text.passages(), oracle.prompts, oracle.seed, min_words=oracle.min_words, max_words=oracle.max_words)
    except UserError as error:
        remedy = "Lower oracle.prompts, or let oracle.min_words and max_words leave out fewer."
        raise ConfigError(f"the oracle cannot judge: {error.problem}", remedy) from None


def judge(study: Study, folder: StudyFolder, finished: Sequence[OpenedCell], terminal: Terminal) -> None:
    """Let the oracle judge what the ``finished`` cells write, unless it has judged just these in the same way.

    What a cell wrote is kept, so that only new ones write. An oracle that was to be trained, and is not among the
    ``finished``, judges nothing.
    """
    trained = [cell.name for cell in finished if cell.is_oracle]
    names = [cell.name for cell in finished if not cell.is_oracle]
    if study.oracle is None or not names or not (study.oracle.model or trained):
        return
    from folio.verbs.evaluate.judging import model_fingerprint
    from folio.verbs.evaluate.oracle import OracleOptions, judge_models
    from folio.verbs.hub import model_folder

    model = str(folder.run(trained[0])) if trained else study.oracle.model
    shared = study.oracle.model_dump(include=set(SHARED))
    judged_by = model_fingerprint(model_folder(model))
    asked = {"oracle": judged_by, "cells": sorted(names), **shared}
    home = folder.path / ORACLE
    if _asked_before(home / ASKED) == asked:
        return
    (home / ASKED).unlink(missing_ok=True)
    terminal.print(f"oracle     {model} judges what {len(names)} cells write")
    options = OracleOptions(models=tuple(str(folder.run(name)) for name in names), oracle=model, to=home, **shared)
    try:
        judge_models(options, terminal).write()
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped while the oracle judged; what cells wrote is kept\n"
            f"       Go on with: folio study run {quote(str(folder.path))}"
        ) from None
    write_file(home / ASKED, sealed_json({"asked": asked}))


def _asked_before(path: Path) -> Any:
    """What was asked when it last judged to the end; None if it never did."""
    if not path.is_file():
        return None
    try:
        return read_sealed_json(path).get("asked")
    except ArtifactError:
        return None
