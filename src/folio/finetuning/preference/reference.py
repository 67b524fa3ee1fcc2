"""The reference: what the model gave each answer before it was trained. Computed once, since it does not change.

P pairs
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from folio.errors import DataError
from folio.finetuning.preference.likelihood import PASS_TOKENS, answer_log_probabilities
from folio.finetuning.preference.pairs import Pair
from folio.model.gpt import GPT
from folio.ranks import ALONE, Ranks


@dataclass(frozen=True, eq=False)
class Reference:
    """The log-probability of each chosen and each rejected answer, ``log_p``, float64 (2, P).

    ``keys``, uint64 (P,), tell of which pairs: see :func:`keys_of`.
    """

    log_p: NDArray[np.float64]
    keys: NDArray[np.uint64]

    def first(self, count: int) -> Reference:
        """That of the first ``count`` pairs."""
        return Reference(self.log_p[:, :count], self.keys[:count])

    def check(self, pairs: Sequence[Pair]) -> None:
        """:class:`DataError` if it belongs to other pairs, or to these in another order."""
        if not np.array_equal(self.keys, keys_of(pairs)):
            raise DataError(
                "the reference belongs to other pairs than those given",
                "Compute it again for these, or give the data and options that the run began with.",
            )


def keys_of(pairs: Sequence[Pair]) -> NDArray[np.uint64]:
    """A number for each pair, uint64 (P,), that depends on the ids of its answers and on which are learned."""
    return np.array([_key(pair) for pair in pairs], dtype=np.uint64)


def _key(pair: Pair) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for example in (pair.chosen, pair.rejected):
        digest.update(example.identity)
    return int.from_bytes(digest.digest(), "little")


def make_reference(
    model: GPT,
    pairs: Sequence[Pair],
    *,
    pass_tokens: int = PASS_TOKENS,
    autocast: AbstractContextManager[object] | None = None,
    ranks: Ranks = ALONE,
    poll: Callable[[], None] = lambda: None,
) -> Reference:
    """The reference of ``pairs``: ``model`` as it is now, adapters included. See :func:`answer_log_probabilities`."""
    log_p = answer_log_probabilities(model, pairs, pass_tokens=pass_tokens, autocast=autocast, ranks=ranks, poll=poll)
    return Reference(log_p, keys_of(pairs))
