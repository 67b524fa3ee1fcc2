"""A shuffled order of any length that needs no memory: position in, index out.

A balanced Feistel network permutes the numbers of 2h bits; numbers that fall outside the wanted range are sent through
it again until they fall inside. That is format-preserving encryption by cycle walking: Black & Rogaway, "Ciphers with
Arbitrary Finite Domains" (CT-RSA 2002). The domain is less than four times the range, so four rounds of walking
are expected at most. The round function is the finaliser of SplitMix64 (Steele, Lea & Flood 2014).
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8

UInt64s = NDArray[np.uint64]


def derived_numbers(count: int, *names: object) -> tuple[int, ...]:
    """``count`` numbers of 64 bits that depend on ``names`` alone, on any machine and in any process (BLAKE2b)."""
    numbers = []
    for index in range(count):
        text = ":".join(map(str, (*names, index)))
        numbers.append(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))
    return tuple(numbers)


class Permutation:
    """A bijection of ``0 .. size - 1`` onto itself, chosen by ``names`` (a seed, an epoch)."""

    def __init__(self, size: int, *names: object) -> None:
        assert 1 <= size <= 2**62
        self.size = size
        self._half_bits = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
        self._mask = np.uint64((1 << int(self._half_bits)) - 1)
        self._keys = np.array(derived_numbers(ROUNDS, "folio permutation", *names), dtype=np.uint64)

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The index at each of ``positions``, each in ``0 .. size - 1``; any shape."""
        numbers = self._feistel(positions.astype(np.uint64).ravel())
        outside = np.flatnonzero(numbers >= self.size)
        while outside.size:
            numbers[outside] = self._feistel(numbers[outside])
            outside = outside[numbers[outside] >= self.size]
        return numbers.astype(np.int64).reshape(positions.shape)

    def _feistel(self, numbers: UInt64s) -> UInt64s:
        left, right = numbers >> self._half_bits, numbers & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right ^ key) & self._mask)
        return (left << self._half_bits) | right


def _mixed(numbers: UInt64s) -> UInt64s:
    """SplitMix64's finaliser; products wrap at 64 bits."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
