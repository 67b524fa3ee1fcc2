"""The local order visits everything once, a group of chunks at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.shards.order import LocalOrder

sizes = st.integers(1, 700)
chunks = st.integers(1, 90)
groups = st.integers(1, 9)


@settings(max_examples=200, deadline=None)
@given(size=sizes, chunk=chunks, group=groups, seed=st.integers(0, 10**9))
def test_every_index_comes_exactly_once(size: int, chunk: int, group: int, seed: int) -> None:
    order = LocalOrder(size, chunk, group, seed, 0)(np.arange(size))
    assert np.array_equal(np.sort(order), np.arange(size))


@settings(max_examples=200, deadline=None)
@given(size=sizes, chunk=chunks, group=groups)
def test_never_more_than_a_group_of_chunks_is_begun_and_not_done_with(size: int, chunk: int, group: int) -> None:
    visited = LocalOrder(size, chunk, group, "a name")(np.arange(size)) // chunk
    places = [np.flatnonzero(visited == one) for one in range(-(-size // chunk))]
    in_use = np.zeros(size, dtype=int)
    for positions in places:
        in_use[positions[0] : positions[-1] + 1] += 1
    assert in_use.max() <= group


@settings(max_examples=100, deadline=None)
@given(size=sizes, chunk=chunks, group=groups, data=st.data())
def test_any_position_is_found_directly(size: int, chunk: int, group: int, data: st.DataObject) -> None:
    whole = LocalOrder(size, chunk, group, 7)(np.arange(size))
    asked = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20)))
    assert np.array_equal(LocalOrder(size, chunk, group, 7)(asked), whole[asked])


def test_within_a_group_and_between_groups_it_is_shuffled() -> None:
    order = LocalOrder(1000, 10, 5, 0)(np.arange(1000))
    assert len(set((order[:50] // 10).tolist())) == 5
    steps = np.diff(order)
    assert (steps == 1).mean() < 0.1
    assert len({int(order[start : start + 50].min()) // 50 for start in range(0, 1000, 50)}) > 5
    firsts = [LocalOrder(1000, 10, 5, 0, epoch)(np.arange(50)) for epoch in range(20)]
    assert len({tuple(first) for first in firsts}) == 20


def test_one_group_that_holds_all_shuffles_all() -> None:
    order = LocalOrder(200, 13, 16, 3)(np.arange(200))
    assert len(set((order[:30] // 13).tolist())) > 8
