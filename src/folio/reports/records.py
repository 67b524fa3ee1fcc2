"""A run folder as numbers: its effective metrics, configuration, checkpoints and environment."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

from folio.artifacts import Manifest, read_manifest
from folio.checksums import read_sealed_json
from folio.errors import ArtifactError
from folio.finetuning.overfitting import LossKey
from folio.training.metrics import read_metrics

Line = Mapping[str, Any]
PAIRS: LossKey = "nats_per_pair"
ADAPTERS = ("lora", "qlora")
"""Methods that train weights beside those of the base."""


@dataclass(frozen=True)
class RunRecord:
    """What a report needs of one run. ``lines`` are the effective ones: those a resume superseded are gone."""

    path: Path
    name: str
    lines: tuple[Line, ...]
    config: Mapping[str, Any]
    checkpoints: tuple[tuple[str, Manifest | None], ...]

    def of_kind(self, kind: str) -> list[Line]:
        return [line for line in self.lines if line["kind"] == kind]

    @cached_property
    def train(self) -> list[Line]:
        return self.of_kind("train")

    @cached_property
    def validation(self) -> list[Line]:
        return self.of_kind("validation")

    @cached_property
    def loss_key(self) -> LossKey:
        """What its losses are a mean over: tokens or, where preferences are learned, pairs."""
        return PAIRS if any(PAIRS in line for line in self.lines) else "nats_per_token"

    @property
    def loss_unit(self) -> str:
        return self.loss_key.replace("_per_", "/")

    @cached_property
    def best_validation(self) -> Line | None:
        """The validation line with the lowest loss, the earlier of two equal ones; None if none is finite."""
        finite = [line for line in self.validation if math.isfinite(number(line, self.loss_key))]
        return min(finite, key=lambda line: number(line, self.loss_key), default=None)

    @property
    def steps(self) -> int:
        return max((int(line["step"]) for line in self.lines), default=0)

    @property
    def tokens_seen(self) -> int:
        """Tokens trained on, as the effective train lines count them, or as validation last said."""
        counted = int(sum(value for value in column(self.train, "tokens") if math.isfinite(value)))
        said = [value for value in column(self.validation, "tokens_seen") if math.isfinite(value)]
        return max(counted, int(max(said, default=0)))

    @property
    def elapsed_s(self) -> float:
        """Seconds of the effective steps; a clock that started again at a resume is added on."""
        total = before = 0.0
        for value in column(self.lines, "elapsed_s"):
            if math.isfinite(value):
                total += value - before if value >= before else value
                before = value
        return total

    @property
    def waited_s(self) -> float:
        """Seconds of the effective steps that went by until their batches came; NaN if no step says."""
        waits = [value for value in column(self.train, "data_wait_s") if math.isfinite(value)]
        return math.fsum(waits) if waits else math.nan

    def typical(self, key: str) -> float:
        """The median of a train column, NaN if it has no finite value."""
        finite = [value for value in column(self.train, key) if math.isfinite(value)]
        return median(finite) if finite else math.nan

    @property
    def parameters(self) -> int | None:
        resolved = self.config.get("resolved")
        found = resolved.get("parameters") if isinstance(resolved, Mapping) else None
        return found if isinstance(found, int) else None

    @property
    def trained_in_words(self) -> str | None:
        """How many weights a fine-tuning run trains: beside those of the base, or of those of the whole model."""
        resolved, whole = self.config.get("resolved"), self.parameters
        trained = resolved.get("trainable") if isinstance(resolved, Mapping) else None
        if not isinstance(resolved, Mapping) or not isinstance(trained, int):
            return None
        if whole and resolved.get("method") in ADAPTERS:
            return f"{trained:,} beside {whole:,}"
        return f"{trained:,} of {whole:,} ({trained / whole:.2%})" if whole and whole > trained else f"{trained:,}"

    @property
    def peak_bytes(self) -> int | None:
        """The most memory that a sitting which came to the end of the run held, None if none said."""
        peaks = [number(event, "peak_bytes") for event in self.of_kind("event")]
        return max((int(peak) for peak in peaks if math.isfinite(peak)), default=None)

    @property
    def environment(self) -> Mapping[str, Any]:
        """Where the newest readable checkpoint was made, else what config.json says of it."""
        for _, manifest in reversed(self.checkpoints):
            if manifest is not None:
                return manifest.environment
        said = self.config.get("environment")
        return said if isinstance(said, Mapping) else {}


def read_run(path: Path) -> RunRecord:
    """Read a run folder. :class:`ArtifactError` if it is none, or its metrics or config.json are damaged.

    A checkpoint that cannot be read is kept as None: the rest of the run is still worth reporting.
    """
    lines = tuple(read_metrics(path))
    checkpoints: list[tuple[str, Manifest | None]] = []
    for folder in sorted((path / "checkpoints").glob("step-*")):
        try:
            checkpoints.append((folder.name, read_manifest(folder)))
        except ArtifactError:
            checkpoints.append((folder.name, None))
    return RunRecord(path, path.resolve().name, lines, _read_config(path / "config.json"), tuple(checkpoints))


def _read_config(path: Path) -> dict[str, Any]:
    return read_sealed_json(path, "Restore the file, or remove it.") if path.is_file() else {}


def number(line: Line, key: str) -> float:
    """A numeric field of a line; NaN where it is missing, null, or no number."""
    value = line.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def column(lines: Iterable[Line], key: str) -> list[float]:
    return [number(line, key) for line in lines]


def smooth(values: Sequence[float], span: int) -> list[float]:
    """The mean of about ``span`` values around each, fewer at the ends, so that the curve does not lag behind.

    A value that is not finite counts in no mean, and its own place is NaN.
    """
    finite = [math.isfinite(value) for value in values]
    sums = list(accumulate((value if ok else 0.0 for value, ok in zip(values, finite, strict=True)), initial=0.0))
    counts = list(accumulate(map(int, finite), initial=0))
    averaged = []
    for index, ok in enumerate(finite):
        begin, end = max(0, index - span // 2), min(len(finite), index + span // 2 + 1)
        averaged.append((sums[end] - sums[begin]) / (counts[end] - counts[begin]) if ok else math.nan)
    return averaged
