"""Adapters on a model: they change nothing at first, alone are trained, and go in and out of the weights exactly."""

from __future__ import annotations

import math

import pytest
import torch
from model_shapes import SHAPES, random_ids, random_model

from folio.errors import ConfigError
from folio.finetuning.config_lora import LoraConfig
from folio.finetuning.lora import adapter_names, add_lora, merge, merged, set_adapter, unmerge
from folio.finetuning.targets import chosen_parts, linear_parts
from folio.model.gpt import GPT
from folio.model.packed import pack
from folio.model.reordered import reordered, reordering_helps
from folio.training.config import OptimizerConfig
from folio.training.optimizers import Optimizers

KINDS = ["gpt2", "llama-grouped", "qwen3-grouped-untied", "qwen3-wide-heads", "folio-mixed"]
VARIANTS = {"lora": {}, "rslora": {"rslora": True}, "dora": {"dora": True}}


def adapted(kind: str, seed: int = 3, name: str = "default", model: GPT | None = None, **settings: object) -> GPT:
    """A model with an adapter that matters: every one of its numbers is moved."""
    model = random_model(SHAPES[kind]) if model is None else model
    generator = torch.Generator().manual_seed(seed)
    config = LoraConfig.model_validate({"rank": 4, "alpha": 6, **settings})
    with torch.no_grad():
        for parameter in add_lora(model, config, name):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def logits(model: GPT) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(random_ids(model.config))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("half", [False, True])
def test_a_new_adapter_leaves_the_model_as_it_was_to_the_bit(kind: str, variant: str, half: bool) -> None:
    model = random_model(SHAPES[kind])
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        before = logits(model)
        add_lora(model, LoraConfig(rank=4, **VARIANTS[variant]))
        assert torch.equal(logits(model), before)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_whole_matrix_by_the_chain_rule(kind: str) -> None:
    """W' = W + s B A, so dA = s B^T dW and dB = s dW A^T, with dW from training the merged weights themselves."""
    model = adapted(kind)
    plain = merged(model).requires_grad_(True)
    ids = random_ids(model.config)
    for each in (model, plain):
        each(ids[:, :-1], ids[:, 1:])[0].backward()
    whole, own = dict(plain.named_parameters()), dict(model.named_parameters())
    scaling = 6 / 4
    for part in linear_parts(model.config):
        dW = whole[f"{part.layer}.weight"].grad[part.start : part.stop]
        A, B = own[f"{part.layer}.{part.name}_A"], own[f"{part.layer}.{part.name}_B"]
        for found, expected in ((A.grad, scaling * B.detach().T @ dW), (B.grad, scaling * dW @ A.detach().T)):
            assert (found - expected).norm() < 2e-5 * expected.norm()


def test_only_the_adapter_is_trained() -> None:
    model = adapted("llama-grouped", dora=True)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    settings = OptimizerConfig(learning_rate=1e-2)
    optimizers = Optimizers(model, settings, device=torch.device("cpu"), dtype=torch.float32)
    ids = random_ids(model.config)
    losses = []
    for _ in range(5):
        nats, count = model(ids[:, :-1], ids[:, 1:])
        (nats / count).backward()
        losses.append(float(nats.detach()) / int(count))
        optimizers.step()
        optimizers.zero_grad()
    assert losses[-1] < losses[0] - 0.1
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if name[-2:] in ("_A", "_B", "_m")}
    assert len(moved) == 3 * len(linear_parts(model.config))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_merging_and_taking_out_again_is_exact(kind: str, variant: str) -> None:
    model = adapted(kind, **VARIANTS[variant])
    base, with_adapter = logits(random_model(SHAPES[kind])), logits(model)
    assert (with_adapter - base).abs().max() > 0.1
    plain = merged(model)
    assert type(plain.blocks[0].attn.qkv) is torch.nn.Linear
    assert (logits(plain) - with_adapter).abs().max() < 1e-5 * with_adapter.std()
    merge(model)
    merge(model)  # a second time changes nothing
    assert torch.equal(logits(model), logits(plain))
    unmerge(model)
    assert torch.equal(logits(model), with_adapter)
    set_adapter(model, None)
    assert torch.equal(logits(model), base)


def test_a_merged_copy_outlives_what_is_done_to_the_model() -> None:
    model = adapted("gpt2")
    merge(model)
    plain = merged(model)
    expected = logits(plain)
    unmerge(model)
    assert torch.equal(logits(plain), expected)
    assert plain.embed.weight.data_ptr() == model.embed.weight.data_ptr()  # what no adapter changes is shared
    assert all(parameter.requires_grad for name, parameter in model.named_parameters() if name.endswith("_A"))


def test_what_is_half_precision_stays_so_and_is_summed_in_full() -> None:
    model = random_model(SHAPES["gpt2"]).bfloat16()
    original = model.blocks[0].mlp.up.weight.detach().clone()
    adapted("gpt2", model=model)
    layer = model.blocks[0].mlp.up
    delta = 1.5 * layer.c_fc_B @ layer.c_fc_A
    assert layer.weight.dtype == torch.bfloat16
    assert torch.equal(layer.weight, (original.float() + delta).bfloat16())
    assert logits(model).dtype == torch.bfloat16


def test_adapters_are_changed_for_one_another() -> None:
    model = adapted("llama-grouped", seed=1, name="one", targets=["q_proj"])
    one = logits(model)
    adapted("llama-grouped", seed=2, name="two", model=model, dora=True, targets=["mlp.down_proj"])
    two = logits(model)
    assert adapter_names(model) == ["one", "two"]
    assert not torch.equal(one, two)
    set_adapter(model, "one")
    assert torch.equal(logits(model), one)
    merge(model)
    set_adapter(model, "two")
    assert torch.equal(logits(model), two)
    set_adapter(model, None)
    assert torch.equal(logits(model), logits(random_model(SHAPES["llama-grouped"])))
    with pytest.raises(ConfigError, match="no adapter 'tow'") as caught:
        set_adapter(model, "tow")
    assert caught.value.remedy == "Did you mean two?"
    with pytest.raises(ConfigError, match="an adapter 'two' already"):
        add_lora(model, LoraConfig(), "two")


def test_an_adapter_is_seen_by_the_layouts_that_generation_and_scoring_use() -> None:
    model = adapted("gpt2", dora=True)
    expected = logits(model)
    assert (logits(pack(model)) - expected).abs().max() < 1e-5 * expected.std()
    if reordering_helps(model, torch.float32):
        assert (logits(reordered(model, torch.float32)) - expected).abs().max() < 1e-5 * expected.std()


def test_recomputed_activations_give_the_same_gradients() -> None:
    gradients = []
    for recompute in (False, True):
        model = adapted("qwen3-grouped-untied", dora=True, dropout=0.2).train()
        model.recompute = recompute
        torch.manual_seed(0)
        ids = random_ids(model.config)
        model(ids[:, :-1], ids[:, 1:])[0].backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == 3 * len(linear_parts(model.config))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_autocast_trains_it_in_half_precision(variant: str) -> None:
    model, gradients = adapted("llama-grouped", **VARIANTS[variant]), []
    ids = random_ids(model.config)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            nats, _ = model(ids[:, :-1], ids[:, 1:])
        nats.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        model.zero_grad()
    exact, half = gradients
    assert half.dtype == torch.float32
    assert 0 < (half - exact).norm() < 0.1 * exact.norm()


def test_dropout_is_for_training_only_and_on_the_adapter_only() -> None:
    model = adapted("gpt2", dropout=0.5)
    quiet = logits(model)
    assert torch.equal(quiet, logits(adapted("gpt2")))
    model.train()
    assert not torch.equal(logits(model), quiet)
    set_adapter(model, None)
    assert torch.equal(logits(model), logits(random_model(SHAPES["gpt2"])))


def test_scaling_and_first_values_are_those_of_the_papers() -> None:
    assert LoraConfig(rank=16, alpha=8).scaling == 0.5
    assert LoraConfig(rank=16, alpha=8, rslora=True).scaling == 2.0
    first, again, other = (random_model(SHAPES["gpt2"]) for _ in range(3))
    for model, seed in ((first, 5), (again, 5), (other, 6)):
        add_lora(model, LoraConfig(rank=8, seed=seed))
    A = first.blocks[1].mlp.proj.c_proj_A
    bound = 1 / math.sqrt(A.shape[1])
    assert 0.9 * bound < A.abs().max() <= bound
    assert torch.equal(A, again.blocks[1].mlp.proj.c_proj_A)
    assert not torch.equal(A, other.blocks[1].mlp.proj.c_proj_A)
    assert not torch.equal(A, first.blocks[2].mlp.proj.c_proj_A)


@pytest.mark.parametrize(
    ("kind", "target", "theirs"),
    [
        ("gpt2", "qkv", {"c_attn"}),
        ("gpt2", "proj", {"c_proj"}),
        ("gpt2", "attn.proj", {"c_proj"}),
        ("gpt2", "all-linear", {"c_attn", "c_proj", "c_fc"}),
        ("llama", "qkv", {"q_proj", "k_proj", "v_proj"}),
        ("llama", "v_proj", {"v_proj"}),
        ("llama", "up", {"gate_proj", "up_proj"}),
        ("llama", "up_proj", {"up_proj"}),
        ("llama", "proj", {"o_proj", "down_proj"}),
        ("folio", "qkv", {"qkv"}),
    ],
)
def test_targets_go_by_either_name(kind: str, target: str, theirs: set[str]) -> None:
    parts = chosen_parts(SHAPES[kind], [target])
    assert {part.name for part in parts} == theirs
    assert len({part.layer.split(".")[1] for part in parts}) == SHAPES[kind].n_layer


def test_one_layer_may_be_a_target() -> None:
    assert [part.layer for part in chosen_parts(SHAPES["gpt2"], ["h.2.mlp.c_fc"])] == ["blocks.2.mlp.up"]


def test_a_target_that_is_none_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no linear layer 'q_porj'") as caught:
        chosen_parts(SHAPES["llama"], ["q_porj"])
    assert caught.value.remedy.startswith("Did you mean q_proj?")
    with pytest.raises(ConfigError, match="'lm_head'"):
        chosen_parts(SHAPES["llama"], ["lm_head"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_compiles_as_one_graph(variant: str) -> None:
    model = adapted("llama-grouped", **VARIANTS[variant])
    ids = random_ids(model.config)
    expected, _ = model(ids[:, :-1], ids[:, 1:])
    compiled = torch.compile(model, dynamic=False, backend="aot_eager", fullgraph=True)
    found, _ = compiled(ids[:, :-1], ids[:, 1:])
    found.backward()
    assert abs(float(found.detach() - expected.detach())) < 1e-5 * float(expected.detach())
