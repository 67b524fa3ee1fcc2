"""Ids are the same however files are read; what goes wrong in reading is an error, and is tried again in sight."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import tiny_shards

from folio.shards import Batches, Shards, TokenStream, access, watch
from folio.shards.access import file_system_of, suitable_access
from folio.shards.watch import ReadingEnded, ReadWatch


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """1,000 ids in files of 300."""
    return tiny_shards(tmp_path_factory.mktemp("access") / "s")


@settings(max_examples=100, deadline=None)
@given(bounds=st.tuples(st.integers(0, 1000), st.integers(0, 1000)))
def test_the_same_ids_by_map_and_by_read(shards: Shards, bounds: tuple[int, int]) -> None:
    start, end = sorted(bounds)
    mapped, read = (shards.read_by(way).split("train").read(start, end - start) for way in ("map", "read"))
    assert mapped.dtype == read.dtype
    assert np.array_equal(mapped, read)


def test_the_same_batches_by_map_and_by_read(shards: Shards) -> None:
    ways = [Batches(shards.read_by(way).split("train"), 16, 24, seed=2) for way in ("map", "read")]
    assert [batches.stream.access for batches in ways] == ["map", "read"]
    for step in range(5):
        assert np.array_equal(*(batches.batch(step) for batches in ways))


def test_what_is_read_is_not_to_be_written_to(shards: Shards) -> None:
    with pytest.raises(ValueError, match="read-only"):
        shards.read_by("read").split("train").read(0, 5)[0] = 1


@pytest.mark.parametrize("way", ["map", "read"])
def test_more_files_than_may_be_open_are_opened_in_turn(tmp_path: Path, way: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(access, "_most_open", lambda: 5)
    stream = tiny_shards(tmp_path / "s", train=1000, per_shard=20).read_by(way).split("train")
    assert len(stream.paths) == 50
    before = psutil.Process().num_fds()
    seen = [stream.read(start, 40)[0] for start in range(0, 960, 7)] + [stream.read(0, 1000)[-1]]
    assert psutil.Process().num_fds() <= before + 5
    assert seen[1] == 6
    del stream
    assert psutil.Process().num_fds() == before


def test_a_file_cut_short_while_open_is_an_error_of_the_system(tmp_path: Path) -> None:
    stream = tiny_shards(tmp_path / "s").read_by("read").split("train")
    stream.read(0, 1000)
    os.truncate(stream.paths[1], 1024 + 100)
    with pytest.raises(OSError, match="not as long as it was"):
        stream.read(0, 1000)
    assert len(stream.read(0, 350)) == 350


@pytest.mark.parametrize("way", ["map", "read"])
def test_a_file_that_is_not_open_yet_and_is_cut_short_is_an_error_too(tmp_path: Path, way: Any) -> None:
    stream = tiny_shards(tmp_path / "s").read_by(way).split("train")
    os.truncate(stream.paths[1], 1024 + 100)
    with pytest.raises(OSError, match="not as long as it was"):
        stream.read(300, 10)


MOUNTS = """\
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:26 / /data rw - nfs4 server:/data rw,vers=4.2
31 30 0:27 / /data/fast rw - xfs /dev/sdb rw
32 22 0:28 / /net/two\\040words rw shared:5 - fuse.sshfs host: rw
33 22 0:29 / /net/disk rw - fuseblk /dev/sdc rw
34 22 0:30 / /over rw - nfs a:/ rw
35 22 0:31 / /over rw - tmpfs tmpfs rw
36 22 0:32 / /dat rw - lustre x rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "way"),
    [
        ("/srv/shards", "ext4", "map"),
        ("/data/shards", "nfs4", "read"),
        ("/data", "nfs4", "read"),
        ("/data/fast/shards", "xfs", "map"),
        ("/datafast", "ext4", "map"),
        ("/net/two words/s", "fuse.sshfs", "read"),
        ("/net/disk/s", "fuseblk", "map"),
        ("/over/s", "tmpfs", "map"),
        ("/dat/s", "lustre", "read"),
    ],
)
def test_network_file_systems_are_read_and_others_mapped(
    path: str, kind: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert file_system_of(Path(path), tmp_path / "mountinfo") == kind
    monkeypatch.setattr(access, "file_system_of", lambda path: kind)
    assert suitable_access(Path(path), 10**6) == way


def test_shards_larger_than_memory_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "file_system_of", lambda path: "ext4")
    memory = psutil.virtual_memory().total
    assert suitable_access(Path("s"), memory // 2) == "map"
    assert suitable_access(Path("s"), memory * 2) == "read"
    monkeypatch.setattr(access, "_memory_bytes", lambda: None)
    assert suitable_access(Path("s"), memory * 2) == "map"


def test_the_local_order_asks_for_what_lies_around_its_reads(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda number, start, size, advice: asked.append((start, size)))
    Batches(shards.read_by("read").split("train"), 16, 4, seed=0).batch(0)
    assert asked == []
    Batches(shards.read_by("read").split("train"), 16, 4, seed=0, order="local").batch(0)
    assert len(asked) >= 4
    assert all(start % access.AROUND_BYTES == 0 and size == access.AROUND_BYTES for start, size in asked)


def test_where_nobody_lists_mounts_files_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_system_of(tmp_path, tmp_path / "missing") is None
    monkeypatch.setattr(access, "file_system_of", lambda path: None)
    assert suitable_access(tmp_path, 10**6) == "map"


def test_the_list_of_mounts_of_this_machine_is_understood(tmp_path: Path) -> None:
    if not access.MOUNTS.exists():
        pytest.skip("not Linux")
    assert file_system_of(Path("/proc/self")) == "proc"
    assert file_system_of(tmp_path)


def failing(stream: TokenStream, errors: list[OSError], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let reads fail with each of ``errors`` in turn, then work; every number that was read from."""
    real, numbers = os.pread, []

    def pread(number: int, size: int, offset: int) -> bytes:
        numbers.append(number)
        if errors:
            raise errors.pop(0)
        return real(number, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    return numbers


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FIRST_PAUSE_S", 0.01)


@pytest.mark.usefixtures("quick")
def test_reads_that_fail_are_tried_again_on_the_file_opened_anew(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, reopened = shards.read_by("read").split("train"), []
    opened = access._Descriptor.__init__

    def counted(self: Any, path: Path) -> None:
        reopened.append(path)
        opened(self, path)

    monkeypatch.setattr(access._Descriptor, "__init__", counted)
    numbers = [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.EHOSTDOWN]
    failing(stream, [OSError(number, os.strerror(number)) for number in numbers], monkeypatch)
    with stream.watched_by(ReadWatch()):
        assert np.array_equal(stream.read(5, 40), np.arange(4, 44))
    assert len(reopened) == 7


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", ["map", "read"])
def test_a_file_that_is_gone_for_a_moment_is_waited_for(tmp_path: Path, way: Any) -> None:
    stream = tiny_shards(tmp_path / "s").read_by(way).split("train")
    (path,) = stream.paths[:1]
    path.rename(tmp_path / "elsewhere")
    seen = ReadWatch()
    threading.Timer(0.3, lambda: (tmp_path / "elsewhere").rename(path)).start()
    begun = time.monotonic()
    with stream.watched_by(seen):
        assert stream.read(1, 1)[0] == 0
    assert 0.2 < time.monotonic() - begun < 5


def in_a_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException | object]]:
    ended: list[BaseException | object] = []

    def run() -> None:
        try:
            ended.append(work())
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.usefixtures("quick")
def test_another_thread_sees_what_keeps_a_read_and_may_end_it(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, seen = shards.read_by("read").split("train"), ReadWatch()
    failing(stream, [OSError(errno.EIO, "Input/output error")] * 1000, monkeypatch)
    with stream.watched_by(seen):
        thread, ended = in_a_thread(lambda: stream.read(0, 10))
        until(lambda: "(3 tries)" in seen.in_words())
        assert f"'{stream.paths[0]}' cannot be read: Input/output error" in seen.in_words()
        monkeypatch.setattr(watch, "LONGEST_PAUSE_S", 60)
        seen.end()
        thread.join(5)
    assert isinstance(ended[0], ReadingEnded)


def test_another_thread_sees_a_read_that_hangs(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, seen, back = shards.read_by("read").split("train"), ReadWatch(), threading.Event()
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *given: back.wait(10) and real(*given))
    with stream.watched_by(seen):
        thread, ended = in_a_thread(lambda: stream.read(1, 3).tolist())
        until(lambda: seen.in_words() == f"a read of '{stream.paths[0]}' has not come back")
        back.set()
        thread.join(5)
    assert ended == [[0, 1, 2]]
