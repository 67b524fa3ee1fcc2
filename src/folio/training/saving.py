"""Writing checkpoints of a run and reading them back, on one rank or many, at once or beside training."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from folio import artifacts
from folio.artifacts import CHECKPOINT, MODEL_PART, new_folder, write_manifest
from folio.errors import ArtifactError, UserError
from folio.model.build import twin
from folio.model.find import judged_of
from folio.model.folder import ending, load_model, save_model
from folio.model.gpt import GPT
from folio.ranks import Ranks
from folio.training.checkpoint import Checkpoint, loss_of, remove_surplus
from folio.training.parallel import Alone
from folio.training.state import TrainingState
from folio.training.state_files import read_state, write_state

Facts = dict[str, Any]


class Contents(Protocol):
    """What a checkpoint holds for use, beside the state that resuming needs."""

    def write(self, model: GPT, checkpoint: Path, facts: Facts) -> None:
        """Write the part to be used into the folder ``checkpoint``."""
        ...

    def read(self, checkpoint: Path, model: GPT) -> Iterable[tuple[str, Tensor]]:
        """All trained weights by name; :class:`ArtifactError` if they do not fit ``model``."""
        ...


@dataclass(frozen=True)
class ModelContents:
    """A model folder, ``model/``: see :func:`folio.model.folder.save_model`."""

    eos_id: int | None = None
    tokenizer_files: Callable[[Path], object] | None = None
    card: Callable[[Facts], str] | None = None
    end_ids: Sequence[int] = ()
    """More ids that a text ends at."""

    def write(self, model: GPT, checkpoint: Path, facts: Facts) -> None:
        folder = checkpoint / MODEL_PART
        folder.mkdir()
        save_model(
            model,
            folder,
            eos_id=self.eos_id,
            tokenizer_files=self.tokenizer_files,
            card=self.card(facts) if self.card else None,
            generation=ending(self.eos_id, self.end_ids),
        )

    def read(self, checkpoint: Path, model: GPT) -> Iterable[tuple[str, Tensor]]:
        saved = load_model(checkpoint / MODEL_PART, device="cpu", verify=False)
        if saved.config.model_copy(update={"dropout": 0.0}) != model.config.model_copy(update={"dropout": 0.0}):
            raise ArtifactError(
                f"'{checkpoint}' holds a model of another shape than this run's configuration",
                "Resume with the run's own configuration, or start a new run.",
            )
        return saved.named_parameters()


@dataclass(frozen=True)
class Snapshot:
    """The state after ``step`` steps: ``model`` whole on rank 0, None elsewhere; ``tensors`` as each rank has them."""

    step: int
    facts: Facts
    model: GPT | None
    tensors: dict[str, Tensor]
    device: str

    def copied(self, parallel: Alone) -> Snapshot:
        """The same in host memory of its own, so that training may go on."""
        tensors = {name: parallel.host_copy(tensor) for name, tensor in self.tensors.items()}
        model = self.model
        if self.model is not None and self.model is parallel.model:
            weights = {name: p.detach() for name, p in self.model.named_parameters()}
            moving = {name for name, p in self.model.named_parameters() if p.requires_grad}
            copies = {name: weights[name].to("cpu", copy=True) for name in moving}
            model = twin(self.model, {**weights, **copies})
        return replace(self, model=model, tensors=tensors)


class Saver:
    """Saves the checkpoints of ``run``; collective over ``ranks``.

    ``beside`` copies the state and writes it in a thread while training goes on, one checkpoint at a time; a failure to
    write then shows at the next :meth:`save` or :meth:`finish`, at the latest when the block that it guards ends well.
    """

    def __init__(
        self,
        run: Path,
        ranks: Ranks,
        contents: Contents,
        *,
        keep_last: int = 1,
        keep_every: int = 0,
        beside: bool = False,
    ) -> None:
        self.run = run
        self.contents = contents
        self.keep_last, self.keep_every = keep_last, keep_every
        self.ranks = ranks.another() if beside else ranks
        self._thread = ThreadPoolExecutor(1, "checkpoint") if beside else None
        self._writing: Future[Checkpoint] | None = None
        self.newest: Checkpoint | None = None
        """The last checkpoint that is whole on the disk."""

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True)
        if kind is None:
            self.finish()

    def save(self, state: TrainingState, facts: Facts) -> None:
        """Write the state; ``facts`` (JSON values: the last validation) go into the checkpoint's manifest."""
        _refuse_ranks_that_differ(state)
        self.finish()
        with state.shipping_weights(), torch.no_grad():
            device = str(state.runtime.device)
            snapshot = Snapshot(state.step, facts, state.parallel.gathered(), state.tensors(), device)
            if self._thread is None:
                self.newest = self.write(snapshot)
            else:
                self._writing = self._thread.submit(self.write, snapshot.copied(state.parallel))

    def finish(self) -> None:
        """Wait until what was begun is on the disk; raises what kept it from getting there."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            self.newest = writing.result()

    def write(self, snapshot: Snapshot) -> Checkpoint:
        """Write a snapshot as ``checkpoints/step-...``, whole or not at all, and clear away what is not to be kept."""
        path = self.run / "checkpoints" / f"step-{snapshot.step:08d}"
        ranks, first = self.ranks, self.ranks.first
        with ExitStack() as stack:
            opened = ranks.attempt(lambda: self._open(path, stack) if first else None)
            folder = Path(ranks.share(str(opened)))
            ranks.attempt(lambda: _refuse_private_folder(folder, ranks))
            write_state(folder / "state", snapshot.tensors, ranks)
            ranks.attempt(lambda: self._write_rest(folder, snapshot) if first else None)
            ranks.attempt(stack.close)  # synced, and renamed into place
        ranks.attempt(lambda: self._clear() if first else None)
        facts = snapshot.facts
        return Checkpoint(path, snapshot.step, loss_of(facts), judged_of(facts), facts.get("elapsed_s", 0.0))

    def _open(self, path: Path, stack: ExitStack) -> Path:
        if not (self.run / "config.json").exists():  # a mount that is gone must not be written under
            raise FileNotFoundError(errno.ENOENT, "the run's folder has vanished", str(self.run))
        folder = stack.enter_context(new_folder(path, replace=CHECKPOINT))
        (folder / "state").mkdir()
        return folder

    def _write_rest(self, folder: Path, snapshot: Snapshot) -> None:
        assert snapshot.model is not None
        facts = {"step": snapshot.step, **snapshot.facts}
        self.contents.write(snapshot.model, folder, facts)
        config = {"world_size": self.ranks.world_size, **facts}
        write_manifest(folder, CHECKPOINT, config, device=snapshot.device)

    def _clear(self) -> None:
        remove_surplus(self.run, keep_last=self.keep_last, keep_every=self.keep_every)


def _refuse_ranks_that_differ(state: TrainingState) -> None:
    """:class:`UserError` if copies of the model are no longer one model: then nothing of it is worth saving."""
    prints = state.runtime.ranks.gather(state.parallel.fingerprint())
    others = [rank for rank, seen in enumerate(prints) if seen != prints[0]]
    if others:
        raise UserError(
            f"after step {state.step} rank {others[0]} holds other weights than rank 0: a faulty machine",
            "Leave that machine out, and go on from the last checkpoint.",
        )


def _refuse_private_folder(folder: Path, ranks: Ranks) -> None:
    if not folder.is_dir():
        raise ArtifactError(
            f"rank {ranks.rank} does not see '{folder.parent.parent}', where rank 0 writes the run",
            "Ranks on several machines need a run folder that all of them share.",
        )


def load_checkpoint(
    checkpoint: Checkpoint, state: TrainingState, contents: Contents | None = None, *, verify: bool = True
) -> None:
    """Put ``state`` where it was when ``checkpoint`` was saved, bit for bit, on any number of ranks.

    ``contents`` are what it was saved with: a model folder unless given. ``verify`` compares every file's sha256 first;
    False for one that was just found sound.
    """
    if verify:
        artifacts.verify(checkpoint.path, CHECKPOINT)
    trained = (contents or ModelContents()).read(checkpoint.path, state.model)
    folder = checkpoint.path / "state"
    try:
        state.load(trained, lambda tensors: read_state(folder, tensors, state.runtime.ranks), checkpoint.step)
    except KeyError as error:
        raise ArtifactError(
            f"'{checkpoint.path}' was saved by another optimizer or precision: {error} does not match",
            "Resume with the run's own configuration, or start a new run.",
        ) from None
