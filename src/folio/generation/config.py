"""How the next token is chosen and when to stop, as one frozen value."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from folio.config import Table


class GenerationConfig(Table):
    """How text is drawn from a model; by default a little cooler than its own distribution."""

    max_new_tokens: int = Field(default=256, ge=1)
    """Stop after this many new tokens."""
    temperature: float = Field(default=0.8, ge=0.0)
    """Divide the logits by this; 0 takes the likeliest token every time."""
    top_k: int | None = Field(default=None, ge=1)
    """Keep only the k likeliest tokens."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    """Keep the likeliest tokens that together reach this probability."""
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    """Keep tokens at least this fraction as likely as the likeliest."""
    repetition_penalty: float = Field(default=1.0, gt=0.0)
    """Above 1, tokens already in the text become less likely."""
    seed: int | None = Field(default=None, ge=0)
    """Row i of a batch draws from seed + i. Empty: a new seed each time, reported with the result."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer where they appear; they are not part of it."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if "" in self.stop:
            raise ValueError("a stop string is empty: every text contains it")
        return self
