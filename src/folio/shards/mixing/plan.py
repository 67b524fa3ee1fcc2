"""How much each source gives to a mixture of shards, from weights and a budget, before a byte is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pydantic import Field, field_validator

from folio.config import Table
from folio.errors import ConfigError
from folio.shards.format import MOST_TOKENS
from folio.shards.token_count import TokenCount


class MixConfig(Table):
    """How shards are mixed."""

    weights: tuple[float, ...] = ()
    """Each source's share of the tokens, in the order of the sources, with commas or spaces between; they need not add
    up to 1. Empty: in proportion to their size."""
    tokens: TokenCount | None = None
    """Training tokens in all, such as 10B or 300M. Empty: all there are; with weights, as many as the
    source that is scarcest for its weight allows without repeating."""
    max_epochs: float | None = Field(default=4.0, gt=0)
    """Refuse to repeat a source more often. Up to about 4 epochs are nearly as good as new text (Muennighoff et al.
    2023); none: no bound."""
    seed: int = Field(default=0, ge=0)
    """Which order the runs of each source come in."""
    run_tokens: TokenCount = 16_384
    """Sources take turns in runs of whole documents of about this many tokens; a longer document is a run."""
    tokens_per_shard: TokenCount = Field(default=100_000_000, ge=1, le=MOST_TOKENS)
    """Tokens in each file; the last file of a split holds the rest, and documents run on from file to file."""

    @field_validator("weights", mode="before")
    @classmethod
    def _parted(cls, given: Any) -> Any:
        listed = [given] if isinstance(given, str) else given
        if not isinstance(listed, list | tuple):
            return given
        return [one for part in listed for one in (part.split(",") if isinstance(part, str) else [part]) if one != ""]

    @field_validator("weights")
    @classmethod
    def _above_zero(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < weight < float("inf") for weight in weights):
            raise ValueError("must be numbers above 0, such as 0.7,0.3")
        return weights


@dataclass(frozen=True, slots=True)
class Share:
    """What a source of ``available`` tokens is to give: at least ``tokens``, up to the end of a document."""

    name: str
    available: int
    weight: float
    tokens: int

    @property
    def epochs(self) -> float:
        return self.tokens / self.available


def plan_mixture(available: Mapping[str, int], config: MixConfig) -> list[Share]:
    """The share of each source, in order; their tokens add up to the budget.

    :class:`ConfigError` for another number of weights than of sources, for a source that would be repeated more than
    ``max_epochs`` times, and for one that would give nothing.
    """
    if config.weights and len(config.weights) != len(available):
        problem = f"{len(config.weights)} weights for {len(available)} sources ({', '.join(available)})"
        raise ConfigError(problem, "Give one weight for each, in their order: --weights 0.7,0.3.")
    sizes = list(available.values())
    given = [Fraction(repr(weight)) for weight in config.weights] or [Fraction(size) for size in sizes]
    weights = [weight / sum(given) for weight in given]
    most = min(int(size / weight) for size, weight in zip(sizes, weights, strict=True))
    total = config.tokens or most
    tokens = [int(weight * total) for weight in weights]
    by_rest = sorted(range(len(tokens)), key=lambda one: tokens[one] - weights[one] * total)
    for one in by_rest[: total - sum(tokens)]:
        tokens[one] += 1
    shares = [
        Share(name, size, float(weight), own)
        for (name, size), weight, own in zip(available.items(), weights, tokens, strict=True)
    ]
    for share, weight in zip(shares, weights, strict=True):
        _refuse(share, weight, config)
    return shares


def _refuse(share: Share, weight: Fraction, config: MixConfig) -> None:
    if not share.tokens:
        raise ConfigError(f"'{share.name}' would give less than a token", "Ask for more tokens, or raise its weight.")
    if config.max_epochs is not None and share.tokens >= config.max_epochs * share.available + 1:
        most = int(Fraction(repr(config.max_epochs)) * share.available / weight)
        raise ConfigError(
            f"'{share.name}' would be repeated for {share.epochs:.2f} epochs to give {share.tokens:,} tokens, and "
            f"--max-epochs is {config.max_epochs:g}",
            f"Ask for at most --tokens {most:,}, lower its weight, or raise --max-epochs.",
        )
