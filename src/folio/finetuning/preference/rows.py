"""What a model reads of pairs: both answers of each with their prompts, one after another.

N tokens of all answers with their prompts, R pairs
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from folio.finetuning.examples import Example
from folio.finetuning.preference.pairs import Pair
from folio.model.loss import IGNORE

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PreferenceRows:
    """Answers with their prompts, nothing between them: first the chosen ones of all pairs, then the rejected ones.

    ``ids``, int64 (1, N), are inputs; ``targets``, int64 (1, N), the id that follows each within its answer, IGNORE in
    prompts; ``lengths`` the places of each, 2 R of them. ``answer_tokens``, int64 (2, R), counts the targets of each,
    and ``reference``, float64 (2, R), is the log-probability that the reference gives it: chosen, rejected.
    """

    ids: Int64s
    targets: Int64s
    lengths: tuple[int, ...]
    answer_tokens: Int64s
    reference: NDArray[np.float64]

    @property
    def pairs(self) -> int:
        """R."""
        return len(self.lengths) // 2

    @property
    def tokens(self) -> int:
        """Places of all answers, each with its prompt: N."""
        return sum(self.lengths)


def rows_of(pairs: Sequence[Pair], reference: NDArray[np.float64]) -> PreferenceRows:
    """The rows of ``pairs``; ``reference``, float64 (2, R), are their log-probabilities, chosen and rejected."""
    examples = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    ids, targets = joined(examples)
    tokens = np.array([example.learned_tokens for example in examples], dtype=np.int64)
    return PreferenceRows(ids, targets, tuple(example.length for example in examples), tokens.reshape(2, -1), reference)


def joined(examples: Sequence[Example]) -> tuple[Int64s, Int64s]:
    """Inputs and targets of ``examples`` one after another, int64 (1, N) each."""
    ids = np.concatenate([example.ids[:-1] for example in examples], dtype=np.int64)
    targets = np.concatenate([np.where(e.learned[1:], e.ids[1:], IGNORE) for e in examples], dtype=np.int64)
    return ids[None], targets[None]
