"""Tasks shared by processes: results in order, and a child's end told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from folio.errors import DataError
from folio.evaluation.contamination import processes


def test_results_come_in_order_and_a_process_that_ends_by_itself_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "TASKS_BEFORE_PROCESSES", 0)
    with pytest.raises(DataError, match=r"ended by itself \(exit status 3\)"):
        list(processes.in_processes(os._exit, [3, 3], 2))
    assert list(processes.in_processes(abs, [-1, 2, -3], 2)) == [(-1, 1), (2, 2), (-3, 3)]


def test_processes_that_search_do_not_load_torch() -> None:
    code = (
        "import sys, folio.evaluation.contamination.processes, folio.evaluation.contamination.search; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
