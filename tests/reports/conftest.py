from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import write_run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """``make_run(name, steps=..., every=..., config=...)`` writes a run and gives its folder."""

    def make(name: str = "tiny", **options: Any) -> Path:
        return write_run(tmp_path / name, **options)

    return make
