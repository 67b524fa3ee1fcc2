"""From a record to ids, and which of them are learned.

The pieces of a record (prompt | completion; what the assistant did not write | what it wrote) are encoded apart and
joined as ids. So the ids before an answer are those that generation starts from, and what is learned is known in ids,
never counted in characters. The price is paid where a token of the whole text would span a boundary (a prompt that ends
in a space); such examples are counted.

N ids of an example
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from folio.errors import DataError
from folio.finetuning.config_data import Learn, TooLong, UnknownCharacters
from folio.finetuning.formats import Record
from folio.finetuning.templates import ChatTemplate
from folio.finetuning.turns import Segment, refuse_special_tokens, turns
from folio.tokenizer import Tokenizer
from folio.tokenizer.characters import CharTokenizer
from folio.tokenizer.words import WordTokenizer, words_of

ALPACA_INPUT = "\n\n### Input:\n"
"""What stands between an instruction and its input under the template ``alpaca``; a blank line under others."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One document as ids, int32 (N,); ``learned[i]``, bool (N,), says that id i is a target.

    The first id is never learned: nothing stands before it. The last is no input: nothing is asked after it.
    """

    id: str
    ids: NDArray[np.int32]
    learned: NDArray[np.bool_]

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.learned) >= 2
        assert not self.learned[0]

    @property
    def identity(self) -> bytes:
        """Its ids and which of them are learned, on any machine the same: to be hashed."""
        return len(self.ids).to_bytes(8, "little") + self.ids.astype("<i4").tobytes() + self.learned.tobytes()

    @property
    def length(self) -> int:
        """The places it takes in a row: its ids but the last."""
        return len(self.ids) - 1

    @property
    def learned_tokens(self) -> int:
        """How many of its ids are targets."""
        return int(self.learned.sum())


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example before it is fitted to a context, None if it has nothing to learn, and what its encoding met."""

    example: Example | None
    cuts_a_token: bool
    unknown_characters: int


@dataclass(frozen=True)
class Encoder:
    """Makes an :class:`Example` of a record. ``template`` is needed for conversations and Alpaca records."""

    tokenizer: Tokenizer
    template: ChatTemplate | None = None
    learn: Learn = "answers"
    unknown_characters: UnknownCharacters = "refuse"

    def __post_init__(self) -> None:
        if self.tokenizer.eot_id is None:
            raise DataError(
                f"this {self.tokenizer.kind} tokenizer has no end-of-text, so no example could end",
                "Use one whose tokenizer_config.json names an eos_token.",
            )

    def encode(self, record: Record) -> Encoded:
        """The ids of ``record``, an end-of-text after them, learned.

        Text begins with an end-of-text, not learned, as documents do in shards; so does what has an empty prompt. Of a
        conversation what follows the last answer is left out, and no second end-of-text is put where one ends it.
        :class:`DataError`, with file and line, for characters the tokenizer lacks (unless they are to be dropped), a
        template that cannot be used, and a turn in which a special token is written.
        """
        try:
            segments = self.segments(record)
            return self._encoded(record, segments)
        except DataError as error:
            raise DataError(f"{record.where}: {error.problem}", error.remedy) from None

    def segments(self, record: Record) -> list[Segment]:
        """The pieces of ``record`` that are encoded apart, in order; none if there is nothing to learn."""
        fields = record.fields
        everything = self.learn == "everything"
        if record.format == "text":
            return [Segment(fields["text"], True)] if fields["text"].strip() else []
        if record.format == "completion":
            pieces = [Segment(fields["prompt"], everything), Segment(fields["completion"], True)]
            return [piece for piece in pieces if piece.text] if fields["completion"].strip() else []
        messages = fields["messages"] if record.format == "chat" else self._as_messages(record)
        refuse_special_tokens(messages, self.tokenizer)
        assert self.template is not None
        after = fields.get("after", 0)  # turns of a conversation that are the prompt of a preference
        pieces = turns(self.template, messages, self.learn, after)
        answered = everything or any(
            message["role"] == "assistant" and message["content"].strip() for message in messages[after:]
        )
        while pieces and not pieces[-1].learned:
            pieces.pop()
        return pieces if answered else []

    def _as_messages(self, record: Record) -> list[dict[str, str]]:
        fields = record.fields
        assert self.template is not None
        between = ALPACA_INPUT if self.template.name == "alpaca" else "\n\n"
        asked = fields["instruction"] + (between + fields["input"] if fields["input"].strip() else "")
        return [{"role": "user", "content": asked}, {"role": "assistant", "content": fields["output"]}]

    def _encoded(self, record: Record, segments: Sequence[Segment]) -> Encoded:
        special = record.format in ("chat", "alpaca")
        unknown = sum(self._unknown(segment.text, special) for segment in segments)
        if self.unknown_characters == "drop":
            segments = [Segment(self._known(segment.text, special), segment.learned) for segment in segments]
        try:
            parts = [self.tokenizer.encode(segment.text, allowed_special=special) for segment in segments]
        except DataError as error:  # characters that a char tokenizer lacks
            raise DataError(error.problem, f"Set unknown_characters to drop. Or: {error.remedy}") from None
        ids = [id for part in parts for id in part]
        learned = [segment.learned for segment, part in zip(segments, parts, strict=True) for _ in part]
        whole = "".join(segment.text for segment in segments)
        cut = len(segments) > 1 and ids != self.tokenizer.encode(whole, allowed_special=special)
        if not any(learned):
            return Encoded(None, cut, unknown)
        eot = self.tokenizer.eot_id
        assert eot is not None
        if not (special and ids[-1] == eot):
            ids, learned = [*ids, eot], [*learned, True]
        if learned[0] and not special:
            ids, learned = [eot, *ids], [False, *learned]
        learned[0] = False  # nothing stands before it
        return Encoded(Example(record.id, np.array(ids, dtype=np.int32), np.array(learned)), cut, unknown)

    def _unknown(self, text: str, special: bool) -> int:
        """Characters of ``text`` for which the tokenizer has no id, or whose word has none."""
        if isinstance(self.tokenizer, CharTokenizer):
            return sum(not self.tokenizer.has(char) for part in self._plain(text, special) for char in part)
        if isinstance(self.tokenizer, WordTokenizer):
            words = (word for part in self._plain(text, special) for word in words_of(part))
            return sum(len(word) for word in words if not self.tokenizer.has(word))
        return 0

    def _known(self, text: str, special: bool) -> str:
        if not isinstance(self.tokenizer, CharTokenizer):
            return text
        kept = self.tokenizer.special_ids.keys() if special else ()
        parts = re.split(f"({'|'.join(map(re.escape, kept))})", text) if kept else [text]
        return "".join(part if part in kept else "".join(filter(self.tokenizer.has, part)) for part in parts)

    def _plain(self, text: str, special: bool) -> list[str]:
        """``text`` without the special tokens that are read as such."""
        tokens = self.tokenizer.special_ids
        return re.split("|".join(map(re.escape, tokens)), text) if special and tokens else [text]


def fitted(example: Example, block_size: int, too_long: TooLong) -> Example | None:
    """``example`` in at most ``block_size`` places, or None if it is dropped.

    ``truncate`` keeps the beginning. The end-of-text goes with the end: a text that was cut off does not teach where to
    stop. An example of which nothing learned is left (a prompt as long as the context) is dropped as well.
    """
    if block_size < 1:
        raise DataError(f"the context holds {block_size} tokens", "Give at least 1.")
    if example.length <= block_size:
        return example
    ids, learned = example.ids[: block_size + 1], example.learned[: block_size + 1]
    return Example(example.id, ids, learned) if too_long == "truncate" and learned.any() else None
