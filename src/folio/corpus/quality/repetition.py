"""Gopher's repetition rules: how much of a document says what it said before (Rae et al. 2021, table A1).

All fractions of characters leave white space out, above and below. A line, paragraph or run of words is a duplicate
from its second occurrence on. What is covered by several runs counts once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from folio.corpus.quality.verdict import Fault

Ints = NDArray[Any]
_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")


@dataclass(frozen=True, slots=True)
class RepetitionRules:
    """The paper's thresholds; a document at one of them stays."""

    max_duplicate_lines: float = 0.30
    max_duplicate_paragraphs: float = 0.30
    max_duplicate_line_characters: float = 0.20
    max_duplicate_paragraph_characters: float = 0.20
    max_top_ngram: Mapping[int, float] = field(default_factory=lambda: {2: 0.20, 3: 0.18, 4: 0.16})
    """By the number of words: the characters in all occurrences of the run that recurs most."""
    max_duplicate_ngrams: Mapping[int, float] = field(
        default_factory=lambda: {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
    )
    """By the number of words: the characters in all runs that are duplicates."""


def repetition_fault(text: str, rules: RepetitionRules = RepetitionRules()) -> Fault | None:
    """The first of the rules, in the order of :class:`RepetitionRules`, that ``text`` breaks."""
    lines = [line for part in text.split("\n") if (line := part.strip())]
    if not lines:
        return None
    paragraphs = _BLANK_LINES.split(text.strip())
    of_lines, in_lines = _duplicates(lines)
    of_paragraphs, in_paragraphs = _duplicates(paragraphs)
    for what, share, most in (
        ("duplicate lines", of_lines, rules.max_duplicate_lines),
        ("duplicate paragraphs", of_paragraphs, rules.max_duplicate_paragraphs),
        ("characters in duplicate lines", in_lines, rules.max_duplicate_line_characters),
        ("characters in duplicate paragraphs", in_paragraphs, rules.max_duplicate_paragraph_characters),
    ):
        if share > most:
            return Fault(what, f"{share:.1%}")
    words = text.split()
    numbers: dict[str, int] = {}
    ids = np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.int64)
    sizes = np.array(list(map(len, words)), dtype=np.int64)
    grams = ids
    for n in range(1, max([1, *rules.max_top_ngram, *rules.max_duplicate_ngrams]) + 1):
        if n > len(words):
            break
        if n > 1:
            grams = np.unique(grams[:-1] * len(numbers) + ids[n - 1 :], return_inverse=True)[1]
        if n in rules.max_top_ngram and (share := _top(grams, n, sizes)) > rules.max_top_ngram[n]:
            return Fault(f"top {n}-gram", f"{share:.1%}")
        if n in rules.max_duplicate_ngrams and (share := _repeated(grams, n, sizes)) > rules.max_duplicate_ngrams[n]:
            return Fault(f"duplicate {n}-grams", f"{share:.1%}")
    return None


def _duplicates(parts: Sequence[str]) -> tuple[float, float]:
    """The share of ``parts`` that equal an earlier one, and of their characters."""
    seen: set[str] = set()
    count = inside = characters = 0
    for part in parts:
        size = len("".join(part.split()))
        characters += size
        if part in seen:
            count += 1
            inside += size
        seen.add(part)
    return count / len(parts), inside / max(1, characters)


def _top(grams: Ints, n: int, sizes: Ints) -> float:
    """Of the runs that recur most often, the largest share of characters that one of them covers; 0 if none recurs."""
    counts = np.bincount(grams)
    most = counts.max()
    if most < 2:
        return 0.0
    often = np.flatnonzero(counts == most)
    if len(often) > 1:  # of the same count: the one of most characters
        ends = np.concatenate([[0], np.cumsum(sizes)])
        lengths = np.zeros(len(counts), dtype=np.int64)
        lengths[grams] = ends[n:] - ends[:-n]
        often = often[[int(lengths[often].argmax())]]
    return _covered(grams == often[0], n, sizes)


def _repeated(grams: Ints, n: int, sizes: Ints) -> float:
    first = np.unique(grams, return_index=True)[1]
    again = np.ones(len(grams), dtype=bool)
    again[first] = False
    return _covered(again, n, sizes) if again.any() else 0.0


def _covered(starts: Ints, n: int, sizes: Ints) -> float:
    """The share of characters in words that a run of ``n`` words from one of ``starts`` has."""
    steps = np.zeros(len(sizes) + 1, dtype=np.int64)
    steps[: len(starts)] += starts
    steps[n : n + len(starts)] -= starts
    return float(sizes[np.cumsum(steps)[:-1] > 0].sum() / sizes.sum())
