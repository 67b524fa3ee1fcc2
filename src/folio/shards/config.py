"""What the user may choose about shards."""

from __future__ import annotations

from pydantic import Field

from folio.config import Table
from folio.shards.format import MOST_TOKENS


class ShardsConfig(Table):
    """How documents become files of token ids."""

    tokens_per_shard: int = Field(default=100_000_000, ge=1, le=MOST_TOKENS)
    """Tokens in each file; the last file of a split holds the rest, and documents run on from file to file."""
    workers: int = Field(default=0, ge=0)
    """Processes that encode; 0 takes every core. The files are the same for any number."""
