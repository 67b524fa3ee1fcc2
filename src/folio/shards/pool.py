"""Chunks encoded by several processes, the results in order, a bounded number of chunks under way."""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue
from types import TracebackType

import numpy as np

from folio.shards.child import Child
from folio.shards.chunks import Chunk, ChunkCounts, Piece
from folio.shards.stream import Ids
from folio.shards.worker import Encoding

CHUNKS_BEFORE_PROCESSES = 16
"""Chunks that are encoded here before processes are started: about the work that starting them costs (a second)."""


def cores() -> int:
    """The processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class EncoderPool:
    """Encodes chunks in ``workers`` processes; the first few, and all of a small corpus, in this one.

    At most ``2 * workers`` chunks are under way, whatever the length of the corpus.
    """

    def __init__(self, encoding: Encoding, workers: int) -> None:
        self.encoding = encoding
        self.workers = workers
        self._processes: list[_Process] = []
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._threads: ThreadPoolExecutor | None = None
        self._chunks_here = CHUNKS_BEFORE_PROCESSES

    def __enter__(self) -> EncoderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.stop()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def encode(self, chunks: Iterable[Chunk]) -> Iterator[tuple[ChunkCounts, Ids]]:
        """The counts and ids of each chunk, in order."""
        stream = iter(chunks)
        for chunk in stream if self.workers == 1 else islice(stream, self._chunks_here):
            self._chunks_here -= 1
            yield chunk.counts, self.encoding.encode(chunk.pieces)
        under_way: deque[tuple[ChunkCounts, Future[Ids]]] = deque()
        for chunk in stream:
            threads = self._started()
            under_way.append((chunk.counts, threads.submit(self._encode_elsewhere, chunk.pieces)))
            if len(under_way) >= 2 * self.workers:
                counts, future = under_way.popleft()
                yield counts, future.result()
        while under_way:
            counts, future = under_way.popleft()
            yield counts, future.result()

    def _started(self) -> ThreadPoolExecutor:
        if self._threads is None:
            for _ in range(self.workers):
                process = _Process()
                self._processes.append(process)
                self._idle.put(process)
            setup = pickle.dumps(self.encoding)
            for process in self._processes:
                process.say(setup)
            self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="folio-encode")
        return self._threads

    def _encode_elsewhere(self, pieces: tuple[Piece, ...]) -> Ids:
        process = self._idle.get()
        try:
            return np.frombuffer(process.ask(pieces), dtype=self.encoding.dtype)
        finally:
            self._idle.put(process)


class _Process(Child):
    """One child process; see :mod:`folio.shards.worker`."""

    def __init__(self) -> None:
        remedy = "Run the same command again with fewer workers: what is done is kept."
        super().__init__("folio.shards.worker", "an encoding process", remedy)
        self._ready = False

    def ask(self, pieces: tuple[Piece, ...]) -> bytes:
        if not self._ready:
            self.answer()  # to the encoding: it came while others were already at work
            self._ready = True
        self.say(pickle.dumps(pieces))
        answer = self.answer()
        assert isinstance(answer, bytes)
        return answer
