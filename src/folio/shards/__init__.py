"""Token ids on disk, and batches of them: llm.c's file format, written in parallel, mapped or read."""

from folio.shards.batches import Batches, EvaluationWindows, evaluation_windows
from folio.shards.config import ReadingConfig, ShardsConfig
from folio.shards.folder import Shards, open_shards
from folio.shards.stream import TokenStream
from folio.shards.verify import verify_shards
from folio.shards.write import WriteProgress, write_shards

__all__ = [
    "Batches",
    "EvaluationWindows",
    "ReadingConfig",
    "Shards",
    "ShardsConfig",
    "TokenStream",
    "WriteProgress",
    "evaluation_windows",
    "open_shards",
    "verify_shards",
    "write_shards",
]
