"""Chunks are what a later sitting compares its documents with, and what a process encodes at a time."""

from __future__ import annotations

import hashlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from letters import ByteTokenizer

from folio.corpus import Document
from folio.errors import DataError
from folio.shards import chunks
from folio.shards.child import Child
from folio.shards.worker import Encoding

TEXTS = ["plain", "naïve – 😀", "", "x" * 50]
DOCUMENTS = [Document(f"né{number}", text, "here") for number, text in enumerate(TEXTS)]
ENCODING = Encoding(ByteTokenizer(), 256, np.dtype("<u2"))


def test_the_digest_of_unfinished_work_is_of_texts_names_and_boundaries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 20)
    expected, records = "", []
    for group in (DOCUMENTS[:2], DOCUMENTS[2:]):
        content = [expected.encode()]
        for document in group:
            name, text = document.id.encode(), document.text.encode()
            content += [f"True:{len(name)}:{len(text)}:".encode(), name, text]
        expected = hashlib.sha256(b"".join(content)).hexdigest()
        records.append(chunks.ChunkCounts(2, sum(len(document.text.encode()) for document in group), expected))
    assert [chunk.counts for chunk in chunks.chunks_of(DOCUMENTS, ByteTokenizer())] == records


def test_chunks_without_digests_are_the_same_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 20)
    bare = list(chunks.chunks_of(DOCUMENTS, ByteTokenizer(), digested=False))
    whole = list(chunks.chunks_of(DOCUMENTS, ByteTokenizer()))
    assert [chunk.pieces for chunk in bare] == [chunk.pieces for chunk in whole]
    assert {chunk.counts.digest for chunk in bare} == {""}
    with pytest.raises(DataError, match="document 'half' is not Unicode text"):
        list(chunks.chunks_of([Document("half", "\ud800", "here")], ByteTokenizer(), digested=False))


def test_an_encoded_chunk_is_each_document_behind_the_end_of_text() -> None:
    (chunk,) = chunks.chunks_of(DOCUMENTS, ByteTokenizer())
    ids = ENCODING.encode(chunk.pieces)
    assert ids.tolist() == [id for text in TEXTS for id in (256, *text.encode())]
    assert ids.dtype == np.uint16


@pytest.mark.skipif(sys.platform != "linux", reason="the count of threads is Linux's")
def test_an_encoding_process_has_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    child = Child("folio.shards.worker", "a process", "Run it again.")
    try:
        child.say(pickle.dumps(ENCODING))
        assert child.answer() is None
        status = Path(f"/proc/{child._child.pid}/status").read_text()
        assert "\nThreads:\t1\n" in status
    finally:
        child.stop()
