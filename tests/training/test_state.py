"""One optimizer step, whatever way it is cut, and all that a run must remember to go on bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import BF16, FP32, GPT2, SHAPE, Counting, assert_same_bits, make_state, run_steps, weights
from torch import Tensor

from folio.model.gpt import GPT
from folio.model.loss import IGNORE
from folio.training.objective import Rows
from folio.training.plan import BatchPlan
from folio.training.state import TrainingState


def gradients(source: Any, plan: BatchPlan, monkeypatch: pytest.MonkeyPatch, **train: Any) -> dict[str, Tensor]:
    """The gradient that a step hands to the optimizer, by parameter."""
    state, _, _ = make_state(clip_norm=0, **train)
    kept: dict[str, Tensor] = {}

    def keep() -> None:
        kept.update({name: p.grad.clone() for name, p in state.model.named_parameters() if p.grad is not None})

    monkeypatch.setattr(state.optimizers, "step", keep)
    state.train_step(source, plan)
    assert kept.keys() == dict(state.model.named_parameters()).keys()
    return kept


def farthest(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest distance of two gradients, relative to each parameter's own norm."""
    return max(float((ours[name] - theirs[name]).norm() / theirs[name].norm()) for name in theirs)


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_eight_at_once_and_accumulated_in_parts_are_one_gradient(
    micro_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = gradients(Counting(8), BatchPlan(16, 8, 1), monkeypatch)
    parts = gradients(Counting(8), BatchPlan(16, micro_batch, 8 // micro_batch), monkeypatch)
    assert farthest(parts, whole) < 5e-6


class PartlyMasked(Counting):
    """All targets of the first half of the rows but one are left out."""

    def batch(self, step: int, rows: slice = slice(None)) -> Rows:
        whole = super().batch(step)
        whole[: len(whole) // 2, 2:] = IGNORE
        return whole[rows]


def test_accumulation_weighs_every_token_alike_where_micro_batches_are_uneven(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_ids(self: GPT, ids: Tensor, targets: Tensor) -> Any:
        return whole_forward(self, ids.clamp(min=0), targets)

    whole_forward = GPT.forward
    monkeypatch.setattr(GPT, "forward", first_ids)
    source = PartlyMasked(8)
    whole = gradients(source, BatchPlan(16, 8, 1), monkeypatch)
    parts = gradients(source, BatchPlan(16, 2, 4), monkeypatch)
    assert farthest(parts, whole) < 5e-6
    state, _, _ = make_state()
    result = state.train_step(source, BatchPlan(16, 2, 4))
    assert result is not None
    assert result.count == 4 * 1 + 4 * 16


def test_the_loss_of_a_step_is_its_mean_nats_however_it_is_cut() -> None:
    losses = []
    for micro_batch in (8, 2, 1):
        state, source, plan = make_state(micro_batch=micro_batch)
        losses.append(run_steps(state, source, plan, 4))
    ids = torch.from_numpy(Counting(8).batch(0))
    fresh, _, _ = make_state()
    with torch.no_grad():
        logits = fresh.model(ids[:, :-1])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    assert losses[0][0] == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-5)


def test_recomputed_activations_give_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    mlp = SHAPE_MLP.forward
    monkeypatch.setattr(SHAPE_MLP, "forward", lambda self, x: (calls.append(1), mlp(self, x))[1])
    kept = gradients(Counting(8), BatchPlan(16, 8, 1), monkeypatch)
    assert len(calls) == SHAPE.n_layer
    recomputed = gradients(Counting(8), BatchPlan(16, 8, 1), monkeypatch, recompute=True)
    assert len(calls) == 3 * SHAPE.n_layer  # once in forward, once more in backward
    assert_same_bits(recomputed, kept)


SHAPE_MLP = type(GPT(SHAPE).blocks[0].mlp)


def test_recomputing_draws_the_same_dropout() -> None:
    ends = []
    for recompute in (False, True):
        state, source, plan = make_state(GPT2.model_copy(update={"dropout": 0.3}), recompute=recompute)
        run_steps(state, source, plan, 3)
        ends.append(weights(state))
    assert_same_bits(*ends)


Remembered = tuple[dict[str, Tensor], dict[str, Tensor], int]


def remembered(state: TrainingState) -> Remembered:
    """What a checkpoint would hold: the shipped weights, the rest, the step."""
    with state.shipping_weights() as model:
        shipped = {name: value.clone() for name, value in model.state_dict().items()}
    return shipped, {name: value.clone() for name, value in state.tensors().items()}, state.step


def put_back(state: TrainingState, checkpoint: Remembered) -> None:
    shipped, tensors, step = checkpoint
    torch.manual_seed(999)

    def read(targets: dict[str, Tensor]) -> None:
        assert targets.keys() == tensors.keys()
        for name, target in targets.items():
            target.copy_(tensors[name])

    state.load(shipped.items(), read, step)


KINDS = {
    "adamw": {},
    "muon": {"optimizer": {"kind": "muon"}, "schedule": {"kind": "wsd", "warmup_steps": 3}},
    "averaged": {"ema_decay": 0.9},
}


@pytest.mark.parametrize("runtime", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_put_back_goes_on_with_the_same_bits_dropout_included(kind: str, runtime: str) -> None:
    shape = SHAPE.model_copy(update={"dropout": 0.2})
    chosen = BF16 if runtime == "bf16" else FP32
    state, source, plan = make_state(shape, chosen, **KINDS[kind])
    run_steps(state, source, plan, 4)
    checkpoint = remembered(state)
    run_steps(state, source, plan, 4)
    again, source, plan = make_state(shape, chosen, **KINDS[kind])
    put_back(again, checkpoint)
    run_steps(again, source, plan, 4)
    assert_same_bits(weights(again), weights(state))
    if state.ema is not None:
        assert again.ema is not None
        assert_same_bits(again.ema, state.ema)


def test_the_average_follows_its_formula_and_ships_while_the_raw_weights_go_on() -> None:
    state, source, plan = make_state(ema_decay=0.8)
    expected = weights(state)
    for _ in range(3):
        run_steps(state, source, plan, 1)
        expected = {name: 0.8 * expected[name] + 0.2 * value for name, value in weights(state).items()}
    raw = weights(state)
    with state.shipping_weights() as model:
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.detach(), expected[name])
            assert not torch.equal(parameter, raw[name])
    assert_same_bits(weights(state), raw)


def test_what_looks_at_the_model_leaves_no_trace() -> None:
    state, _, _ = make_state(ema_decay=0.5)
    state.model.train()
    before, raw = torch.get_rng_state(), weights(state)

    def look() -> None:
        with state.shipping_weights() as model:
            assert not model.training
            torch.randn(10)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look()
    assert state.model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_bits(weights(state), raw)


def test_gradients_are_clipped_to_the_norm_asked_for() -> None:
    norms = []
    for clip in (0.0, 0.01):
        state, source, plan = make_state(clip_norm=clip)
        kept: list[float] = []
        step = state.optimizers.step

        def watch(state: TrainingState = state, kept: list[float] = kept) -> None:
            kept.append(float(torch.stack([p.grad.norm() for p in state.model.parameters()]).norm()))

        state.optimizers.step = watch  # type: ignore[method-assign]
        result = state.train_step(source, plan)
        assert result is not None
        norms.append((result.grad_norm, kept[0]))
        assert step
    assert norms[0][0] == pytest.approx(norms[0][1], rel=1e-5)
    assert norms[1][0] == pytest.approx(norms[0][0], rel=1e-5)  # told as it was before clipping
    assert norms[1][1] == pytest.approx(0.01, rel=1e-3)


def test_padding_rows_of_the_embedding_stay_zero() -> None:
    state, source, plan = make_state(GPT2, optimizer={"weight_decay": 0.5})
    run_steps(state, source, plan, 5)
    padding = state.model.embed.weight[GPT2.vocab_size :]
    assert padding.shape[0] == 27
    assert not padding.any()


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns(kind: str) -> None:
    train = {**KINDS[kind], "steps": 60, "optimizer": {**KINDS[kind].get("optimizer", {}), "learning_rate": 5e-3}}
    state, source, plan = make_state(**train)
    losses = run_steps(state, source, plan, 60)
    assert losses[-1] < 0.6 * losses[0]
