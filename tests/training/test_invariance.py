"""One recipe trained in many ways gives one list of losses: bit for bit, or within what ``docs/numerics.md`` states.

The ways are those of ``benchmarks/measure_numerics.py``, which trains them with real ``folio train`` code, those on
two ranks under torchrun. Every pair of ways is compared. Gradient norms are, too, since AdamW does not feel the scale
of a gradient: losses alone would not show that it was divided twice.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "measure_numerics.py"
QUICK = (
    "plain",
    "recompute",
    "checkpoints every 2 steps, async",
    "probes every 3 steps",
    "resumed in the middle",
    "micro-batch 1",
    "2 ranks, ddp",
    "2 ranks, fsdp",
)
WITHIN = {"fp32": {"losses": 2e-6, "norms": 1e-5}, "bf16": {"losses": 1e-3, "norms": 3e-2}}
"""The largest relative difference of any step that is allowed: some ten times what was measured."""
BETWEEN = {"losses": 2e-3, "norms": 5e-2}
"""The same between fp32 and bf16."""

Runs = dict[str, dict[str, Any]]


def trained(folder: Path, optimizer: str, *ways: str, timeout_s: float) -> dict[str, Runs]:
    """By precision and way: ``losses`` and ``norms`` of 20 steps, a fingerprint of the ``weights``, ``bits_of``."""
    command = [sys.executable, PROGRAM, "--size", "tiny", "--steps", "20", "--optimizer", optimizer]
    command += ["--json", folder / "numbers.json", *(("--ways", *ways) if ways else ())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KINETO_LOG_LEVEL": "9"}
    done = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Runs] = json.loads((folder / "numbers.json").read_text())
    return found


def families(runs: Runs) -> dict[str, list[str]]:
    """Ways by the one whose bits they share."""
    found = defaultdict(list)
    for name, run in runs.items():
        found[run["bits_of"] or name].append(name)
    return found


def assert_same_bits(runs: Runs) -> None:
    for first, members in families(runs).items():
        for name in members:
            for what in ("losses", "norms", "weights"):
                assert runs[name][what] == runs[first][what], f"{what} of '{name}' are not those of '{first}'"


def assert_near(runs: Runs, within: dict[str, float]) -> None:
    distances = {
        (what, one, other): max(abs(a / b - 1) for a, b in zip(runs[one][what], runs[other][what], strict=True))
        for one, other in combinations(runs, 2)
        for what in within
    }
    assert {pair: far for pair, far in distances.items() if not far <= within[pair[0]]} == {}


def assert_one_curve(numbers: dict[str, Runs]) -> None:
    assert numbers.keys() == {"fp32", "bf16"}
    for precision, runs in numbers.items():
        losses = runs["plain"]["losses"]
        assert len(losses) == 20
        assert losses[-1] < losses[0] - 0.2
        assert_same_bits(runs)
        assert_near(runs, WITHIN[precision])
    assert_near({precision: runs["plain"] for precision, runs in numbers.items()}, BETWEEN)


def test_one_list_of_losses_however_it_is_trained(tmp_path: Path) -> None:
    """Micro-batches, recomputation, asynchronous checkpoints, probes, a resume, two ranks; fp32 and bf16."""
    numbers = trained(tmp_path, "adamw", *QUICK, timeout_s=280)
    assert all(set(runs) == set(QUICK) and len(families(runs)) == 4 for runs in numbers.values())
    assert_one_curve(numbers)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_one_list_of_losses_in_every_way_there_is(optimizer: str, tmp_path: Path) -> None:
    """All of the program's ways: compiled, two threads, resumed on two ranks and from one rank on two, and again."""
    numbers = trained(tmp_path, optimizer, timeout_s=1100)
    every = runpy.run_path(str(PROGRAM))["WAYS"]
    assert all(list(runs) == list(every) for runs in numbers.values())
    assert_one_curve(numbers)


def test_what_is_not_equal_or_not_near_is_seen() -> None:
    def run(bits_of: str = "", loss: float = 3.0, norm: float = 1.0, weights: str = "a") -> dict[str, Any]:
        return {"bits_of": bits_of, "losses": [loss], "norms": [norm], "weights": weights}

    within = {"losses": 1e-6, "norms": 1e-4}
    for other in (run("plain", loss=3.0000001), run("plain", norm=1.0000001), run("plain", weights="b")):
        with pytest.raises(AssertionError, match="are not those of 'plain'"):
            assert_same_bits({"plain": run(), "other": other})
    assert_near({"plain": run(), "other": run(loss=3.000001, norm=1.00001)}, within)
    for other in (run(loss=3.00001), run(norm=0.5), run(loss=float("nan"))):
        with pytest.raises(AssertionError):
            assert_near({"plain": run(), "other": other}, within)
