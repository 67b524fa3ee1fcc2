from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import tiny_shards

from folio.errors import ConfigError, DataError
from folio.shards import Batches, TokenStream, evaluation_windows

ORDERS = [{}, {"order": "local", "order_bytes": 16 * 60 * 3}]
GOLDEN_LOCAL = [58, 114, 30, 102, 50, 54]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> TokenStream:
    """1,000 ids in files of 300."""
    return tiny_shards(tmp_path_factory.mktemp("batches") / "s").split("train")


@pytest.fixture(scope="module")
def whole(stream: TokenStream) -> np.ndarray:
    return np.concatenate([np.fromfile(path, dtype=np.uint16, offset=1024) for path in stream.paths])


def test_golden_batch(stream: TokenStream) -> None:
    """A change of this order changes every training run: it would need a new format version."""
    batch = Batches(stream, block_size=4, sequences=3, seed=1).batch(5)
    assert batch.dtype == np.int64
    assert batch.tolist() == [[6, 7, 8, 9, 10], [86, 87, 88, 89, 90], [94, 95, 96, 97, 98]]


def test_golden_batch_of_the_local_order(stream: TokenStream) -> None:
    batch = Batches(stream, 4, 6, seed=1, order="local", order_bytes=16 * 6 * 8).batch(5)
    assert batch[:, 0].tolist() == GOLDEN_LOCAL


@settings(max_examples=120, deadline=None)
@given(
    block_size=st.integers(1, 999),
    seed=st.integers(0, 10**9),
    epoch=st.integers(0, 3),
    order_bytes=st.none() | st.integers(1, 5000),
)
def test_every_window_comes_exactly_once_an_epoch(
    stream: TokenStream, block_size: int, seed: int, epoch: int, order_bytes: int | None
) -> None:
    n = Batches(stream, block_size, sequences=1, seed=seed).windows_per_epoch
    order = {} if order_bytes is None else {"order": "local", "order_bytes": order_bytes}
    batches = Batches(stream, block_size, sequences=n, seed=seed, **order)
    starts = np.sort(batches.window_starts(epoch))
    assert np.array_equal(starts, batches.phase(epoch) + np.arange(n) * block_size)
    assert 0 <= starts[0] < block_size
    assert starts[-1] + block_size + 1 <= len(stream)
    assert n * block_size > len(stream) - 2 * block_size - 1  # less than two windows of text are left out


def test_a_batch_holds_the_ids_at_its_windows_across_files(stream: TokenStream, whole: np.ndarray) -> None:
    batches = Batches(stream, block_size=70, sequences=13, seed=3)
    crossed = 0
    for step in range(4):
        for row, start in zip(batches.batch(step), batches.window_starts(step), strict=True):
            assert np.array_equal(row, whole[start : start + 71])
            crossed += start // 300 != (start + 70) // 300
    assert crossed > 3


@pytest.mark.parametrize("order", ORDERS)
def test_batches_run_on_into_the_next_epoch(stream: TokenStream, order: dict[str, Any]) -> None:
    """Batches of any size walk one and the same endless sequence of windows, even when larger than an epoch."""
    one_by_one = Batches(stream, block_size=30, sequences=1, seed=9, **order)
    n = one_by_one.windows_per_epoch
    endless = np.concatenate([one_by_one.window_starts(step) for step in range(4 * n)])
    for sequences in (2, 7, n, n + 1, 2 * n + 3):
        batches = Batches(stream, block_size=30, sequences=sequences, seed=9, **order)
        steps = 4 * n // sequences
        walked = np.concatenate([batches.window_starts(step) for step in range(steps)])
        assert np.array_equal(walked, endless[: steps * sequences])


@settings(max_examples=80, deadline=None)
@given(cuts=st.lists(st.integers(0, 24), max_size=5), step=st.integers(0, 10**12), order=st.sampled_from(ORDERS))
def test_the_union_over_any_partition_of_rows_is_the_batch(
    stream: TokenStream, cuts: list[int], step: int, order: dict[str, Any]
) -> None:
    batches = Batches(stream, block_size=16, sequences=24, seed=2, **order)
    edges = [0, *sorted(cuts), 24]
    parts = [batches.batch(step, slice(a, b)) for a, b in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), batches.batch(step))


def test_in_the_local_order_few_places_are_read_for_a_while(tmp_path: Path) -> None:
    stream = tiny_shards(tmp_path / "s", train=20_000, per_shard=5000).split("train")
    block, in_a_chunk = 8, 10
    batches = Batches(stream, block, 40, seed=4, order="local", order_bytes=16 * in_a_chunk * block * 2)
    for step in range(8):
        chunks = (batches.window_starts(step) - batches.phase(0)) // block // in_a_chunk
        assert len(set(chunks.tolist())) <= 2 * 16 < 250
    shuffled = Batches(stream, block, 40, seed=4).window_starts(0) // block // in_a_chunk
    assert len(set(shuffled.tolist())) > 33


def test_ranks_that_stride_over_rows_share_nothing(stream: TokenStream) -> None:
    batches = Batches(stream, block_size=16, sequences=24, seed=2)
    by_rank = [batches.batch(1, slice(rank, None, 4)) for rank in range(4)]
    together = np.stack(by_rank, axis=1).reshape(24, 17)
    assert np.array_equal(together, batches.batch(1))
    assert len({tuple(row) for row in batches.window_starts(1)[:, None]}) == 24


def test_only_the_asked_rows_are_read(stream: TokenStream, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    real = TokenStream.read
    monkeypatch.setattr(TokenStream, "read", lambda self, start, count: reads.append(count) or real(self, start, count))
    Batches(stream, block_size=16, sequences=24, seed=2).batch(0, slice(3, 5))
    assert reads == [17, 17]


def test_seed_and_epoch_change_the_order_and_the_phase(stream: TokenStream) -> None:
    a, b = (Batches(stream, block_size=8, sequences=100, seed=seed) for seed in (0, 1))
    assert not np.array_equal(a.batch(0), b.batch(0))
    assert len({a.phase(epoch) for epoch in range(200)}) == 8


@pytest.mark.parametrize("length", [5, 6, 7, 8, 9, 12])
def test_the_shortest_streams(tmp_path: Path, length: int) -> None:
    stream = tiny_shards(tmp_path / "s", train=length).split("train")
    batches = Batches(stream, block_size=4, sequences=3, seed=0)
    assert batches.batch(7).shape == (3, 5)
    with pytest.raises(DataError, match=rf"holds {length} tokens.* needs {length + 1}"):
        Batches(stream, block_size=length, sequences=1, seed=0)


def test_impossible_sizes_are_refused(stream: TokenStream) -> None:
    with pytest.raises(ConfigError, match="block_size is 0"):
        Batches(stream, 0, 1, 0)
    with pytest.raises(ConfigError, match="sequences is 0"):
        Batches(stream, 4, 0, 0)
    with pytest.raises(ConfigError, match="order_bytes is 0"):
        Batches(stream, 4, 1, 0, "local", 0)


@pytest.mark.parametrize("block_size", [1, 7, 299, 333, 998, 999, 1000, 5000])
def test_evaluation_covers_every_target_once_in_order(stream: TokenStream, whole: np.ndarray, block_size: int) -> None:
    windows = evaluation_windows(stream, block_size)
    assert np.array_equal(np.concatenate([window[1:] for window in windows]), whole[1:])
    assert np.array_equal(np.concatenate([window[:-1] for window in windows]), whole[:-1])
    assert windows.targets == 999
    assert all(len(windows.read(i)) == block_size + 1 for i in range(len(windows) - 1))


def test_evaluation_of_a_single_token_is_refused(tmp_path: Path) -> None:
    stream = tiny_shards(tmp_path / "s", val=1).split("val")
    with pytest.raises(DataError, match="holds 1 token"):
        evaluation_windows(stream, 4)


def test_reading_outside_the_stream_is_refused_and_views_are_read_only(stream: TokenStream) -> None:
    with pytest.raises(DataError, match="998 to 1,001"):
        stream.read(998, 3)
    assert len(stream.read(1000, 0)) == 0
    view = stream.read(10, 20)
    assert view.base is not None
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
