"""A source of documents: its plan, and the documents of any part of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from folio.checksums import THREADS, sha256_of
from folio.corpus.document import Document
from folio.corpus.sources.config import SourceConfig
from folio.corpus.sources.listing import LOOKS_AT_ONCE, dataset_of, find, name_of
from folio.corpus.sources.parts import Footers, PartCounts, Reading, divided, documents_in, read_footer
from folio.corpus.sources.places import LocalPlace, Place
from folio.corpus.sources.plan import Part, Plan, SourceFile
from folio.corpus.sources.retrying import Patience, Tell, silently
from folio.errors import DataError

READ_SETTINGS = ("text_field", "id_field", "nfc", "damaged")
"""What of the settings decides the documents, besides the files."""


class Source:
    """Made by :func:`open_source`. It can be sent to other processes, which then read parts of the same plan."""

    def __init__(
        self, config: SourceConfig, plan: Plan, places: dict[str, Place], origin: str, patience: Patience
    ) -> None:
        self.config = config
        self.plan = plan
        self.origin = origin
        """Where it is from, in words."""
        self._places = places
        self._patience = patience
        self._files = {file.name: file for file in plan.files}
        self._footers = Footers()

    @property
    def name(self) -> str:
        """What it may be called, wherever it lies."""
        return name_of(self.config)

    @property
    def dataset(self) -> str:
        """The full name of the hub dataset that it is, empty for anything else."""
        return dataset_of(self.config.path)

    @property
    def fingerprint(self) -> str:
        """See :attr:`Plan.fingerprint`."""
        return self.plan.fingerprint

    def parts(self) -> Iterator[Part]:
        """All parts, in order."""
        return self.plan.parts()

    def documents(self, part: Part, counts: PartCounts | None = None, tell: Tell = silently) -> Iterator[Document]:
        """The documents of one part, in order, lines ended by LF, the empty ones left out; read as they are asked for.

        ``counts`` is filled on the way; ``tell`` hears of attempts over the network that failed, and of damage that is
        passed over. Raises :class:`DataError` for damage, :class:`folio.corpus.sources.SourceChanged` if the file is
        not the one that was planned, :class:`folio.errors.Unreachable` when the network has failed too often.
        """
        file = self._files[part.file]
        reading = Reading(file, self._places[part.file], self.config, self._patience, tell)
        return documents_in(part, reading, counts if counts is not None else PartCounts(), self._footers)

    def describe(self) -> dict[str, Any]:
        """Where it is from, and how much it is; rows are None where only reading tells."""
        return {
            "from": self.origin,
            "files": len(self.plan.files),
            "parts": len(self.plan),
            "rows": self.plan.rows,
            "bytes": self.plan.bytes,
            "fingerprint": self.fingerprint,
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_footers": Footers()}


def open_source(
    config: SourceConfig | str,
    *,
    known: Plan | None = None,
    patience: Patience | None = None,
    tell: Tell = silently,
) -> Source:
    """Find the files of a source, look at each, and divide it into parts; no text is read.

    ``known`` is an earlier plan of the same source: a local file whose size and time of change are those that it knows
    is not summed again. ``tell`` hears of attempts over the network that failed. :class:`DataError` if nothing is
    there, a file is damaged, or has no such column of text; :class:`folio.errors.Unreachable` within two seconds if an
    address gives no sign of life.
    """
    config = SourceConfig(path=config) if isinstance(config, str) else config
    patience = patience or Patience()
    found = find(config, patience, tell)
    with ThreadPoolExecutor(THREADS) as pool:
        summed = list(pool.map(lambda pair: _summed(pair[0], pair[1], known, config.checksums), found.files))

    def look(pair: tuple[SourceFile, Place]) -> SourceFile:
        file, place = pair
        if file.kind != ".parquet":
            return file
        footer = read_footer(Reading(file, place, config, patience, tell))
        return divided(file, footer, (config.text_field, config.id_field))

    places = {file.name: place for file, place in summed}
    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        files = tuple(pool.map(look, summed))
    plan = Plan(settings={name: getattr(config, name) for name in READ_SETTINGS}, files=files)
    if plan.rows == 0:
        raise DataError(f"{found.origin} has no rows in any of its {len(files):,} files", "Check the path.")
    return Source(config, plan, places, found.origin, patience)


def _summed(file: SourceFile, place: Place, known: Plan | None, checksums: bool) -> tuple[SourceFile, Place]:
    """``file`` with the sha256 of its content as its mark, if it lies here and nobody else gave a better one."""
    if not isinstance(place, LocalPlace) or not checksums or not file.mark.startswith("modified:"):
        return file, place
    before = {each.name: each for each in known.files}.get(file.name) if known else None
    same = before is not None and (before.bytes, before.modified_ns) == (file.bytes, file.modified_ns)
    if same and before is not None and before.mark.startswith("sha256:"):
        return file.model_copy(update={"mark": before.mark}), place
    try:
        return file.model_copy(update={"mark": f"sha256:{sha256_of(place.path)}"}), place
    except OSError as error:
        raise DataError(f"'{place.path}' cannot be read: {error.strerror}", "Check the file.") from None
