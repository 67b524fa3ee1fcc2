"""What the user may choose about shards."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from folio.config import Table
from folio.shards.format import MOST_TOKENS
from folio.shards.token_count import TokenCount


class ShardsConfig(Table):
    """How documents become files of token ids."""

    tokens_per_shard: TokenCount = Field(default=100_000_000, ge=1, le=MOST_TOKENS)
    """Tokens in each file; the last file of a split holds the rest, and documents run on from file to file."""
    workers: int = Field(default=0, ge=0)
    """Processes that encode; 0 takes every core. The files are the same for any number."""


class ReadingConfig(Table):
    """How a training run reads its shards."""

    order: Literal["shuffled", "local"] = "shuffled"
    """Order of an epoch: all windows shuffled; or local, those of a few places at a time, so that the page cache serves
    them where shards are larger than memory. A run keeps it for life."""
    order_bytes: int = Field(default=2**30, ge=1)
    """local: about how many bytes of ids are shuffled together, drawn in 16 pieces from all over the text."""
    access: Literal["auto", "map", "read"] = "auto"
    """By memory map, or by reads of what is needed, in which a mount that fails does not end the process. auto: read on
    network file systems (Linux) and where the shards are larger than memory, else map. The batches are the same."""
    prefetch: int = Field(default=1, ge=0)
    """Steps whose batches are read ahead of need, by a thread beside training; 0 reads each when it is needed."""
    patience_s: float = Field(default=1800.0, gt=0)
    """Seconds to wait for data that do not come, such as on a mount that has stalled, before saving and ending."""
