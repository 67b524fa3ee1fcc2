"""Folders on disk are whole or absent, and their manifest catches damage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from folio import artifacts
from folio.artifacts import (
    MANIFEST,
    Parent,
    new_folder,
    read_manifest,
    refuse_occupied,
    verify,
    write_file,
    write_manifest,
)
from folio.checksums import sha256_of
from folio.errors import ArtifactError


def make(path: Path, content: str = "text", kind: str = "shards", **config: object) -> artifacts.Manifest:
    """A small artefact with one file in a folder within it."""
    with new_folder(path, replace=kind) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a.bin").write_text(content)
        return write_manifest(folder, kind, config)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_described_and_verified(tmp_path: Path) -> None:
    made = make(tmp_path / "out", tokens=3)
    read = verify(tmp_path / "out", "shards")
    assert read == made
    assert read.id == made.id
    assert read.files["inner/a.bin"].bytes == 4
    assert read.files["inner/a.bin"].sha256 == sha256_of(tmp_path / "out" / "inner" / "a.bin")
    assert names_in(tmp_path) == ["out"]


def test_the_id_is_the_content(tmp_path: Path) -> None:
    first, same = make(tmp_path / "a", tokens=3), make(tmp_path / "b", tokens=3)
    assert first.id == same.id
    assert same.model_copy(update={"environment": {"python": "other"}}).id == first.id
    changed = [make(tmp_path / "c", content="more", tokens=3), make(tmp_path / "d", tokens=4)]
    changed.append(first.model_copy(update={"parents": (Parent(kind="corpus", id="1"),)}))
    assert first.id not in {manifest.id for manifest in changed}


def test_the_id_survives_the_disk(tmp_path: Path) -> None:
    made = make(tmp_path / "out", clip=float("inf"), source=Path("a/b"), sizes=(1, 2))
    assert read_manifest(tmp_path / "out").id == made.id


def test_a_manifest_holds_no_absolute_path(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    make(tmp_path / "out", corpus={"path": str(tmp_path), "files": [tmp_path / "a.txt"]}, prompt="/think of it")
    text = (tmp_path / "out" / MANIFEST).read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["config"] == {
        "corpus": {"path": tmp_path.name, "files": ["a.txt"]},
        "prompt": "/think of it",
    }


def test_the_environment_is_named(tmp_path: Path) -> None:
    environment = make(tmp_path / "out").environment
    assert set(environment) == {"python", "platform", "folio", "torch", "git_commit", "device"}
    assert environment["torch"] != "unknown"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.unlink(), "is missing"),
        (lambda file: file.write_text("tex"), "3 bytes where the manifest says 4"),
        (lambda file: file.write_text("texT"), "its sha256 is not the manifest's"),
    ],
    ids=["missing", "truncated", "flipped"],
)
def test_damage_is_found(tmp_path: Path, damage: object, said: str) -> None:
    make(tmp_path / "out")
    assert callable(damage)
    damage(tmp_path / "out" / "inner" / "a.bin")
    with pytest.raises(ArtifactError, match=said) as error:
        verify(tmp_path / "out")
    assert error.value.remedy


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"{}", b'{"kind": "shards", "surprise": 1}'])
def test_a_damaged_manifest_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError, match="is damaged: ") as error:
        read_manifest(tmp_path)
    assert "\n" not in error.value.problem


def test_what_is_no_artefact_of_the_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        read_manifest(tmp_path / "absent")
    with pytest.raises(ArtifactError, match="is not a model folder"):
        read_manifest(tmp_path, "model")
    make(tmp_path / "out")
    with pytest.raises(ArtifactError, match="holds a shards, not a model"):
        read_manifest(tmp_path / "out", "model")


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "out")
    manifest = tmp_path / "out" / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format_version": 99}))
    with pytest.raises(ArtifactError, match="format version 99; this Folio reads version 1"):
        read_manifest(tmp_path / "out")


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def write_half() -> None:
        with new_folder(tmp_path / "out") as folder:
            (folder / "half").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert names_in(tmp_path) == []


def test_a_failed_replacement_keeps_the_old_folder(tmp_path: Path) -> None:
    old = make(tmp_path / "out", content="old")
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "out", replace="shards"):
        raise KeyboardInterrupt
    assert verify(tmp_path / "out") == old
    assert names_in(tmp_path) == ["out"]


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make(tmp_path / "out", content="old")
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if ".tmp-" in Path(source).name:
            raise OSError("no rename")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="no rename"):
        make(tmp_path / "out", content="new")
    assert verify(tmp_path / "out") == old
    assert names_in(tmp_path) == ["out"]


def test_a_replacement_takes_the_place(tmp_path: Path) -> None:
    make(tmp_path / "out", content="old")
    new = make(tmp_path / "out", content="new")
    assert verify(tmp_path / "out") == new
    assert (tmp_path / "out" / "inner" / "a.bin").read_text() == "new"
    assert names_in(tmp_path) == ["out"]


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("")
    make(tmp_path / "model", kind="model")
    for name in ("theirs", "file", "model"):
        with pytest.raises(ArtifactError, match="already exists and holds something else"):
            make(tmp_path / name)
    assert (tmp_path / "theirs" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    assert make(tmp_path / "empty").kind == "shards"
    refuse_occupied(tmp_path / "absent")


def test_killed_at_any_moment_there_is_no_half_folder(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom folio.artifacts import new_folder\n"
        "with new_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('half')\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    assert make(tmp_path / "out").kind == "shards"


def test_a_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "new" / "a.json", "one é")
    write_file(tmp_path / "new" / "a.json", b"two")
    assert (tmp_path / "new" / "a.json").read_bytes() == b"two"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "new" / "a.json", "three")
    assert (tmp_path / "new" / "a.json").read_bytes() == b"two"
    assert names_in(tmp_path / "new") == ["a.json"]


def test_manifests_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make(tmp_path / "out").kind = "model"  # type: ignore[misc]
