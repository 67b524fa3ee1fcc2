"""``folio train`` on a mount that stalls or fails: it waits, says so, goes on, and ends with the same bits."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rank_processes import Ended, Job
from real_runs import curve, weights_sha256, write_recipe

from folio.cli import main
from folio.training import attending
from folio.training.metrics import read_metrics

EVENTS = ("data_stalled", "data_back", "data_lost")
READ = ("--shards.access", "read")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(autouse=True)
def at_once(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Waits are told of at once, and no thread is left behind."""
    monkeypatch.setenv("FOLIO_CACHE", str(recipe.parent / "cache"))
    monkeypatch.setattr(attending, "TOLD_AFTER_S", 0.2)
    yield
    deadline = time.monotonic() + 5
    while named := [thread.name for thread in threading.enumerate() if thread.name.endswith(" data")]:
        assert time.monotonic() < deadline, named
        time.sleep(0.01)


Train = Callable[..., tuple[int, str, str]]


@pytest.fixture
def train(capsys: pytest.CaptureFixture[str]) -> Train:
    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["train", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(scope="module")
def undisturbed(recipe: Path) -> Path:
    """A run by memory map that read nothing ahead."""
    run = recipe.parent / "undisturbed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOLIO_CACHE", str(recipe.parent / "cache"))
        assert main(["train", str(recipe), "--out", str(run), "--shards.prefetch", "0", "--shards.access", "map"]) == 0
    return run


def without_stalls(run: Path) -> list[dict[str, Any]]:
    return [line for line in curve(run) if line.get("event") not in EVENTS]


def events(run: Path) -> list[str]:
    return [line["event"] for line in read_metrics(run) if line.get("event") in EVENTS]


def last_weights(run: Path) -> bytes:
    return (run / "checkpoints" / "step-00000024" / "model" / "model.safetensors").read_bytes()


def assert_same_end(run: Path, other: Path) -> None:
    assert last_weights(run) == last_weights(other)
    assert without_stalls(run) == without_stalls(other)


@pytest.mark.parametrize("flags", [("--shards.prefetch", "1"), ("--shards.prefetch", "3", *READ)])
def test_reading_ahead_and_by_read_give_the_same_bits_across_a_resume(
    flags: tuple[str, ...], recipe: Path, undisturbed: Path, tmp_path: Path, train: Train
) -> None:
    run = tmp_path / "run"
    stopping = (*flags, "--train.steps", "24")
    with stopped_at(9, run):
        assert train(recipe, "--out", run, *stopping)[0] == 3
    assert train("--resume", run)[0] == 0
    assert_same_end(run, undisturbed)


class stopped_at:
    """Send this process a SIGTERM when ``run`` has done a step."""

    def __init__(self, step: int, run: Path) -> None:
        self.step, self.run, self.over = step, run, threading.Event()

    def __enter__(self) -> None:
        self.thread = threading.Thread(target=self._wait)
        self.thread.start()

    def _wait(self) -> None:
        while not self.over.wait(0.005):
            metrics = self.run / "metrics.jsonl"
            if metrics.exists() and f'"step": {self.step},' in metrics.read_text():
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


class Mount:
    """Takes the place of ``os.pread``: from the ``number``-th read on it does what ``trouble`` says."""

    def __init__(self, number: int, trouble: Callable[[], None]) -> None:
        self.number, self.trouble, self.reads = number, trouble, 0
        self.pread = os.pread

    def __call__(self, *given: Any) -> bytes:
        self.reads += 1
        if self.reads >= self.number:
            self.trouble()
        return self.pread(*given)


def fail() -> None:
    raise OSError(errno.EIO, "Input/output error")


def failing_until(moment: threading.Event) -> Callable[[], None]:
    return lambda: None if moment.is_set() else fail()


EARLY, LATER, VALIDATING = 16 * 4, 16 * 9 + 5, 16 * 6 + 1
"""Reads of a run that reads nothing ahead: 16 windows a step, and the validation split after every 6 steps."""


@pytest.mark.parametrize("number", [EARLY, LATER, VALIDATING])
@pytest.mark.parametrize("hangs", [False, True])
def test_a_stall_is_told_and_recovered_from_with_the_same_bits(
    number: int,
    hangs: bool,
    recipe: Path,
    undisturbed: Path,
    tmp_path: Path,
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a step; in a later one; in a validation. By errors; and by a read that does not come back."""
    run, back = tmp_path / "run", threading.Event()
    wait = (lambda: None if back.wait(20) else fail()) if hangs else failing_until(back)
    monkeypatch.setattr(os, "pread", Mount(number, wait))
    timer = threading.Timer(1.5, back.set)
    real_tell = attending.Attendant.wait

    def begun(self: Any, *given: Any) -> None:
        if not timer.is_alive() and not back.is_set():
            timer.start()
        real_tell(self, *given)

    monkeypatch.setattr(attending.Attendant, "wait", begun)
    code, out, err = train(recipe, "--out", run, *READ, "--shards.prefetch", "0")
    assert (code, err.count("Traceback")) == (0, 0), err
    assert events(run) == ["data_stalled", "data_back"]
    told = [line for line in out.splitlines() if line.startswith(("waiting for data: ", "the data are back after "))]
    assert len(told) >= 3
    what = "has not come back" if hangs else "cannot be read: Input/output error ("
    assert what in told[0]
    assert "_000000.bin'" in told[0]
    assert_same_end(run, undisturbed)


@pytest.mark.parametrize("number", [LATER, VALIDATING])
def test_giving_up_saves_and_is_resumed_with_the_same_bits(
    number: int, recipe: Path, undisturbed: Path, tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", Mount(number, fail))
        code, _, err = train(recipe, "--out", run, *READ, "--shards.prefetch", "0", "--shards.patience-s", "0.7")
    assert code == 2
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("folio: ")]
    assert "cannot be read: Input/output error" in line
    step = 9 if number == LATER else 6
    assert f"saved after step {step} of 24" in line
    assert f"folio train --resume {run}" in err
    assert events(run)[-1] == "data_lost"
    code, out, err = train("--resume", run)
    assert code == 0, err
    assert f"step-{step:08d}" in out
    assert_same_end(run, undisturbed)


def test_a_signal_in_a_stall_saves_and_leaves(
    recipe: Path, undisturbed: Path, tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", Mount(LATER, fail))
        threading.Thread(target=terminate_when, args=(run, "data_stalled")).start()
        code, _, err = train(recipe, "--out", run, *READ)
    assert code == 3, err
    assert "saved" in err
    assert train("--resume", run)[0] == 0
    assert_same_end(run, undisturbed)


def terminate_when(run: Path, event: str) -> None:
    metrics, until = run / "metrics.jsonl", time.monotonic() + 60
    while not (metrics.exists() and event in metrics.read_text()):
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_keeps_its_order_for_life(recipe: Path, undisturbed: Path, tmp_path: Path, train: Train) -> None:
    run, local = tmp_path / "run", ("--shards.order", "local", "--shards.order-bytes", "4096")
    with stopped_at(9, run):
        assert train(recipe, "--out", run, *local)[0] == 3
    for flags, named in (
        (("--shards.order", "shuffled"), "shards.order"),
        (("--shards.order-bytes", "8192"), "shards.order_bytes"),
    ):
        code, _, err = train("--resume", run, *flags)
        assert code == 2
        assert f"was begun with another {named}\n" in err
    assert train("--resume", run)[0] == 0
    whole = tmp_path / "whole"
    assert train(recipe, "--out", whole, *local, "--shards.prefetch", "0")[0] == 0
    assert_same_end(run, whole)
    assert last_weights(run) != last_weights(undisturbed)


@pytest.mark.parametrize(
    ("flag", "value"),
    [("order", "nearby"), ("order-bytes", "0"), ("access", "mmap"), ("prefetch", "-1"), ("patience-s", "0")],
)
def test_bad_settings_are_one_line(flag: str, value: str, recipe: Path, tmp_path: Path, train: Train) -> None:
    code, _, err = train(recipe, "--out", tmp_path / "run", f"--shards.{flag}", value)
    assert code == 2
    assert err.startswith("folio: ")
    assert f"shards.{flag}" in err.replace("_", "-")
    assert value in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


STALLING = """
import os, sys, time
real, begun, seconds = os.pread, [], float(sys.argv[1])
def pread(*given):
    pread.reads += 1
    if pread.reads > 8 * 9 + 3:
        begun.append(time.monotonic())
        while time.monotonic() < begun[0] + seconds:
            if sys.argv[2] == "fail":
                raise OSError(5, "Input/output error")
            time.sleep(0.05)
    return real(*given)
pread.reads = 0
if os.environ["RANK"] == "1":
    os.pread = pread
from folio.cli import main
sys.exit(main(sys.argv[4:]))
"""


def on_two_ranks(folder: Path, recipe: Path, seconds: float, how: str, *flags: str) -> Ended:
    (folder / "stalling.py").write_text(STALLING)
    arguments = ("train", recipe, "--out", folder / "run", *READ, "--train.rank-timeout-s", "5", *flags)
    with Job(folder, 2, folder / "stalling.py", seconds, how, "--", *arguments) as job:
        return job.end()


@pytest.mark.slow
def test_a_stall_of_one_rank_longer_than_the_ranks_time_limit_is_waited_for_by_all(
    recipe: Path, tmp_path: Path
) -> None:
    """And given up by all, the last whole step saved."""
    for name, seconds in (("calm", 0.0), ("stalled", 12.0)):
        (tmp_path / name).mkdir()
        ended = on_two_ranks(tmp_path / name, recipe, seconds, "hang")
        assert ended.code == 0, ended.err
    assert "waiting for data on rank 1: 5 s, a read of '" in ended.out
    assert "the data on rank 1 are back after 12 s" in ended.out
    assert events(tmp_path / "stalled/run") == ["data_stalled", "data_back"]
    calm = (tmp_path / "calm/run").resolve()
    assert_same_end(tmp_path / "stalled/run", calm)
    assert weights_sha256(ended.out)
    (tmp_path / "given up").mkdir()
    ended = on_two_ranks(tmp_path / "given up", recipe, 999.0, "fail", "--shards.patience-s", "2")
    assert ended.code != 0
    assert ended.folio_lines
    for line in ended.folio_lines:  # on a busy machine rank 1 says it too
        assert "no data for" in line
        assert "on rank 1: " in line
        assert "saved after step 9 of 24" in line
    assert sorted(path.name for path in (tmp_path / "given up/run/checkpoints").iterdir())[-1] == "step-00000009"
