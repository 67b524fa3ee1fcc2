"""What one encoding process does: chunks in, ids out.

The processes are plain children that run :func:`main` and are spoken to over their standard input and output, not
those of ``multiprocessing``. Forking a parent that has torch's threads may deadlock; spawning runs the user's script
again, torch and all. A child like this imports the tokenizer and nothing else, works the same from a script, a
notebook or the command line, and ends by itself when its parent is gone, however that came about.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from folio.errors import UserError
from folio.shards.chunks import Piece
from folio.shards.format import IdType

if TYPE_CHECKING:
    from folio.shards.stream import Ids
    from folio.tokenizer import Tokenizer

LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Encoding:
    """All that turns pieces into ids."""

    tokenizer: Tokenizer
    eot_id: int
    dtype: IdType

    def encode(self, pieces: tuple[Piece, ...]) -> Ids:
        """The ids of ``pieces`` one after the other, each document opened by the end-of-text id."""
        parts = []
        for piece in pieces:
            try:
                ids = self.tokenizer.encode_array(piece.text.decode("utf-8"))
            except UserError as error:
                raise type(error)(f"document '{piece.document}': {error.problem}", error.remedy) from None
            assert ids.size == 0 or int(ids.max()) < self.tokenizer.vocab_size
            if piece.starts_document:
                parts.append(np.array([self.eot_id], dtype=self.dtype))
            parts.append(ids.astype(self.dtype, copy=False))
        return np.concatenate(parts)


def send(stream: BinaryIO, message: bytes) -> None:
    """Write one message, preceded by its length."""
    stream.write(LENGTH.pack(len(message)))
    stream.write(message)
    stream.flush()


def receive(stream: BinaryIO) -> bytes | None:
    """Read one message; None when the other side is gone."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    message = stream.read(length)
    return message if len(message) == length else None


def main() -> None:
    """Receive an :class:`Encoding`, then pieces until the parent is gone; answer each with its ids or its error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not write into the answers
    questions = sys.stdin.buffer
    encoding: Encoding | None = None
    while (message := receive(questions)) is not None:
        answer: Any
        try:
            if encoding is None:
                encoding, answer = pickle.loads(message), None
            else:
                answer = encoding.encode(pickle.loads(message)).tobytes()
        except UserError as error:
            answer = error
        except BaseException:
            answer = RuntimeError("an encoding process failed:\n" + traceback.format_exc())
        try:
            send(answers, pickle.dumps(answer))
        except BrokenPipeError:
            return
