"""Successive halving: who trains for how long, who goes on, and what a second sitting does not do again."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import pytest

from folio.errors import Diverged
from folio.finetuning.search.choice import choose
from folio.finetuning.search.config import SearchConfig
from folio.finetuning.search.halving import Loss, Result, halve, ranked, rungs_of
from folio.finetuning.search.settings import Setting, settings_of

RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 3e-4, 3e-3, 3e-2)


def settings(rates: Sequence[float] = RATES) -> list[Setting]:
    return settings_of(SearchConfig(kind="list", learning_rates=tuple(rates)))


@dataclass
class MadeUp:
    """A trial whose loss falls with its steps, the faster the nearer its rate is to 1e-2; above 0.5 it diverges."""

    setting: Setting
    taken: list[tuple[int, int, int]]
    roomy: bool = True
    step: int = 0
    alive: ClassVar[weakref.WeakSet[MadeUp]] = weakref.WeakSet()
    most_alive: ClassVar[int] = 0

    def __post_init__(self) -> None:
        MadeUp.alive.add(self)
        MadeUp.most_alive = max(MadeUp.most_alive, len(MadeUp.alive))

    def __hash__(self) -> int:
        return id(self)

    def train_to(self, step: int) -> None:
        if self.setting.rate > 0.5:
            raise Diverged("the loss diverged: 9 around step 3, 4 at the start")
        self.taken.append((self.setting.number, self.step, step))
        self.step = step

    def loss(self) -> Loss:
        distance = abs(math.log10(self.setting.rate) + 2)
        return Loss(4 - self.step / (10 + 30 * distance) / 10, 0.01, 3.0)

    def snapshot(self) -> Any:
        return self.step if self.roomy else None

    def restore(self, snapshot: Any) -> None:
        self.step = snapshot


def searched(
    tried: list[Setting], budget: int, reduction: int = 2, known: Sequence[Result] = (), roomy: bool = True
) -> tuple[list[Result], list[tuple[int, int, int]]]:
    """The results, and (setting, from step, to step) of each piece of training."""
    taken: list[tuple[int, int, int]] = []
    results = halve(tried, [budget] * len(tried), reduction, lambda one: MadeUp(one, taken, roomy), known)
    return results, taken


def losses(results: Sequence[Result]) -> list[tuple[int, int, int, Loss]]:
    return [(one.setting, one.rung, one.step, one.loss) for one in results]


@pytest.mark.parametrize(
    ("count", "shortest", "reduction", "expected"),
    [
        (8, 40, 2, [(10, 4), (20, 2), (40, 1)]),
        (5, 40, 2, [(10, 3), (20, 2), (40, 1)]),
        (2, 40, 2, [(40, 1)]),
        (3, 41, 2, [(21, 2), (41, 1)]),
        (9, 90, 3, [(30, 3), (90, 1)]),
        (10, 90, 3, [(10, 4), (30, 2), (90, 1)]),
        (8, 40, 1, [(40, 1)]),
        (8, 3, 2, [(2, 4), (3, 1)]),
        (8, 1, 2, [(1, 1)]),
        (3, 40, 8, [(40, 1)]),
    ],
)
def test_each_rung_keeps_a_share_and_multiplies_the_budget(
    count: int, shortest: int, reduction: int, expected: list[tuple[int, int]]
) -> None:
    rungs = rungs_of(count, shortest, reduction)
    assert [(rung.steps(shortest), rung.keep) for rung in rungs] == expected
    assert rungs[-1].share == Fraction(1)
    assert [rung.number for rung in rungs] == list(range(1, len(rungs) + 1))


def test_survivors_go_on_from_where_they_were() -> None:
    tried = settings([rate for rate in RATES if rate < 0.5])
    results, taken = searched(tried, 40)
    assert [one.step for one in results] == [10] * 7 + [20] * 4 + [40] * 2
    assert all(start == (0 if end == 10 else end // 2) for _, start, end in taken)
    assert sum(end - start for _, start, end in taken) == 7 * 10 + 4 * 10 + 2 * 20
    last = [tried[one.setting - 1].rate for one in results if one.step == 40]
    assert sorted(last) == [1e-2, 3e-2] or sorted(last) == [3e-3, 1e-2]


def test_without_halving_every_setting_trains_to_the_end() -> None:
    results, taken = searched(settings([1e-3, 1e-2, 1e-4]), 40, reduction=1)
    assert taken == [(1, 0, 40), (2, 0, 40), (3, 0, 40)]
    assert {one.step for one in results} == {40}


def test_without_room_for_snapshots_survivors_train_again_to_the_same_losses() -> None:
    tried = settings([1e-4, 1e-3, 1e-2, 1e-1])
    roomy, _ = searched(tried, 40)
    again, taken = searched(tried, 40, roomy=False)
    assert losses(again) == losses(roomy)
    assert all(start == 0 for _, start, _ in taken)


def test_one_trial_is_open_at_a_time() -> None:
    MadeUp.most_alive = 0
    searched(settings([1e-4, 1e-3, 1e-2, 1e-1]), 40)
    assert MadeUp.most_alive == 1


def test_what_diverges_is_lost_and_never_chosen() -> None:
    tried = settings([1.0, 2.0, 3.0, 1e-3])
    results, _ = searched(tried, 40)
    assert [bool(one.lost) for one in results] == [True, True, True, False]
    assert "diverged" in results[0].lost
    choice = choose(tried, results, "token")
    assert choice.values == {"train.optimizer.learning_rate": 1e-3}
    assert "could not be trained to the end: learning rate 1; learning rate 2; learning rate 3" in choice.notes
    with pytest.raises(Diverged, match="none of the 2 settings"):
        choose(settings([1.0, 2.0]), searched(settings([1.0, 2.0]), 40)[0], "token")


def test_a_loss_that_is_no_number_is_lost() -> None:
    class Strange(MadeUp):
        def loss(self) -> Loss:
            return Loss(math.nan if self.setting.number == 1 else 2.0)

    results = halve(settings([1e-3, 1e-2]), [10, 10], 2, lambda one: Strange(one, []))
    assert [one.lost for one in results] == ["the validation loss became nan", ""]


def test_equal_losses_go_to_the_lower_rate_then_to_the_earlier_setting() -> None:
    tried = settings([1e-2, 1e-3, 1e-4])
    equal = [Result(number, 1, 10, Loss(2.0), 1.0) for number in (1, 2, 3)]
    assert [one.rate for one in ranked(tried, equal)] == [1e-4, 1e-3, 1e-2]
    ranks = settings_of(SearchConfig(kind="list", rank=(16, 8)))
    assert ranked(ranks, equal[:2])[0].values == {"rank": 16}


@pytest.mark.parametrize("whole", range(14))
def test_a_second_sitting_repeats_nothing_and_chooses_the_same(whole: int) -> None:
    tried = settings([rate for rate in RATES if rate < 0.5])
    first, _ = searched(tried, 40)
    results, taken = searched(tried, 40, known=first[:whole])
    done = {(one.setting, one.step) for one in first[:whole]}
    assert not {(number, end) for number, _, end in taken} & done
    assert len(taken) == len(first) - whole
    assert [(one.setting, one.rung, one.loss) for one in results] == [
        (one.setting, one.rung, one.loss) for one in first
    ]
    assert choose(tried, results, "token") == choose(tried, first, "token")


def test_budgets_may_differ_and_each_trains_its_own_share() -> None:
    tried, taken = settings([1e-3, 1e-2, 1e-1]), list[tuple[int, int, int]]()
    halve(tried, [40, 20, 80], 2, lambda one: MadeUp(one, taken))
    assert [end for _, _, end in taken[:3]] == [20, 10, 40]
    assert all(end == {1: 40, 2: 20, 3: 80}[number] for number, _, end in taken[3:])


def test_the_reason_names_the_runner_up_and_the_edge() -> None:
    tried = settings([1e-3, 5e-4, 1e-4])
    results = [Result(n, 1, 40, Loss(nats, 0.04), 1.0) for n, nats in ((1, 3.21), (2, 3.24), (3, 3.9))]
    choice = choose(tried, results, "token")
    assert choice.reason == (
        "learning rate 1e-3: the lowest validation loss, 3.2100 ± 0.0400 nats/token after 40 steps; "
        "runner-up learning rate 5e-4 with 3.2400, within one standard error"
    )
    assert choice.notes == ("learning rate 1e-3 is the highest that was tried: a higher one may be better",)
    inside = [Result(n, 1, 40, Loss(nats, 0.04), 1.0) for n, nats in ((1, 3.5), (2, 3.24), (3, 3.9))]
    assert choose(tried, inside, "token").notes == ()
    assert "within" not in choose(tried, inside, "token").reason


def test_a_setting_lost_on_a_later_rung_is_not_chosen_for_an_earlier_one() -> None:
    tried = settings([1e-3, 5e-4, 1e-4])
    results = [Result(n, 1, 20, Loss(nats, 0.04), 1.0) for n, nats in ((1, 3.2), (2, 3.3), (3, 3.9))]
    results += [Result(n, 2, 40, Loss(math.nan), 1.0, "the loss diverged") for n in (1, 2)]
    choice = choose(tried, results, "token")
    assert choice.values == {"train.optimizer.learning_rate": 1e-4}
    assert "after 20 steps" in choice.reason
