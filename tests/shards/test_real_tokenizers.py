"""Every kind of tokenizer goes to other processes and has its long documents cut without a change of ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from folio.corpus import Document
from folio.shards import ShardsConfig, chunks, pool, write_shards
from folio.tokenizer import TokenizerConfig, train_tokenizer


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_ids_are_those_of_each_whole_document(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_data: Callable[[str], Path]
) -> None:
    monkeypatch.setattr(pool, "CHUNKS_BEFORE_PROCESSES", 1)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 50_000)
    monkeypatch.setattr(chunks, "PIECE_CHARACTERS", 20_000)
    texts = [shared_data(name).read_text()[:300_000] for name in ("bts_wikipedia.txt", "tinyshakespeare.txt")]
    config = TokenizerConfig(kind=kind, vocab_size=500 if kind == "bpe" else None)  # type: ignore[arg-type]
    tokenizer = train_tokenizer(texts, config)
    documents = [Document(str(n), text, "here") for n, text in enumerate(texts)]
    encoded = chunks.chunks_of(documents, tokenizer)
    assert sum(len(chunk.pieces) for chunk in encoded) > 10
    shards = write_shards({"train": lambda: documents}, tokenizer, tmp_path / "s", ShardsConfig(workers=2), source={})
    whole = np.concatenate([[tokenizer.eot_id, *tokenizer.encode(text)] for text in texts])
    assert np.array_equal(shards.split("train").read(0, shards.tokens("train")), whole)
    assert shards.text_bytes("train") == sum(len(text.encode()) for text in texts)
