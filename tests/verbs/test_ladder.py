"""``folio ladder`` on a tiny shape: measured, killed and gone on with, extended; and what it refuses."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ladder_world import write_plays

from folio.cli import main

TINY = ("ladder", "--device", "cpu", "--shape", "tiny", "--minutes", "30", "--rounds", "2", "--steps", "8")


def command(*arguments: object) -> tuple[int, dict[str, Any], str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*map(str, arguments), "--json"])
    return code, json.loads(out.getvalue() or "{}"), err.getvalue()


@pytest.fixture(scope="module")
def plays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plays(tmp_path_factory.mktemp("text") / "plays.txt")


def times_of(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in (folder / "measured").glob("*.json")}


def begun(arguments: list[str], until: str, folder: Path) -> None:
    """Start the command in a process of its own, and kill it as soon as it has written ``until``."""
    process = subprocess.Popen([sys.executable, "-m", "folio", *arguments], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not (folder / "measured" / until).exists():
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_killed_ladder_goes_on_and_repeats_nothing(
    tmp_path: Path, plays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # one training after the other
    folder = tmp_path / "ladder"
    arguments = [*TINY, "--text", str(plays), "--rungs", "bf16,chunked", "--to", str(folder)]
    begun(arguments, "loss-plain-0.json", folder)
    before = times_of(folder)
    assert "loss-plain-2.json" not in before
    assert "time-chunked.json" in before
    assert "loss-chunked-0.json" not in before

    code, answer, err = command(*arguments)
    assert code == 0, err
    after = times_of(folder)
    assert before.items() <= after.items()
    rungs = {rung["name"]: rung for rung in answer["rungs"]}
    assert list(rungs) == ["plain", "bf16", "chunked"]
    for rung in rungs.values():
        assert rung["tokens_per_s"] > 0
        assert rung["peak_bytes"] > 1e7
        assert 0 < rung["mfu"] < 1
        assert rung["loss"]["steps"] == 8
        assert 1 <= rung["equal_time"]["steps"] <= 8
    assert rungs["chunked"]["on"] == "bf16"
    assert max(rung["equal_time"]["steps"] for rung in rungs.values()) == 8
    assert {Path(path).name for path in answer["wrote"]} >= {"report.html", "ladder.svg", "ladder.json"}

    code, answer, err = command(*arguments)
    assert code == 0, err
    assert times_of(folder) == after
    longer = [*arguments[:-3], "bf16,chunked,muon", *arguments[-2:]]
    code, answer, err = command(*longer)
    assert code == 0, err
    extended = times_of(folder)
    assert {name: extended[name] for name in after if name.startswith("time")}.items() <= after.items()
    assert {"time-muon.json", "loss-muon-0.json"} <= extended.keys()
    assert [rung["name"] for rung in answer["rungs"]] == ["plain", "bf16", "chunked", "muon"]

    code, _, err = command(*arguments[:-2], "--rounds", 5, *arguments[-2:])
    assert code == 2
    assert "was begun with --rounds 2, not 5" in err


@pytest.mark.slow
def test_two_ranks_take_turns_with_one(tmp_path: Path, plays: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    code, answer, err = command(*TINY, "--text", plays, "--rungs", "ddp", "--to", tmp_path / "ladder")
    assert code == 0, err
    rung = answer["rungs"][1]
    assert (rung["state"], rung["reason"][:8]) == ("taken out", "measured")
    assert rung["tokens_per_step"] == 1024


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--rungs", "bf61"), "Did you mean bf16?"),
        (("--rungs", "tied,muonn"), "Did you mean muon?"),
        (("--rungs", "plain"), "nothing to compare"),
        (("--shape", "124M"), "Did you mean 124m?"),
        (("--device", "cuda"), "not available on this machine"),
        (("--device", "gpu"), "there is no device 'gpu'"),
        (("--minutes", "0"), "--minutes"),
        (("--text", "nowhere.txt"), "nowhere.txt"),
        (("--steps", "-1"), "--steps"),
    ],
)
def test_mistakes_are_told_in_a_line_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command(*TINY, *arguments)
    assert code == 2, err
    assert complaint in err
    assert err.startswith("folio: ")
    assert len(err.splitlines()) <= 2
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.json"))


def test_too_few_minutes_are_refused_before_anything_is_measured(tmp_path: Path, plays: Path) -> None:
    folder = tmp_path / "ladder"
    code, _, err = command(*TINY, "--minutes", "0.01", "--text", plays, "--to", folder)
    assert code == 2
    assert "--minutes 0.01 is too little" in err
    assert len(err.splitlines()) == 2
    assert not folder.exists()


def test_rungs_without_a_place_here_are_named(tmp_path: Path, plays: Path) -> None:
    code, _, err = command(*TINY, "--text", plays, "--rungs", "tf32", "--to", tmp_path / "ladder")
    assert code == 2
    assert "tf32: needs a CUDA GPU" in err
