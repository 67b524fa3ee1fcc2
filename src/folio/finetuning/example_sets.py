"""From a file to examples that a run can learn from: read, split, encoded, fitted to the context, counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from folio.errors import DataError
from folio.finetuning.config_data import DataConfig, row_length
from folio.finetuning.examples import Encoder, Example, fitted
from folio.finetuning.formats import Record
from folio.finetuning.splits import SIDES, Side, split_records
from folio.finetuning.statistics import DataStatistics, split_statistics
from folio.finetuning.templates import ChatTemplate, load_template
from folio.tokenizer import Tokenizer


@dataclass(frozen=True)
class ExampleSets:
    """The examples of each side, the template they were rendered with (if any), and what was counted.

    A side that was not asked for is empty. ``records`` are the documents behind them, for prompts and for a look.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    records: Mapping[Side, tuple[Record, ...]]
    template: ChatTemplate | None
    statistics: DataStatistics


def example_sets(config: DataConfig, tokenizer: Tokenizer, context: int) -> ExampleSets:
    """Everything that ``config`` names, for a model that sees ``context`` ids at once.

    :class:`DataError`, with file and line, for what cannot be read, and for a side that is asked for and of which
    nothing is left; :class:`ConfigError` for an unknown template.
    """
    splits = split_records(config)
    kind = splits.records["train"][0].format
    template = None
    if kind == "preference":
        raise DataError(
            f"'{config.path}' holds preferences, of which neither answer is to be learned as it is",
            "Tune by preference, or name the format that is meant.",
        )
    if kind in ("chat", "alpaca"):
        template = load_template(config.template, tokenizer, otherwise="alpaca" if kind == "alpaca" else "plain")
    elif config.template is not None:
        raise DataError(
            f"template '{config.template}' is given, but {kind} records are not conversations", "Leave template out."
        )
    encoder = Encoder(tokenizer, template, config.learn, config.unknown_characters)
    encoded_sides = {side: [encoder.encode(record) for record in splits.records[side]] for side in SIDES}
    lengths = [one.example.length for side in encoded_sides.values() for one in side if one.example is not None]
    block_size = row_length(config.block_size, context, max(lengths, default=0))
    examples: dict[Side, tuple[Example, ...]] = {}
    counted = []
    for side in SIDES:
        records, encoded = splits.records[side], encoded_sides[side]
        whole = [one.example for one in encoded if one.example is not None]
        fitting = [fitted(example, block_size, config.too_long) for example in whole]
        examples[side] = tuple(example for example in fitting if example is not None)
        if records and not examples[side]:
            raise DataError(
                f"nothing is left to learn for {side}: of {len(records):,} documents {len(records) - len(whole):,} "
                f"have no answer and {len(whole):,} do not fit a context of {block_size:,}",
                f"Look at {records[0].where}; set too_long to truncate, or use a model with a longer context.",
            )
        if records:
            duplicates = splits.duplicates[side]
            counted.append(split_statistics(side, encoded, examples[side], block_size, duplicates))
    statistics = DataStatistics(
        block_size=block_size,
        format=splits.stated,
        template=template.name if template else None,
        duplicates_across=len(splits.across),
        deduplicated=config.deduplicate,
        sides=tuple(counted),
    )
    return ExampleSets(
        examples["train"], examples["validation"], examples["test"], splits.records, template, statistics
    )
