"""Several ranks tune by preference as one process does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from preference_on_ranks import tuned
from rank_processes import Job

PROGRAM = Path(__file__).with_name("preference_on_ranks.py")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_two_ranks_learn_and_measure_what_one_does(tmp_path: Path, way: str) -> None:
    alone = tuned(tmp_path, "ddp")
    with Job(tmp_path, 2, PROGRAM, tmp_path, way) as job:
        ended = job.end()
    assert ended.code == 0, ended.err
    for rank in range(2):
        found = json.loads((tmp_path / f"rank-{rank}" / "found.json").read_text())
        for name, values in alone.items():
            assert found[name] == pytest.approx(values, rel=1e-4, abs=1e-5), (rank, name)
