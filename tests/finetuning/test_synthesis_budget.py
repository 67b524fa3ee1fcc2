"""The budget holds whatever endpoints report, and requests keep their distance."""

from __future__ import annotations

import random
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.finetuning.synthesis.budget import Bound, Budget, Usage, counted_usage, most_prompt_tokens
from folio.finetuning.synthesis.client import retry_after_s
from folio.finetuning.synthesis.pace import Pace, backoff
from folio.finetuning.synthesis.tables import BudgetTable, LimitsTable


@given(
    tokens=st.integers(100, 3000),
    cost=st.floats(0.001, 0.05),
    draws=st.lists(st.tuples(st.integers(1, 200), st.integers(1, 300), st.floats(0, 1), st.booleans()), max_size=60),
)
def test_spent_and_reserved_never_exceed_either_limit(
    tokens: int, cost: float, draws: list[tuple[int, int, float, bool]]
) -> None:
    budget = Budget(BudgetTable(tokens=tokens, cost=cost, prompt_price=3.0, completion_price=15.0))
    open_bounds: list[Bound] = []
    for prompt, completion, share, settle in draws:
        bound = budget.bound(prompt, completion)
        if budget.fits(bound):
            budget.reserve(bound)
            open_bounds.append(bound)
        if settle and open_bounds:
            done = open_bounds.pop(0)
            used = Usage(int(done.usage.prompt_tokens * share), int(done.usage.completion_tokens * share))
            budget.settle(done, used)
        total = budget.spent + budget.reserved
        assert total.total <= tokens
        assert total.prompt_tokens * 3e-6 + total.completion_tokens * 15e-6 <= cost
    for bound in open_bounds:
        budget.settle(bound, bound.usage)
    assert budget.reserved == Usage()
    assert budget.spent.total <= tokens


def test_what_an_endpoint_used_beyond_the_worst_case_is_added_to_every_later_one() -> None:
    budget = Budget(BudgetTable(tokens=1000))
    both = [budget.bound(10, 20), budget.bound(10, 20)]
    for bound in both:
        budget.reserve(bound)
    for bound in both:
        budget.settle(bound, Usage(50, 20))
    assert budget.spent == Usage(100, 40)
    assert budget.bound(10, 20).usage == Usage(50, 20), "learned once, not once for each"
    budget.charge(budget.bound(10, 20), Usage(55, 20))
    assert budget.bound(10, 20).usage == Usage(55, 20)


def test_what_is_released_can_be_spent_again() -> None:
    budget = Budget(BudgetTable(tokens=100))
    bound = budget.bound(50, 50)
    budget.reserve(bound)
    assert not budget.fits(budget.bound(0, 1))
    budget.settle(bound, Usage())
    assert budget.fits(bound)


@given(st.text(max_size=80))
def test_no_byte_level_tokenizer_makes_more_tokens_than_the_bound(text: str) -> None:
    assert most_prompt_tokens(1, len(text.encode())) > len(text.encode())
    assert counted_usage(text, Usage(7, 10_000)) == Usage(7, len(text.encode()) + 1)
    assert counted_usage(text * 999, Usage(7, 5)).completion_tokens <= 5


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("requests", "tokens", "each"), [(120.0, None, 10), (None, 6000.0, 100), (120.0, 600.0, 10)])
def test_no_minute_holds_more_than_the_rates(requests: float | None, tokens: float | None, each: int) -> None:
    clock = Clock()
    pace = Pace(LimitsTable(requests_per_minute=requests, tokens_per_minute=tokens), clock)
    sent = []
    for _ in range(300):
        clock.now += pace.turn(each)
        sent.append(clock.now)
    for start in sent:
        inside = sum(start <= at < start + 59.999 for at in sent)
        assert inside <= (requests or 1e9)
        assert inside * each <= (tokens or 1e9)
    rate = min(requests or 1e9, (tokens or 1e9) / each)
    assert sent[-1] - sent[0] == pytest.approx(299 * 60 / rate), "and no slower than they allow"


def test_tokens_that_were_not_used_make_room_but_no_credit_for_later() -> None:
    clock = Clock()
    pace = Pace(LimitsTable(tokens_per_minute=600), clock)
    assert pace.turn(100) == 0
    pace.give_back(60)
    assert pace.turn(100) == pytest.approx(4.0)
    clock.now += 1000
    pace.give_back(100)
    assert pace.turn(100) == 0
    assert pace.turn(100) == pytest.approx(10.0)


def test_a_pause_holds_back_every_request() -> None:
    clock = Clock()
    pace = Pace(LimitsTable(), clock)
    pace.close_for(5)
    pace.close_for(2)
    assert (pace.turn(1), pace.closed_s) == (5.0, 5.0)
    clock.now += 6
    assert (pace.turn(1), pace.closed_s) == (0.0, 0.0)


def test_back_off_doubles_is_drawn_and_has_an_end() -> None:
    limits = LimitsTable(backoff_s=2, longest_wait_s=20)
    draws = [[backoff(limits, retry, random.Random(seed)) for seed in range(50)] for retry in range(6)]
    for retry, waits in enumerate(draws):
        whole = min(20, 2 * 2**retry)
        assert whole / 2 <= min(waits) < max(waits) <= whole
    assert len(set(draws[0])) == 50
    assert backoff(limits, 5000, random.Random(0)) <= 20


def test_retry_after_is_read_in_all_its_forms() -> None:
    assert retry_after_s({"retry-after": "7"}) == 7
    assert retry_after_s({"retry-after-ms": "1500", "retry-after": "9"}) == 1.5
    assert retry_after_s({"retry-after": formatdate(1_000_030, usegmt=True)}, now=1_000_000) == 30
    assert retry_after_s({"retry-after": formatdate(999_000, usegmt=True)}, now=1_000_000) == 0
    assert [retry_after_s({"retry-after": odd}) for odd in ("", "soon", "-3", "nan", "inf")] == [0] * 5
    assert retry_after_s({}) == 0
