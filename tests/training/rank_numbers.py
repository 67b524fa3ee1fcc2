"""Jobs that compare numbers: rows, gradients, whole trainings, shared work and scores, with those of one rank."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rank_work import (
    GPT2,
    QWEN3,
    SEQUENCES,
    SHAPES,
    Counting,
    distance,
    farthest,
    make_state,
    masked_inputs,
    relative,
    trained,
    weights,
    whole,
)
from torch import Tensor

from folio.evaluation.loss import loss_on
from folio.model.gpt import GPT
from folio.ranks import ALONE, Ranks
from folio.training.muon import orthogonalize
from folio.training.parallel import Replicated, Spread
from folio.training.plan import divisors
from folio.training.state import TrainingState


def rows_read(ranks: Ranks, folder: Path) -> Any:
    """Of one step with every micro-batch there can be: the rows that each rank read."""
    answer = {}
    for micro_batch in divisors(SEQUENCES // ranks.world_size):
        state, plan = make_state(GPT2, ranks, micro_batch=micro_batch)
        source = Counting(GPT2)
        state.train_step(source, plan)
        answer[micro_batch] = ranks.gather(source.read)
    return answer


def gradients(state: TrainingState, source: Counting, plan: Any) -> dict[str, Tensor]:
    """What a step hands to the optimizer."""
    kept: dict[str, Tensor] = {}

    def keep() -> None:
        kept.update({name: whole(p.grad) for name, p in state.model.named_parameters() if p.grad is not None})

    state.optimizers.step = keep  # type: ignore[method-assign]
    state.train_step(source, plan)
    return kept


def gradient(shape: str, way: str, masked: bool, ranks: Ranks, folder: Path) -> Any:
    """How far the gradient of a step is from that of one rank."""
    found = []
    with masked_inputs() if masked else nullcontext():
        for group in (ranks, ALONE):
            state, plan = make_state(SHAPES[shape], group, way, clip_norm=0)
            found.append(gradients(state, Counting(SHAPES[shape], masked=masked), plan))
    return farthest(*found)


def without_key_biases(tensors: dict[str, Tensor], state: TrainingState) -> dict[str, Tensor]:
    """A bias of keys shifts all scores of a query alike: its gradient is nothing but rounding, which Adam enlarges."""
    queries, keys, _ = state.model.blocks[0].attn.stacked["qkv"]  # type: ignore[union-attr,index]
    return {
        name: torch.cat([t[:queries], t[queries + keys :]]) if name.endswith("qkv.bias") else t
        for name, t in tensors.items()
    }


def course(shape: str, way: str, kind: str, clip: float, masked: bool, ranks: Ranks, folder: Path) -> Any:
    """How far a whole training is from that of one rank: losses, norms and the weights at its end."""
    found = []
    for group in (ranks, ALONE):
        state, plan = make_state(SHAPES[shape], group, way, clip_norm=clip, optimizer={"kind": kind})
        seen = trained(state, plan, masked=masked)
        found.append((seen, without_key_biases(weights(state), state)))
    (ours, our_weights), (theirs, their_weights) = found
    return {
        "loss": relative(ours["losses"], theirs["losses"]),
        "norm": relative(ours["norms"], theirs["norms"]),
        "weights": farthest(our_weights, their_weights),
        "fell": theirs["losses"][0] - theirs["losses"][-1],
        "clipped": sum(norm > clip for norm in theirs["norms"]) if clip else 0,
    }


def same_cut(ranks: Ranks, folder: Path) -> Any:
    """W ranks of one micro-batch each, and one rank that accumulates W of them: tensors that differ in any bit."""
    answer = {}
    for kind in ("adamw", "muon"):
        kept = []
        for group in (ranks, ALONE):
            micro_batch = SEQUENCES // ranks.world_size
            state, plan = make_state(GPT2, group, "ddp", micro_batch=micro_batch, optimizer={"kind": kind})
            trained(state, plan)
            kept.append(weights(state))
        answer[kind] = [name for name in kept[0] if not torch.equal(kept[0][name], kept[1][name])]
    return answer


def collectives(way: str, ranks: Ranks, folder: Path) -> Any:
    """How often gradients travel in a step of one and of several micro-batches."""
    answer = []
    for micro_batch in (SEQUENCES // ranks.world_size, 1):
        state, plan = make_state(QWEN3, ranks, way, micro_batch=micro_batch, clip_norm=0)
        source = Counting(QWEN3)
        state.train_step(source, plan)  # DDP settles its buckets in the first step
        sums: list[int] = []
        with counted_sums(sums), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            state.train_step(source, plan)
        events = [event.name for event in seen.events() or []]
        reductions = sum(name in ("c10d::allreduce_", "c10d::_reduce_scatter_base_") for name in events)
        answer.append({"accumulation": plan.accumulation, "reductions": reductions - len(sums)})
    return answer


@contextmanager
def counted_sums(calls: list[int]) -> Iterator[None]:
    """Note each sum over the control group, which is no gradient."""
    plain, meanwhile = Ranks.sum, Ranks.sum_meanwhile

    def counting(self: Ranks, values: Any) -> list[float]:
        calls.append(len(values))
        return plain(self, values)

    def counting_meanwhile(self: Ranks, values: Any) -> Any:
        calls.append(1)
        return meanwhile(self, values)

    Ranks.sum, Ranks.sum_meanwhile = counting, counting_meanwhile  # type: ignore[method-assign]
    try:
        yield
    finally:
        Ranks.sum, Ranks.sum_meanwhile = plain, meanwhile  # type: ignore[method-assign]


def shared_work(way: str, ranks: Ranks, folder: Path) -> Any:
    """How far directions worked out together are from ``work(whole matrices)``, over counts and numbers of rows."""

    def work(matrices: list[Tensor]) -> list[Tensor]:
        asked.append(len(matrices))
        return list(orthogonalize(torch.stack(matrices), dtype=torch.float32).unbind())

    model = GPT(GPT2).initialize(0)
    parallel = Spread(model, ranks, torch.device("cpu")) if way == "fsdp" else Replicated(model, ranks)
    answer = []
    for count in (1, 2, 3, 5, 7):
        for rows in (1, 2, 5, 8, 33):
            asked: list[int] = []
            generator = torch.Generator().manual_seed(count * 100 + rows)
            matrices = [torch.randn(rows, 6, generator=generator) for _ in range(count)]
            each = -(-rows // ranks.world_size)
            mine = slice(each * ranks.rank, each * (ranks.rank + 1)) if way == "fsdp" else slice(None)
            given = parallel.directions([matrix[mine] for matrix in matrices], matrices, work)
            load = ranks.gather(sum(asked))
            expected = [direction[mine] for direction in work(matrices)]
            assert [d.shape for d in given] == [d.shape for d in expected]
            far = max((distance(d, e) for d, e in zip(given, expected, strict=True) if e.numel()), default=0.0)
            answer.append({"count": count, "rows": rows, "far": max(ranks.gather(far)), "load": load})
    return answer


def compiled(way: str, ranks: Ranks, folder: Path) -> Any:
    """How far a compiled training is from that of one rank that is not compiled."""
    state, plan = make_state(QWEN3, ranks, way, compile="on")
    said = state.compile()
    alone, its_plan = make_state(QWEN3)
    far = relative(trained(state, plan, steps=4)["losses"], trained(alone, its_plan, steps=4)["losses"])
    return {"said": said, "far": far}


class Ids:
    """A stream of ids in memory."""

    def __init__(self, count: int) -> None:
        self.ids = np.random.default_rng(1).integers(0, 37, count).astype(np.uint16)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, count: int) -> Any:
        return self.ids[start : start + count]


def validation(way: str, ranks: Ranks, folder: Path) -> Any:
    """Scores of texts that do not divide, here and by one rank with the same weights; a forward pass is 546 blocks."""
    state, plan = make_state(GPT2, ranks, way)
    trained(state, plan, steps=2)
    alone, _ = make_state(GPT2)
    alone.parallel.put(weights(state).items())
    scores = []
    for count in (2, 700, 9000, 20011):
        stream: Any = Ids(count)
        with state.shipping_weights():
            ours = loss_on(state.model, stream, bytes_per_token=2.0, ranks=ranks)
        scores.append([ours.as_dict(), loss_on(alone.model, stream, bytes_per_token=2.0).as_dict()])
    after = trained(state, plan, steps=2)["losses"]  # the look left the parameters as training needs them
    unseen, plan = make_state(GPT2, ranks, way)
    before = trained(unseen, plan, steps=2)["losses"]
    first_seen, plan = make_state(GPT2, ranks, way)
    with first_seen.shipping_weights():  # as a run does that goes on with a probe it was stopped in
        loss_on(first_seen.model, cast(Any, Ids(700)), bytes_per_token=2.0, ranks=ranks)
    return {
        "scores": scores,
        "after": relative(after, trained(unseen, plan, steps=2)["losses"]),
        "first": relative(trained(first_seen, plan, steps=2)["losses"], before),
    }
