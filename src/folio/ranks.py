"""The processes of one training job, how they talk, and what happens when one of them is lost.

The only file that sets up ``torch.distributed``. Gradients travel over the default process group (NCCL between GPUs,
gloo between CPUs); everything here travels over gloo groups of their own, as small messages between hosts, so that no
GPU waits for them. A rank that dies closes its connections, which ends every wait over gloo for it within seconds; one
that is alive but silent ends it after ``timeout_s``. A wait on a GPU ends when the launcher or NCCL's watchdog ends it.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

from folio.errors import ConfigError, RankLost, UserError
from folio.launch import NO_LAUNCHER, Launch, launched

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

T = TypeVar("T")
PATIENCE_S = 48 * 3600.0
"""How long ranks wait for one that prepares data: a dead one is noticed all the same."""


@dataclass(frozen=True)
class Ranks:
    """One process among those of its job. A process of its own does all of this alone, without torch.distributed.

    Every method is collective: each rank calls it, in the same order. :class:`RankLost` if one does not answer.
    """

    launch: Launch = NO_LAUNCHER
    group: ProcessGroup | None = None
    timeout_s: float = 600.0

    @property
    def rank(self) -> int:
        return self.launch.rank

    @property
    def world_size(self) -> int:
        return self.launch.world_size

    @property
    def first(self) -> bool:
        """Whether this rank is the one that prints and writes."""
        return self.launch.first

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over ranks, in float64, the same bits on each."""
        if self.group is None:
            return list(values)
        import torch
        import torch.distributed as dist

        total = torch.tensor(values, dtype=torch.float64)
        with self._answered():
            dist.all_reduce(total, group=self.group)
        return [float(value) for value in total]

    def sum_meanwhile(self, values: Callable[[], Sequence[float]]) -> Callable[[], list[float]]:
        """Begin a :meth:`sum` that travels while this rank computes; what is returned waits for it, and must be called.

        Alone, ``values`` is not asked before then.
        """
        if self.group is None:
            return lambda: list(values())
        import torch
        import torch.distributed as dist

        total = torch.tensor(values(), dtype=torch.float64)
        with self._answered():
            work = dist.all_reduce(total, group=self.group, async_op=True)

        def result() -> list[float]:
            with self._answered():
                assert work is not None
                work.wait()
            return [float(value) for value in total]

        return result

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of ranks."""
        if self.group is None:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world_size
        with self._answered():
            dist.all_gather_object(values, value, group=self.group)
        return values

    def share(self, value: T) -> T:
        """Rank 0's value."""
        return self.gather(value if self.first else None)[0]  # type: ignore[return-value]

    def in_turns(self, passes: Iterable[T]) -> Iterator[tuple[T, bool]]:
        """This rank's share of ``passes`` through a model, and whether each counts: ranks take turns.

        Where the last round leaves some without one, they do its first again for nothing, since a model that is spread
        over ranks needs all of them at every pass.
        """
        rest = iter(passes)
        while turn := list(islice(rest, self.world_size)):
            counts = self.rank < len(turn)
            yield turn[self.rank if counts else 0], counts

    def gather_turns(self, shares: Sequence[T]) -> list[T]:
        """What every rank made of those of its share that counted, in the order of the passes."""
        return [part for turn in zip_longest(*self.gather(list(shares))) for part in turn if part is not None]

    def wait(self) -> None:
        """Until all ranks have come here."""
        self.gather(None)

    def attempt(self, work: Callable[[], T]) -> T:
        """Do ``work`` on every rank; if it fails on any, fail on all: there by its own error, elsewhere alike.

        For work without collectives inside that may fail on one rank alone, such as reading or writing a file.
        """
        if self.group is None:
            return work()
        result, trouble = None, None
        try:
            result = work()
        except Exception as error:
            trouble = error
        known = trouble is None or isinstance(trouble, UserError | OSError)  # others may not survive the journey
        told = trouble if known else RuntimeError(f"rank {self.rank}: {type(trouble).__name__}: {trouble}")
        failures = [failure for failure in self.gather(told) if failure is not None]
        if trouble is not None or failures:
            raise trouble or failures[0]
        return result  # type: ignore[return-value]

    def first_on_each_machine(self, work: Callable[[], T]) -> T:
        """Do ``work`` on every rank, but on each machine on one rank before the others, however long that takes.

        So the first finds nothing and makes it, and the others find it made. Its failure ends it there; the others then
        learn that it is lost.
        """
        if self.group is None:
            return work()
        patient = self.another(PATIENCE_S)
        result = work() if self.launch.local_rank == 0 else None
        patient.wait()
        return work() if self.launch.local_rank else result  # type: ignore[return-value]

    def another(self, timeout_s: float | None = None) -> Ranks:
        """The same ranks with a group of their own: for another thread, or for waiting longer."""
        if self.group is None:
            return self
        timeout_s = timeout_s or self.timeout_s
        return Ranks(self.launch, _new_group(timeout_s), timeout_s)

    @contextmanager
    def _answered(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise (lost_rank(error, self.launch) or error) from None


ALONE = Ranks()


def lost_rank(error: Exception, launch: Launch) -> RankLost | None:
    """What an error of torch.distributed means if it is that another rank is gone; None for any other error."""
    text = str(error)
    signs = ("Connection closed by peer", "Connection reset", "Broken pipe", "imed out waiting", "timed out")
    nccl = ("NCCL communicator was aborted", "ncclRemoteError", "remote process exited", "NCCL watchdog")
    if launch.world_size == 1 or not any(
        sign in text for sign in (*signs, *nccl, "Connection refused", "recvValue failed")
    ):
        return None
    sign = next((sign for sign in signs[:3] if sign in text), "it does not answer")
    return RankLost(
        f"rank {launch.rank} of {launch.world_size} lost another rank: {sign[:1].lower()}{sign[1:]}",
        "What ended that rank is in its own words above or in the launcher's report below.",
    )


def shared_device(device: str, launch: Launch) -> str:
    """The configured ``device`` as several ranks can use it: "auto" is cuda or cpu; :class:`ConfigError` for others."""
    import torch

    if device.startswith(("cuda:", "mps")):
        raise ConfigError(f"device '{device}' cannot be shared by {launch.world_size} ranks", "Use auto, cpu or cuda.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


@contextmanager
def joined(device: str, *, timeout_s: float = 600.0) -> Iterator[Ranks]:
    """Join the other ranks of this job for as long as the block lasts; alone if there is no launcher.

    ``device`` is the configured one: GPUs talk by NCCL, each rank with the one of its local rank.
    """
    launch = launched()
    if launch.world_size == 1:
        yield Ranks(launch)
        return
    import torch
    import torch.distributed as dist

    gpu = shared_device(device, launch) == "cuda"
    if gpu and launch.local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"local rank {launch.local_rank} has no GPU: this machine has {torch.cuda.device_count()}",
            "Start as many ranks as there are GPUs (--nproc_per_node), or use --train.device cpu.",
        )
    if gpu:
        torch.cuda.set_device(launch.local_rank)
    try:
        group = _meet(launch, timeout_s, "cpu:gloo,cuda:nccl" if gpu else "gloo")
        yield Ranks(launch, group, timeout_s)
    except RuntimeError as error:
        raise (lost_rank(error, launch) or error) from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _meet(launch: Launch, timeout_s: float, backend: str) -> ProcessGroup:
    """Set up the default process group, and give one for messages between hosts."""
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    timeout = datetime.timedelta(seconds=timeout_s)
    try:
        store, rank, world_size = next(rendezvous("env://", timeout=timeout))
        if launch.local_world_size == world_size:  # torchrun keeps its store over restarts, and old addresses in it
            store = dist.PrefixStore(f"start {launch.restarts}", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    except RuntimeError as error:
        raise RankLost(
            f"rank {launch.rank} of {launch.world_size} cannot reach the others: {str(error).splitlines()[0]}",
            "After a restart on several machines: export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before torchrun. Else: "
            "see that they reach each other by host name, past any firewall.",
        ) from None
    return _new_group(timeout_s)


def _new_group(timeout_s: float) -> ProcessGroup:
    import torch.distributed as dist

    group: ProcessGroup = dist.new_group(backend="gloo", timeout=datetime.timedelta(seconds=timeout_s))
    return group
