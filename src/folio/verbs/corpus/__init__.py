"""``folio corpus get NAME`` fetches named data; ``folio corpus explore WHAT`` shows what a text is made of."""

from __future__ import annotations

from folio.verbs.action import Action
from folio.verbs.corpus.explore import ExploreOptions, explore
from folio.verbs.corpus.get import GetOptions, get

__all__ = ["ACTIONS", "ExploreOptions", "GetOptions", "explore", "get"]

ACTIONS = {
    "get": Action(
        GetOptions,
        get,
        "Fetch a named corpus or vocabulary into the cache.",
        examples=("folio corpus get shakespeare", "folio corpus get tinyshakespeare --from-file input.txt"),
    ),
    "explore": Action(
        ExploreOptions,
        explore,
        "What a text or shards are made of: lengths, words, copies, languages, packing, as tables and a page.",
        examples=(
            "folio corpus explore shakespeare --tokenizer gpt2",
            "folio corpus explore 'texts/**/*.jsonl.zst' --text-field body",
            "folio corpus explore fineweb-edu --sample 10000 --tokenizer gpt2",
            "folio corpus explore data/shards --tokenizer data/bpe --against shakespeare",
        ),
    ),
}
