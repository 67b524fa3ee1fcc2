from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.shards.permutation import Permutation

sizes = st.one_of(st.integers(1, 70), st.integers(1, 5000))


@settings(max_examples=200, deadline=None)
@given(size=sizes, seed=st.integers(-5, 2**70), epoch=st.integers(0, 10**6))
def test_it_is_a_bijection_for_every_size(size: int, seed: int, epoch: int) -> None:
    image = Permutation(size, seed, epoch)(np.arange(size))
    assert np.array_equal(np.sort(image), np.arange(size))


def test_any_part_of_it_can_be_asked_for_and_sizes_beyond_memory_work() -> None:
    small = Permutation(1000, 1, 0)
    assert np.array_equal(small(np.arange(1000))[[5, 900, 7]], small(np.array([5, 900, 7])))
    huge = 2**40 + 17
    image = Permutation(huge, 1, 0)(np.arange(10_000))
    assert image.min() >= 0
    assert image.max() < huge
    assert len(np.unique(image)) == 10_000
    assert abs(image.mean() / huge - 0.5) < 0.02


def test_it_is_well_mixed() -> None:
    """Over many epochs each position goes everywhere equally often, and neighbours part."""
    size, epochs = 12, 3000
    seen = np.zeros((size, size))
    neighbours = 0
    for epoch in range(epochs):
        image = Permutation(size, 7, epoch)(np.arange(size))
        seen[np.arange(size), image] += 1
        neighbours += int((np.diff(image) == 1).sum())
    expected = epochs / size
    assert ((seen - expected) ** 2 / expected).sum() < 200  # chi-square, 121 degrees of freedom: p < 1e-5
    assert abs(neighbours / (epochs * (size - 1)) - 1 / size) < 0.01


def test_it_is_the_same_in_another_process_and_forever() -> None:
    code = "import numpy as np; from folio.shards.permutation import Permutation as P; print(P(10,1,2)(np.arange(10)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer.strip() == str(Permutation(10, 1, 2)(np.arange(10))) == "[0 9 8 1 6 5 4 7 2 3]"


def test_it_is_the_documented_network() -> None:
    """The same in whole numbers of Python: eight rounds, SplitMix64's finaliser, walking until inside."""
    size, half, m64 = 1000, 5, 2**64 - 1
    names = (f"folio permutation:3:4:{index}" for index in range(8))
    keys = [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") for name in names]

    def mixed(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & m64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & m64
        return x ^ (x >> 31)

    def walked(x: int) -> int:
        while True:
            left, right = x >> half, x & 31
            for key in keys:
                left, right = right, left ^ (mixed(right ^ key) & 31)
            x = left << half | right
            if x < size:
                return x

    assert Permutation(size, 3, 4)(np.arange(size)).tolist() == [walked(x) for x in range(size)]
