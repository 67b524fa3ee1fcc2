"""Packing numbers against counting it out: every place a window may begin at, and best fit piece by piece."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.errors import ConfigError
from folio.shards.packing_statistics import best_fit_rows, packing_statistics

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=25)


def stream_counted_out(lengths: list[int], size: int) -> tuple[float, float, float]:
    """Documents cut, pieces, and tokens without beginning, averaged over all ``size`` phases of a stream's windows."""
    cut = pieces = hidden = 0.0
    for phase in range(size):
        start = 0
        for length in (length + 1 for length in lengths):
            window = [(start + token + phase) // size for token in range(length)]
            pieces += len(set(window))
            cut += len(set(window)) > 1
            hidden += sum(one != window[0] for one in window)
            start += length
    documents, tokens = len(lengths), sum(lengths) + len(lengths)
    return cut / size / documents, pieces / size / documents, hidden / size / tokens


def best_fit_counted_out(sizes: list[int], block: int) -> int:
    """Best-fit decreasing, one piece at a time."""
    pieces = [block] * sum(size // block for size in sizes) + [size % block for size in sizes if size % block]
    rooms: list[int] = []
    for piece in sorted(pieces, reverse=True):
        fitting = [room for room in rooms if room >= piece]
        if fitting:
            rooms.remove(min(fitting))
            rooms.append(min(fitting) - piece)
        else:
            rooms.append(block - piece)
    return len(rooms)


@given(LENGTHS, st.integers(1, 24))
def test_a_stream_is_what_counting_every_phase_finds(lengths: list[int], size: int) -> None:
    found = packing_statistics(Counter(lengths), size)
    assert found is not None
    cut, pieces, hidden = stream_counted_out(lengths, size)
    assert found.stream_documents_cut == pytest.approx(cut)
    assert found.stream_pieces_per_document == pytest.approx(pieces)
    assert found.stream_tokens_without_beginning == pytest.approx(hidden)


@given(LENGTHS, st.integers(1, 24))
def test_one_document_a_row_pads_the_short_and_loses_the_ends_of_the_long(lengths: list[int], size: int) -> None:
    found = packing_statistics(Counter(lengths), size)
    assert found is not None
    with_eot = [length + 1 for length in lengths]
    assert found.row_padding == pytest.approx(sum(max(0, size - n) for n in with_eot) / (size * len(with_eot)))
    assert found.row_tokens_lost == pytest.approx(sum(max(0, n - size) for n in with_eot) / sum(with_eot))
    assert found.row_documents_cut == pytest.approx(sum(n > size for n in with_eot) / len(with_eot))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.integers(1, 24))
def test_best_fit_is_that_of_one_piece_at_a_time(sizes: list[int], block: int) -> None:
    rows = best_fit_rows(Counter(sizes), block)
    assert rows == best_fit_counted_out(sizes, block)
    assert rows * block >= sum(sizes)


def test_a_piece_goes_where_it_leaves_the_least_room() -> None:
    # 9 + 6 and 7 + 4 + 3 in rows of 15; going where there is most room, 4 would go beside 7 and 6 find no place
    assert best_fit_rows(Counter([3, 6, 9, 7, 4]), 15) == 2


def test_a_known_case() -> None:
    # documents of 4, 6 and 12 ids with their end-of-text, in rows of 8
    found = packing_statistics({3: 1, 5: 1, 11: 1}, 8)
    assert found is not None
    assert (found.documents, found.tokens, found.best_fit_rows) == (3, 22, 3)
    assert found.best_fit_padding == pytest.approx(2 / 24)
    assert found.row_padding == pytest.approx((4 + 2) / 24)
    assert found.row_tokens_lost == pytest.approx(4 / 22)
    assert found.stream_documents_cut == pytest.approx((3 / 8 + 5 / 8 + 1) / 3)


def test_millions_of_documents_cost_no_more_than_their_different_lengths() -> None:
    found = packing_statistics({100: 3_000_000, 700: 2_000_000, 900: 1_000_000}, 1024)
    assert found is not None
    assert found.documents == 6_000_000
    assert 0 < found.best_fit_padding < 0.2


def test_no_documents_and_no_block() -> None:
    assert packing_statistics({}, 8) is None
    with pytest.raises(ConfigError, match="block size 0"):
        packing_statistics({1: 1}, 0)
