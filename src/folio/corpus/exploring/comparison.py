"""Two texts side by side: the words that tell one from the other, the vocabulary they share, and shared documents."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from folio.corpus.exploring.words import folded
from folio.corpus.statistics import Statistics

PRIOR_SHARE = 0.1
"""How much the prior weighs, as a share of the words of the smaller text."""
SHOWN = 30


@dataclass(frozen=True, slots=True)
class Distinction:
    """A word, how often each text has it, the difference of its log-odds, and that by its standard deviation."""

    word: str
    counts: tuple[int, int]
    log_odds: float
    z: float

    def record(self) -> dict[str, Any]:
        return {"word": self.word, "counts": list(self.counts), "log_odds": self.log_odds, "z": self.z}


def distinctions(
    one: Mapping[str, int], other: Mapping[str, int], prior_share: float = PRIOR_SHARE
) -> list[Distinction]:
    """Every word of either text by how much it is the first one's (z above 0) or the other's, highest z first.

    Log-odds with an informative Dirichlet prior (Monroe, Colaresi & Quinn 2008, "Fightin' Words", equations 16, 20 and
    22): a word's prior count is its frequency in both together times the prior's weight, so that rare words do not
    lead by chance.
    |z| above 1.96 would be a difference at 5 % if words fell independently, which they do not.
    """
    totals = [sum(side.values()) for side in (one, other)]
    both = sum(totals)
    if not all(totals):
        return []
    weight = prior_share * min(totals)
    found = []
    for word in one.keys() | other.keys():
        counts = one.get(word, 0), other.get(word, 0)
        prior = weight * sum(counts) / both
        odds = [
            math.log((count + prior) / max(total + weight - count - prior, prior))
            for count, total in zip(counts, totals, strict=True)
        ]
        difference = odds[0] - odds[1]
        deviation = math.sqrt(sum(1 / (count + prior) for count in counts))
        found.append(Distinction(word, counts, difference, difference / deviation))
    return sorted(found, key=lambda each: (-each.z, each.word))


def overlap(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, Any]:
    """Types that both have; the share of each side's types and tokens that the other knows; and how far apart the
    frequencies are, as Jensen-Shannon divergence in bits (Lin 1991): 0 for the same, 1 with no word in common."""
    sides = (one, other)
    shared = one.keys() & other.keys()
    totals = [sum(side.values()) for side in sides]
    known = [sum(side[word] for word in shared) for side in sides]
    return {
        "types": [len(side) for side in sides],
        "shared_types": len(shared),
        "shares_of_types": [len(shared) / len(side) if side else 0.0 for side in sides],
        "shares_of_tokens": [part / total if total else 0.0 for part, total in zip(known, totals, strict=True)],
        "divergence_bits": _divergence(one, other, totals) if all(totals) else None,
    }


def compared_words(one: Statistics, other: Statistics) -> dict[str, Any]:
    """The words most one text's own and most the other's, and the overlap of the vocabularies (all as words)."""
    words = _both_folded(one, other)
    found = distinctions(*words)
    first = [each.record() for each in found[:SHOWN] if each.z > 0]
    second = [each.record() for each in reversed(found[-SHOWN:]) if each.z < 0]
    totals = [side.total() for side in words]
    return {"prior_share": PRIOR_SHARE, "words": totals, "distinctive": [first, second], "overlap": overlap(*words)}


def _both_folded(one: Statistics, other: Statistics) -> tuple[Counter[str], Counter[str]]:
    """The words of both, each written in the same way in both."""
    together: Counter[str] = Counter(one.types)
    together.update(other.types)
    spelling = {word.casefold(): word for word in folded(together)}
    first, second = (
        Counter({spelling[word.casefold()]: times for word, times in folded(side.types).items()})
        for side in (one, other)
    )
    return first, second


def _divergence(one: Mapping[str, int], other: Mapping[str, int], totals: list[int]) -> float:
    bits = 0.0
    for word in one.keys() | other.keys():
        shares = [side.get(word, 0) / total for side, total in zip((one, other), totals, strict=True)]
        middle = sum(shares) / 2
        bits += sum(share * math.log2(share / middle) for share in shares if share) / 2
    return min(1.0, max(0.0, bits))
