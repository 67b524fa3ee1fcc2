"""A large source to shards: its parts encoded apart, by any number of processes or machines, and merged in order."""

from folio.shards.parts.merge import PartsProgress
from folio.shards.parts.refining import Refining
from folio.shards.parts.write import PartsWritten, write_parts

__all__ = ["PartsProgress", "PartsWritten", "Refining", "write_parts"]
