"""What of a source becomes shards: which part is held out, and which benchmarks it is to be free of."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from folio.corpus.sources import ByHash, FirstTokens, Sides, Source, SourceConfig, first_file
from folio.corpus.sources.config import SourceOptions
from folio.corpus.sources.datasets import SHUFFLED
from folio.errors import ConfigError


class DividedSourceOptions(SourceOptions):
    """How a source is read and divided."""

    held_out: Literal["auto", "hash", "first-shard", "first-file"] = "auto"
    """Which documents are for validation: some by hash of their text; the first ones, as many as fill a shard; or the
    first file. Auto: the first shard of a dataset that is known to be shuffled (fineweb-edu), else by hash."""
    validation_fraction: float = Field(default=0.01, gt=0, lt=1)
    """Part of the documents that is held out by hash."""
    decontaminate: tuple[str, ...] = ()
    """Benchmarks that no document may hold items of: hellaswag, or files as folio evaluate --tasks takes them."""

    def reading(self, path: str) -> SourceConfig:
        """How to read what lies at ``path``."""
        return SourceConfig(path=path, **{name: getattr(self, name) for name in SourceOptions.model_fields})

    def sides(self, source: Source, tokens_per_shard: int) -> Sides:
        """The rule in force.

        :class:`ConfigError` for a fraction that it has no use for, :class:`folio.errors.DataError` for a first file
        where there is no second.
        """
        rule = self.held_out
        if rule == "auto":
            rule = "first-shard" if source.dataset in SHUFFLED else "hash"
        if rule == "hash":
            return ByHash(self.validation_fraction)
        if self.validation_fraction != type(self).model_fields["validation_fraction"].default:
            raise ConfigError(
                f"source.validation_fraction is for documents held out by hash; here it is the {rule}",
                "Leave it out, or set source.held_out to hash.",
            )
        return FirstTokens(tokens_per_shard) if rule == "first-shard" else first_file(source.plan)
