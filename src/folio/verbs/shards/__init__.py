"""``folio shards write|mix|inspect|verify``: text to files of token ids, what is in them, whether they are whole."""

from __future__ import annotations

from folio.verbs.action import Action
from folio.verbs.shards.looking import InspectOptions, VerifyOptions, inspect, verify
from folio.verbs.shards.mix import ACTION as MIX
from folio.verbs.shards.write import WriteOptions, write

__all__ = ["ACTIONS", "InspectOptions", "VerifyOptions", "WriteOptions", "inspect", "verify", "write"]

ACTIONS = {
    "write": Action(
        WriteOptions,
        write,
        "Turn text into files of token ids.",
        examples=(
            "folio shards write shakespeare --tokenizer data/bpe --to data/shards",
            "folio shards write fineweb-edu --tokens 10B",
            "folio shards write 'texts/*.txt' --tokenizer data/bpe --to data/shards --corpus.validation-fraction 0.05",
            "folio shards write 'web/*.parquet' --quality.duplicates near --source.decontaminate hellaswag",
        ),
    ),
    "mix": MIX,
    "inspect": Action(
        InspectOptions,
        inspect,
        "Show what shards hold.",
        examples=("folio shards inspect data/shards --tokenizer data/bpe",),
    ),
    "verify": Action(
        VerifyOptions,
        verify,
        "Read every byte and compare it with the manifest.",
        examples=("folio shards verify data/shards",),
    ),
}
