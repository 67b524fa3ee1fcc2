"""The numbers of one cell: from its run folder, and from what the study's oracle made of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from folio.config import build
from folio.errors import ArtifactError
from folio.model.config import GPTConfig
from folio.reports.records import RunRecord, number

SPELLED = "bits_per_byte_spelled"
LOWER = (
    *("nats_per_token", "perplexity", "bits_per_byte", SPELLED, "standard_error_nats", "plateau_nats_per_token"),
    *("seconds", "seconds_per_step", "word2vec_seconds", "seconds_in_all", "parameters", "trained_parameters"),
    "training_flops",
)
"""Numbers that are better when lower; a score of another measurement says it of itself."""
OF_RUN = ("steps", "tokens", "parameters", "training_flops", "seconds", "tokens_per_s")
OF_TEXT = ("nats_per_token", "standard_error_nats", "bits_per_byte", SPELLED, "perplexity")
"""What each validation gives."""
OF_WAY = (
    *("trained_parameters", "seconds_per_step", "word2vec_seconds", "seconds_in_all", "plateau_nats_per_token"),
    "movement_p95",
)
"""How the training went besides, where it can be known."""
OF_CELL = (*OF_RUN, *OF_TEXT, *OF_WAY)
"""All numbers that have a name of their own; scores of other measurements have a point in theirs."""
ORACLE, REFERENCE = "oracle", "reference"
LOG_PROBABILITY, Z = "oracle.log_probability", "oracle.z"
NEVER_UNKNOWN = ("char", "bpe", "gpt2")
"""Kinds of tokenizers that leave no byte of a text without an id."""
Moment = Literal["best", "last"]
Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class OracleScores:
    """What the oracle made of the cells, by name: its numbers of each, of the real text, and what cannot be read."""

    cells: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reference: Mapping[str, float] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()


def numbers_of(
    record: RunRecord | None, facts: Mapping[str, Any], at: Moment
) -> tuple[dict[str, float], dict[str, str]]:
    """Numbers by name, and of scores which way is better. Of a run that has not ended only what was known before."""
    numbers = {"parameters": float(facts["parameters"]), "training_flops": float(facts["training_flops"])}
    if record is None:
        return numbers, {}
    numbers |= {"steps": float(record.steps), "tokens": float(record.tokens_seen), "seconds": record.elapsed_s}
    numbers |= {"tokens_per_s": record.typical("tokens_per_s")}
    numbers["training_flops"] = _flops_per_token(record) * record.tokens_seen
    validation = record.best_validation if at == "best" else next(iter(reversed(record.validation)), None)
    if validation is not None:
        numbers |= {key: number(validation, key) for key in OF_TEXT}
        numbers[SPELLED] = _spelled(record, validation)
    numbers |= _way(record, numbers) | {"movement_p95": _movement(record, validation)}
    better: dict[str, str] = {}
    for line in _measured(record, validation, at):
        for metric, score in line["scores"].items():
            if score["value"] is not None:
                name = f"{line['name']}.{metric}"
                numbers[name], better[name] = float(score["value"]), str(score["better"])
    return {key: value for key, value in numbers.items() if not math.isnan(value)}, better


def _flops_per_token(record: RunRecord) -> float:
    """As the run counts them, less what frozen embeddings spare."""
    if (told := record.config.get("resolved", {}).get("flops_per_token")) is not None:
        return float(told)
    from folio.model.accounting import training_flops

    return float(training_flops(build(GPTConfig, record.config["recipe"]["model"])))


def curves_of(record: RunRecord) -> dict[str, Curve]:
    """By step, each number of the validations that has more to say than one of another name."""
    curves = {
        key: tuple((number(line, "step"), number(line, key)) for line in record.validation)
        for key in ("nats_per_token", "bits_per_byte")
    }
    curves[SPELLED] = tuple((number(line, "step"), _spelled(record, line)) for line in record.validation)
    return {key: curve for key, curve in curves.items() if any(math.isfinite(value) for _, value in curve)}


def read_oracle(home: Path) -> OracleScores:
    """What lies in the ``oracle`` folder of a study; nothing where there is none.

    What is damaged counts for nothing and is told: the rest of a study is worth reporting all the same.
    """
    from folio.evaluation.oracle.scores import METRIC
    from folio.evaluation.results import is_evaluation, read_evaluation

    scores: dict[str, dict[str, float]] = {}
    damaged = []
    for folder in sorted(home.glob("*/")):
        if folder.name.startswith(".") or not (is_evaluation(folder) or (folder / "scores.json").exists()):
            continue
        try:
            measured = read_evaluation(folder).measurements[ORACLE]
        except (ArtifactError, KeyError) as error:
            problem = error.problem if isinstance(error, ArtifactError) else f"'{folder}' holds no score of an oracle"
            damaged.append(f"the oracle's score of {folder.name} cannot be read: {problem}")
            continue
        scores[folder.name] = {LOG_PROBABILITY: measured.score(METRIC).value}
    try:
        for name, z in _z_scores(home / "z_scores.jsonl").items():
            if name in scores:
                scores[name][Z] = z
    except (ValueError, KeyError, TypeError, AttributeError):
        damaged.append(f"the oracle's z-scores cannot be read: '{home / 'z_scores.jsonl'}' is damaged")
    return OracleScores(scores, scores.pop(REFERENCE, {}), tuple(damaged))


def _z_scores(file: Path) -> dict[str, float]:
    """Of each cell the mean over prompts; every prompt has a z of the same cells."""
    if not file.is_file():
        return {}
    lines = [json.loads(line)["z"] for line in file.read_text(encoding="utf-8").split("\n") if line]
    return {name: fmean(float(line[name]) for line in lines) for name in (lines[0] if lines else ())}


def _spelled(record: RunRecord, validation: Mapping[str, Any]) -> float:
    """As the validation has it; of runs that did not measure it, where it is plain that no word is unknown."""
    if not math.isnan(measured := number(validation, SPELLED)):
        return measured
    asked = record.config["recipe"].get("tokenizer") or {}
    plain = asked.get("path") is None and asked.get("kind") in NEVER_UNKNOWN
    return number(validation, "bits_per_byte") if plain else math.nan


def _way(record: RunRecord, numbers: Mapping[str, float]) -> dict[str, float]:
    """What else the lines of training and ``config.json`` say."""
    resolved = record.config.get("resolved") or {}
    last = max((number(line, "step") for line in record.train), default=0.0)
    final = [number(line, "nats_per_token") for line in record.train if number(line, "step") > 0.9 * last]
    word2vec = number(resolved.get("word2vec") or {}, "train_s")
    return {
        "trained_parameters": number(resolved, "trainable" if "trainable" in resolved else "parameters"),
        "seconds_per_step": record.typical("step_time_s"),
        "word2vec_seconds": word2vec,
        "seconds_in_all": numbers["seconds"] + (0.0 if math.isnan(word2vec) else word2vec),
        "plateau_nats_per_token": fmean(final) if final else math.nan,
    }


def _movement(record: RunRecord, validation: Mapping[str, Any] | None) -> float:
    """How far the rows that began as word2vec's had moved by the step of ``validation``, the 95th percentile.

    Not a number where there are none, where they are frozen, or the checkpoint of that step is not there or damaged.
    """
    asked = record.config["recipe"].get("embeddings") or {}
    if asked.get("init") != "word2vec" or asked.get("mode") == "frozen":
        return math.nan
    from folio.training.checkpoint import list_checkpoints
    from folio.training.movement import first_rows, moved, rows_of

    step = record.steps if validation is None else int(validation["step"])
    try:
        first = first_rows(record.path)
        checkpoint = next((one for one in list_checkpoints(record.path) if one.step == step), None)
        if first is None or checkpoint is None:
            return math.nan
        return moved(first, rows_of(checkpoint), step).p95
    except ArtifactError:
        return math.nan


def _measured(record: RunRecord, validation: Mapping[str, Any] | None, at: Moment) -> Sequence[Mapping[str, Any]]:
    """The line of each measurement that counts: at the step of the best ``validation`` if so asked, else the last."""
    lines = record.of_kind("evaluation")
    chosen = {line["name"]: line for line in lines}
    if at == "best" and validation is not None:
        chosen |= {line["name"]: line for line in lines if line["step"] == validation["step"]}
    return list(chosen.values())
