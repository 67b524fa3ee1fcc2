"""What every test stands on: the Hub offline, one thread a worker, a cache of its own, real files where present."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share the cache of the process that starts them
    os.environ["FOLIO_CACHE"] = tempfile.mkdtemp(prefix="folio-test-cache-")
    atexit.register(shutil.rmtree, os.environ["FOLIO_CACHE"], ignore_errors=True)

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """``shared_data("tinyshakespeare.txt")``: a real file beside the project, or a skip that says it is absent."""

    def path(name: str) -> Path:
        file = REPOSITORY.parent / "shared" / "data" / name
        if not file.exists():
            pytest.skip(f"the real file {name} is not beside this checkout")
        return file

    return path
