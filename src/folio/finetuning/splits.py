"""Which documents train, and which are held out: by a hash of their content, or by the file they came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from folio.errors import DataError
from folio.finetuning.config_data import DataConfig
from folio.finetuning.formats import Record, Records, read_examples

Side = Literal["train", "validation", "test"]
SIDES: tuple[Side, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Splits:
    """The records of each side, and the duplicates that were met (and, unless it was not wanted, left out).

    A document is on one side only; of preferences, a prompt. ``duplicates`` counts, by side, records whose content,
    white space aside, equals an earlier one's of that side; ``across`` lists (id, id) of equal documents on two sides,
    the training side's first where one of them is in training.
    """

    records: Mapping[Side, tuple[Record, ...]]
    duplicates: Mapping[Side, int]
    across: tuple[tuple[str, str], ...]
    stated: str
    """How the format was found."""


def split_records(config: DataConfig) -> Splits:
    """Read what ``config`` names, and split it.

    Equal contents fall on the same side of the hash, so duplicates across sides come from files given apart. With
    ``deduplicate`` the later of two on one side is left out, and of two across sides the one that is in training (or
    in validation, where the other is in the test). :class:`DataError` for a side that is asked for and empty, and for
    files of different formats.
    """
    main = read_examples(config.path, config)
    sides: dict[Side, list[Record]] = {side: [] for side in SIDES}
    test_below = 0.0 if config.test else config.test_fraction
    validation_below = test_below + (0.0 if config.validation else config.validation_fraction)
    for record in main.records:
        place = place_of(record, config.split_seed)
        side: Side = "test" if place < test_below else "validation" if place < validation_below else "train"
        sides[side].append(record)
    for side, given in (("validation", config.validation), ("test", config.test)):
        if given is not None:
            apart = read_examples(given, config)
            _refuse_other_format(main, apart, config.path, given)
            sides[side] = list(apart.records)
    _refuse_empty(sides, config, len(main.records))
    return _without_duplicates(sides, config, main.stated)


def place_of(record: Record, seed: int) -> float:
    """Where in [0, 1) the record's content falls: sha256 of ``seed`` and content, white space aside.

    Neither its id nor the order of reading matters, so a document stays on its side when others are added.
    """
    digest = hashlib.sha256(f"{seed}:".encode() + document_key(record)).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53


def content_key(record: Record) -> bytes:
    """What tells a record's content from another's: sha256 of its fields, runs of white space as one space."""
    return _key(record.fields)


def document_key(record: Record) -> bytes:
    """What may stand on one side only: the content; of a preference the prompt alone, if it is not empty."""
    prompt = record.fields["prompt"] if record.format == "preference" else None
    return _key({"prompt": prompt}) if prompt else content_key(record)


def _key(fields: Mapping[str, Any]) -> bytes:
    content = json.dumps(_spaced_alike(dict(fields)), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8")).digest()


def _spaced_alike(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, Mapping):
        return {key: _spaced_alike(item) for key, item in value.items()}
    return [_spaced_alike(item) for item in value]


def _without_duplicates(sides: Mapping[Side, Sequence[Record]], config: DataConfig, stated: str) -> Splits:
    """Sides are walked from the test to training, so that what is held out stays held out."""
    seen: set[bytes] = set()
    owners: dict[bytes, tuple[Side, str]] = {}
    kept: dict[Side, list[Record]] = {side: [] for side in SIDES}
    within: dict[Side, int] = dict.fromkeys(SIDES, 0)
    across = []
    for side in reversed(SIDES):
        for record in sides[side]:
            key = content_key(record)
            new = key not in seen
            seen.add(key)
            owner, its_id = owners.setdefault(document_key(record), (side, record.id))
            if owner != side:
                across.append((record.id, its_id))
            elif not new:
                within[side] += 1
            if (new and owner == side) or not config.deduplicate:
                kept[side].append(record)
    if not kept["train"]:
        raise DataError(
            f"every training example of '{config.path}' is also held out, so none is left",
            "Give other examples for validation or test.",
        )
    return Splits({side: tuple(kept[side]) for side in SIDES}, within, tuple(across), stated)


def _refuse_other_format(main: Records, apart: Records, path: str, given: str) -> None:
    if apart.format != main.format:
        raise DataError(
            f"'{given}' holds {apart.format} records, '{path}' {main.format} records",
            "Give both in one format.",
        )


def _refuse_empty(sides: Mapping[Side, Sequence[Record]], config: DataConfig, documents: int) -> None:
    wanted: dict[Side, bool] = {
        "train": True,
        "validation": config.validation is not None or config.validation_fraction > 0,
        "test": config.test is not None or config.test_fraction > 0,
    }
    for side in SIDES:
        if wanted[side] and not sides[side]:
            raise DataError(
                f"no document falls to {side}: '{config.path}' holds {documents:,} document{'s' * (documents != 1)}, "
                f"of which {config.validation_fraction:g} go to validation and {config.test_fraction:g} to test",
                "Give more documents (for blocks of text: their delimiters), other fractions, another split_seed, or a "
                "file of its own.",
            )
