"""Contrasts against planted differences: at the end, while training, and by axis."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import fmean, stdev
from typing import Any

import pytest

from folio.errors import ConfigError
from folio.studies.findings.answers import Answer, Contrast, answers_of
from folio.studies.findings.contrasts import refuse_contrasts
from folio.studies.findings.judged import OVER_CELLS, OVER_SEEDS, complete, judged
from folio.studies.findings.results import read_results
from folio.studies.findings.statistics import groups_of
from folio.studies.grid.cells import Cell, cells_of
from folio.studies.grid.spec import Study
from folio.studies.running.records import StudyFolder
from folio.verbs.study.opening import recipe_keys

MakeStudy = Callable[..., StudyFolder]
Chance = Callable[[Cell], float]
T_OF_TWO = 4.302652729749464
SEEDS = (1337, 1338, 1339)
STUDY = """
seeds = 3
[axes]
width = { key = "model.n_embd", values = [128, 64] }
[variants.start]
cold = { "train.clip_norm" = 2 }
warm = { "train.clip_norm" = 1 }
hot = { "train.clip_norm" = 3 }
[[contrasts]]
axis = "start"
reference = "cold"
by = ["width"]
"""


def answer_of(folder: StudyFolder) -> Answer:
    results = read_results(folder)
    return answers_of(results, groups_of(results))[0]


def one_of(answer: Answer, other: Any, by: str | None = None, value: Any = None) -> Contrast:
    (found,) = (one for one in answer.contrasts if (one.other, one.by, one.value) == (other, by, value))
    return found


def planted(chance: Chance) -> Callable[[Cell], float]:
    """Warm is better by 0.2 at width 64 and by 0.4 at 128; hot is as cold."""

    def nats(cell: Cell) -> float:
        gain = {64: 0.2, 128: 0.4}[cell.values["width"]] * (cell.values["start"] == "warm")
        return 3 - cell.values["width"] / 256 - gain + chance(cell)

    return nats


def test_a_difference_is_the_others_minus_the_references_judged_over_seeds(
    make_study: MakeStudy, chance: Chance
) -> None:
    nats = planted(chance)
    answer = answer_of(make_study(STUDY, nats))

    def at(start: str, width: int, seed: int) -> float:
        return nats(Cell({"width": width, "start": start}, seed, {}))

    whole = one_of(answer, "warm").ends["nats_per_token"]
    over = [fmean(at("warm", width, seed) - at("cold", width, seed) for width in (64, 128)) for seed in SEEDS]
    assert whole.estimate.value == pytest.approx(fmean(over))
    assert whole.estimate.high - whole.estimate.value == pytest.approx(T_OF_TWO * stdev(over) / math.sqrt(3))
    assert (whole.source, whole.pairs, whole.wins, whole.combinations) == (OVER_SEEDS, 6, 6, 2)
    assert whole.estimate.value == pytest.approx(-0.3, abs=0.03)
    assert whole.verdict == "better"
    narrow = one_of(answer, "warm", "width", 64).ends["nats_per_token"]
    assert narrow.estimate.value == pytest.approx(fmean(at("warm", 64, seed) - at("cold", 64, seed) for seed in SEEDS))
    assert one_of(answer, "hot").ends["nats_per_token"].verdict == "cannot tell"
    assert [(one.other, one.by, one.value) for one in answer.contrasts] == [
        ("warm", None, None), ("hot", None, None), ("warm", "width", 64), ("hot", "width", 64), ("warm", "width", 128),
        ("hot", "width", 128),
    ]  # fmt: skip


def test_a_measure_that_is_better_when_higher_turns_the_verdict(make_study: MakeStudy, chance: Chance) -> None:
    folder = make_study('measures = ["tokens_per_s"]\n' + STUDY, lambda cell: 3.0)
    results = read_results(folder)
    from dataclasses import replace

    faster = {"warm": 200.0, "cold": 100.0, "hot": 100.0}
    cells = tuple(
        replace(cell, numbers={"tokens_per_s": faster[cell.values["start"]] + chance(Cell(cell.values, cell.seed, {}))})
        for cell in results.cells
    )
    results = replace(results, cells=cells)
    answer = answers_of(results, groups_of(results))[0]
    assert one_of(answer, "warm").ends["tokens_per_s"].verdict == "better"
    assert one_of(answer, "warm").ends["tokens_per_s"].wins == 6


def test_p_is_corrected_among_the_others_of_one_place_or_axis(make_study: MakeStudy, chance: Chance) -> None:
    answer = answer_of(make_study(STUDY, planted(chance)))
    whole = [one.ends["nats_per_token"] for one in answer.at(None)]
    smaller, larger = sorted(whole, key=lambda one: one.p)
    assert smaller.adjusted == pytest.approx(min(1, 2 * smaller.p))
    assert larger.adjusted == pytest.approx(max(smaller.adjusted, larger.p))
    by_width = sorted((one.ends["nats_per_token"] for one in answer.at("width")), key=lambda one: one.p)
    assert len(by_width) == 4
    assert by_width[0].adjusted == pytest.approx(min(1, 4 * by_width[0].p))


def test_how_a_difference_changes_along_an_axis_is_judged_by_itself(make_study: MakeStudy, chance: Chance) -> None:
    answer = answer_of(make_study(STUDY, planted(chance)))
    change = {one.other: one.comparison for one in answer.changes if one.measure == "nats_per_token"}
    assert (change["warm"].first, change["warm"].second) == (64, 128)
    assert change["warm"].estimate.value == pytest.approx(-0.2, abs=0.05)
    assert change["warm"].improves
    assert change["hot"].verdict == "cannot tell"
    ends = [one_of(answer, "warm", "width", width).ends["nats_per_token"] for width in (64, 128)]
    assert change["warm"].estimate.value == pytest.approx(ends[1].estimate.value - ends[0].estimate.value)


def test_cells_of_a_grid_without_the_axis_take_no_part(make_study: MakeStudy, chance: Chance) -> None:
    plain = """
    [grids.words]
    [grids.words.variants.start]
    cold = { "train.clip_norm" = 2 }
    warm = { "train.clip_norm" = 1 }
    [grids.characters.recipe.train]
    clip_norm = 4
    """
    text = 'seeds = 3\naxes.width = { key = "model.n_embd", values = [64, 128] }\n' + plain
    text += '[[contrasts]]\naxis = "start"\nreference = "cold"\nby = ["width", "grid"]\n'
    text += '[[contrasts]]\naxis = "grid"\nreference = "characters"\nby = ["start"]\n'

    def nats(cell: Cell) -> float:
        return {"characters": 4.0}.get(cell.values["grid"], 3 - 0.2 * (cell.values.get("start") == "warm")) + chance(
            cell
        )

    results = read_results(make_study(text, nats))
    of_start, of_grid = answers_of(results, groups_of(results))
    assert one_of(of_start, "warm").ends["nats_per_token"].pairs == 6
    assert of_start.axes == ["width"]  # all of it is of one grid
    # A grid that lacks an axis stands beside each of its values.
    end = one_of(of_grid, "words").ends["nats_per_token"]
    assert (end.pairs, end.combinations) == (12, 4)
    assert end.estimate.value == pytest.approx(-1.1, abs=0.03)
    assert one_of(of_grid, "words", "start", "warm").ends["nats_per_token"].estimate.value == pytest.approx(
        -1.2, abs=0.03
    )


def test_tuned_axes_stand_aside(make_study: MakeStudy, chance: Chance) -> None:
    text = STUDY.replace(
        "[variants.start]", 'rate = { key = "train.optimizer.learning_rate", values = [0.1, 0.2] }\n[variants.start]'
    )
    best = {"cold": 0.1, "warm": 0.2, "hot": 0.1}

    def nats(cell: Cell) -> float:
        return planted(chance)(cell) + 5 * (cell.values["rate"] != best[cell.values["start"]])

    answer = answer_of(make_study('tuned = ["rate"]\n' + text, nats))
    assert one_of(answer, "warm").ends["nats_per_token"].estimate.value == pytest.approx(-0.3, abs=0.05)
    assert one_of(answer, "warm").ends["nats_per_token"].pairs == 6


def test_what_is_lost_takes_no_part_and_is_counted(make_study: MakeStudy, chance: Chance) -> None:
    def nats(cell: Cell) -> float | None:
        if (cell.values["start"], cell.values["width"], cell.seed) == ("warm", 64, 1338):
            return math.inf
        return planted(chance)(cell)

    answer = answer_of(make_study(STUDY, nats))
    whole = one_of(answer, "warm")
    assert (whole.ends["nats_per_token"].combinations, whole.incomplete, whole.diverged) == (1, 1, (0, 1))
    assert one_of(answer, "warm", "width", 64).ends["nats_per_token"].estimate.n == 2
    assert (one_of(answer, "hot").incomplete, one_of(answer, "hot").diverged) == (0, (0, 0))


def test_one_seed_more_of_one_combination_does_not_take_over_the_answer(make_study: MakeStudy, chance: Chance) -> None:
    def nats(cell: Cell) -> float | None:
        return planted(chance)(cell) if cell.seed < 1340 or cell.values["width"] == 64 else None

    end = one_of(answer_of(make_study(STUDY.replace("seeds = 3", "seeds = 4"), nats)), "warm").ends["nats_per_token"]
    assert (end.combinations, end.estimate.n) == (2, 3)
    assert end.estimate.value == pytest.approx(-0.3, abs=0.05)


def test_seeds_are_those_that_leave_most_to_judge_by() -> None:
    def seeds(*combinations: str) -> list[str]:
        return ["".join(map(str, one)) for one in complete([dict.fromkeys(map(int, each)) for each in combinations])]

    assert seeds("123", "123", "1234") == ["123"] * 3
    assert seeds("123", "12") == ["123"]
    assert seeds("123", "12", "12", "12") == ["12"] * 4
    assert seeds("123", "124", "125") == ["12"] * 3
    assert seeds("1", "2") == ["1", "2"]
    assert seeds("12", "3") == ["12"]
    assert seeds() == []


def test_with_one_seed_combinations_are_all_there_is(make_study: MakeStudy, chance: Chance) -> None:
    answer = answer_of(make_study(STUDY.replace("seeds = 3", "seeds = 1"), planted(chance)))
    whole = one_of(answer, "warm").ends["nats_per_token"]
    assert (whole.source, whole.estimate.n) == (OVER_CELLS, 2)
    narrow = one_of(answer, "warm", "width", 64).ends["nats_per_token"]
    assert narrow.verdict == "cannot tell"
    assert math.isnan(narrow.p)


def test_a_study_of_which_nothing_is_finished_has_contrasts_that_say_nothing(make_study: MakeStudy) -> None:
    answer = answer_of(make_study(STUDY, lambda cell: None))
    assert all(not one.ends and one.lead is None for one in answer.contrasts)
    assert {one.incomplete for one in answer.at(None)} == {2}


def test_one_run_in_several_places_counts_once(make_study: MakeStudy, chance: Chance) -> None:
    text = 'equal_cells = "merge"\n' + STUDY.replace(
        "[variants.start]", "free = { values = [1, 2, 3] }\n[variants.start]"
    )
    text = text.replace("hot = {", "cool = {").replace('clip_norm" = 3', 'clip_norm" = 2')
    text = text.replace("seeds = 3", "seeds = 1")
    answer = answer_of(make_study(text, planted(chance)))
    whole = one_of(answer, "warm").ends["nats_per_token"]
    assert (whole.pairs, whole.combinations) == (2, 2)
    same = one_of(answer, "cool")
    assert (same.ends, same.same_runs) == ({}, 6)


def test_losses_per_token_compare_between_equal_tokenizers_alone(make_study: MakeStudy, chance: Chance) -> None:
    text = 'measures = ["nats_per_token", "bits_per_byte"]\n' + STUDY
    answer = answer_of(make_study(text, planted(chance), facts_of=lambda cell: {"tokenizer": cell.values["start"]}))
    assert (answer.measures, answer.left_out, answer.loss) == (("bits_per_byte",), ("nats_per_token",), "bits_per_byte")
    same = answer_of(make_study(text, planted(chance), "same", facts_of=lambda cell: {"tokenizer": "one"}))
    assert same.left_out == ()


@pytest.mark.parametrize(
    ("contrast", "words"),
    [
        ('axis = "strat"\nreference = "cold"', "Did you mean start?"),
        ('axis = "start"\nreference = "cald"', "Did you mean cold?"),
        ('axis = "start"\nreference = "cold"\nothers = ["worm"]', "Did you mean warm?"),
        ('axis = "start"\nreference = "cold"\nothers = ["warm", "cold"]', "names cold twice"),
        ('axis = "start"\nreference = "cold"\nby = ["widht"]', "Did you mean width?"),
        ('axis = "start"\nreference = "cold"\nby = ["start"]', "start itself"),
        ('axis = "start"\nreference = "cold"\nby = ["width", "width"]', "twice in by"),
        ('axis = "start"\nreference = "cold"\n[[contrasts]]\naxis = "start"\nreference = "cold"', "are the same: warm"),
        ('axis = "width"\nreference = true', "true, which is no value"),
        ('axis = "start"\nreference = "alone"', "choose another reference"),
        ('axis = "start"\nreference = "cold"\nothers = ["alone"]', "no cell with alone is equal"),
        ('axis = "rate"\nreference = 0.1', "which is tuned"),
    ],
)
def test_a_contrast_that_no_cell_can_answer_is_refused(contrast: str, words: str) -> None:
    study = refusable(contrast)
    keys = recipe_keys()
    with pytest.raises(ConfigError) as caught:
        refuse_contrasts(study, cells_of(study, keys, keys))
    assert words in str(caught.value)


def refusable(contrast: str) -> Study:
    import tomllib

    text = """
    tuned = ["rate"]
    [axes]
    width = { key = "model.n_embd", values = [64, 128, 256] }
    rate = { key = "train.optimizer.learning_rate", values = [0.1, 0.2] }
    [variants.start]
    cold = { "train.clip_norm" = 2 }
    warm = { "train.clip_norm" = 1 }
    alone = { "train.clip_norm" = 3 }
    [[conditions]]
    when = "(start == 'alone') != (width == 256)"
    leave_out = true
    """
    return Study.model_validate(tomllib.loads(f"{text}\n[[contrasts]]\n{contrast}"))


def test_a_contrast_that_can_be_answered_is_not_refused() -> None:
    study = refusable('axis = "start"\nreference = "cold"\nothers = ["warm"]\nby = ["width"]')
    keys = recipe_keys()
    refuse_contrasts(study, cells_of(study, keys, keys))


def curve(ahead: float = 0.0, lift: float = 0.0, steps: int = 100, every: int = 5) -> dict[int, float]:
    """A loss that falls from 5 towards 2, as it is so many steps ``ahead`` of others, and ``lift`` above."""
    return {step: 2 + 3 * math.exp(-(step + ahead) / 40) + lift for step in range(every, steps + 1, every)}


def test_runs_tell_their_curves_and_what_their_start_cost(make_study: MakeStudy) -> None:
    def nats(cell: Cell) -> dict[int, float]:
        return curve(ahead=20 * (cell.values["start"] == "warm"), lift=1e-3 * (cell.seed - 1338))

    def facts(cell: Cell) -> dict[str, Any]:
        return {"resolved": {"word2vec": {"train_s": 0.5}}} if cell.values["start"] == "warm" else {}

    answer = answer_of(make_study(STUDY, nats, facts_of=facts))
    lead = one_of(answer, "warm").lead
    assert lead is not None
    end = lead.head_starts[1]
    assert end.cost is not None
    assert end.paid is not None
    assert end.cost.value == pytest.approx(5)  # half a second at 0.1 s a step
    assert end.paid.value == pytest.approx(15, abs=0.3)
    assert lead.settled_from == 5
    early = one_of(answer, "warm").early
    assert early is not None
    assert early.verdict == "better"
    whole = one_of(answer, "warm").ends["nats_per_token"]
    assert lead.differences[-1].value == pytest.approx(whole.estimate.value)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Four combinations whose differences share a seed's luck: 95 % of intervals over five seeds hold the mean."""
    chance, held = random.Random(1), 0
    for _ in range(1000):
        luck = {seed: chance.gauss(0, 1) for seed in range(5)}
        found = judged([{seed: place + luck[seed] + chance.gauss(0, 1) for seed in luck} for place in range(4)])
        assert found is not None
        held += found.estimate.low <= 1.5 <= found.estimate.high
    assert 0.93 < held / 1000 < 0.97
