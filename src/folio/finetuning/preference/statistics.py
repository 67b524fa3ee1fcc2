"""What the pairs are like, counted before training: nothing is left out or cut unseen.

Lengths are in ids, tokens in places: the ids of prompt and answer but the last, for both answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from folio.finetuning.preference.pairs import EncodedPair, Pair, fitted_pair
from folio.finetuning.statistics import CountsBySide


@dataclass(frozen=True)
class SidePairs:
    """Counts of one side of the split."""

    side: str
    documents: int
    """Records of this side, without the duplicates that were left out."""
    pairs: int
    """Of them, those that are learned from (or measured on)."""
    duplicates: int
    """Records equal to an earlier one of this side, white space aside."""
    empty: int
    """Left out: an answer is empty."""
    equal: int
    """Left out: both answers are the same ids."""
    truncated: int
    """An answer, or both, was cut."""
    dropped: int
    """Left out: longer than the context, or no answer, or no difference between the two, within it."""
    median_prompt: float
    """Of all with something to learn, before any is truncated or dropped; so the other lengths."""
    median_chosen: float
    median_rejected: float
    longest: int
    """Ids of prompt and answer."""
    chosen_longer: float
    """The share of pairs whose chosen answer is the longer: what can be learned from them by length alone."""
    tokens: int
    """Of the pairs used, as they fit the context."""
    cut_off_tokens: int
    """What the truncated ones lost."""
    learned_tokens: int
    cut_tokens: int
    """Pairs in which a token of the whole text spans a boundary that is encoded apart."""
    unknown_characters: int
    """Characters that the tokenizer lacks, or that stand in words it lacks; of a prompt, twice."""


@dataclass(frozen=True)
class PairStatistics(CountsBySide):
    """What the pairs of all sides are like, for a context of ``block_size``."""

    sides: tuple[SidePairs, ...]
    counted = "pairs"
    across = "prompts on both sides of the split"

    def quantities(self) -> list[tuple[str, str, str]]:
        return [
            ("documents", "documents", ","),
            ("pairs used", "pairs", ","),
            (f"duplicates, {self.treated}", "duplicates", ","),
            ("empty answer, left out", "empty", ","),
            ("equal answers, left out", "equal", ","),
            (f"longer than {self.block_size:,}, truncated", "truncated", ","),
            (f"longer than {self.block_size:,}, dropped", "dropped", ","),
            ("median length of prompts, before cutting", "median_prompt", ",.0f"),
            ("median length of chosen answers, before cutting", "median_chosen", ",.0f"),
            ("median length of rejected answers, before cutting", "median_rejected", ",.0f"),
            ("longest with its prompt, before cutting", "longest", ","),
            ("the chosen answer is the longer", "chosen_longer", ".1%"),
            ("tokens cut off", "cut_off_tokens", ","),
            ("tokens, after cutting", "tokens", ","),
            ("tokens learned", "learned_tokens", ","),
            ("pairs with a token cut at a boundary", "cut_tokens", ","),
            ("characters unknown to the tokenizer", "unknown_characters", ","),
        ]


def side_pairs(
    side: str, encoded: Sequence[EncodedPair], used: Sequence[Pair], block_size: int, duplicates: int
) -> SidePairs:
    """The counts of ``side``: ``encoded`` as they came, ``used`` as they fit a context of ``block_size``."""
    pairs = [one.pair for one in encoded if one.pair is not None]
    prompts = [len(pair.prompt_ids) for pair in pairs]
    chosen = [len(pair.chosen.ids) - prompt for pair, prompt in zip(pairs, prompts, strict=True)]
    rejected = [len(pair.rejected.ids) - prompt for pair, prompt in zip(pairs, prompts, strict=True)]
    truncated = len(used) - sum(max(pair.chosen.length, pair.rejected.length) <= block_size for pair in pairs)
    before = [pair.length for pair in pairs if truncated and fitted_pair(pair, block_size, "truncate")]
    lengths = [len(answer.ids) for pair in pairs for answer in (pair.chosen, pair.rejected)]
    return SidePairs(
        side=side,
        documents=len(encoded),
        pairs=len(used),
        duplicates=duplicates,
        empty=sum(one.without == "empty" for one in encoded),
        equal=sum(one.without == "equal" for one in encoded),
        truncated=truncated,
        dropped=len(pairs) - len(used),
        median_prompt=float(np.median(prompts or [0])),
        median_chosen=float(np.median(chosen or [0])),
        median_rejected=float(np.median(rejected or [0])),
        longest=max(lengths, default=0),
        chosen_longer=float(np.mean(np.greater(chosen or [0], rejected or [0]))),
        tokens=sum(pair.length for pair in used),
        cut_off_tokens=sum(before) - sum(pair.length for pair in used) if truncated else 0,
        learned_tokens=sum(pair.learned_tokens for pair in used),
        cut_tokens=sum(one.cuts_a_token for one in encoded),
        unknown_characters=sum(one.unknown_characters for one in encoded),
    )
