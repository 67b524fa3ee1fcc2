"""A disk that is full at any write of a run costs nothing that was complete, is said in one message, and once there is
room again the run ends with the bits of one that never met it. Nor do a disk made read-only or taken away."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_runs import write_recipe

from folio.artifacts import MANIFEST, verify
from folio.cli import main
from folio.training.metrics import METRICS, MetricsLog, read_metrics

STEPS, SAVED_EVERY = 8, 4
ROOM = "size=64m,nr_inodes=10000"
"""What is mounted when there is enough."""
IN_A_CHECKPOINT = {"model.safetensors", "config.json", "tokenizer_config.json", "README.md", "manifest.json", "/state"}
QUICK = ["size=8k", "size=36k", "size=72k", "size=120k", "size=180k", "size=260k", "size=340k"]
QUICK += ["nr_inodes=4", "nr_inodes=9", "nr_inodes=17", "nr_inodes=30"]


class Disk:
    """A small file system of its own, mounted at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._mount("-t", "tmpfs", "-o", ROOM, "tmpfs", str(path))

    def limit(self, options: str) -> None:
        """Mount it again with other ``options``: ``size=100k``, ``nr_inodes=20``, ``ro``."""
        self._mount("-o", f"remount,{options}", str(self.path))

    def show_at(self, other: Path) -> None:
        """Make the same files appear at ``other`` too."""
        self._mount("--bind", str(self.path), str(other))

    def vanish(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], check=True)

    def fill(self) -> None:
        """Leave no room at all."""
        told = os.statvfs(self.path)
        self.limit(f"size={(told.f_blocks - told.f_bfree) * told.f_frsize}")

    def clear(self) -> None:
        self.limit(f"rw,{ROOM}")
        subprocess.run(["find", str(self.path), "-mindepth", "1", "-delete"], check=True)

    @staticmethod
    def _mount(*arguments: str) -> None:
        subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A disk that holds the run and the cache."""
    try:
        made = Disk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no permission to mount a small disk: run as root, or under unshare -rm")
    monkeypatch.setenv("FOLIO_CACHE", str(made.path / "cache"))
    try:
        yield made
    finally:
        subprocess.run(["umount", "-l", str(made.path)], check=False, capture_output=True)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_recipe(tmp_path_factory.mktemp("recipe"))
    path.write_text(path.read_text().replace("steps = 24", f"steps = {STEPS}"))
    return path


@pytest.fixture(scope="module")
def undisturbed(recipe: Path) -> bytes:
    """The weights of a run that met no trouble, as they lie in their file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOLIO_CACHE", str(recipe.parent / "cache"))
        assert main(["train", str(recipe), "--out", str(recipe.parent / "run")]) == 0
    return last_weights(recipe.parent / "run")


def last_weights(run: Path) -> bytes:
    return (run / "checkpoints" / f"step-{STEPS:08d}" / "model" / "model.safetensors").read_bytes()


def whole_checkpoints(run: Path) -> list[int]:
    """The steps of the checkpoints, every one of which is whole."""
    folders = sorted(run.glob("checkpoints/step-*"))
    return [int(verify(folder, "checkpoint").config["step"]) for folder in folders]


def one_message(told: str) -> str:
    """What a failed command said: one problem, on one line, and its remedy below it."""
    assert "Traceback" not in told
    assert told.count("folio: ") == 1, told
    return told[told.index("folio: ") :]


def assert_the_disk_is_said_to_be_full(told: str) -> None:
    message = one_message(told).lower()
    assert "disk is full" in message or "no room" in message or "no space left" in message, told


def refused_to_write(told: str) -> bool:
    message = one_message(told).lower()
    return "read-only" in message or "no permission" in message


def meet(disk: Disk, recipe: Path, undisturbed: bytes, capsys: pytest.CaptureFixture[str]) -> str:
    """Train on a disk that is full or fills up, check what is left, give it room, go on to the end and compare.

    What was said of the full disk; empty if the run fitted.
    """
    run = disk.path / "run"
    begin = ["train", str(recipe), "--out", str(run)]
    capsys.readouterr()
    code = main(begin)
    told = capsys.readouterr()
    saved = whole_checkpoints(run)
    done = max((line["step"] for line in read_metrics(run)), default=0) if (run / METRICS).exists() else 0
    for manifest in disk.path.glob(f"cache/*/*/{MANIFEST}"):
        verify(manifest.parent)
    if code == 0:
        assert last_weights(run) == undisturbed
        return ""
    said = told.err
    assert code == 2, told.err
    assert_the_disk_is_said_to_be_full(told.err)
    if done > SAVED_EVERY:
        assert saved[-1] >= done - SAVED_EVERY
    if saved:
        assert f"folio train --resume {run}" in told.err or f"folio report {run}" in told.err, told.err
        assert f"step {saved[-1]}" in told.err, told.err
    disk.limit(ROOM)
    code = main(["train", "--resume", str(run)] if run.exists() else begin)
    told = capsys.readouterr()
    finished = code == 2 and "is finished" in told.err  # the disk was full for the report alone
    assert code == 0 or finished, told.err
    assert main(["report", str(run)]) == 0
    assert last_weights(run) == undisturbed
    assert {path.name for path in run.rglob(".*")} <= {".writing"}  # its lock; nothing half-made
    return said


@pytest.mark.parametrize("limit", QUICK)
def test_a_run_on_a_disk_that_is_too_small_ends_with_the_same_bits(
    limit: str, disk: Disk, recipe: Path, undisturbed: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    disk.limit(limit)
    assert meet(disk, recipe, undisturbed, capsys)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("limits", "stages"),
    [
        ([f"size={size}k" for size in range(4, 1000, 4)], {"cache/tokenizer", "cache/shards", "model.safetensors"}),
        ([f"nr_inodes={number}" for number in range(2, 200)], {"tokenizer.json", "cache/shards", *IN_A_CHECKPOINT}),
    ],
    ids=["every size", "every number of files"],
)
def test_whatever_write_the_disk_refuses_the_run_ends_with_the_same_bits(
    limits: list[str],
    stages: set[str],
    disk: Disk,
    recipe: Path,
    undisturbed: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A tmpfs gives out pages of 4 KiB: from one of them, or from a single file, until the run fits."""
    said = []
    for limit in limits:
        disk.clear()
        disk.limit(limit)
        said.append(meet(disk, recipe, undisturbed, capsys))
        if not said[-1]:
            break
    assert not said[-1], "the run never fitted"
    assert all(any(stage in told for told in said) for stage in stages)


QUICK_LINES = [1, 5, 9, 12]
OTHER_LINES = [pytest.param(line, marks=pytest.mark.slow) for line in (2, 3, 4, 6, 7, 8, 10, 11)]


@pytest.mark.parametrize("line", [*QUICK_LINES, *OTHER_LINES])
def test_a_disk_that_fills_up_as_the_run_goes_costs_nothing(
    line: int,
    disk: Disk,
    recipe: Path,
    undisturbed: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Full from the moment one of its 12 lines of metrics was logged: samples and the report meet it too."""
    log, logged = MetricsLog.log, []

    def filling(metrics: MetricsLog, **fields: Any) -> None:
        log(metrics, **fields)
        logged.append(fields)
        if len(logged) == line:
            disk.fill()

    monkeypatch.setattr(MetricsLog, "log", filling)
    assert meet(disk, recipe, undisturbed, capsys)


@pytest.mark.parametrize("limit", ["size=4k", "size=16k", "nr_inodes=3", "nr_inodes=4", "nr_inodes=6"])
@pytest.mark.parametrize("verb", ["tokenizer", "shards", "report"])
def test_other_commands_say_so_and_work_once_there_is_room(
    verb: str, limit: str, disk: Disk, recipe: Path, undisturbed: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    text, made = recipe.parent / "text.txt", disk.path / "out" / "made"
    (tokenizer,) = (recipe.parent / "cache" / "tokenizer").glob("*[0-9a-f]")
    command = {
        "tokenizer": ["tokenizer", "train", str(text), "--vocab-size", "400", "--to", str(made)],
        "shards": ["shards", "write", str(text), "--tokenizer", str(tokenizer), "--to", str(made)],
        "report": ["report", str(recipe.parent / "run"), "--to", str(made)],
    }[verb]
    disk.limit(limit)
    capsys.readouterr()
    code = main(command)
    told = capsys.readouterr().err
    if code:
        assert code == 2
        assert_the_disk_is_said_to_be_full(told)
        assert not made.exists()
        disk.limit(ROOM)
        assert main(command) == 0
    assert verify(made) if verb != "report" else made.read_text().endswith("</html>\n")
    assert [path.name for path in made.parent.iterdir()] == ["made"]


def test_what_is_read_only_is_left_as_it_is_with_a_word(
    disk: Disk, recipe: Path, undisturbed: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    run = disk.path / "run"
    begin = ["train", str(recipe), "--out", str(run)]
    disk.limit("ro")
    capsys.readouterr()
    assert main(begin) == 2
    assert refused_to_write(capsys.readouterr().err)
    disk.limit("rw")
    assert main([*begin, "--train.steps", "4"]) == 0
    disk.limit("ro")
    capsys.readouterr()
    resume = ["train", "--resume", str(run), "--train.steps", str(STEPS)]
    assert main(resume) == 2
    assert refused_to_write(capsys.readouterr().err)
    assert whole_checkpoints(run) == [4]
    disk.limit("rw")
    assert main(resume) == 0
    assert whole_checkpoints(run)[-1] == STEPS


def test_a_disk_that_vanishes_keeps_what_was_saved_and_nothing_is_written_in_its_place(
    disk: Disk,
    recipe: Path,
    undisturbed: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = disk.path / "run"
    (tmp_path / "kept").mkdir()
    disk.show_at(tmp_path / "kept")
    monkeypatch.setenv("FOLIO_CACHE", str(recipe.parent / "cache"))
    sync, saves = MetricsLog.sync, []

    def vanishing(log: MetricsLog) -> None:
        sync(log)
        saves.append(log)
        if len(saves) == 2:  # the first save has been made, the second is about to be
            disk.vanish()

    monkeypatch.setattr(MetricsLog, "sync", vanishing)
    try:
        capsys.readouterr()
        assert main(["train", str(recipe), "--out", str(run)]) == 2
        message = one_message(capsys.readouterr().err)
        assert str(run) in message
        assert os.listdir(disk.path) == []
        kept = tmp_path / "kept" / run.relative_to(disk.path)
        assert whole_checkpoints(kept) == [4]
        monkeypatch.setattr(MetricsLog, "sync", sync)
        assert main(["train", "--resume", str(kept)]) == 0
        assert last_weights(kept) == undisturbed
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "kept")], check=True)
