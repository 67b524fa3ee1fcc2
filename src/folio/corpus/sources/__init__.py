"""Large sources as a plan of independent parts: on disk, over HTTP, in a store, or a dataset of the hub."""

from folio.corpus.sources.config import SourceConfig
from folio.corpus.sources.parts import PartCounts
from folio.corpus.sources.plan import Part, Plan, SourceChanged, SourceFile
from folio.corpus.sources.retrying import Patience
from folio.corpus.sources.sides import ByHash, FirstParts, FirstTokens, Sides, first_file
from folio.corpus.sources.source import Source, open_source

__all__ = [
    "ByHash",
    "FirstParts",
    "FirstTokens",
    "Part",
    "PartCounts",
    "Patience",
    "Plan",
    "Sides",
    "Source",
    "SourceChanged",
    "SourceConfig",
    "SourceFile",
    "first_file",
    "open_source",
]
