"""``search.jsonl`` gives back what was found, whatever a kill did to its end."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from folio.checksums import read_sealed_json
from folio.errors import ArtifactError, UserError
from folio.finetuning.search.choice import choose, choose_by_sweep
from folio.finetuning.search.config import SearchConfig
from folio.finetuning.search.halving import Loss, Result
from folio.finetuning.search.records import SEARCH, SUMMARY, SearchLog, SearchRecord, read_search
from folio.finetuning.search.settings import settings_of
from folio.training.rate_curve import Sweep

RESULTS = [
    Result(1, 1, 20, Loss(3.2101234567890123, 0.04, 3.1), 1.5),
    Result(2, 1, 20, Loss(3.5), 1.25),
    Result(3, 1, 20, Loss(math.nan), 0.5, "the loss diverged"),
]


def begun() -> SearchRecord:
    settings = settings_of(SearchConfig(kind="list", learning_rates=(1e-3, 1e-4, 1.0)))
    return SearchRecord("list", "token", {"train": {"seed": 1}}, settings, [40, 40, 40])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A search with three results and no choice yet."""
    with SearchLog(tmp_path, "token") as log:
        log.begin(begun())
        for result in RESULTS:
            log.result(result)
    return tmp_path


def test_what_was_written_is_read_back(written: Path) -> None:
    record = read_search(written)
    assert record is not None
    assert repr(record) == repr(SearchRecord(**{**vars(begun()), "results": RESULTS}))
    assert record.choice is None


def test_a_choice_is_kept_and_summed_up(written: Path) -> None:
    record = read_search(written)
    assert record is not None
    record.choice = choose(record.settings, record.results, record.unit)
    with SearchLog(written, "token") as log:
        log.choice(record)
    again = read_search(written)
    assert again is not None
    assert again.choice == record.choice
    summary = read_sealed_json(written / SUMMARY)
    assert summary["values"] == {"train.optimizer.learning_rate": 1e-3}
    assert "3.2101 ± 0.0400" in summary["reason"]
    assert len(summary["results"]) == 3


def test_a_sweep_is_read_back_and_chosen_by(tmp_path: Path) -> None:
    rates = tuple(1e-6 * 1.15**n for n in range(60))
    losses = tuple(4 - 2 / (1 + math.exp(-3 * math.log10(rate / 1e-4))) for rate in rates)
    sweep = Sweep(rates, losses, (4.0,) * 60, "")
    with SearchLog(tmp_path, "pair") as log:
        log.begin(SearchRecord("range", "pair", {}))
        log.sweep(sweep, 2.0)
    record = read_search(tmp_path)
    assert record is not None
    assert record.sweep == sweep
    assert record.unit == "pair"
    value = choose_by_sweep(sweep).values["train.optimizer.learning_rate"]
    assert value == pytest.approx(math.sqrt(1e-4 * rates[-1]), rel=0.3)  # half-way from the steepest to the lowest
    with pytest.raises(UserError, match="never fell"):
        choose_by_sweep(Sweep(rates, losses[::-1], (2.0,) * 60))


@pytest.mark.parametrize("cut", [1, 30, 100])
def test_a_torn_line_is_the_only_loss(written: Path, cut: int) -> None:
    path = written / SEARCH
    path.write_bytes(path.read_bytes()[:-cut])
    record = read_search(written)
    assert record is not None
    assert [one.setting for one in record.results] == ([1, 2, 3] if cut == 1 else [1, 2])
    with SearchLog(written, "token") as log:
        log.result(RESULTS[2])
    again = read_search(written)
    assert again is not None
    assert again.results[-1].setting == 3
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_search_torn_in_its_first_line_has_not_begun(written: Path) -> None:
    path = written / SEARCH
    path.write_bytes(path.read_bytes()[:40])
    assert read_search(written) is None
    path.unlink()
    assert read_search(written) is None


def test_a_damaged_line_is_named(written: Path) -> None:
    path = written / SEARCH
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "{}\n", *lines[2:]]))
    with pytest.raises(ArtifactError, match="line 2"):
        read_search(written)
    path.write_text("".join([lines[0], lines[1].replace("setting", "sitting")]))
    with pytest.raises(ArtifactError, match="setting"):
        read_search(written)
