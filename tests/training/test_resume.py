"""A run that is killed, at any moment, and resumed ends with the bits of one that was left alone."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from real_runs import FOLIO, curve, folio, weights_sha256, write_recipe

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def undisturbed(recipe: Path) -> tuple[str, Path]:
    """The weights' fingerprint and the folder of a run that nothing happened to."""
    run = recipe.parent / "undisturbed"
    done = folio("train", recipe, "--out", run)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    return weights_sha256(done.stdout), run


def assert_same_end(output: str, run: Path, undisturbed: tuple[str, Path]) -> None:
    digest, other = undisturbed
    assert weights_sha256(output) == digest
    assert curve(run) == curve(other)
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == [
        path.name for path in sorted((other / "checkpoints").iterdir())
    ]


def test_killed_run_ends_with_the_same_bits(recipe: Path, undisturbed: tuple[str, Path], tmp_path: Path) -> None:
    """Killed before the first save, between saves, amid a write, around the rename, amid a removal, at the end."""
    run = tmp_path / "run"
    moments = [("SIGKILL", 2), ("SIGKILL", 7), ("half-written", 8), ("before-rename", 12), ("after-rename", 16)]
    for number, moment in enumerate([*moments, ("half-removed", 18), ("after-rename", 24)]):
        begin = ("train", recipe, "--out", run) if not number else ("train", "--resume", run)
        killed = folio(*begin, dying=moment)
        assert killed.returncode == KILLED, killed.stderr
    done = folio("train", "--resume", run)
    assert done.returncode == 0, done.stderr
    assert "resume     " in done.stdout
    assert_same_end(done.stdout, run, undisturbed)


def test_killed_at_random_times_it_ends_with_the_same_bits(
    recipe: Path, undisturbed: tuple[str, Path], tmp_path: Path
) -> None:
    run, draw = tmp_path / "run", random.Random()
    seed = draw.randrange(10**9)
    draw.seed(seed)
    for number in range(3):
        begin = ["train", str(recipe), "--out", str(run)] if not number else ["train", "--resume", str(run)]
        child = subprocess.Popen([*FOLIO, *begin], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        metrics, start = run / "metrics.jsonl", time.monotonic()
        grown = metrics.stat().st_size if metrics.exists() else 0
        while child.poll() is None and (not metrics.exists() or metrics.stat().st_size == grown):
            time.sleep(0.01)
            assert time.monotonic() - start < 120
        time.sleep(draw.uniform(0, 0.4))
        child.kill()
        child.wait()
    done = folio("train", "--resume", run)
    if "is finished" in done.stderr:  # it was faster than we
        assert curve(run) == curve(undisturbed[1])
        return
    assert done.returncode == 0, (seed, done.stderr)
    assert_same_end(done.stdout, run, undisturbed)


def test_a_signal_saves_says_how_to_go_on_and_changes_no_bit(
    recipe: Path, undisturbed: tuple[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    first = folio("train", recipe, "--out", run, dying=("SIGTERM", 5))
    assert first.returncode == 3, first.stderr
    assert "stopped by SIGTERM after step 5 of 24; saved" in first.stderr
    assert f"Go on with: folio train --resume {run}" in first.stderr
    second = folio("train", "--resume", run, dying=("SIGINT", 11))
    assert second.returncode == 3
    assert "stopped by SIGINT after step 11 of 24; saved" in second.stderr
    done = folio("train", "--resume", run)
    assert done.returncode == 0, done.stderr
    assert f"resume     {run}/checkpoints/step-00000011" in done.stdout
    assert_same_end(done.stdout, run, undisturbed)
