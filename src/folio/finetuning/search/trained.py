"""A trial that really trains: steps of a :class:`TrainingState`, and copies of it in the host's memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from folio.errors import Interrupted
from folio.finetuning.search.halving import Loss
from folio.training.available_memory import available_memory
from folio.training.objective import BatchSource
from folio.training.parallel import local
from folio.training.plan import BatchPlan
from folio.training.state import TrainingState

HOST = torch.device("cpu")
SHARE_OF_MEMORY = 0.5
"""Of what the host has left, the part that one more snapshot may take."""


@dataclass(frozen=True)
class Snapshot:
    """What a state was after ``step`` steps, but for frozen weights: each rank has its own part."""

    step: int
    shipped: dict[str, Tensor]
    tensors: dict[str, Tensor]


@dataclass
class TrainedTrial:
    """A fresh ``state`` and what trains it; a :class:`folio.finetuning.search.halving.Trial`.

    ``validate`` measures the model as it is, and is called with what to ask now and then: that raises
    :class:`Interrupted` once ``asked_to_stop`` says so, as training itself does. Collective over ranks.
    """

    state: TrainingState
    source: BatchSource
    plan: BatchPlan
    validate: Callable[[int, Callable[[], None]], Loss]
    asked_to_stop: Callable[[], bool] = lambda: False
    on_step: Callable[[int, float], None] = field(default=lambda step, loss: None)
    """Told each step that is done, and its training loss."""

    def train_to(self, step: int) -> None:
        while self.state.step < step:
            result = self.state.train_step(self.source, self.plan, self.asked_to_stop)
            if result is None:
                raise Interrupted("stopped amid a trial")
            self.on_step(self.state.step, result.loss)
            self.state.spikes.stop_if_lost(self.state.step)

    def loss(self) -> Loss:
        with self.state.shipping_weights():
            return self.validate(self.state.step, self._poll)

    def _poll(self) -> None:
        if self.state.runtime.ranks.sum([self.asked_to_stop()])[0]:
            raise Interrupted("stopped amid a trial")

    def snapshot(self) -> Snapshot | None:
        """A copy in the host's memory, None where that would take too much of what is left."""
        state = self.state
        with state.shipping_weights(), torch.no_grad():
            trained, tensors = dict(state.trained()), state.tensors()
            size = sum(local(tensor).nbytes for tensor in (*trained.values(), *tensors.values()))
            if state.runtime.ranks.sum([size > SHARE_OF_MEMORY * available_memory(HOST)])[0]:
                return None
            shipped = {name: local(p.detach()).to(HOST, copy=True) for name, p in trained.items()}
            copies = {name: local(tensor.detach()).to(HOST, copy=True) for name, tensor in tensors.items()}
        return Snapshot(state.step, shipped, copies)

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        for name, parameter in self.state.trained():
            local(parameter).copy_(snapshot.shipped[name])

        def read(tensors: dict[str, Tensor]) -> None:
            for name, tensor in tensors.items():
                local(tensor).copy_(snapshot.tensors[name])

        self.state.load((), read, snapshot.step)
