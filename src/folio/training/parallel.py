"""How one model trains on several ranks: alone, copied to each (DDP), or spread over them (FSDP2).

The three answer the same questions, so the rest of training does not ask which it is. Under FSDP2 a parameter is a
``DTensor`` of which each rank holds some rows; what is done element by element is done on the rows at hand.

N matrices of one shape, n of them on each rank, W ranks, R rows, r of them on each rank, C columns
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from folio.errors import ConfigError
from folio.model.build import twin
from folio.model.gpt import GPT
from folio.ranks import Ranks

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Directions = Callable[[list[Tensor]], list[Tensor]]


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this rank holds, sharing its memory; the tensor itself where it is whole."""
    return cast(Tensor, tensor._local_tensor) if hasattr(tensor, "_local_tensor") else tensor


def placed_like(value: Tensor, parameter: Tensor, mesh: Any = None) -> Tensor:
    """``value``, this rank's part of something of ``parameter``'s shape, as the whole it is part of.

    ``mesh`` tells where the parts lie, if not where the parameter's do.
    """
    if not hasattr(parameter, "_local_tensor") or value.shape != local(parameter).shape:
        return value
    from torch.distributed.tensor import DTensor

    whole: Tensor = DTensor.from_local(
        value,
        mesh or cast(DTensor, parameter).device_mesh,
        cast(DTensor, parameter).placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
    return whole


class Alone:
    """One process with the whole model."""

    kind = "alone"
    averages_over = 1
    """What the engine divides a sum of gradients over ranks by."""

    def __init__(self, model: GPT, ranks: Ranks) -> None:
        self.model = model
        self.ranks = ranks
        self.forward: Callable[..., Any] = model

    def compile(self) -> None:
        self.forward = torch.compile(self.forward, dynamic=False)

    @contextmanager
    def accumulating(self, *, last: bool) -> Iterator[None]:
        """Around forward and backward of one micro-batch: gradients travel between ranks on the ``last`` only."""
        yield

    def forget(self) -> None:
        """Throw away what was accumulated of a gradient that has not travelled yet, besides the parameters' own."""

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """The 2-norm of all gradients of the model, the same on each rank."""
        return torch.nn.utils.get_total_norm(gradients)

    def settle(self) -> None:
        """Leave the parameters as the optimizer knows them, after a forward pass without backward."""

    def directions(self, updates: list[Tensor], parameters: list[Tensor], work: Directions) -> list[Tensor]:
        """This rank's rows of ``work(whole updates)``, the work shared out among ranks.

        ``updates`` are this rank's rows of ``parameters``' updates, all of one shape; ``work`` gets whole matrices and
        gives as many.
        """
        return work(updates)

    def gathered(self) -> GPT | None:
        """The model whole on rank 0, None elsewhere."""
        return self.model if self.ranks.first else None

    @torch.no_grad()
    def put(self, whole: Iterable[tuple[str, Tensor]]) -> None:
        """Write whole tensors into the parameters of these names."""
        parameters = dict(self.model.named_parameters())
        for name, tensor in whole:
            parameters[name].copy_(tensor)

    def host_copy(self, tensor: Tensor) -> Tensor:
        """A copy in host memory, laid out over ranks as ``tensor`` is."""
        return tensor.detach().to("cpu", copy=True)

    def fingerprint(self) -> int:
        """A number that differs where this rank's weights differ from those it should share with all."""
        return 0


class Replicated(Alone):
    """The whole model on each rank; gradients are summed in buckets while backward still runs (DDP, Li et al. 2020)."""

    kind = "ddp"

    def __init__(self, model: GPT, ranks: Ranks) -> None:
        super().__init__(model, ranks)
        from torch.nn.parallel import DistributedDataParallel

        parameters = inspect.signature(DistributedDataParallel).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in parameters else "broadcast_buffers"
        self.averages_over = ranks.world_size
        gpu = model.embed.weight.device.type == "cuda"
        self.engine = DistributedDataParallel(
            model,
            device_ids=[model.embed.weight.device.index] if gpu else None,
            gradient_as_bucket_view=True,
            **cast(Any, {buffers: False}),  # its name until torch 2.12, and since
        )
        self.forward = self.engine

    @contextmanager
    def accumulating(self, *, last: bool) -> Iterator[None]:
        with nullcontext() if last else self.engine.no_sync():
            yield

    def directions(self, updates: list[Tensor], parameters: list[Tensor], work: Directions) -> list[Tensor]:
        """Each rank does its share of the matrices, and all hear the results."""
        import torch.distributed as dist

        mine = updates[self.ranks.rank :: self.ranks.world_size]
        share = -(-len(updates) // self.ranks.world_size)
        done_nRC = updates[0].new_zeros(share, *updates[0].shape)
        for slot, direction in zip(done_nRC, work(mine) if mine else [], strict=False):
            slot.copy_(direction)
        by_owner = [torch.empty_like(done_nRC) for _ in range(self.ranks.world_size)]
        dist.all_gather(by_owner, done_nRC)
        return [by_owner[i % self.ranks.world_size][i // self.ranks.world_size] for i in range(len(updates))]

    def fingerprint(self) -> int:
        total = torch.zeros((), dtype=torch.int64, device=self.model.embed.weight.device)
        for parameter in self.model.parameters():
            total += parameter.detach().view(_INTEGERS[parameter.element_size()]).sum(dtype=torch.int64)
        return int(total)


class Spread(Alone):
    """Rows of every parameter on each rank, gathered block by block when needed (FSDP2, Zhao et al. 2023)."""

    kind = "fsdp"

    def __init__(self, model: GPT, ranks: Ranks, device: torch.device) -> None:
        super().__init__(model, ranks)
        self.plain = twin(model, {name: p.detach().to("meta") for name, p in model.named_parameters()})
        """Its layers before they were spread, without weights."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

        mesh = init_device_mesh(device.type, (ranks.world_size,))
        self.host_mesh = mesh if device.type == "cpu" else init_device_mesh("cpu", (ranks.world_size,))
        for part in (*model.blocks, model):
            fully_shard(part, mesh=mesh, reshard_after_forward=True)
            assert isinstance(part, FSDPModule)
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
        register_fsdp_forward_method(model, "token_nats")
        self.engine = cast(FSDPModule, model)

    def compile(self) -> None:
        for block in self.model.blocks:
            block.compile(dynamic=False)

    @contextmanager
    def accumulating(self, *, last: bool) -> Iterator[None]:
        self.engine.set_requires_gradient_sync(last)
        yield

    def forget(self) -> None:
        for part in (*self.model.blocks, self.model):
            engine = cast("FSDPModule", part)
            engine.unshard()  # shows the parameters that gradients wait at
            for parameter in part.parameters():
                parameter.grad = None
            engine.reshard()

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        return cast(Any, torch.nn.utils.get_total_norm(gradients)).full_tensor()  # type: ignore[no-any-return]

    def settle(self) -> None:
        self.engine.reshard()

    def directions(self, updates: list[Tensor], parameters: list[Tensor], work: Directions) -> list[Tensor]:
        """Whole matrices are handed round so that each rank gets its share, and the rows handed back."""
        ranks, (R, C), count = self.ranks.world_size, parameters[0].shape, len(updates)
        share, rows = -(-count // ranks), -(-R // ranks)
        pieces_NrC = updates[0].new_zeros(ranks * share, rows, C)
        for piece, update in zip(pieces_NrC, updates, strict=False):
            piece[: update.shape[0]].copy_(update)
        mine = _exchange(pieces_NrC.view(ranks, share, rows, C)).transpose(0, 1).reshape(share, ranks * rows, C)
        owned = max(0, min(share, count - self.ranks.rank * share))
        whole = [matrix[:R] for matrix in mine[:owned]]
        done = [F.pad(direction, (0, 0, 0, ranks * rows - R)) for direction in (work(whole) if whole else [])]
        done += [mine.new_zeros(ranks * rows, C)] * (share - owned)
        back = _exchange(torch.stack(done).view(share, ranks, rows, C).transpose(0, 1).contiguous())
        return [piece[: update.shape[0]] for piece, update in zip(back.flatten(0, 1), updates, strict=False)]

    @torch.no_grad()
    def gathered(self) -> GPT | None:
        """A copy on rank 0's CPU, a parameter at a time."""
        weights = {}
        for name, parameter in self.model.named_parameters():
            whole = cast(Any, parameter).full_tensor()
            if self.ranks.first:
                weights[name] = whole.to("cpu", copy=True)
        return twin(self.plain, weights).to("cpu") if self.ranks.first else None

    @torch.no_grad()
    def put(self, whole: Iterable[tuple[str, Tensor]]) -> None:
        parameters = dict(self.model.named_parameters())
        for name, tensor in whole:
            rows = -(-tensor.shape[0] // self.ranks.world_size)
            part = local(parameters[name])
            part.copy_(tensor[self.ranks.rank * rows :][: part.shape[0]])

    def host_copy(self, tensor: Tensor) -> Tensor:
        return placed_like(local(tensor.detach()).to("cpu", copy=True), tensor, self.host_mesh)


def _exchange(sent_WXYC: Tensor) -> Tensor:
    """Part w goes to rank w; what comes back is every rank's part for this one, in the order of ranks."""
    import torch.distributed as dist

    received = torch.empty_like(sent_WXYC)
    dist.all_to_all_single(received, sent_WXYC.contiguous())
    return received


def spread_out(model: GPT, ranks: Ranks, device: torch.device, kind: str, precision: str) -> Alone:
    """The way of that ``kind`` ("ddp", "fsdp") to train ``model`` on these ranks; alone it is neither.

    The model moves to ``device``, under FSDP a block at a time: it may be larger than the device.
    """
    if ranks.world_size == 1:
        return Alone(model.to(device), ranks)
    if kind == "fsdp" and precision == "fp16":
        raise ConfigError("fsdp does not scale fp16 losses", "Use --train.precision bf16, or --train.parallel ddp.")
    return Spread(model, ranks, device) if kind == "fsdp" else Replicated(model.to(device), ranks)
