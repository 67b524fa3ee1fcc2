"""Writing that is killed, stopped or out of room goes on, does nothing twice, and ends with the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from letters import ByteTokenizer, documents, many_documents, tiny_shards

from folio.artifacts import read_manifest, verify
from folio.corpus.document import Document
from folio.errors import ArtifactError, DataError, Interrupted
from folio.shards import ShardsConfig, WriteProgress, verify_shards, write, write_shards

SCRIPT = """
import sys, pathlib
sys.path.insert(0, {here!r})
from letters import ByteTokenizer, many_documents
from folio.shards import ShardsConfig, pool, write, write_shards
pool.CHUNKS_BEFORE_PROCESSES = 1
write.SAVE_EVERY_S = 0.0
seen = []
write_shards(
    {{"train": lambda: many_documents(60, 20_000), "val": lambda: many_documents(30, 20_000, first=100)}},
    ByteTokenizer(seconds_per_call={slow}), pathlib.Path(sys.argv[1]),
    ShardsConfig(tokens_per_shard=1_000_003, workers={workers}), source={{}}, on_progress=seen.append,
)
print(seen[0].note, "|", sum(not progress.note for progress in seen))
"""


def start(to: Path, slow: float, workers: int) -> subprocess.Popen[str]:
    code = SCRIPT.format(here=str(Path(__file__).parent), slow=slow, workers=workers)
    return subprocess.Popen([sys.executable, "-c", code, str(to)], stdout=subprocess.PIPE, text=True)


def tokens_saved(to: Path) -> int:
    try:
        splits = json.loads((to.with_name(to.name + ".partial") / "journal.json").read_text())["splits"]
    except FileNotFoundError:
        return 0
    return sum(split["tokens"] for split in splits.values())


def kill_after(process: subprocess.Popen[str], to: Path, tokens: int) -> None:
    deadline = time.monotonic() + 60
    while tokens_saved(to) < tokens:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_again_and_again_it_ends_with_the_same_bytes(tmp_path: Path, workers: int) -> None:
    start(tmp_path / "whole", 0.0, workers).communicate()
    for tokens in (1, 2_500_000, 5_000_000, 8_000_000):
        process = start(tmp_path / "s", 0.02, workers)
        kill_after(process, tmp_path / "s", tokens)
        assert not (tmp_path / "s").exists()
    answer, _ = start(tmp_path / "s", 0.0, workers).communicate()
    assert "going on after 8," in answer or "going on after 9," in answer
    assert int(answer.rpartition("|")[2]) < 4  # chunks left to do, of 11
    assert read_manifest(tmp_path / "s").files == read_manifest(tmp_path / "whole").files
    assert read_manifest(tmp_path / "s").id == read_manifest(tmp_path / "whole").id
    assert not (tmp_path / "s.partial").exists()


def test_children_end_with_a_killed_parent(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    process = start(tmp_path / "s", 0.02, 2)
    deadline = time.monotonic() + 30
    while tokens_saved(tmp_path / "s") < 3_000_000:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    children = psutil.Process(process.pid).children()
    assert len(children) == 2
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not psutil.wait_procs(children, timeout=10)[1]


def test_ctrl_c_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "SAVE_EVERY_S", 0.0)

    def stop(progress: WriteProgress) -> None:
        if progress.tokens > 2_000_000:
            raise KeyboardInterrupt

    def go(to: str, on_progress: object = None) -> None:
        train = {"train": lambda: many_documents(20)}
        config = ShardsConfig(workers=2, tokens_per_shard=900_000)
        write_shards(train, ByteTokenizer(), tmp_path / to, config, source={}, on_progress=on_progress)  # type: ignore[arg-type]

    with pytest.raises(Interrupted, match="goes on from where it stopped"):
        go("s", stop)
    notes: list[WriteProgress] = []
    go("s", notes.append)
    assert notes[0].note.startswith("going on after 2,")
    go("whole")
    assert read_manifest(tmp_path / "s").files == read_manifest(tmp_path / "whole").files


def test_a_full_disk_is_one_line_and_goes_on_later(tmp_path: Path) -> None:
    """The system refuses files above a limit, as a full disk would refuse to grow one."""
    code = SCRIPT.format(here=str(Path(__file__).parent), slow=0.0, workers=1)
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))\n"
        "from folio.errors import ArtifactError\n"
        "try:\n"
        + "".join(f"    {line}\n" for line in code.splitlines())
        + "except ArtifactError as error: print(error)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", limited, str(tmp_path / "s")], capture_output=True, text=True, check=True
    ).stdout
    assert "no room on the disk" in answer
    assert "goes on from where it stopped" in answer
    assert not (tmp_path / "s").exists()
    start(tmp_path / "s", 0.0, 1).communicate()
    start(tmp_path / "whole", 0.0, 1).communicate()
    assert read_manifest(tmp_path / "s").files == read_manifest(tmp_path / "whole").files


def stopped(to: Path, text: str = "some text") -> None:
    """Leave unfinished work behind: a file is missing after eight documents."""

    def train() -> Iterator[Document]:
        yield from (Document(str(n), text * 150_000, "here") for n in range(8))
        raise FileNotFoundError(2, "No such file or directory", "gone.txt")

    with pytest.raises(DataError, match=r"gone\.txt"):
        write_shards({"train": train}, ByteTokenizer(), to, ShardsConfig(workers=1), source={"name": "a"})


def resumed(to: Path, text: str = "some text", **changes: object) -> list[str]:
    notes: list[WriteProgress] = []
    arguments: dict[str, object] = {
        "source": {"name": "a"},
        "tokenizer": ByteTokenizer(),
        "config": ShardsConfig(workers=1),
    }
    whole = {"train": (lambda: (Document(str(n), text * 150_000, "here") for n in range(8)))}
    write_shards(whole, to=to, on_progress=notes.append, **{**arguments, **changes})  # type: ignore[arg-type]
    return [note.note for note in notes if note.note]


def test_unfinished_work_of_another_job_is_begun_anew_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "SAVE_EVERY_S", 0.0)
    changes = {
        "tokenizer": ByteTokenizer(vocab_size=300),
        "source": {"name": "b"},
        "config": ShardsConfig(workers=1, tokens_per_shard=2_000_000),
    }
    for index, (name, change) in enumerate(changes.items()):
        to = tmp_path / str(index)
        stopped(to)
        (note,) = resumed(to, **{name: change})
        assert f"another {name.replace('config', 'tokens_per_shard')}: beginning anew" in note
    stopped(tmp_path / "same")
    assert resumed(tmp_path / "same")[0].startswith("going on after")


def test_what_was_written_after_the_last_save_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "SAVE_EVERY_S", 0.0)
    stopped(tmp_path / "s")
    with open(tmp_path / "s.partial" / "shards" / "train_000000.bin", "ab") as file:
        file.write(b"half a chunk")
    assert resumed(tmp_path / "s")[0].startswith("going on after")
    resumed(tmp_path / "whole")
    assert read_manifest(tmp_path / "s").files == read_manifest(tmp_path / "whole").files
    verify(tmp_path / "s")


def test_documents_that_changed_meanwhile_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "SAVE_EVERY_S", 0.0)
    stopped(tmp_path / "s")
    with pytest.raises(DataError, match="the documents have changed"):
        resumed(tmp_path / "s", text="same text")


def test_unfinished_work_that_is_damaged_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "SAVE_EVERY_S", 0.0)
    partial = tmp_path / "s.partial"
    stopped(tmp_path / "s")
    (partial / "journal.json").write_text('{"job": ')
    assert "was damaged: beginning anew" in resumed(tmp_path / "s")[0]
    stopped(tmp_path / "t")
    os.truncate(tmp_path / "t.partial" / "shards" / "train_000000.bin", 5000)
    assert "missing or cut short: beginning anew" in resumed(tmp_path / "t")[0]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    process = start(tmp_path / "s", 0.05, 1)
    while tokens_saved(tmp_path / "s") == 0:
        time.sleep(0.01)
    with pytest.raises(ArtifactError, match="another process is writing"):
        tiny_shards(tmp_path / "s")
    process.kill()
    process.communicate()


def test_killed_after_the_rename_it_is_simply_done(tmp_path: Path) -> None:
    one = {"train": documents("a")}
    write_shards(one, ByteTokenizer(), tmp_path / "s", source={"fingerprint": "f"})
    (tmp_path / "s.partial").mkdir()
    (tmp_path / "s.partial" / "journal.json").write_text("{}")
    verify_shards(write_shards(one, ByteTokenizer(), tmp_path / "s", source={"fingerprint": "f"}))
    assert not (tmp_path / "s.partial").exists()
