"""Sources over HTTP: what passes is tried again and told, what changed is noticed, and silence ends within seconds."""

from __future__ import annotations

import gzip
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources_world import HASTY, Server, serving, texts_of, write_parquet

from folio.corpus.sources import SourceChanged, SourceConfig, open_source
from folio.errors import ConfigError, DataError, Unreachable

TEXTS = [f"{number} " * 400 for number in range(40)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    path = write_parquet(tmp_path / "a.parquet", TEXTS, 10, compression="none", use_dictionary=False)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
    files = {"d/a.parquet": path.read_bytes(), "d/b.jsonl.gz": gzip.compress(lines), "d/c.txt": b"", "d/e.txt": b"end"}
    with serving(files) as world:
        yield world


def test_row_groups_are_read_by_their_ranges_alone(server: Server) -> None:
    source = open_source(f"{server.url}/d/a.parquet", patience=HASTY)
    assert texts_of(source) == TEXTS
    size = len(server.files["d/a.parquet"])
    server.sent = 0
    part = source.plan.part(2)
    assert [document.text for document in source.documents(part)] == TEXTS[20:30]
    assert part.bytes <= server.sent < part.bytes + 2000 < size / 3


def test_every_kind_of_file_is_read(server: Server) -> None:
    assert texts_of(open_source(f"{server.url}/d/b.jsonl.gz", patience=HASTY)) == TEXTS
    assert texts_of(open_source(f"{server.url}/d/e.txt", patience=HASTY)) == ["end"]
    assert texts_of(open_source(f"{server.url}/d/c.txt", patience=HASTY)) == []


def test_a_folder_and_a_glob_are_those_of_the_page_that_is_shown(server: Server) -> None:
    server.files["d/"] = b'<a href="../">up</a> <a href="e.txt">e</a> <a href="a.parquet">a</a> <a href="x/">x</a>'
    assert [file.name for file in open_source(f"{server.url}/d/", patience=HASTY).plan.files] == ["a.parquet", "e.txt"]
    globbed = open_source(f"{server.url}/d/*.parquet", patience=HASTY)
    assert [file.name for file in globbed.plan.files] == ["a.parquet"]
    with pytest.raises(ConfigError, match="last part only"):
        open_source(f"{server.url}/*/a.parquet", patience=HASTY)


@pytest.mark.parametrize("fault", ["drop", "status", "stall"])
@pytest.mark.parametrize("name", ["a.parquet", "b.jsonl.gz"])
def test_faults_that_pass_are_tried_again_and_told(server: Server, name: str, fault: str) -> None:
    told: list[str] = []
    source = open_source(f"{server.url}/d/{name}", patience=HASTY)
    server.faults = [fault, fault, "", fault]
    read = [document.text for part in source.parts() for document in source.documents(part, tell=told.append)]
    assert read == TEXTS
    assert len(told) >= 2
    reason = {"drop": "broke off after", "status": "HTTP 503", "stall": "no answer"}[fault]
    assert all(reason in each and "trying again in" in each for each in told)


def test_a_body_that_breaks_off_is_taken_up_where_it_ended(server: Server) -> None:
    source = open_source(f"{server.url}/d/b.jsonl.gz", patience=HASTY)
    size = len(server.files["d/b.jsonl.gz"])
    server.faults, server.sent = ["drop", "drop"], 0
    texts_of(source)
    assert server.sent == size


def test_faults_that_stay_end_after_so_many_attempts(server: Server) -> None:
    source = open_source(f"{server.url}/d/a.parquet", patience=HASTY)
    server.faults, server.asked = ["status"] * 100, []
    with pytest.raises(Unreachable, match=r"HTTP 503.*, 4 times in a row") as caught:
        texts_of(source)
    assert "\n" not in caught.value.problem
    assert len(server.asked) == HASTY.attempts


def test_a_file_that_changes_between_reads_is_noticed(server: Server) -> None:
    source = open_source(f"{server.url}/d/a.parquet", patience=HASTY)
    changed = bytearray(server.files["d/a.parquet"])
    changed[100] ^= 1
    server.after, server.calm, server.asked = {"d/a.parquet": bytes(changed)}, 3, []
    with pytest.raises(SourceChanged, match=r"has changed since it was planned: .*etag"):
        texts_of(source)
    assert len(server.asked) == 4, "a change is no fault that passes"


def test_an_address_that_is_not_there_is_told_at_once(server: Server) -> None:
    server.asked = []
    with pytest.raises(DataError, match="is not there"):
        open_source(f"{server.url}/d/none.parquet", patience=HASTY)
    assert len(server.asked) == 1


def test_a_server_that_gives_only_whole_files_is_told(server: Server) -> None:
    server.ranges = False
    with pytest.raises(DataError, match="gives files only whole"):
        open_source(f"{server.url}/d/a.parquet", patience=HASTY)


def test_secrets_in_an_address_are_not_shown(server: Server) -> None:
    port = server.url.rpartition(":")[2]
    with pytest.raises(DataError) as caught:
        open_source(f"http://127.0.0.1:{port}/d/none.parquet?signature=SECRET", patience=HASTY)
    assert "SECRET" not in str(caught.value)


def test_a_silent_address_is_given_up_within_two_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begun = time.monotonic()
        with pytest.raises(Unreachable, match=r"no answer within 1\.5 s"):
            open_source(f"http://127.0.0.1:{silent.getsockname()[1]}/a.parquet")
        assert time.monotonic() - begun < 2


def test_a_silent_store_is_given_up_within_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="no answer"):
            open_source("s3://bucket/a.parquet")
        assert time.monotonic() - begun < 2


def test_a_store_of_fsspec_is_read_and_noticed_to_change(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    content = write_parquet(tmp_path / "a.parquet", TEXTS, 10).read_bytes()
    for name in ("/set/x/a.parquet", "/set/b.parquet", "/set/notes.md"):
        memory.pipe_file(name, content)
    source = open_source("memory://set", patience=HASTY)
    assert [file.name for file in source.plan.files] == ["b.parquet", "x/a.parquet"]
    assert texts_of(source) == 2 * TEXTS
    assert [file.name for file in open_source("memory://set/**/a.*").plan.files] == ["x/a.parquet"]
    memory.pipe_file("/set/b.parquet", content)
    with pytest.raises(SourceChanged, match="has changed since it was planned"):
        texts_of(source)
    memory.rm("/set", recursive=True)


def test_a_store_that_fails_now_and_then_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/now/a.parquet", write_parquet(tmp_path / "a.parquet", TEXTS, 10).read_bytes())
    source = open_source("memory://now/a.parquet", patience=HASTY)
    real, calls = type(memory).cat_file, iter([ConnectionResetError("reset by peer"), "short"])

    def failing(self: object, path: str, start: int, end: int) -> bytes:
        fault = next(calls, None)
        if isinstance(fault, Exception):
            raise fault
        content: bytes = real(self, path, start=start, end=end)
        return content[:-1] if fault else content

    monkeypatch.setattr(type(memory), "cat_file", failing)
    told: list[str] = []
    read = [document.text for part in source.parts() for document in source.documents(part, tell=told.append)]
    assert read == TEXTS
    assert [("reset by peer" in each, "bytes arrived" in each) for each in told] == [(True, False), (False, True)]
    memory.rm("/now", recursive=True)


@pytest.mark.skipif("s3fs" in sys.modules, reason="s3fs is there")
def test_a_store_whose_package_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    try:
        import s3fs  # type: ignore[import-not-found]  # noqa: F401

        pytest.skip("s3fs is installed")
    except ModuleNotFoundError:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    with pytest.raises(Exception, match=r"'s3://' cannot be opened: .*s3fs"):
        open_source(SourceConfig(path="s3://bucket/a.parquet"))
