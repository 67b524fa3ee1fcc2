"""Every trainable parameter is moved by one group of one optimizer, and decays only if it is a matrix."""

from __future__ import annotations

import pytest
import torch
from model_shapes import SHAPES
from tiny_training import SHAPE, make_state, run_steps

from folio.model.gpt import GPT
from folio.training.adamw import AdamW
from folio.training.config import OptimizerConfig
from folio.training.optimizers import Optimizers, parameter_groups

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_parameter_is_in_exactly_one_group(shape: str, kind: str) -> None:
    model = GPT(SHAPES[shape])
    optimizers = Optimizers(model, OptimizerConfig(kind=kind), device=CPU, dtype=torch.float32)
    grouped = [id(p) for optimizer in optimizers.all for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("shape", ["gpt2-untied", "qwen3-grouped-untied"])
def test_matrices_and_embeddings_decay_and_gains_and_biases_do_not(shape: str, kind: str) -> None:
    model = GPT(SHAPES[shape])
    optimizers = Optimizers(model, OptimizerConfig(kind=kind, weight_decay=0.3), device=CPU, dtype=torch.float32)
    decay = {
        optimizers.names[p]: group["weight_decay"]
        for optimizer in optimizers.all
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert decay == {name: 0.3 if p.ndim == 2 else 0.0 for name, p in model.named_parameters()}


def test_muon_moves_the_hidden_matrices_and_nothing_else() -> None:
    model = GPT(SHAPE)
    optimizers = Optimizers(model, OptimizerConfig(kind="muon"), device=CPU, dtype=torch.float32)
    by_kind = {
        type(optimizer).__name__: {optimizers.names[p] for g in optimizer.param_groups for p in g["params"]}
        for optimizer in optimizers.all
    }
    hidden = {name for name, p in model.named_parameters() if "blocks." in name and p.ndim == 2}
    assert len(hidden) == 4 * SHAPE.n_layer
    assert by_kind["Muon"] == hidden
    assert "embed.weight" in by_kind["AdamW"]


def test_a_frozen_parameter_is_in_no_group() -> None:
    model = GPT(SHAPE)
    model.embed.weight.requires_grad_(False)
    groups = parameter_groups(model, OptimizerConfig())
    assert groups["embeddings"] == []


def test_adamw_really_runs_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fused = torch._fused_adamw_
    monkeypatch.setattr(torch, "_fused_adamw_", lambda *args, **kwargs: (calls.append(1), fused(*args, **kwargs)))
    state, source, plan = make_state()
    assert [optimizer.fused for optimizer in state.optimizers.all] == [True]
    run_steps(state, source, plan, 1)
    assert len(calls) == 3


def test_adamw_takes_the_textbook_step() -> None:
    """One step from rest moves every weight by rate x (sign of its gradient + decay x weight), eps being small."""
    config = {"learning_rate": 0.01, "weight_decay": 0.1, "eps": 1e-12}
    state, source, plan = make_state(optimizer=config, clip_norm=0, schedule={"kind": "constant"})
    before, weight = state.model.blocks[0].mlp.up.weight.detach().clone(), state.model.blocks[0].mlp.up.weight
    run_steps(state, source, plan, 1)
    moved = (before * (1 - 0.01 * 0.1) - weight.detach()) / 0.01
    torch.testing.assert_close(moved.abs(), torch.ones_like(moved), rtol=1e-3, atol=1e-3)


def test_the_rate_moves_both_optimizers_by_their_own_peak() -> None:
    config = OptimizerConfig(kind="muon", learning_rate=1e-3, muon_learning_rate=0.04)
    optimizers = Optimizers(GPT(SHAPE), config, device=CPU, dtype=torch.float32)
    optimizers.set_rate(0.5)
    rates = {type(o).__name__: {g["lr"] for g in o.param_groups} for o in optimizers.all}
    assert rates == {"Muon": {0.02}, "AdamW": {0.0005}}


@pytest.mark.parametrize("fused", [True, False])
def test_adamw_is_torchs(fused: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((7, 5), (5,))]
    ours, theirs = ([torch.nn.Parameter(t.clone()) for t in start] for _ in range(2))
    settings = {"betas": (0.8, 0.95), "eps": 1e-8}
    groups = [
        [{"params": [p], "weight_decay": d} for p, d in zip(ps, (0.1, 0.0), strict=True)] for ps in (ours, theirs)
    ]
    optimizers = (
        AdamW(groups[0], 1e-2, fused=fused, **settings),
        torch.optim.AdamW(groups[1], lr=1e-2, fused=True, **settings),
    )
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0 if fused else 1e-6, atol=0 if fused else 1e-7)
