"""What may still be spent: the worst case of a request is reserved before it is sent, and settled by what it used.

Spent and reserved tokens together never go beyond the budget, and so nothing that an endpoint may charge for does:
neither an answer that is longer than expected, nor a request whose end nobody saw.
"""

from __future__ import annotations

from dataclasses import dataclass

from folio.finetuning.synthesis.tables import BudgetTable

MESSAGE_TOKENS, CONVERSATION_TOKENS = 8, 32
"""What a chat template adds to a message and to a conversation, generously; what an endpoint adds beyond is learned."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a prompt and its answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.prompt_tokens - other.prompt_tokens, self.completion_tokens - other.completion_tokens)

    def times(self, count: int) -> Usage:
        return Usage(self.prompt_tokens * count, self.completion_tokens * count)


@dataclass(frozen=True, slots=True)
class Bound:
    """The worst case of one request."""

    usage: Usage
    margin: Usage = Usage()
    """The part of it that endpoints taught by using more than expected."""


def most_prompt_tokens(messages: int, prompt_bytes: int) -> int:
    """No tokenizer of bytes makes more tokens of a text than it has bytes in UTF-8."""
    return prompt_bytes + messages * MESSAGE_TOKENS + CONVERSATION_TOKENS


def counted_usage(text: str, worst: Usage) -> Usage:
    """The own count of an answer whose endpoint reports none: an upper bound, since the budget must hold.

    A token has at least one byte, and one more ends the answer.
    """
    return Usage(worst.prompt_tokens, min(worst.completion_tokens, len(text.encode()) + 1))


class Budget:
    """Spent, reserved, and what is left of the limits.

    An endpoint that used more than the worst case (a long chat template, a limit it does not know) is believed: the
    excess is spent, and added to every reservation from then on.
    """

    def __init__(self, table: BudgetTable) -> None:
        self.table = table
        self.spent = Usage()
        self.reserved = Usage()
        self.excess = Usage()
        """The most by which a request's usage went beyond its worst case."""

    def bound(self, prompt_tokens: int, completion_tokens: int) -> Bound:
        """The worst case of a request, with what earlier ones taught."""
        return Bound(Usage(prompt_tokens, completion_tokens) + self.excess, self.excess)

    def fits(self, bound: Bound) -> bool:
        """Whether ``bound`` can be reserved beside what is spent and reserved already."""
        return self.within(self.spent + self.reserved + bound.usage)

    def possible(self, bound: Bound) -> bool:
        """Whether ``bound`` fits beside what is spent, once nothing is reserved."""
        return self.within(self.spent + bound.usage)

    def within(self, usage: Usage) -> bool:
        """Whether ``usage`` is inside both limits."""
        tokens_fit = self.table.tokens is None or usage.total <= self.table.tokens
        return tokens_fit and (self.table.cost is None or self.cost_of(usage) <= self.table.cost)

    def reserve(self, bound: Bound) -> None:
        assert self.fits(bound)
        self.reserved += bound.usage

    def settle(self, bound: Bound, used: Usage) -> None:
        """Replace a reservation by what was used."""
        self.reserved -= bound.usage
        self.charge(bound, used)

    def charge(self, bound: Bound, used: Usage) -> None:
        """Spend ``used``, which ``bound`` was to hold."""
        self.spent += used
        needed = used - bound.usage + bound.margin
        self.excess = Usage(
            max(self.excess.prompt_tokens, needed.prompt_tokens),
            max(self.excess.completion_tokens, needed.completion_tokens),
        )

    def cost_of(self, usage: Usage) -> float:
        """The price of ``usage``; 0 where the spec has no prices."""
        prompt, completion = self.table.prompt_price or 0.0, self.table.completion_price or 0.0
        return (usage.prompt_tokens * prompt + usage.completion_tokens * completion) / 1e6

    def words(self, usage: Usage) -> str:
        """``usage`` for people: tokens, and the cost where there are prices."""
        tokens = f"{usage.total:,} tokens"
        if self.table.prompt_price is None:
            return tokens
        cost = self.cost_of(usage)
        return f"{tokens}, cost {cost:.2f}" if cost >= 1 else f"{tokens}, cost {cost:.4f}"

    def limit_words(self) -> str:
        """The limits for people."""
        parts = [] if self.table.tokens is None else [f"{self.table.tokens:,} tokens"]
        parts += [] if self.table.cost is None else [f"cost {self.table.cost:g}"]
        return ", ".join(parts) or "none"
