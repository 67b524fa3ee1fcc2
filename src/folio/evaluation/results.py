"""What an evaluation leaves behind: scores that name their convention, and a line for every item behind them.

An evaluation is a folder: ``scores.json``, ``items/NAME.jsonl`` for each measurement (``.parquet`` beside it on
request), and the manifest, whose parent is the checkpoint that was measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from folio.artifacts import Parent, new_folder, read_manifest, verify, write_file, write_manifest
from folio.errors import ArtifactError, require
from folio.evaluation.estimates import Estimate

KIND = "evaluation"
SCORES = "scores.json"
Item = dict[str, Any]
"""A line of ``items/NAME.jsonl``: JSON values by key, ``id`` among them."""


@dataclass(frozen=True)
class Score:
    """One number and all that is needed to read it, or to compute it again from the items.

    It is the mean of ``numerator`` over the items, or its sum over that of ``denominator`` where there is one.
    ``transform`` is then applied: "exp" makes perplexity of nats per token.
    """

    task: str
    convention: str
    metric: str
    value: float
    n: int
    unit: str
    """What n counts: items, documents, blocks, prompts."""
    standard_error: float
    low: float
    high: float
    better: Literal["higher", "lower"]
    numerator: str
    denominator: str | None = None
    transform: Literal["", "exp"] = ""

    @classmethod
    def of(cls, estimate: Estimate, **facts: Any) -> Score:
        return cls(**asdict(estimate), **facts)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Measurement:
    """The scores of one task under one convention, the items they come from, and facts about how they came about.

    ``name`` is that of the items' file, such as ``hellaswag.completion``. ``facts`` are JSON values: what was counted
    (cut, skipped), the source and its sha256, few-shot settings.
    """

    name: str
    scores: tuple[Score, ...]
    items: Sequence[Item]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def score(self, metric: str) -> Score:
        return next(score for score in self.scores if score.metric == metric)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation folder that was read back; ``measurements`` by name, each with its items."""

    path: Path
    config: Mapping[str, Any]
    measurements: Mapping[str, Measurement]

    @property
    def model(self) -> str:
        """The name under which the model was given."""
        return str(self.config["model"])


def write_evaluation(
    path: Path,
    measurements: Sequence[Measurement],
    config: Mapping[str, Any],
    *,
    parents: tuple[Parent, ...] = (),
    parquet: bool = False,
    device: str = "cpu",
) -> Path:
    """Write an evaluation folder, whole or not at all, in place of an older evaluation if one is there.

    ``config`` says what was measured and how (JSON values); "model" is its name.
    """
    with new_folder(path, replace=KIND) as folder:
        listed = []
        for measurement in measurements:
            lines = "".join(_json(item) + "\n" for item in measurement.items)
            write_file(folder / "items" / f"{measurement.name}.jsonl", lines)
            if parquet:
                _write_parquet(folder / "items" / f"{measurement.name}.parquet", measurement.items)
            scores = [score.as_dict() for score in measurement.scores]
            listed.append({"name": measurement.name, "scores": scores, "facts": dict(measurement.facts)})
        write_file(folder / SCORES, _json(listed, indent=2) + "\n")
        write_manifest(folder, KIND, config, parents=parents, device=device)
    return path


def read_evaluation(path: Path) -> Evaluation:
    """An evaluation folder, every byte compared with its manifest; :class:`ArtifactError` if it is none."""
    manifest = verify(path, KIND)
    measurements = {}
    try:
        for entry in json.loads((path / SCORES).read_bytes()):
            text = (path / "items" / f"{entry['name']}.jsonl").read_text(encoding="utf-8")
            items = [json.loads(line) for line in text.split("\n") if line]  # text may hold other ends of lines
            scores = tuple(_score(score) for score in entry["scores"])
            measurements[entry["name"]] = Measurement(entry["name"], scores, items, entry["facts"])
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ArtifactError(f"'{path}' is no evaluation that this Folio reads: {error}", "Evaluate again.") from None
    return Evaluation(path, manifest.config, measurements)


def _json(value: Any, indent: int | None = None) -> str:
    """JSON, which has no word for what is no number: null."""
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _score(fields: Mapping[str, Any]) -> Score:
    numbers = ("value", "standard_error", "low", "high")
    return Score(**{**fields, **{name: math.nan for name in numbers if fields[name] is None}})


def is_evaluation(path: Path) -> bool:
    """Whether ``path`` is an evaluation folder."""
    try:
        return read_manifest(path).kind == KIND
    except ArtifactError:
        return False


def _write_parquet(path: Path, items: Sequence[Item]) -> None:
    pyarrow: Any = require("pyarrow", "data")
    parquet: Any = require("pyarrow.parquet", "data")
    parquet.write_table(pyarrow.Table.from_pylist(list(items)), path)
