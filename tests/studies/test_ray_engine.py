"""Cells as tasks of Ray's: the same processes, the same exit codes, and time to save when they are cancelled."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from folio.errors import ConfigError
from folio.studies.running.engine import CellJob, Running

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
]

SAVING = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(3)))\n"
    "print('ready', flush=True); time.sleep(120)"
)


@pytest.fixture
def engine() -> Iterator[object]:
    from folio.studies.running.ray_engine import RayEngine

    engine = RayEngine(threads=1)
    yield engine
    engine.close()


def job(tmp_path: Path, code: str) -> CellJob:
    return CellJob("cell", "cell", tmp_path / "run", tmp_path / "log", (sys.executable, "-c", code), 1.0, 1)


def code_of(running: Running) -> int:
    end = time.monotonic() + 120
    while (code := running.exit_code()) is None:
        assert time.monotonic() < end
        time.sleep(0.1)
    return code


def test_a_task_runs_the_process_and_gives_its_exit_code(engine: object, tmp_path: Path) -> None:
    from folio.studies.running.ray_engine import RayEngine

    assert isinstance(engine, RayEngine)
    assert engine.room >= 1
    show = "import os, sys; print(os.environ['OMP_NUM_THREADS'], os.getcwd()); sys.exit(7)"
    assert code_of(engine.start(job(tmp_path, show), 0)) == 7
    assert (tmp_path / "log").read_text().split() == ["1", str(Path.cwd())]


def test_a_cancelled_task_lets_its_process_save(engine: object, tmp_path: Path) -> None:
    from folio.studies.running.ray_engine import RayEngine

    assert isinstance(engine, RayEngine)
    running = engine.start(job(tmp_path, SAVING), 0)
    while not ((tmp_path / "log").exists() and "ready" in (tmp_path / "log").read_text()):
        assert running.exit_code() is None
        time.sleep(0.1)
    running.stop()
    assert code_of(running) == 3
    assert "saved" in (tmp_path / "log").read_text()


def test_a_cell_that_fits_nowhere_is_told(tmp_path: Path) -> None:
    from folio.studies.running.ray_engine import RayEngine

    with pytest.raises(ConfigError, match="a cell asks for 4096 and 0"):
        RayEngine(threads=4096)
