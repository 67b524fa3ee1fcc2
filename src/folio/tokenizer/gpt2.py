"""OpenAI's own GPT-2 vocabulary (Radford et al. 2019): 50,257 ids, end-of-text 50256."""

from __future__ import annotations

import json
from pathlib import Path

from folio.corpus import fetch
from folio.tokenizer.base import END_OF_TEXT, settings_for
from folio.tokenizer.byte_level import ByteLevelTokenizer, byte_level_spec


def gpt2_tokenizer(*, from_file: Path | None = None, cache: Path | None = None) -> ByteLevelTokenizer:
    """The tokenizer of ``encoder.json`` and ``vocab.bpe``, fetched and checked as :func:`folio.corpus.fetch` does."""
    folder = fetch("gpt2", from_file=from_file, cache=cache)
    vocabulary = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    lines = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]  # the first is the file's version
    merges = [(left, right) for left, right in (line.split(" ") for line in lines)]
    return ByteLevelTokenizer(byte_level_spec(vocabulary, merges, (END_OF_TEXT,)), settings_for())
