"""Between the two ways to write byte-pair encoding: a list of merges, and tokens ranked by when they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def parts_at(token: bytes, ranks: Mapping[bytes, int], below: int) -> list[bytes]:
    """What ``token`` is cut into when only tokens of a rank under ``below`` exist: lowest rank first, left to right."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 1:
        best, where = below, -1
        for i in range(len(parts) - 1):
            rank = ranks.get(parts[i] + parts[i + 1], below)
            if rank < best:
                best, where = rank, i
        if where < 0:
            break
        parts[where : where + 2] = [parts[where] + parts[where + 1]]
    return parts


def merges_of(tokens: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The merges that make ``tokens``, which stand in order of rank, the 256 bytes first.

    Every token of a vocabulary trained by the rule has exactly one way to come about: the two parts it is cut into
    when only the tokens before it exist.
    """
    ranks = {token: rank for rank, token in enumerate(tokens)}
    merges = []
    for rank in range(256, len(tokens)):
        left, right = parts_at(tokens[rank], ranks, rank)
        merges.append((left, right))
    return merges


def is_ranked(merges: Sequence[tuple[bytes, bytes]], ranks: Mapping[bytes, int]) -> bool:
    """Whether ranks alone decide as ``merges`` do: ranks rise along the list, and each merge is its token's only way.

    So it is wherever the merges were trained by the rule; tiktoken, which knows ranks alone, then gives the same ids.
    """
    last = -1
    for left, right in merges:
        rank = ranks[left + right]
        if rank <= last or parts_at(left + right, ranks, rank) != [left, right]:
            return False
        last = rank
    return True
