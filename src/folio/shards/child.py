"""A plain child process that is spoken to over its standard input and output; see :mod:`folio.shards.worker`."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from typing import Any

from folio.errors import DataError
from folio.shards.worker import receive, send


class Child:
    """One child that runs ``main`` of ``module``.

    ``ended`` and ``remedy`` are the two parts of the :class:`DataError` for one that ends by itself; its exit status is
    told with the first.
    """

    def __init__(self, module: str, ended: str, remedy: str) -> None:
        bootstrap = f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {module} import main; main()"
        command = [sys.executable, "-c", bootstrap, json.dumps(sys.path)]
        # One thread each: those of the library behind numpy's products would only turn round while they wait for one.
        surroundings = {"OPENBLAS_NUM_THREADS": "1", **os.environ, "TOKENIZERS_PARALLELISM": "false"}
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=surroundings)
        self._ended, self._remedy = ended, remedy

    def say(self, message: bytes) -> None:
        """Send one message."""
        assert self._child.stdin is not None
        try:
            send(self._child.stdin, message)  # type: ignore[arg-type]
        except (BrokenPipeError, ValueError):
            raise self._died() from None

    def answer(self) -> Any:
        """The answer to the oldest message that has none yet, unpickled; raised if it is an error."""
        assert self._child.stdout is not None
        try:
            message = receive(self._child.stdout)  # type: ignore[arg-type]
        except (BrokenPipeError, ValueError):
            message = None
        if message is None:
            raise self._died()
        answer = pickle.loads(message)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stop(self) -> None:
        """End the child at once; it holds nothing that is worth keeping."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _died(self) -> DataError:
        problem = f"{self._ended} ended by itself (exit status {self._child.wait()}), perhaps for want of memory"
        return DataError(problem, self._remedy)
