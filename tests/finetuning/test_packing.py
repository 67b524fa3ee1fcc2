"""Best-fit decreasing: nothing cut, nothing lost, few rows."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.errors import DataError
from folio.finetuning.packing import best_fit_decreasing, padding_share

LENGTHS = st.lists(st.integers(1, 40), max_size=60)


@settings(max_examples=200, deadline=None)
@given(lengths=LENGTHS, more=st.integers(0, 60))
def test_every_example_once_and_no_row_over_capacity(lengths: list[int], more: int) -> None:
    capacity = max(lengths, default=1) + more
    rows = best_fit_decreasing(lengths, capacity)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in row) <= capacity for row in rows)


@settings(max_examples=200, deadline=None)
@given(lengths=LENGTHS, more=st.integers(0, 60))
def test_each_goes_where_it_leaves_the_least_room(lengths: list[int], more: int) -> None:
    """Against a search through all rows: the room that each row ends with is the same."""
    capacity = max(lengths, default=1) + more
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms.remove(min(fitting))
        rooms.append((min(fitting) if fitting else capacity) - length)
    ours = [capacity - sum(lengths[index] for index in row) for row in best_fit_decreasing(lengths, capacity)]
    assert sorted(ours) == sorted(rooms)


def test_no_two_rows_could_be_one() -> None:
    lengths = [(7 * n) % 50 + 1 for n in range(500)]
    filled = [sum(lengths[index] for index in row) for row in best_fit_decreasing(lengths, 64)]
    assert sum(sorted(filled)[:2]) > 64
    assert len(filled) <= 11 / 9 * -(-sum(lengths) // 64) + 1


def test_a_length_above_the_capacity_is_refused() -> None:
    with pytest.raises(DataError, match="takes 9 places and a row has 8"):
        best_fit_decreasing([3, 9], 8)


def test_padding_is_what_is_left_of_the_rows() -> None:
    assert padding_share([3, 3, 2], 2, 8) == 0.5
    assert padding_share([], 0, 8) == 0.0
