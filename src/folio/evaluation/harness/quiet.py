"""lm-evaluation-harness and what it stands on, kept from the user's terminal and from the process's random state."""

from __future__ import annotations

import io
import logging
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TextIO

import numpy as np
import torch

NOISY = ("lm_eval", "datasets", "evaluate", "huggingface_hub", "fsspec", "urllib3", "filelock")


class _Kept(logging.Handler):
    """Keeps the text of warnings, each once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.lines[" ".join(record.getMessage().split())[:300]] = None


@dataclass(frozen=True)
class Aloud:
    """Where the process printed before, and still does where it is not quiet."""

    out: TextIO
    err: TextIO


@contextmanager
def quietly() -> Iterator[tuple[dict[str, None], Aloud]]:
    """Nothing that the harness and what it stands on print, log, warn of or draw as bars is seen.

    Yields what they warned of through their loggers, as keys, and the streams that are kept from them. The random state
    of Python, numpy and torch is the harness's own within, and afterwards what it was.
    """
    kept, aloud = _Kept(), Aloud(sys.stdout, sys.stderr)
    python, array = random.getstate(), np.random.get_state()
    forked = os.environ.get("DISABLE_MULTIPROC")
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in NOISY:
            logger = logging.getLogger(name)
            stack.callback(_put_back, logger, logger.handlers, logger.propagate, logger.level)
            logger.handlers, logger.propagate = [kept], False
            logger.setLevel(logging.WARNING)
        os.environ["DISABLE_MULTIPROC"] = "1"  # its bootstrap would fork a process that has threads
        random.seed(0)
        np.random.seed(1234)
        torch.manual_seed(1234)
        try:
            yield kept.lines, aloud
        finally:
            random.setstate(python)
            np.random.set_state(array)
            os.environ.pop("DISABLE_MULTIPROC")
            if forked is not None:
                os.environ["DISABLE_MULTIPROC"] = forked


def _put_back(logger: logging.Logger, handlers: list[logging.Handler], propagate: bool, level: int) -> None:
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)
