"""Means, intervals and paired differences against numbers worked out otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean, stdev

import pytest

from folio.studies.findings.judged import OVER_CELLS, OVER_SEEDS
from folio.studies.findings.results import read_results
from folio.studies.findings.statistics import comparisons_of, groups_of, pooled_spread, ranked
from folio.studies.grid.cells import Cell
from folio.studies.running.records import StudyFolder

MakeStudy = Callable[..., StudyFolder]
Chance = Callable[[Cell], float]
STUDY = """
seeds = 3
tuned = ["rate"]
[axes]
width = { key = "model.n_embd", values = [64, 128] }
rate = { key = "train.optimizer.learning_rate", values = [1e-3, 1e-2] }
[variants.start]
warm = { "train.clip_norm" = 1 }
cold = { "train.clip_norm" = 2 }
"""
T_OF_TWO = 4.302652729749464
"""The 97.5 % quantile of Student's t with two degrees of freedom: a table's 4.303."""


def formula(chance: Chance) -> Callable[[Cell], float]:
    def nats(cell: Cell) -> float:
        values = cell.values
        return (
            3
            - 0.5 * (values["width"] == 128)
            + 0.3 * (values["rate"] != (1e-3 if values["width"] == 128 else 1e-2))
            + 0.1 * (values["start"] == "cold")
            + chance(cell)
        )

    return nats


def test_a_mean_over_seeds_has_students_interval(make_study: MakeStudy, chance: Chance) -> None:
    nats = formula(chance)
    results = read_results(make_study(STUDY, nats))
    groups = groups_of(results)
    assert len(groups) == 8
    seeds = (1337, 1338, 1339)
    scores = [nats(Cell({**groups[0].values}, seed, {})) for seed in seeds]
    estimate = groups[0].estimate("nats_per_token")
    assert estimate is not None
    assert estimate.value == pytest.approx(fmean(scores))
    assert estimate.high - estimate.value == pytest.approx(T_OF_TWO * stdev(scores) / math.sqrt(3))


def test_comparisons_pair_what_is_equal_elsewhere_at_the_best_tuned(make_study: MakeStudy, chance: Chance) -> None:
    nats = formula(chance)
    results = read_results(make_study(STUDY, nats))
    by_axis = {one.axis: one for one in comparisons_of(results, groups_of(results), "nats_per_token")}
    assert set(by_axis) == {"width", "start"}
    width = by_axis["width"]
    best = {64: 1e-2, 128: 1e-3}

    def at(width: int, start: str, seed: int) -> float:
        return nats(Cell({"width": width, "rate": best[width], "start": start}, seed, {}))

    over = [
        fmean(at(128, start, seed) - at(64, start, seed) for start in ("warm", "cold")) for seed in (1337, 1338, 1339)
    ]
    assert width.source == OVER_SEEDS
    assert (width.pairs, width.wins, width.estimate.n) == (6, 6, 3)
    assert width.estimate.value == pytest.approx(fmean(over))
    assert width.estimate.high - width.estimate.value == pytest.approx(T_OF_TWO * stdev(over) / math.sqrt(3))
    assert width.verdict == "better"
    assert by_axis["start"].verdict == "worse"
    assert by_axis["start"].estimate.value == pytest.approx(0.1, abs=0.03)


def test_with_one_seed_combinations_are_all_there_is(make_study: MakeStudy, chance: Chance) -> None:
    folder = make_study(STUDY.replace("seeds = 3", "seeds = 1"), formula(chance))
    results = read_results(folder)
    groups = groups_of(results)
    one = next(one for one in comparisons_of(results, groups, "nats_per_token") if one.axis == "start")
    assert (one.source, one.estimate.n) == (OVER_CELLS, 2)
    assert math.isnan(pooled_spread(groups, "nats_per_token")[0])
    estimate = groups[0].estimate("nats_per_token")
    assert estimate is not None
    assert math.isnan(estimate.low)


def test_chance_alone_is_no_difference(make_study: MakeStudy, chance: Chance) -> None:
    results = read_results(make_study(STUDY, lambda cell: 3 + chance(cell)))
    found = comparisons_of(results, groups_of(results), "nats_per_token")
    assert [one.verdict for one in found] == ["cannot tell"] * len(found)
    assert all(one.adjusted >= one.p for one in found)


def test_the_spread_between_seeds_is_pooled(make_study: MakeStudy) -> None:
    offsets = {1337: -0.1, 1338: 0.0, 1339: 0.1}
    results = read_results(make_study(STUDY, lambda cell: cell.values["width"] / 64 + offsets[cell.seed]))
    spread, freedom = pooled_spread(groups_of(results), "nats_per_token")
    assert spread == pytest.approx(0.1)
    assert freedom == 16


def test_what_was_lost_counts_in_no_mean_and_is_told(make_study: MakeStudy, chance: Chance) -> None:
    def nats(cell: Cell) -> float | str | None:
        if cell.seed == 1338 and cell.values["width"] == 128:
            return {"warm": math.inf, "cold": "out of memory"}[cell.values["start"]]
        return formula(chance)(cell)

    results = read_results(make_study(STUDY, nats))
    groups = groups_of(results)
    assert [(len(group.cells), group.diverged, group.missing) for group in groups if group.values["width"] == 128] == [
        (2, 1, 0), (2, 0, 1), (2, 1, 0), (2, 0, 1),
    ]  # fmt: skip
    assert [cell.error for cell in results.cells if cell.status == "failed"] == ["out of memory"] * 2
    assert {cell.error for cell in results.cells if cell.status == "diverged"} == {
        "the loss diverged: 9.1 around step 20"
    }
    order = ranked(groups, "nats_per_token", lower=True)
    assert order[0].diverged == 0  # a rate at which one seed was lost is no best rate
    one = next(one for one in comparisons_of(results, groups, "nats_per_token") if one.axis == "width")
    assert one.estimate.n == 2  # the seeds that both sides have


def test_a_measure_that_no_cell_has_is_told_with_the_nearest(make_study: MakeStudy) -> None:
    results = read_results(make_study('measures = ["bits_per_bite"]\n' + STUDY, lambda cell: 3.0))
    assert results.missing == ("no cell has measured bits_per_bite; did you mean bits_per_byte?",)
