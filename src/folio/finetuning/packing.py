"""Whole examples into rows: best-fit decreasing.

Longest first, each into the row with the least room that still holds it (Johnson 1973; at most 11/9 of the fewest rows
there can be, and a few). Nothing is cut. Used for training by Ding et al., "Fewer Truncations Improve Language
Modeling" (2024).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from folio.errors import DataError


def best_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[tuple[int, ...]]:
    """Which of ``lengths`` (by index) share each row of ``capacity``; every index once, the same on any machine.

    :class:`DataError` for a length above ``capacity``.
    """
    rows: list[list[int]] = []
    with_room: defaultdict[int, list[int]] = defaultdict(list)  # rows by the room they have left
    rooms = 0  # bit r is set while some row has room r: the best fit is the lowest set bit from the length on
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[index]
        if not 1 <= length <= capacity:
            raise DataError(
                f"an example takes {length:,} places and a row has {capacity:,}", "Truncate or drop it first."
            )
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = with_room[room].pop()
            if not with_room[room]:
                rooms &= ~(1 << room)
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(index)
        with_room[room - length].append(row)
        rooms |= 1 << (room - length)
    return [tuple(row) for row in rows]


def padding_share(lengths: Sequence[int], rows: int, capacity: int) -> float:
    """The part of ``rows`` rows of ``capacity`` places that ``lengths`` leave empty."""
    return 1 - sum(lengths) / (rows * capacity) if rows else 0.0
