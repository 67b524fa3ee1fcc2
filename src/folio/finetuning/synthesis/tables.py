"""The tables of a spec, with what each key means and may be."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from folio.config import Table
from folio.corpus.ngrams import words_of


class PromptTable(Table):
    """What the endpoint is asked."""

    template: str = Field(min_length=1)
    """The user's message; {name} stands for a value of that attribute, {{ and }} for braces."""
    system: str = ""
    """The system's message, a template too; empty: none is sent."""


class RequestTable(Table):
    """How each answer is drawn."""

    model: str = ""
    """The endpoint's name of the model. Empty: what OPENAI_MODEL says."""
    temperature: float = Field(default=1.0, ge=0, le=2)
    """Above 1 more varied, 0 nearly always the same."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Draw among the likeliest tokens that hold this share of the probability; empty: the endpoint's own default."""
    max_tokens: int = Field(default=512, ge=1)
    """The most tokens an answer may have; the budget counts on it."""
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """How the endpoint calls that limit: OpenAI's newer models take max_completion_tokens, most others max_tokens."""
    stream: bool = False
    """Let answers come in pieces: an endpoint behind an impatient gateway then does not seem silent."""


class AmountTable(Table):
    """How many examples, and which combinations of attributes."""

    count: int = Field(ge=1)
    """Examples that pass the filters."""
    repeats: int = Field(default=1, ge=1)
    """How often each combination may be asked for; with 1, count is at most the number of combinations."""
    seed: int = Field(default=0, ge=0)
    """Where the order of the combinations starts."""


class LimitsTable(Table):
    """How fast to ask, and what to do when the endpoint fails."""

    concurrency: int = Field(default=4, ge=1, le=512)
    """Requests on their way at once."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Requests are spaced evenly to at most this rate, retries included; empty: no limit."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """The same for prompt and answer tokens together."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Seconds for a whole answer."""
    retries: int = Field(default=6, ge=0)
    """How often a request that failed is sent again."""
    backoff_s: float = Field(default=1.0, ge=0)
    """Seconds before the first retry, doubled for each further one and drawn between half and all of it; Retry-After
    counts where it is longer."""
    longest_wait_s: float = Field(default=120.0, ge=0)
    """The longest wait before a retry; an endpoint that asks for a longer one ends the sitting."""


class BudgetTable(Table):
    """What may be spent in all, over every sitting of one folder."""

    tokens: int | None = Field(default=None, ge=1)
    """Prompt and answer tokens together; empty: no limit."""
    cost: float | None = Field(default=None, gt=0)
    """Money, in the currency of the prices; needs both prices. Empty: no limit."""
    prompt_price: float | None = Field(default=None, ge=0)
    """What a million prompt tokens cost."""
    completion_price: float | None = Field(default=None, ge=0)
    """What a million answer tokens cost."""

    @model_validator(mode="after")
    def _prices_come_in_pairs(self) -> Self:
        if (self.prompt_price is None) != (self.completion_price is None):
            raise ValueError("prompt_price and completion_price go together")
        if self.cost is not None and self.prompt_price is None:
            raise ValueError("cost needs prompt_price and completion_price")
        return self


class FiltersTable(Table):
    """Which answers are set aside; another combination is then asked for in their stead."""

    min_words: int = Field(default=1, ge=1)
    """The fewest words."""
    max_words: int | None = Field(default=None, ge=1)
    """The most words."""
    forbidden: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Words or phrases, whole and in any case, that no example may hold."""
    near_duplicate: float | None = Field(default=0.5, gt=0, le=1)
    """The Jaccard similarity of word shingles from which two texts are one; empty: only equal texts are."""
    shingle_words: int = Field(default=3, ge=1)
    """Words of a shingle."""
    keep_cut: bool = False
    """Keep answers that max_tokens cut short."""

    @field_validator("forbidden")
    @classmethod
    def _forbidden_words_have_letters(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            if not words_of(word):
                raise ValueError(f"{word!r} has neither letters nor digits")
        return words

    @model_validator(mode="after")
    def _some_length_passes(self) -> Self:
        if self.max_words is not None and self.max_words < self.min_words:
            raise ValueError(f"max_words = {self.max_words} is below min_words = {self.min_words}")
        return self


class OutputTable(Table):
    """Marks around each example in a text file beside the jsonl; without them there is no such file."""

    begin: str = ""
    """The line before each example, such as <LOC>."""
    end: str = ""
    """The line after each example, such as </LOC>."""

    @model_validator(mode="after")
    def _marks_come_in_pairs(self) -> Self:
        if bool(self.begin) != bool(self.end):
            raise ValueError("begin and end go together")
        if any(mark != mark.strip() or "\n" in mark for mark in (self.begin, self.end)):
            raise ValueError("begin and end are single lines without outer white space")
        return self


class Settings(Table):
    """All of a spec but the prompt: what flags may change."""

    request: RequestTable = RequestTable()
    amount: AmountTable
    limits: LimitsTable = LimitsTable()
    budget: BudgetTable = BudgetTable()
    filters: FiltersTable = FiltersTable()
    output: OutputTable = OutputTable()
