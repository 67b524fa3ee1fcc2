"""Tensors of a training state on disk: safetensors, one file from one process, or a file from each rank.

Several ranks write by ``torch.distributed.checkpoint``, which gives each what it alone holds and its share of what all
hold, with the place of every part in the file's header. So any number of ranks can read what any other number wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from folio.model.stored import write_tensors
from folio.ranks import Ranks
from folio.training.parallel import local

STATE_FILE = "state.safetensors"
OWN = "rng/"
"""Prefix of the tensors that each rank has for itself."""
RESIZABLE = "spikes"
"""A tensor whose size follows the configuration; one of another size is not read."""


def write_state(folder: Path, tensors: dict[str, Tensor], ranks: Ranks) -> None:
    """Write ``tensors`` into an existing, empty folder; collective. ``OSError`` on every rank if it fails on one."""
    if ranks.world_size == 1:
        whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        write_tensors(whole, folder / STATE_FILE)
        return
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with _own_words():
        save(dict(tensors), storage_writer=writer, process_group=ranks.group)


@contextmanager
def _own_words() -> Iterator[None]:
    """What failed on one rank, raised on all as itself: the engine's own error holds them all, and is no Exception."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        if isinstance(cause, OSError):
            raise OSError(cause.errno, f"{cause.strerror} (rank {rank})", cause.filename) from None
        raise cause from None


@torch.no_grad()
def read_state(folder: Path, tensors: dict[str, Tensor], ranks: Ranks) -> None:
    """Fill ``tensors`` with what was written under their names; collective.

    Those of ``rng/`` that were not written stay as they are. ``KeyError`` names another that is missing or too much.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, "pt")) for path in sorted(folder.glob("*.safetensors"))]
        homes: dict[str, list[Any]] = {}
        for file in files:
            for name in list(file.keys()):
                homes.setdefault(name, []).append(file)
        shared = {name for name in tensors if not name.startswith(OWN)}
        for name in sorted(shared ^ {name for name in homes if not name.startswith(OWN)}):
            raise KeyError(name)
        parts = {}
        for name, target in tensors.items():
            saved = [tuple(file.get_slice(name).get_shape()) for file in homes.get(name, ())]
            if saved == [tuple(target.shape)] and local(target) is target:
                target.copy_(homes[name][0].get_tensor(name))
            elif name != RESIZABLE and not name.startswith(OWN):
                parts[name] = target
    if parts:
        _read_parts(folder, parts, ranks)


def _read_parts(folder: Path, tensors: dict[str, Tensor], ranks: Ranks) -> None:
    """Tensors that were, or are to be, spread over ranks."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(folder))
    with _own_words():
        load(tensors, storage_reader=reader, process_group=ranks.group, no_dist=ranks.group is None)
