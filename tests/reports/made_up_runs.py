"""Run folders as training writes them, small and made up."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from folio.artifacts import write_manifest
from folio.checksums import sealed_json
from folio.training.metrics import MetricsLog


def train_line(step: int) -> dict[str, Any]:
    return {
        "kind": "train", "step": step, "tokens": 4096, "nats_per_token": 3 + 5 * math.exp(-step / 50),
        "learning_rate": 1e-3 * min(1, step / 20), "grad_norm": 0.5 + 1 / step, "step_time_s": 0.1,
        "tokens_per_s": 40960.0, "mfu": 0.41, "elapsed_s": 0.1 * step,
    }  # fmt: skip


def validation_line(step: int) -> dict[str, Any]:
    nats = 3.25 + 5 * math.exp(-step / 50)
    return {
        "kind": "validation", "step": step, "tokens_seen": 4096 * step, "nats_per_token": nats,
        "perplexity": math.exp(nats), "bits_per_byte": nats / math.log(2) / 3.1, "tokens": 181_233,
        "standard_error_nats": 0.0042, "elapsed_s": 0.1 * step,
    }  # fmt: skip


def write_preference_run(run: Path, *, steps: int = 20, every: int = 5) -> Path:
    """A run that learned preferences, in a new folder."""
    run.mkdir(parents=True)
    with MetricsLog(run / "metrics.jsonl") as log:
        for step in range(1, steps + 1):
            line = {**train_line(step), "nats_per_pair": 0.69 / step}
            del line["nats_per_token"]
            log.log(**line)
            if step % every == 0:
                log.log(kind="validation", step=step, nats_per_pair=0.7 / step, standard_error_nats=0.01, accuracy=0.8,
                        pairs=40, tokens=900, tokens_seen=900 * step, elapsed_s=0.1 * step)  # fmt: skip
    return run


def write_run(run: Path, *, steps: int = 100, every: int = 25, config: dict[str, Any] | None = None) -> Path:
    """A run of ``steps``, validated and sampled ``every`` so many of them (0: never), in a new folder."""
    run.mkdir(parents=True)
    defaults = {
        "corpus": {"name": "shakespeare"},
        "train": {"steps": steps, "learning_rate": 1e-3},
        "resolved": {"parameters": 3_211_264, "micro_batch": 8},
    }
    (run / "config.json").write_text(sealed_json(defaults if config is None else config), encoding="utf-8")
    with MetricsLog(run / "metrics.jsonl") as log:
        for step in range(1, steps + 1):
            log.log(**train_line(step))
            if every and step % every == 0:
                log.log(**validation_line(step))
                log.log(kind="sample", step=step, prompt="ROMEO:\n", text=f"ROMEO:\nBut soft, step {step}!")
        log.log(kind="event", step=steps, event="finished")
    checkpoint = run / "checkpoints" / f"step-{steps:08}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights.bin").write_bytes(bytes(1000))
    write_manifest(checkpoint, "checkpoint", {"step": steps})
    return run
