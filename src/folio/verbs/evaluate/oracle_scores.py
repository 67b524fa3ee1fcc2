"""The oracle's scores on the terminal, in ``--json``, and as evaluation folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from folio.artifacts import refuse_occupied, write_file
from folio.errors import ArtifactError, DataError
from folio.evaluation.oracle.judge import Continuation, Judgement
from folio.evaluation.oracle.prompts import Drawn
from folio.evaluation.oracle.scores import (
    counts,
    difference,
    mean_z,
    measurement,
    prompt_means,
    standardized,
)
from folio.evaluation.results import KIND, Measurement, write_evaluation
from folio.evaluation.significance import holm
from folio.verbs.action import Terminal
from folio.verbs.evaluate.continuing import Writer, shown
from folio.verbs.evaluate.kept_continuations import FOLDER
from folio.verbs.evaluate.text import distinct_short_names, source_of

PROMPTS_FILE = "prompts.jsonl"
Z_SCORES_FILE = "z_scores.jsonl"


@dataclass(frozen=True)
class JudgedModel:
    """One model's continuations as they were judged. ``measured`` is None if none has a score; ``means`` is (P,)."""

    name: str
    folder: Path | None
    means: NDArray[np.float64]
    measured: Measurement | None
    facts: Mapping[str, Any]


def judged_model(
    name: str,
    writer: Writer | None,
    drawn: Drawn,
    written: Sequence[Sequence[Continuation]],
    judgements: Sequence[Sequence[Judgement]],
    alike: Mapping[str, Any],
) -> JudgedModel:
    """What the judge makes of one model; ``writer`` None: the text was written by no model.

    ``alike`` are facts in which another evaluation must agree to be compared with this one.
    """
    facts: dict[str, Any] = {}
    if writer is not None:
        ids = [writer.tokenizer.encode(prompt.text) for prompt in drawn.prompts]
        facts |= {"prompt_tokens": sum(map(len, ids)), "unknown_in_prompts": sum(map(writer.unknown, ids))}
        every = [text.facts for texts in written for text in texts]
        for name_of_sum, key in (
            ("tokens_written", "tokens"),
            ("unknown_written", "unknown"),
            ("restarts", "restarts"),
        ):
            facts[name_of_sum] = sum(fact[key] for fact in every)
        facts["ended_early"] = sum(fact["finish"] == "end_of_text" for fact in every)
    means = prompt_means(judgements)
    measured = None if np.isnan(means).all() else measurement(drawn.prompts, written, judgements, {**alike, **facts})
    facts = {**counts(drawn.prompts, judgements), **facts}
    return JudgedModel(name, None if writer is None else writer.folder, means, measured, facts)


def show(results: Sequence[JudgedModel], facts: Mapping[str, Any], terminal: Terminal) -> dict[str, Any]:
    """Print the tables; the same as data for ``--json``. :class:`DataError` if no model at all has a score."""
    if all(result.measured is None for result in results):
        raise DataError(
            f"no continuation of {' or '.join(repr(result.name) for result in results)} has a score: all are empty, "
            "or not for this oracle to read",
            "Look at what a model writes: folio generate MODEL",
        )
    contestants = _contestants(results)
    z = mean_z(np.column_stack([result.means for result in contestants])) if contestants else []
    z_of = {result.name: estimate for result, estimate in zip(contestants, z, strict=bool(z))}
    rows, models = [], []
    for result in results:
        score = result.measured.scores[0] if result.measured is not None else None
        place = z_of.get(result.name)
        numbers = [getattr(score, key, None) for key in ("value", "standard_error", "low", "high")]
        numbers += [getattr(place, key, None) for key in ("value", "low", "high")]
        rows.append((result.name, *map(_finite, numbers), getattr(score, "n", 0)))
        models.append(
            {
                "model": result.name,
                "score": score.as_dict() if score is not None else None,
                "z": asdict(place) if place is not None else None,
                "facts": dict(result.facts),
            }
        )
    columns = ("model", "nats/token", "± s.e.", "95 % from", "to", "mean z", "from", "to", "prompts")
    terminal.table(columns, rows, title=f"log-probability by {facts['oracle']}, of what follows the prompt")
    differences = _differences(results)
    if differences:
        terminal.table(
            ("difference", "nats/token", "± s.e.", "95 % from", "to", "p (Holm)", "prompts"),
            [
                (
                    f"{line['second']} - {line['first']}",
                    *(_finite(line[key]) for key in ("value", "standard_error", "low", "high", "p_holm")),
                    line["n"],
                )
                for line in differences
            ],
            title="paired by prompt",
        )
    terminal.print(
        f"{facts['samples']} samples a prompt, temperature {facts['generation']['temperature']:g}, "
        f"{facts['ratio']:g} times the prompt's tokens, seed {facts['prompts']['seed']}"
    )
    for result in results:
        for line in _remarks(result):
            terminal.print(f"{result.name}: {line}", style="dim")
    return {**facts, "models": models, "differences": differences}


def _contestants(results: Sequence[JudgedModel]) -> list[JudgedModel]:
    """Those that have z-scores: models, not the reference, of which something has a score."""
    return [result for result in results if result.folder is not None and result.measured is not None]


def _z_lines(results: Sequence[JudgedModel], drawn: Drawn, folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """The z of each model, by its folder's name, for the prompts of which all have a score; none without two models."""
    contestants = _contestants(results)
    if len(contestants) < 2:
        return []
    scores_PM = np.column_stack([result.means for result in contestants])
    kept = [p for p in range(len(scores_PM)) if not np.isnan(scores_PM[p]).any()]
    names = [folders[result.name].name for result in contestants]
    return [
        {"id": drawn.prompts[p].id, "z": dict(zip(names, row, strict=True))}
        for p, row in zip(kept, standardized(scores_PM[kept]).tolist(), strict=True)
    ]


def _differences(results: Sequence[JudgedModel]) -> list[dict[str, Any]]:
    """Of every two that share a prompt, the later minus the earlier; p is corrected for how many there are (Holm)."""
    lines = []
    for first, second in combinations(results, 2):
        found = difference(first.means, second.means)
        if found is not None:
            values = {
                key: getattr(found, key)
                for key in ("value", "n", "standard_error", "low", "high", "p", "p_is_bound", "method")
            }
            lines.append({"first": first.name, "second": second.name, **values})
    for line, (adjusted, _) in zip(lines, holm([line["p"] for line in lines]), strict=True):
        line["p_holm"] = adjusted
    return lines


def _remarks(result: JudgedModel) -> list[str]:
    """What a reader of the score should know, where there is any of it."""
    facts, whole = result.facts, max(1, result.facts.get("continuations", 0))
    said = {
        "empty": "continuations without text have no score ({share:.1%})",
        "unreadable": "continuations hold what the oracle's tokenizer cannot encode and have no score ({share:.1%})",
        "cut_continuations": "continuations and their prompt were more than the oracle holds: its start was not seen",
        "unknown_in_prompts": "tokens of the prompts were unknown to the model",
        "unknown_written": 'tokens written were "unknown", which the oracle reads as that word',
        "restarts": "times the model's context was full; its last half was kept",
    }
    return [f"{facts[key]:,} {text.format(share=facts[key] / whole)}" for key, text in said.items() if facts.get(key)]


def write(
    results: Sequence[JudgedModel],
    drawn: Drawn,
    facts: Mapping[str, Any],
    home: Path,
    folders: Mapping[str, Path],
    oracle: Path,
    device: str,
) -> tuple[Path, ...]:
    """Write the prompts, their z-scores, and an evaluation for each model that has a score.

    The paths of the prompts and of the evaluations, the prompts' first.
    """
    lines = [{"id": prompt.id, "text": prompt.text, "words": prompt.passage.words} for prompt in drawn.prompts]
    _write_lines(home / PROMPTS_FILE, lines)
    if z_lines := _z_lines(results, drawn, folders):
        _write_lines(home / Z_SCORES_FILE, z_lines)
    else:
        (home / Z_SCORES_FILE).unlink(missing_ok=True)
    wrote = [home / PROMPTS_FILE]
    for result in results:
        if result.measured is None:
            continue
        origin = () if result.folder is None else source_of(result.folder)
        config = {"model": shown(result.name), "task": "oracle", **facts}
        write_evaluation(
            folders[result.name], [result.measured], config, parents=(*origin, *source_of(oracle)), device=device
        )
        wrote.append(folders[result.name])
    return tuple(wrote)


def _write_lines(file: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    write_file(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def places(home: Path, names: Sequence[str]) -> dict[str, Path]:
    """Where each evaluation goes; :class:`ArtifactError` at once if something else lies there."""
    if blocked := next((place for place in (home, *home.parents) if place.exists() and not place.is_dir()), None):
        raise ArtifactError(f"'{blocked}' is a file, and the folder of the scores would go there", "Name a folder.")
    ours = (PROMPTS_FILE, Z_SCORES_FILE, FOLDER)
    short = distinct_short_names([*names, *ours])[: len(names)]
    folders = dict(zip(names, (home / name for name in short), strict=True))
    for folder in folders.values():
        refuse_occupied(folder, allowed_kind=KIND)
    return folders
