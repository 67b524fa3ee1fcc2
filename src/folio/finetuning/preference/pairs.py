"""Two answers to one prompt, as ids.

N ids of an answer with its prompt
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from folio.errors import DataError
from folio.finetuning.config_data import TooLong
from folio.finetuning.examples import Encoder, Example, fitted
from folio.finetuning.formats import Record


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two answers to one prompt, each an :class:`Example` of prompt and answer of which the answer is learned."""

    id: str
    chosen: Example
    rejected: Example

    @property
    def prompt_ids(self) -> NDArray[np.int32]:
        """What both answers follow."""
        return _prompt_ids(self.chosen)

    @property
    def length(self) -> int:
        """The places that both take, each with its prompt."""
        return self.chosen.length + self.rejected.length

    @property
    def learned_tokens(self) -> int:
        """Targets of both."""
        return self.chosen.learned_tokens + self.rejected.learned_tokens


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A pair before it is fitted to a context, or None and why, and what its encoding met."""

    pair: Pair | None
    without: Literal["empty", "equal"] | None
    cuts_a_token: bool
    unknown_characters: int


def encode_pair(encoder: Encoder, record: Record) -> EncodedPair:
    """The pair of a preference ``record``, None with the reason if an answer is empty or both are equal.

    :class:`DataError`, with file and line, as :meth:`Encoder.encode` raises it.
    """
    chosen, rejected = (encoder.encode(_completed(record, name)) for name in ("chosen", "rejected"))
    cuts = chosen.cuts_a_token or rejected.cuts_a_token
    unknown = chosen.unknown_characters + rejected.unknown_characters
    if chosen.example is None or rejected.example is None:
        return EncodedPair(None, "empty", cuts, unknown)
    if np.array_equal(chosen.example.ids, rejected.example.ids):
        return EncodedPair(None, "equal", cuts, unknown)
    pair = Pair(record.id, chosen.example, rejected.example)
    if not np.array_equal(pair.prompt_ids, _prompt_ids(pair.rejected)):
        raise DataError(
            f"{record.where}: the template writes the prompt otherwise before another answer", "Use another template."
        )
    return EncodedPair(pair, None, cuts, unknown)


def _completed(record: Record, name: str) -> Record:
    """The prompt of a preference with one of its answers, as a record to imitate."""
    prompt, answer = record.fields["prompt"], record.fields[name]
    if isinstance(prompt, str):
        return Record(record.id, record.where, "completion", {"prompt": prompt, "completion": answer})
    return Record(record.id, record.where, "chat", {"messages": (*prompt, *answer), "after": len(prompt)})


def _prompt_ids(example: Example) -> NDArray[np.int32]:
    return example.ids[: int(example.learned.argmax())]


def fitted_pair(pair: Pair, block_size: int, too_long: TooLong) -> Pair | None:
    """``pair`` with each answer in at most ``block_size`` places, prompt included, or None if it is dropped.

    Each answer as :func:`folio.finetuning.examples.fitted` has it; dropped as well are two of which the same is left.
    """
    chosen, rejected = (fitted(example, block_size, too_long) for example in (pair.chosen, pair.rejected))
    if chosen is None or rejected is None or np.array_equal(chosen.ids, rejected.ids):
        return None
    return Pair(pair.id, chosen, rejected)
