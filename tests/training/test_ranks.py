"""Training on several ranks is training on one: the same batches, gradients, losses, checkpoints and scores.

Every number here was worked out by ranks that torchrun started, in the jobs of ``rank_jobs.py``. The distances that are
allowed are several times those that were measured, which ``docs/numerics.md`` states.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rank_jobs import CHAINS
from rank_processes import Job
from rank_states import STATES
from rank_work import SEQUENCES, WAYS

Answers = Mapping[str, Any]


def answers_of(kind: str, folder: Path) -> Answers:
    with Job(
        folder, 4, Path(__file__).with_name("rank_work.py"), folder, kind, environment={"KINETO_LOG_LEVEL": "9"}
    ) as job:
        ended = job.end(timeout_s=280 if kind == "quick" else 1500)
    assert ended.code == 0, ended.err
    found: Answers = json.loads((folder / "answers.json").read_text())
    return found


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return answers_of("quick", tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def more_answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return answers_of("slow", tmp_path_factory.mktemp("more-ranks"))


def starting(answers: Answers, prefix: str, count: int) -> dict[str, Any]:
    """The answers whose names begin so; as many as there should be."""
    found = {name: answer for name, answer in answers.items() if name.startswith(prefix)}
    assert len(found) == count
    return found


def the_batch_is_shared_out(answers: Answers, count: int) -> None:
    for by_micro_batch in starting(answers, "rows/", count).values():
        assert len(by_micro_batch) >= 2
        for by_rank in by_micro_batch.values():
            assert len({len(rows) for rows in by_rank}) == 1
            assert sorted(row for rows in by_rank for row in rows) == list(range(SEQUENCES))


def gradients_agree(answers: Answers, count: int) -> None:
    assert {n: far for n, far in starting(answers, "gradient/", count).items() if not far < 5e-6} == {}


def courses_agree(answers: Answers, count: int) -> None:
    limits = {"loss": 1e-6, "norm": 1e-5, "weights": 1e-4}
    courses = starting(answers, "course/", count)
    assert {n: c for n, c in courses.items() if not all(c[key] < limit for key, limit in limits.items())} == {}
    assert {n: c for n, c in courses.items() if not c["fell"] > 0.1} == {}  # they all learned
    assert {n: c for n, c in courses.items() if (c["clipped"] == 0) != ("/0.0/" in n)} == {}


def work_is_shared_out(answers: Answers, ranks: int) -> None:
    for shared in starting(answers, f"work/{ranks}/", len(WAYS)).values():
        assert {(case["count"], case["rows"]) for case in shared} >= {(1, 1), (2, 5), (7, 33)}
        assert [case for case in shared if not case["far"] < 1e-5] == []
        assert [case for case in shared if max(case["load"]) > -(-case["count"] // ranks)] == []
        assert [case for case in shared if sum(case["load"]) != case["count"]] == []


def the_state_is_handed_on(answers: Answers, kind: str, state: str) -> None:
    first, *rest = (answers[f"handed on/{number}"][state] for number in range(len(CHAINS[kind])))
    assert len(first["seen"]) > 40
    assert any(name.startswith("average/") for name in first["seen"]) == ("ema" in state)
    for link in rest:
        assert link["step"] == 3
        assert {name for name, digest in first["seen"].items() if link["seen"].get(name) != digest} == set()
        assert link["seen"].keys() == first["seen"].keys()
        assert link["model"] == first["model"]  # one file, whoever wrote it
        assert link["opened"] > 10
    assert answers["goes on"][state] < 1e-6  # as if there had been no checkpoints


def test_the_rows_that_ranks_read_in_a_step_are_its_batch_and_none_is_read_twice(answers: Answers) -> None:
    the_batch_is_shared_out(answers, 1)


def test_the_gradient_is_that_of_one_rank_where_targets_are_uneven_too(answers: Answers) -> None:
    gradients_agree(answers, 8)


def test_losses_norms_and_weights_are_those_of_one_rank(answers: Answers) -> None:
    """For both optimizers, both ways, clipped and not, GPT-2's shape and Qwen3's."""
    courses_agree(answers, 16)


def test_ranks_of_one_micro_batch_and_one_rank_that_accumulates_them_end_with_the_same_bits(answers: Answers) -> None:
    """With AdamW. Muon's products of several matrices at once are rounded by how many share them."""
    assert answers["same cut"]["adamw"] == []


@pytest.mark.parametrize("way", WAYS)
def test_gradients_travel_once_a_step_however_often_it_accumulates(answers: Answers, way: str) -> None:
    once, often = answers[f"collectives/{way}"]
    assert (once["accumulation"], often["accumulation"]) == (1, 6)
    assert once["reductions"] == often["reductions"] > 0


@pytest.mark.parametrize("ranks", [2, 3])
def test_muon_shares_its_work_and_every_rank_gets_its_rows_of_the_whole(answers: Answers, ranks: int) -> None:
    work_is_shared_out(answers, ranks)


@pytest.mark.parametrize("state", STATES)
def test_a_state_goes_through_checkpoints_of_any_number_of_ranks_with_the_same_bits(
    answers: Answers, state: str
) -> None:
    """From three ranks to two, to one, to two: spread, copied, alone and spread again."""
    the_state_is_handed_on(answers, "quick", state)


@pytest.mark.parametrize("way", WAYS)
def test_a_checkpoint_written_beside_training_holds_what_one_written_at_once_holds(answers: Answers, way: str) -> None:
    beside = answers[f"beside/{way}"]
    assert beside["unwritten"]  # while training went on
    at_once, later = beside["files"]
    assert at_once == later
    assert len(at_once) == 3  # the model, and a share of the state from each rank
    assert beside["differ"] == []


@pytest.mark.parametrize("way", WAYS)
def test_a_score_is_that_of_one_rank_where_blocks_do_not_divide(answers: Answers, way: str) -> None:
    scores = answers[f"validation/{way}"]["scores"]
    assert [theirs["tokens"] for _, theirs in scores] == [1, 699, 8999, 20010]
    for ours, theirs in scores:
        if math.isnan(theirs["standard_error_nats"]):
            assert math.isnan(ours.pop("standard_error_nats")) == math.isnan(theirs.pop("standard_error_nats"))
        assert ours == theirs


@pytest.mark.parametrize("way", WAYS)
def test_to_look_at_the_model_changes_nothing(answers: Answers, way: str) -> None:
    assert answers[f"validation/{way}"]["after"] == 0
    assert answers[f"validation/{way}"]["first"] == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_request_to_one_rank_stops_all_after_the_same_step_and_saves(answers: Answers, way: str) -> None:
    stopped = answers[f"stopped/{way}"]
    assert stopped["told"] == [f"stopped by {who} after step 4 of 12; saved" for who in ("another rank", "SIGTERM")]
    assert stopped["steps"] == [[4, 5], [4, 5]]  # a line a step, and one of the stop
    assert stopped["kept"] == 4


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", ["here", "resumed"])
def test_a_step_that_was_thrown_away_leaves_nothing_behind(answers: Answers, way: str, how: str) -> None:
    """Neither in the processes that go on nor in what they saved; dropout included."""
    assert answers[f"stopped/{way}"][how] == []


def test_a_request_to_one_rank_amid_validation_stops_all_and_saves(answers: Answers) -> None:
    stopped = answers["stopped in probe"]
    assert stopped["told"] == [f"stopped by {who} after step 4 of 12; saved" for who in ("another rank", "SIGUSR1")]
    assert (stopped["kept"], stopped["unprobed"]) == (4, True)


def test_weights_that_differ_on_one_rank_are_not_saved_and_the_rank_is_named(answers: Answers) -> None:
    faulty = answers["faulty memory"]
    assert faulty["heard"] == ["after step 2 rank 1 holds other weights than rank 0: a faulty machine"] * 2
    assert faulty["left"] == [faulty["sound"]] == [1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_and_four_ranks_train_as_one_does(more_answers: Answers) -> None:
    the_batch_is_shared_out(more_answers, 2)
    gradients_agree(more_answers, 16)
    courses_agree(more_answers, 64)
    for ranks in (3, 4):
        work_is_shared_out(more_answers, ranks)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("state", STATES)
def test_a_state_goes_from_four_ranks_to_two_to_one_to_three_to_four(more_answers: Answers, state: str) -> None:
    the_state_is_handed_on(more_answers, "slow", state)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", WAYS)
def test_compiled_it_trains_as_one_rank_that_is_not(more_answers: Answers, way: str) -> None:
    compiled = more_answers[f"compiled/{way}"]
    assert compiled["said"] == "on" or "no C++ compiler" in compiled["said"]
    assert compiled["far"] < 1e-5
