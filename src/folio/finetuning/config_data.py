"""Which examples to learn from, what is learned of each, and which are held out."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from folio.config import Table
from folio.errors import ConfigError

Format = Literal["text", "completion", "chat", "alpaca", "preference"]
Learn = Literal["answers", "last", "everything"]
TooLong = Literal["truncate", "drop"]
UnknownCharacters = Literal["refuse", "drop"]


class DataConfig(Table):
    """Which examples to learn from, what is learned of each, and which are held out."""

    path: str
    """The examples: a .txt, .jsonl or .parquet file (also .gz, .xz, .zst), a folder, or a glob."""
    validation: str | None = None
    """Examples for validation from a place of their own; validation_fraction is then set aside."""
    test: str | None = None
    """Examples for the test from a place of their own; test_fraction is then set aside."""
    format: Literal["auto", "delimited", "text", "completion", "chat", "alpaca", "preference"] = "auto"
    """Blocks between delimiters in a .txt, or records with text, with prompt and completion, with messages (chat), with
    instruction, input and output (alpaca), or with prompt, chosen and rejected (preference). Auto: as the first record
    is."""
    opening: str | None = Field(default=None, min_length=1)
    """What each block of a .txt begins with, such as <LOC>; none means the mark in angle brackets that the file begins
    with."""
    closing: str | None = Field(default=None, min_length=1)
    """What each block of a .txt ends with; none means </NAME> for an opening <NAME>."""
    template: str | None = None
    """How messages become text: chatml, alpaca, plain, a .jinja file, or a folder with a tokenizer; none means the
    tokenizer's own, and without one alpaca for alpaca records, else plain."""
    learn: Learn = "answers"
    """What is learned: the answers (completions and all assistant turns), the last answer of a conversation alone, or
    everything. Of plain text it is always everything."""
    too_long: TooLong = "truncate"
    """What happens to an example longer than the context: its end is cut off, and with it the end-of-text, or it is
    dropped. Both are counted."""
    unknown_characters: UnknownCharacters = "refuse"
    """What happens to characters that a char tokenizer lacks: the data is refused, or they are left out and counted."""
    deduplicate: bool = True
    """Drop an example that equals an earlier one (white space aside), and from training one that is also held out."""
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Part of the documents held out for validation, by a hash of their content and split_seed."""
    test_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Part of the documents held out for the test, by the same hash."""
    split_seed: int = 0
    """Another seed holds out other documents."""
    block_size: int | None = Field(default=None, ge=2)
    """Places in a row, and so the longest example. Empty: the model's context; of a context beyond 1,024 what the
    longest example needs, but at least 1,024."""
    packing: bool = True
    """Put several whole examples into a row of the context's length, none seeing the others; off: one example a row."""
    attend_across: bool = False
    """Let an example see those before it in its row, as if all were one text: simpler products, other results."""

    @model_validator(mode="after")
    def _fractions_leave_something(self) -> Self:
        held_out = (0 if self.validation else self.validation_fraction) + (0 if self.test else self.test_fraction)
        if held_out >= 1:
            raise ValueError(f"validation_fraction and test_fraction together are {held_out:g}, which leaves nothing")
        return self

    @model_validator(mode="after")
    def _delimiters_belong_together(self) -> Self:
        if self.closing is not None and self.opening is None:
            raise ValueError("closing is given without opening; give both, or opening alone")
        if self.opening is not None and self.opening == self.closing:
            raise ValueError("opening and closing are the same; blocks need two marks that differ")
        if self.opening is not None and self.format not in ("auto", "delimited"):
            raise ValueError(f"opening belongs to format 'delimited', not '{self.format}'")
        return self


LONG_CONTEXT = 1024


def row_length(asked: int | None, context: int, longest: int) -> int:
    """Places in a row for a model of this ``context``, by the rule of ``DataConfig.block_size``.

    ``longest`` is the length of the longest example. :class:`ConfigError` if more is ``asked`` than the context holds.
    """
    if asked is None:
        return min(context, max(LONG_CONTEXT, longest))
    if asked > context:
        raise ConfigError(
            f"data.block_size is {asked:,}, and the model's context holds {context:,}", "Give that or less."
        )
    return asked
