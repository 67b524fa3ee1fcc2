"""A source written part by part: the same bytes for any number of workers, for any kills, and as without parts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from letters import ByteTokenizer, words

from folio.artifacts import read_manifest, verify
from folio.corpus.document import Document
from folio.corpus.sources import ByHash, FirstParts, SourceChanged, SourceConfig, first_file, open_source
from folio.errors import ArtifactError, DataError, Interrupted
from folio.shards import ShardsConfig, write_shards
from folio.shards.parts import merge as parts_merge
from folio.shards.parts import pool as parts_pool
from folio.shards.parts.journal import PartRecord, PartsJournal
from folio.shards.parts.merge import PartsProgress
from folio.shards.parts.write import PartsWritten, write_parts

RULE = ByHash(0.2)
PER_SHARD = 300_007


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files: 20 row groups of ten documents, lines, and 10 row groups; 1.9 MB of text."""
    root = tmp_path_factory.mktemp("source") / "texts"
    root.mkdir()
    texts = [words(1000, seed) for seed in range(310)]
    texts[17] = " "
    pq.write_table(pa.table({"text": texts[:200]}), root / "a.parquet", row_group_size=10)
    (root / "b.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[200:210]))
    pq.write_table(pa.table({"text": texts[210:]}), root / "c.parquet", row_group_size=10)
    return root


def write(folder: Path, to: Path, workers: int = 1, **settings: Any) -> PartsWritten:
    source = open_source(SourceConfig(path=str(folder), damaged=settings.pop("damaged", "stop")))
    config = ShardsConfig(tokens_per_shard=PER_SHARD, workers=workers)
    return write_parts(source, ByteTokenizer(), to, config, **{"sides": RULE, **settings})


def files(to: Path) -> dict[str, str]:
    return {name: record.sha256 for name, record in read_manifest(to).files.items() if name.endswith(".bin")}


def without_parts(folder: Path, to: Path, side: Callable[[Any, Document], str]) -> dict[str, str]:
    source = open_source(str(folder))
    pairs = [(part, document) for part in source.parts() for document in source.documents(part)]
    splits = {
        name: (lambda name=name: (document for part, document in pairs if side(part, document) == name))
        for name in ("train", "val")
    }
    config = ShardsConfig(tokens_per_shard=PER_SHARD, workers=1)
    write_shards(splits, ByteTokenizer(), to, config, source={})
    return files(to)


@pytest.mark.parametrize("rule", ["hash", "first file"])
def test_any_number_of_workers_gives_the_bytes_of_the_path_without_parts(
    folder: Path, tmp_path: Path, rule: str
) -> None:
    sides = RULE if rule == "hash" else first_file(open_source(str(folder)).plan)
    expected = without_parts(folder, tmp_path / "whole", sides.side)
    made = {workers: write(folder, tmp_path / str(workers), workers, sides=sides) for workers in (1, 2, 3)}
    assert all(files(tmp_path / str(workers)) == expected for workers in made)
    assert len({read_manifest(tmp_path / str(workers)).id for workers in made}) == 1
    assert len(expected) > 5
    verify(tmp_path / "2", "shards")
    whole, shards = read_manifest(tmp_path / "whole"), made[2].shards
    assert shards.manifest.config["splits"] == whole.config["splits"]
    assert str(folder) not in (tmp_path / "2" / "manifest.json").read_text()
    assert not (tmp_path / "2.partial").exists()
    counts = made[2].counts
    assert (counts.cleaning.kept, counts.cleaning.empty) == (309, 1)


SCRIPT = """
import sys, pathlib
sys.path.insert(0, {here!r})
from letters import ByteTokenizer
from folio.corpus.sources import ByHash, open_source
from folio.shards import ShardsConfig
from folio.shards.parts import merge
from folio.shards.parts.write import write_parts
merge.SAVE_EVERY_S = 0.0
seen = []
tokenizer = ByteTokenizer(seconds_per_call={slow})
config = ShardsConfig(tokens_per_shard={per_shard}, workers={workers})
source, to = open_source({folder!r}), pathlib.Path(sys.argv[1])
done = write_parts(source, tokenizer, to, config, sides=ByHash(0.2), on_progress=seen.append)
print(done.counts.cleaning.kept, seen[-1].documents, seen[-1].parts)
"""


def start(folder: Path, to: Path, slow: float, workers: int) -> subprocess.Popen[str]:
    here = str(Path(__file__).parent)
    code = SCRIPT.format(here=here, folder=str(folder), slow=slow, workers=workers, per_shard=PER_SHARD)
    return subprocess.Popen([sys.executable, "-c", code, str(to)], stdout=subprocess.PIPE, text=True)


def lines(to: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in to.with_name(to.name + ".partial").glob("parts-*/*.jsonl"))


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_again_and_again_it_ends_with_the_same_bytes(folder: Path, tmp_path: Path, workers: int) -> None:
    write(folder, tmp_path / "whole")
    to = tmp_path / "s"
    for wanted in (1, 12, 25):
        process = start(folder, to, 0.02, workers)
        deadline = time.monotonic() + 60
        while lines(to) < wanted:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert not to.exists()
    known = lines(to)
    answer, _ = start(folder, to, 0.0, workers).communicate()
    assert answer.split() == ["309", "309", "31"]
    assert known >= 25
    assert files(to) == files(tmp_path / "whole")
    assert read_manifest(to).id == read_manifest(tmp_path / "whole").id
    assert not to.with_name("s.partial").exists()


def stopped_after(folder: Path, to: Path, parts: int, **settings: Any) -> None:
    def stop(progress: PartsProgress) -> None:
        if progress.parts >= parts:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="goes on from where it stopped"):
        write(folder, to, on_progress=stop, **settings)


def test_what_is_encoded_is_not_encoded_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_merge, "SAVE_EVERY_S", 0.0)
    stopped_after(folder, tmp_path / "s", 9)
    known = lines(tmp_path / "s")
    seen: list[PartsProgress] = []
    done = write(folder, tmp_path / "s", on_progress=seen.append)
    assert known >= 9
    assert sum(bool(progress.text_bytes) and progress.parts > known for progress in seen) >= 31 - known
    last = seen[-1]
    assert (last.parts, last.source_bytes) == (last.of_parts, last.of_bytes)
    assert last.documents == 309
    assert last.tokens == sum(done.shards.tokens(side) for side in ("train", "val"))
    assert last.text_bytes == last.tokens - last.documents
    write(folder, tmp_path / "whole")
    assert files(tmp_path / "s") == files(tmp_path / "whole")


def test_a_part_whose_file_was_damaged_is_encoded_again(folder: Path, tmp_path: Path) -> None:
    stopped_after(folder, tmp_path / "s", 9)
    waiting = sorted((tmp_path / "s.partial").glob("parts-*/*.train.ids"))
    assert waiting
    content = bytearray(waiting[0].read_bytes())
    content[7] ^= 1
    waiting[0].write_bytes(content)
    waiting[-1].unlink()
    write(folder, tmp_path / "s")
    write(folder, tmp_path / "whole")
    assert files(tmp_path / "s") == files(tmp_path / "whole")


def test_a_source_that_changed_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "texts"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    stopped_after(copy, tmp_path / "s", 3)
    (copy / "d.txt").write_text("one more")
    with pytest.raises(
        SourceChanged, match=r"changed since this work was begun: 'd\.txt' is new\n.*s\.partial"
    ) as told:
        write(copy, tmp_path / "s")
    assert "\n" not in told.value.problem
    (copy / "d.txt").unlink()
    write(copy, tmp_path / "s")
    assert files(tmp_path / "s") == files_of_whole(folder, tmp_path)


def files_of_whole(folder: Path, tmp_path: Path) -> dict[str, str]:
    write(folder, tmp_path / "whole")
    return files(tmp_path / "whole")


def test_unfinished_work_of_other_settings_is_not_thrown_away(folder: Path, tmp_path: Path) -> None:
    stopped_after(folder, tmp_path / "s", 9, sides=FirstParts(2))
    known = lines(tmp_path / "s")
    with pytest.raises(ArtifactError, match=r"what is held out was kind=FirstParts count=2, is kind=ByHash"):
        write(folder, tmp_path / "s")
    assert lines(tmp_path / "s") == known >= 9
    write(folder, tmp_path / "s", sides=FirstParts(2))


def test_finished_work_is_not_done_again(folder: Path, tmp_path: Path) -> None:
    write(folder, tmp_path / "s")
    assert write(folder, tmp_path / "s", on_progress=pytest.fail).counts.cleaning.kept == 309
    with pytest.raises(ArtifactError, match="already exists"):
        write(folder, tmp_path / "s", sides=ByHash(0.3))


def test_a_side_without_documents_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the split 'val' has no documents"):
        write(folder, tmp_path / "s", sides=FirstParts(0))
    assert not (tmp_path / "s.partial").exists()


def test_an_error_of_a_process_is_the_callers_and_keeps_what_is_done(tmp_path: Path) -> None:
    root = tmp_path / "texts"
    root.mkdir()
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(40)]}), root / "a.parquet", row_group_size=5)
    (root / "b.jsonl").write_text('{"text": "fine"}\nnot JSON\n')
    with pytest.raises(DataError, match="line 2 is not JSON"):
        write(root, tmp_path / "s", workers=2)
    assert lines(tmp_path / "s") == 8
    seen: list[PartsProgress] = []
    skipping = write(root, tmp_path / "t", workers=2, damaged="skip", on_progress=seen.append)
    assert [progress.note for progress in seen if "passed over" in progress.note]
    assert (skipping.counts.damaged, skipping.counts.cleaning.kept) == (1, 41)


def test_more_processes_than_parts_are_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(10)]}), tmp_path / "a.parquet", row_group_size=5)
    started: list[object] = []
    real = parts_pool._Process.__init__
    monkeypatch.setattr(parts_pool._Process, "__init__", lambda self, setup: started.append(self) or real(self, setup))
    done = write(tmp_path / "a.parquet", tmp_path / "s", workers=8, sides=FirstParts(1))
    assert len(started) == 2
    assert (done.shards.documents("val"), done.shards.documents("train")) == (5, 5)


def test_processes_that_encode_do_not_load_torch() -> None:
    check = "import sys; import folio.shards.parts.encode; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_a_full_disk_is_one_line_and_goes_on_later(folder: Path, tmp_path: Path) -> None:
    """The system refuses files above a limit, as a full disk would refuse to grow one."""
    to = tmp_path / "s"
    code = SCRIPT.format(here=str(Path(__file__).parent), folder=str(folder), slow=0.0, workers=2, per_shard=PER_SHARD)
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "from folio.errors import ArtifactError\n"
        "try:\n"
        + "".join(f"    {line}\n" for line in code.splitlines())
        + "except ArtifactError as error: print(error)"
    )
    answer = subprocess.run([sys.executable, "-c", limited, str(to)], capture_output=True, text=True, check=True)
    assert "no room on the disk" in answer.stdout
    assert not to.exists()
    write(folder, to)
    assert files(to) == files_of_whole(folder, tmp_path)


def test_a_line_cut_short_by_a_kill_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = PartsJournal(path)
    record = PartRecord(number=3, part="a:3", sides={}, cleaning={"kept": 2}, damaged=0, damaged_rows=0)
    journal.add(record)
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    again = PartsJournal(path)
    assert again.records == {3: record}
    again.add(record.model_copy(update={"number": 4}))
    again.close()
    third = PartsJournal(path)
    assert list(third.records) == [3, 4]
    third.close()
