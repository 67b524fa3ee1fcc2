"""Cells are worked off by an engine: room, order, failures, stopping; with processes that only pretend to train."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from folio.studies.running.child import command_line
from folio.studies.running.engine import CellJob, CellProcess, LocalEngine, Running, shared_out, surroundings_of
from folio.studies.running.records import CELLS, CellLog, StudyFolder
from folio.studies.running.work import Active, Ended, Listener, work_off
from folio.training.metrics import read_metrics


class Pretended:
    """A job that ends with a code after so many looks; told to stop, it saves."""

    def __init__(self, code: int, looks: int = 1) -> None:
        self.code, self.looks, self.stopped, self.killed = code, looks, False, False

    def exit_code(self) -> int | None:
        self.looks -= 1
        return (3 if self.stopped else self.code) if self.looks <= 0 or self.stopped else None

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.killed = True


class PretendingEngine:
    def __init__(self, room: int, jobs: dict[str, Pretended]) -> None:
        self.room, self.jobs, self.started = room, jobs, list[tuple[str, int]]()

    def threads_of(self, job: CellJob) -> int:
        return job.threads or 1

    def start(self, job: CellJob, slot: int) -> Running:
        self.started.append((job.name, slot))
        return self.jobs[job.name]


def job(name: str, folder: Path) -> CellJob:
    return CellJob(name, name, folder / "cells" / name, folder / "logs" / f"{name}.log", (), 1.0, 10)


@pytest.fixture
def work(tmp_path: Path) -> Callable[..., list[Ended]]:
    def run(
        engine: PretendingEngine,
        *names: str,
        stop: Callable[[], bool] = lambda: False,
        taken: Callable[[Path], bool] = lambda run: False,
        listener: Listener | None = None,
    ) -> list[Ended]:
        with CellLog(StudyFolder(tmp_path)) as log:
            jobs = [job(name, tmp_path) for name in names]
            return work_off(jobs, engine, log, listener or Listener(), stop, taken)

    return run


def test_never_more_at_once_than_there_is_room(work: Callable[..., list[Ended]], tmp_path: Path) -> None:
    engine = PretendingEngine(2, {name: Pretended(2, looks=3) for name in "abcde"})
    running: list[int] = []
    listener = Listener(tick=lambda active, waiting: running.append(len(active)))
    ended = work(engine, *"abcde", listener=listener)
    assert [name for name, _ in engine.started] == list("abcde")
    assert {slot for _, slot in engine.started} == {0, 1}
    assert max(running) == 2
    assert [one.status for one in ended] == ["failed"] * 5


def test_a_failure_is_told_with_a_line_of_its_log_and_the_rest_goes_on(
    work: Callable[..., list[Ended]], tmp_path: Path
) -> None:
    class Writing(PretendingEngine):
        def start(self, job: CellJob, slot: int) -> Running:
            job.log.parent.mkdir(exist_ok=True)
            if job.name == "a":
                job.log.write_text("folio: the text is too short\n       Give more.\n")
            if job.name == "b":
                job.log.write_text(
                    "Traceback\nValueError: odd\nfolio: this is a bug in folio; the lines above say where\n"
                )
            return super().start(job, slot)

    engine = Writing(1, {"a": Pretended(2), "b": Pretended(1), "c": Pretended(-9), "d": Pretended(2)})
    assert [one.error for one in work(engine, *"abcd")] == [
        "the text is too short",
        "ValueError: odd",
        "ended by SIGKILL, perhaps for want of memory",
        "ended with exit code 2, without a word",
    ]
    lines = [(line["kind"], line["cell"]) for line in read_metrics(tmp_path, CELLS)]
    assert lines == [(kind, name) for name in "abcd" for kind in ("began", "failed")]


def test_asked_to_stop_what_runs_saves_and_nothing_more_begins(work: Callable[..., list[Ended]]) -> None:
    engine = PretendingEngine(2, {name: Pretended(0, looks=1000) for name in "abc"})
    ended = work(engine, *"abc", stop=lambda: len(engine.started) == 2)
    assert [name for name, _ in engine.started] == ["a", "b"]
    assert [(one.job.name, one.status, one.error) for one in ended] == [("a", "begun", ""), ("b", "begun", "")]


def test_whatever_goes_wrong_no_process_is_left(work: Callable[..., list[Ended]]) -> None:
    engine = PretendingEngine(1, {"a": Pretended(0, looks=1000)})

    def fail(active: object, waiting: object) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        work(engine, "a", listener=Listener(tick=fail))
    assert engine.jobs["a"].killed


def test_a_cell_that_another_process_holds_waits_and_others_go_first(work: Callable[..., list[Ended]]) -> None:
    engine = PretendingEngine(1, {name: Pretended(2) for name in "ab"})
    work(engine, "a", "b", taken=lambda run: run.name == "a" and not engine.started)
    assert [name for name, _ in engine.started] == ["b", "a"]


def test_a_process_on_its_leash_ends_when_the_study_does(tmp_path: Path) -> None:
    """The study is killed outright; what it started hears of it, as SIGTERM, though in a session of its own."""
    trained = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(3)))"
    child = (
        "import threading; from folio.studies.running import child\n"
        f"threading.Thread(target=child._wait_for_the_end, daemon=True).start()\n{trained}\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    study = (
        "import sys, time; from pathlib import Path; from folio.studies.running.engine import CellProcess; import os\n"
        f"process = CellProcess((sys.executable, '-c', {child!r}), Path(sys.argv[1]), os.environ); time.sleep(60)"
    )
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", study, str(log)], start_new_session=True) as parent:
        _wait_for(lambda: log.exists() and "ready" in log.read_text())
        os.killpg(parent.pid, signal.SIGKILL)
    _wait_for(lambda: "saved" in log.read_text())


def _wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_leashed_command_line_is_folio(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "log"
    process = CellProcess(tuple(command_line(["--version"])), log, os.environ)
    _wait_for(lambda: process.exit_code() is not None)
    assert process.exit_code() == 0
    assert log.read_text().startswith("folio ")


def test_threads_and_gpus_are_shared_out(tmp_path: Path) -> None:
    assert [shared_out(4, workers) for workers in (1, 2, 3, 8)] == [4, 2, 1, 1]
    environment = surroundings_of({"A": "1", "RANK": "3", "OMP_NUM_THREADS": "64"}, 2)
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "2"
    assert environment["A"] == "1"
    assert "RANK" not in environment
    engine = LocalEngine(3, 2, gpus=2, environment={"PATH": os.environ["PATH"]})
    told = []
    show = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS'])"
    for slot in range(3):
        one = CellJob(
            "x",
            "x",
            tmp_path,
            tmp_path / f"{slot}.log",
            (sys.executable, "-c", show),
            1.0,
            1,
            threads=5 if slot else None,
        )
        process = engine.start(one, slot)
        _wait_for(lambda process=process: process.exit_code() is not None)  # type: ignore[misc]
        told.append(one.log.read_text().split())
    assert told == [["0", "2"], ["1", "5"], ["0", "5"]]


def test_progress_counts_from_where_a_cell_went_on(tmp_path: Path) -> None:
    from folio.studies.running.watching import RunWatch

    active = Active(job("a", tmp_path), 0, Pretended(0), RunWatch(tmp_path, step=4), 0, first_step=4)
    assert active.share == 0.4
