"""What is learned of a micro-batch: how its loss is computed, and what that is a mean over.

B sequences of one micro-batch, T time
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from folio.model.loss import IGNORE

Rows = npt.NDArray[np.int64]


class BatchSource(Protocol):
    """A pure function of the step: the ``rows`` of its batch, as the objective reads them."""

    def batch(self, step: int, rows: slice = ...) -> Any: ...

    def tokens_before(self, step: int) -> int:
        """Tokens that a model has read when ``step`` begins: those of steps 0 to ``step - 1``."""
        ...


class Objective(Protocol):
    """A loss as (sum of nats, count): each unit weighs the same, however units are shared out over ranks and passes."""

    @property
    def unit(self) -> str:
        """What the loss is a mean over; ``nats_per_<unit>`` is its name in the metrics."""
        ...

    @property
    def ragged(self) -> bool:
        """Whether passes differ in shape, so that to compile one is of no use to the next."""
        ...

    def count(self, batch: Any) -> int:
        """Units of one micro-batch."""
        ...

    def nats(self, forward: Callable[..., Any], batch: Any, device: torch.device) -> Tensor:
        """Their summed loss, with gradients; ``forward`` is that of :class:`folio.model.gpt.GPT`."""
        ...


class NextToken:
    """Every token of a sequence from those before it: rows are int64 (B, T + 1), no target where they hold IGNORE."""

    unit = "token"
    ragged = False

    def count(self, batch: Rows) -> int:
        return int((batch[:, 1:] != IGNORE).sum())

    def nats(self, forward: Callable[..., Any], batch: Rows, device: torch.device) -> Tensor:
        rows_BT = torch.from_numpy(batch).to(device, non_blocking=True)
        nats, _ = forward(rows_BT[:, :-1], rows_BT[:, 1:])
        return nats  # type: ignore[no-any-return]


UNITS = ("token", "pair")
"""All that a loss can be a mean over."""


def loss_key(unit: str) -> str:
    """The name in the metrics of a loss per ``unit``."""
    return f"nats_per_{unit}"
