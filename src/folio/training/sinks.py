"""Where metrics go besides ``metrics.jsonl``: TensorBoard and Weights & Biases, if asked for."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from folio.artifacts import write_file
from folio.errors import require

Sink = Callable[[dict[str, Any]], None]


@contextmanager
def open_sinks(names: Sequence[str], run: Path, done: int = 0) -> Iterator[list[Sink]]:
    """The sinks called ``names``, closed at the end; what they hold of steps after ``done`` will be sent again.

    :class:`MissingExtra` if a package is not installed.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(SINKS[name](run, done)) for name in dict.fromkeys(names)]


def require_sinks(names: Sequence[str]) -> None:
    """:class:`MissingExtra` if a package of ``names`` is not installed; to be asked before anything is written."""
    for name in names:
        require(name, "track")


def _scalars(line: dict[str, Any]) -> dict[str, float]:
    return {
        f"{line['kind']}/{key}": float(value)
        for key, value in line.items()
        if key not in ("step", "kind") and isinstance(value, int | float) and not isinstance(value, bool)
    }


@contextmanager
def _tensorboard(run: Path, done: int) -> Iterator[Sink]:
    require("tensorboard", "track")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(run / "tensorboard", purge_step=done + 1 if done else None)

    def send(line: dict[str, Any]) -> None:
        for name, value in _scalars(line).items():
            writer.add_scalar(name, value, line["step"])
        if line["kind"] == "sample":
            writer.add_text("sample", line["prompt"] + line["text"], line["step"])

    try:
        yield send
    finally:
        writer.close()


@contextmanager
def _wandb(run: Path, done: int) -> Iterator[Sink]:
    wandb: Any = require("wandb", "track")
    known = run / "wandb-id"
    if not known.exists():
        write_file(known, uuid.uuid4().hex[:12])
    tracker = wandb.init(project="folio", name=run.name, dir=str(run), resume="allow", id=known.read_text())

    def send(line: dict[str, Any]) -> None:
        if line["step"] > done:  # W&B keeps what it has
            tracker.log(_scalars(line), step=line["step"])

    try:
        yield send
    finally:
        tracker.finish()


SINKS = {"tensorboard": _tensorboard, "wandb": _wandb}
