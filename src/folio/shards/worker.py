"""What one encoding process does: chunks in, ids out.

The processes are plain children that run :func:`main` and are spoken to over their standard input and output, not
those of ``multiprocessing``. Forking a parent that has torch's threads may deadlock; spawning runs the user's script
again, torch and all. A child like this imports the tokenizer and nothing else, works the same from a script, a
notebook or the command line, and ends by itself when its parent is gone, however that came about.
"""

from __future__ import annotations

import errno
import gc
import os
import pickle
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from folio.errors import DataError, UserError
from folio.shards.chunks import Piece
from folio.shards.format import IdType

if TYPE_CHECKING:
    from folio.shards.stream import Ids
    from folio.tokenizer import Tokenizer

LENGTH = struct.Struct("<Q")
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""How the system says that a disk is full; the parent tells the user."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """All that turns pieces into ids."""

    tokenizer: Tokenizer
    eot_id: int
    dtype: IdType

    def encode(self, pieces: tuple[Piece, ...]) -> Ids:
        """The ids of ``pieces`` one after the other, each document opened by the end-of-text id."""
        encode, opening, parts = self.tokenizer.encode_array, np.array([self.eot_id], dtype=self.dtype), []
        for piece in pieces:
            if piece.starts_document:
                parts.append(opening)
            try:
                parts.append(encode(piece.text))
            except UserError as error:
                raise type(error)(f"document '{piece.document}': {error.problem}", error.remedy) from None
        ids = np.concatenate(parts)
        assert ids.size == 0 or int(ids.max()) < self.tokenizer.vocab_size
        return ids.astype(self.dtype, copy=False)


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
    serve(lambda encoding, pieces, say: encoding.encode(pieces).tobytes())


def serve(respond: Callable[[Any, Any, Callable[[Any], None]], Any]) -> None:
    """Answer over standard input and output until the parent is gone.

    The first message is what every ``respond(first, message, say)`` is given; it is answered with None. ``say`` sends
    something ahead of the answer. What is raised is the answer, as the user's or the system's error where it is one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not write into the answers
    first: Any = None

    def say(message: Any) -> None:
        send(answers, pickle.dumps(message))

    while (message := receive(sys.stdin.buffer)) is not None:
        answer: Any = None
        try:
            if first is None:
                first = _first(message)
            else:
                answer = respond(first, pickle.loads(message), say)
        except BrokenPipeError:
            return
        except UserError as error:
            answer = error
        except MemoryError:
            answer = DataError(
                "an encoding process has too little memory",
                "Use fewer workers, or leave out documents that are too long.",
            )
        except OSError as error:
            answer = OSError(error.errno, error.strerror) if error.errno in NO_ROOM else _failure()
        except BaseException:
            answer = _failure()
        try:
            say(answer)
        except BrokenPipeError:
            return


def _first(message: bytes) -> Any:
    """``message`` unpickled, and never looked at again by the garbage collector: it may hold a vocabulary."""
    gc.disable()  # or it looks at the vocabulary again and again while that grows
    try:
        return pickle.loads(message)
    finally:
        gc.freeze()
        gc.enable()


def _failure() -> RuntimeError:
    return RuntimeError("an encoding process failed:\n" + traceback.format_exc())
