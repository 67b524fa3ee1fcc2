"""From a file to pairs of answers that a run can learn from: read, split by prompt, encoded, fitted, counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from folio.errors import ConfigError, DataError
from folio.finetuning.config_data import DataConfig, row_length
from folio.finetuning.examples import Encoder
from folio.finetuning.formats import Record
from folio.finetuning.preference.pairs import Pair, encode_pair, fitted_pair
from folio.finetuning.preference.statistics import PairStatistics, SidePairs, side_pairs
from folio.finetuning.splits import SIDES, Side, split_records
from folio.finetuning.templates import ChatTemplate, load_template
from folio.tokenizer import Tokenizer


@dataclass(frozen=True)
class PairSets:
    """The pairs of each side, the template they were rendered with (if any), and what was counted.

    A side that was not asked for is empty. ``records`` are the documents behind them.
    """

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...]
    records: Mapping[Side, tuple[Record, ...]]
    template: ChatTemplate | None
    statistics: PairStatistics


def pair_sets(config: DataConfig, tokenizer: Tokenizer, context: int) -> PairSets:
    """Everything that ``config`` names, for a model that sees ``context`` ids at once.

    :class:`DataError`, with file and line, for what cannot be read or is no preference, and for a side that is asked
    for and of which nothing is left; :class:`ConfigError` for an unknown template.
    """
    if config.learn != "answers":
        raise ConfigError(f"learn is {config.learn}, but of preferences the answers are learned", "Leave learn out.")
    if config.attend_across:
        raise ConfigError("attend_across is set, but answers to be compared never see each other", "Leave it out.")
    if not config.packing:
        raise ConfigError("packing is off, but of preferences each pair is a row of its own", "Leave packing out.")
    splits = split_records(config)
    first = splits.records["train"][0]
    if first.format != "preference":
        raise DataError(
            f"'{config.path}' holds {first.format} records, not preferences", "Give records with chosen and rejected."
        )
    template = _template(config, tokenizer, [record for side in SIDES for record in splits.records[side]])
    encoder = Encoder(tokenizer, template, "answers", config.unknown_characters)
    encoded_sides = {side: [encode_pair(encoder, record) for record in splits.records[side]] for side in SIDES}
    whole = [one.pair for side in encoded_sides.values() for one in side if one.pair is not None]
    longest = max((max(pair.chosen.length, pair.rejected.length) for pair in whole), default=0)
    block_size = row_length(config.block_size, context, longest)
    pairs: dict[Side, tuple[Pair, ...]] = {}
    counted: list[SidePairs] = []
    for side in SIDES:
        records, encoded = splits.records[side], encoded_sides[side]
        fitting = [fitted_pair(one.pair, block_size, config.too_long) for one in encoded if one.pair is not None]
        pairs[side] = tuple(pair for pair in fitting if pair is not None)
        if not records:
            continue
        counts = side_pairs(side, encoded, pairs[side], block_size, splits.duplicates[side])
        if not pairs[side]:
            raise DataError(
                f"no pair is left for {side}: of {counts.documents:,} {counts.empty:,} have an empty answer, "
                f"{counts.equal:,} two equal ones, and {counts.dropped:,} do not fit a context of {block_size:,}",
                f"Look at {records[0].where}; set too_long to truncate, or use a model with a longer context.",
            )
        counted.append(counts)
    statistics = PairStatistics(
        block_size=block_size,
        format=splits.stated,
        template=template.name if template else None,
        duplicates_across=len(splits.across),
        deduplicated=config.deduplicate,
        sides=tuple(counted),
    )
    return PairSets(pairs["train"], pairs["validation"], pairs["test"], splits.records, template, statistics)


def _template(config: DataConfig, tokenizer: Tokenizer, records: Sequence[Record]) -> ChatTemplate | None:
    """The template of records that are turns; None if they are texts."""
    texts = isinstance(records[0].fields["prompt"], str)
    for record in records:
        if isinstance(record.fields["prompt"], str) != texts:
            names = ("texts", "turns") if texts else ("turns", "texts")
            raise DataError(
                f"{record.where} holds {names[1]}, {records[0].where} {names[0]}", "Give all records in one form."
            )
    if not texts:
        return load_template(config.template, tokenizer)
    if config.template is not None:
        raise DataError(
            f"template '{config.template}' is given, but prompts and answers are texts, not turns",
            "Leave template out, or give lists of turns.",
        )
    return None
