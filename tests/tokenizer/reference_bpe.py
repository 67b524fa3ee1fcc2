"""A byte-pair trainer written to be plainly right, against which the fast one is checked.

The rule (Sennrich et al. 2016, over bytes as in GPT-2): count how often two ids stand side by side within a pre-token,
merge the most frequent pair everywhere from left to right, give it the next id, and begin again. Among pairs of equal
count the one with the lower ids wins. Training ends early when no pair is left.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

import regex

GPT2_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
Pair = tuple[int, int]


def pre_token_counts(texts: Iterable[str]) -> Counter[bytes]:
    """How often each pre-token occurs."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(regex.findall(GPT2_PATTERN, text))
    return Counter({word.encode(): count for word, count in counts.items()})


def merged(word: list[int], pair: Pair, new: int) -> list[int]:
    """``word`` with every occurrence of ``pair``, taken from left to right, replaced by ``new``."""
    out: list[int] = []
    for id in word:
        if out and (out[-1], id) == pair:
            out[-1] = new
        else:
            out.append(id)
    return out


def train_naively(texts: Iterable[str], merges: int) -> list[Pair]:
    """The rule word for word: every pair counted afresh before each merge."""
    words = [(list(word), count) for word, count in pre_token_counts(texts).items()]
    made: list[Pair] = []
    while len(made) < merges:
        pairs: Counter[Pair] = Counter()
        for word, count in words:
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = [(merged(word, best, 256 + len(made)), count) for word, count in words]
        made.append(best)
    return made


def train_incrementally(texts: Iterable[str], merges: int) -> list[Pair]:
    """The same merges, recounting only the words a merge touches; for texts of many megabytes."""
    items = pre_token_counts(texts).items()
    words = [list(word) for word, _ in items]
    counts = [count for _, count in items]
    pairs: Counter[Pair] = Counter()
    where: dict[Pair, set[int]] = defaultdict(set)
    for index, word in enumerate(words):
        for pair in pairwise(word):
            pairs[pair] += counts[index]
            where[pair].add(index)
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapq.heapify(heap)
    made: list[Pair] = []
    while len(made) < merges and heap:
        negative, best = heapq.heappop(heap)
        if -negative != pairs[best] or not pairs[best]:
            continue  # an entry from before the count changed; the changed count was pushed then
        new = 256 + len(made)
        made.append(best)
        changed: set[Pair] = set()
        for index in where.pop(best):
            old, word = words[index], merged(words[index], best, new)
            for pair in pairwise(old):
                pairs[pair] -= counts[index]
                changed.add(pair)
            for pair in pairwise(word):
                pairs[pair] += counts[index]
                where[pair].add(index)
                changed.add(pair)
            words[index] = word
        for pair in changed:
            if pairs[pair]:
                heapq.heappush(heap, (-pairs[pair], pair))
    return made
