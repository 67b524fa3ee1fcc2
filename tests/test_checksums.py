"""What was written is told from what was not: files by their records, JSON by its seal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from folio import checksums
from folio.checksums import check_files, read_sealed_json, record_of, sealed_json
from folio.errors import ArtifactError

CONTENT = {"recipe": {"rate": 1e-5, "name": "über", "steps": [1, 2]}, "empty": None}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_bytes(sealed_json(CONTENT).encode())
    return path


def test_a_sealed_file_gives_back_what_was_written(sealed: Path) -> None:
    assert read_sealed_json(sealed) == CONTENT


def test_any_bit_flipped_in_a_sealed_file_and_any_end_lost_is_seen(sealed: Path) -> None:
    content = sealed.read_bytes()
    flipped = [bytearray(content) for _ in range(len(content) * 8)]
    for bit, copy in enumerate(flipped):
        copy[bit // 8] ^= 1 << bit % 8
    for changed in [*flipped, *(content[:size] for size in range(len(content)))]:
        sealed.write_bytes(changed)
        with pytest.raises(ArtifactError, match=r"config\.json' is damaged") as caught:
            read_sealed_json(sealed, "Do this.")
        assert "\n" not in caught.value.problem
        assert caught.value.remedy == "Do this."


@pytest.mark.parametrize("text", ["", "[1]", "null", "{}", '{"recipe": 1}', "[" * 100_000])
def test_what_was_never_sealed_is_refused(text: str, sealed: Path) -> None:
    sealed.write_text(text)
    with pytest.raises(ArtifactError, match="is damaged"):
        read_sealed_json(sealed)
    sealed.unlink()
    with pytest.raises(ArtifactError, match="does not exist"):
        read_sealed_json(sealed)


def test_every_damaged_file_is_named_until_there_are_too_many(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / str(number)).write_bytes(os.urandom(1000))
    files = {str(number): record_of(tmp_path / str(number)) for number in range(6)}
    check_files(tmp_path, files, "Mend it.")
    for number in (1, 4):
        (tmp_path / str(number)).write_bytes(os.urandom(1000))
    with pytest.raises(ArtifactError, match=r"1' is damaged: its sha256.*4' is damaged: its sha256") as caught:
        check_files(tmp_path, files, "Mend it.")
    assert caught.value.remedy == "Mend it."
    for number in range(6):
        (tmp_path / str(number)).unlink()
    with pytest.raises(ArtifactError, match=r"0' is missing.*3' is missing; and 2 more files"):
        check_files(tmp_path, files, "Mend it.")


def test_progress_counts_every_byte_and_stopping_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BLOCK_BYTES", 100)
    for number in range(6):
        (tmp_path / str(number)).write_bytes(os.urandom(100_000))
    files = {str(number): record_of(tmp_path / str(number)) for number in range(6)}
    told: list[int] = []
    check_files(tmp_path, files, "", told.append)
    assert told[-1] == 600_000

    def interrupt(read_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_files(tmp_path, files, "", interrupt)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    files = {"a": record_of(tmp_path / "a")}
    (tmp_path / "a").chmod(0)
    with pytest.raises(ArtifactError, match="a' cannot be read: Permission denied"):
        check_files(tmp_path, files, "")
