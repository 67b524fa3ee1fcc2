"""Tokens per step are what was asked for, or an error with the nearest values that can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.errors import ConfigError
from folio.training.plan import divisors, sequences_per_rank, solve_batch


def test_a_large_step_is_cut_into_micro_batches_that_fit_the_device() -> None:
    plan = solve_batch(524_288, 1024, None)
    assert (plan.micro_batch, plan.accumulation, plan.tokens) == (8, 64, 524_288)
    assert solve_batch(524_288, 1024, None, device="cuda").micro_batch == 32
    assert plan.describe() == "524,288 tokens a step = 8 sequences x 64 accumulated x 1024 tokens"


@given(
    st.integers(1, 64),
    st.integers(1, 300),
    st.integers(1, 4),
    st.sampled_from([None, 1, 2, 3, 4, 8]),
    st.integers(0, 40),
)
def test_a_plan_never_changes_the_tokens_and_reads_every_row_once(
    block: int, sequences: int, ranks: int, micro: int | None, extra: int
) -> None:
    tokens = block * sequences * ranks + extra
    try:
        plan = solve_batch(tokens, block, micro, world_size=ranks)
    except ConfigError:
        assert tokens % (block * ranks) or (micro is not None and (tokens // block // ranks) % micro)
        return
    assert plan.tokens == tokens
    read = [row for i in range(plan.accumulation) for rank in range(ranks) for row in _rows(plan.rows(i, rank))]
    assert read == list(range(plan.sequences))


def _rows(chosen: slice) -> range:
    return range(chosen.start, chosen.stop)


def test_tokens_that_do_not_divide_are_refused_with_the_nearest_that_do() -> None:
    with pytest.raises(ConfigError) as refused:
        solve_batch(1000, 64, None)
    assert "batch_tokens 1,000 is not a multiple of block_size 64" in refused.value.problem
    assert refused.value.remedy == "The nearest values that are: 960 or 1,024."
    with pytest.raises(ConfigError, match=r"The nearest values that are: 64\."):
        solve_batch(10, 64, None)
    with pytest.raises(ConfigError, match="block_size 64 times 3 ranks"):
        solve_batch(1024, 64, None, world_size=3)


def test_a_micro_batch_that_does_not_divide_is_refused_with_the_nearest_that_do() -> None:
    with pytest.raises(ConfigError) as refused:
        solve_batch(12 * 64, 64, 5)
    assert "micro_batch 5 does not divide the 12 sequences" in refused.value.problem
    assert refused.value.remedy == "The nearest values that do: 4 or 6."


@given(st.integers(1, 400))
def test_divisors_are_all_that_divide(n: int) -> None:
    assert divisors(n) == sorted({d for d in range(1, n + 1) if n % d == 0})


def test_sequences_per_rank_are_those_of_the_plan_and_refused_as_it_refuses() -> None:
    assert sequences_per_rank(24 * 64, 64) == 24
    assert sequences_per_rank(24 * 64, 64, 3) == 8
    plan = solve_batch(24 * 64, 64, 4, world_size=3)
    assert plan.micro_batch * plan.accumulation == 8
    errors = []
    for ask in (lambda: sequences_per_rank(1024, 64, 3), lambda: solve_batch(1024, 64, None, world_size=3)):
        with pytest.raises(ConfigError) as refused:
            ask()
        errors.append(str(refused.value))
    assert errors[0] == errors[1]
