"""What a search for contamination leaves behind: ``contamination.json``, ``items/TASK.jsonl``, and the manifest."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from folio.artifacts import Parent, new_folder, write_file, write_manifest
from folio.evaluation.contamination.clean_scores import CleanScore
from folio.evaluation.contamination.search import ItemOverlap
from folio.evaluation.estimates import Estimate

KIND = "contamination"
SUMMARY = "contamination.json"
RULE = (
    "words: NFC, case folded, apostrophes and invisible characters dropped, cut at all that is no letter, mark or "
    "number; an item is contaminated if one of its grams is in the text"
)


def item_counts(items: Sequence[ItemOverlap]) -> dict[str, int]:
    """Items by state, and those of which half the grams, or all, were found."""
    states = [item.state for item in items]
    return {
        "items": len(items),
        "contaminated": states.count("contaminated"),
        "half_found": sum(item.found > 0 and 2 * item.found >= item.grams for item in items),
        "all_found": sum(0 < item.found == item.grams for item in items),
        "clean": states.count("clean"),
        "too_short": states.count("too short"),
    }


def item_record(id: str, item: ItemOverlap) -> dict[str, Any]:
    """A line of ``items/TASK.jsonl``."""
    return {"id": id, "state": item.state, **asdict(item)}


def score_record(score: CleanScore) -> dict[str, Any]:
    """A score on all items and on its parts, as JSON values; null for a part without items."""
    names = {"model": score.model, "task": score.score.task, "convention": score.score.convention}
    parts = {name: getattr(score, name) for name in ("all", "clean", "contaminated", "difference")}
    return {**names, "metric": score.score.metric, **{name: _estimate(part) for name, part in parts.items()}}


def write_contamination(
    path: Path,
    summary: Mapping[str, Any],
    items: Mapping[str, Sequence[Mapping[str, Any]]],
    config: Mapping[str, Any],
    parents: tuple[Parent, ...] = (),
) -> Path:
    """Write the folder, whole or not at all, in place of an older one; ``items`` are lines by task."""
    with new_folder(path, replace=KIND) as folder:
        write_file(folder / SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        for task, records in items.items():
            lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            write_file(folder / "items" / f"{task}.jsonl", lines)
        write_manifest(folder, KIND, config, parents=parents)
    return path


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {name: None if math.isnan(value) else value for name, value in asdict(estimate).items()}
