"""QLoRA for real: the base lies in memory as NF4, has no gradient, and adapters go into the full-precision base."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from model_shapes import SHAPES, random_ids, random_model
from torch import nn

from folio.errors import ArtifactError, ConfigError, MissingExtra
from folio.finetuning.config_lora import LoraConfig, Method
from folio.finetuning.four_bit import FourBitLinear, quantize_base
from folio.finetuning.lora import adapted_layers, add_lora, merge, merged, set_adapter
from folio.finetuning.memory import four_bit_bytes, measured_memory, method_memory
from folio.finetuning.trainable import make_trainable, trainable_parameters, untie
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.training.config import OptimizerConfig
from folio.training.optimizers import Optimizers

bitsandbytes = pytest.importorskip("bitsandbytes")

WIDE = GPTConfig(vocab_size=101, block_size=32, n_layer=2, n_head=4, n_embd=256)
KINDS = ["gpt2", "llama-grouped", "qwen3-grouped-untied"]


def four_bit(shape: GPTConfig, **settings: object) -> GPT:
    """A model in 4 bits with an adapter that matters."""
    model = random_model(shape)
    quantize_base(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in add_lora(model, LoraConfig.model_validate({"rank": 4, "alpha": 6, **settings})):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def nats_per_token(model: GPT) -> torch.Tensor:
    ids = random_ids(model.config)
    nats, count = model(ids[:, :-1], ids[:, 1:])
    return nats / count


def trained(model: GPT, steps: int = 6, learning_rate: float = 5e-3) -> tuple[list[float], Optimizers]:
    """Losses of a few steps; the gradients of the last are left to be looked at."""
    settings = OptimizerConfig(learning_rate=learning_rate, weight_decay=0.0)
    optimizers = Optimizers(model, settings, device=torch.device("cpu"), dtype=torch.float32)
    losses = []
    for _ in range(steps):
        optimizers.zero_grad()
        loss = nats_per_token(model)
        loss.backward()
        optimizers.step()
        losses.append(float(loss.detach()))
    return losses, optimizers


def test_a_base_weight_takes_about_half_a_byte() -> None:
    """Every tensor of the layer that is not a bias or an adapter's, all that unrounding needs included."""
    model = random_model(WIDE)
    weights = sum(layer.weight.numel() for layer in model.blocks.modules() if isinstance(layer, nn.Linear))
    quantize_base(model)
    add_lora(model, LoraConfig(rank=2))
    kept = {
        id(tensor.untyped_storage()): tensor.untyped_storage().nbytes()
        for layer in adapted_layers(model).values()
        for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]
        if name != "bias" and name[-2:] not in ("_A", "_B")
    }
    assert sum(kept.values()) == sum(layer.storage_bytes for layer in adapted_layers(model).values())
    assert 0.5 * weights < sum(kept.values()) < 0.53 * weights
    assert not any(isinstance(module, nn.Linear) for module in model.blocks.modules())
    layer = model.blocks[0].mlp.up
    attributes = [value for value in vars(layer).values() if isinstance(value, torch.Tensor)]
    assert attributes == []  # and no copy is hidden elsewhere


def test_the_base_has_no_gradient_and_a_few_steps_lower_the_loss() -> None:
    model = random_model(WIDE)
    make_trainable(model, "qlora", LoraConfig(rank=4))
    before = {name: tensor.clone() for name, tensor in model.named_buffers()}
    losses, _ = trained(model)
    assert losses[-1] < losses[0] - 0.5
    assert {name[-2:] for name, p in model.named_parameters() if p.grad is not None} == {"_A", "_B"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_buffers())


def test_products_and_gradients_are_those_of_bitsandbytes_own_layer() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(128, 96)
    theirs = bitsandbytes.nn.Linear4bit(128, 96, quant_type="nf4", compress_statistics=True)
    theirs.weight = bitsandbytes.nn.Params4bit(linear.weight.detach(), quant_type="nf4", requires_grad=False)
    theirs.bias = linear.bias
    theirs = theirs.to("cpu")
    ours = FourBitLinear([], linear.weight, linear.bias)
    x = torch.randn(5, 128, requires_grad=True)
    y = theirs(x)
    (expected,) = torch.autograd.grad(y.sin().sum(), x)
    (found,) = torch.autograd.grad(ours(x).sin().sum(), x)
    assert (ours(x) - y).norm() < 1e-5 * y.norm()
    assert (found - expected).norm() < 1e-5 * expected.norm()
    error = (ours.base_weight() - linear.weight).norm() / linear.weight.norm()
    assert 0.05 < error < 0.12
    assert not any(parameter.requires_grad for parameter in ours.parameters())


def test_backward_keeps_four_bits_not_the_weight() -> None:
    model = four_bit(WIDE)
    largest = WIDE.n_embd**2  # the smallest matrix of the blocks, in weights
    kept: list[torch.Tensor] = []
    x = torch.randn(1, 2, WIDE.n_embd, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        model.blocks[0].mlp(x).sum().backward()
    assert kept
    assert max(tensor.numel() for tensor in kept if tensor.is_floating_point()) < largest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dora", [False, True])
def test_export_merges_into_the_full_precision_base(kind: str, dora: bool) -> None:
    model, base = four_bit(SHAPES[kind], dora=dora), random_model(SHAPES[kind])
    before = {name: weight.clone() for name, weight in base.named_parameters()}
    plain = merged(model, base)
    layer = model.blocks[1].mlp.proj
    (part,) = layer.rows
    A, B, m = (layer._parameters.get(f"{part}_{slot}") for slot in ("A", "B", "m"))
    full = base.blocks[1].mlp.proj.weight
    expected = full + (6 / 4) * B @ A
    if m is not None:
        expected = expected * (m / expected.norm(dim=1))[:, None]
    found = plain.blocks[1].mlp.proj.weight
    assert (found - expected).abs().max() < 1e-6 * expected.std() * 10
    if not dora:  # a length would hide it
        rounded = layer.base_weight() + (6 / 4) * B @ A
        assert (found - rounded).norm() > 0.05 * full.norm()
    assert all(torch.equal(weight, before[name]) for name, weight in base.named_parameters())
    assert all(parameter.requires_grad for parameter in base.parameters())


def test_merging_into_four_bits_is_refused() -> None:
    model = four_bit(SHAPES["gpt2"])
    for attempt in (merge, merged):
        with pytest.raises(ArtifactError, match="4 bits") as caught:
            attempt(model)
        assert "full-precision" in caught.value.remedy
    with pytest.raises(ArtifactError, match="another shape"):
        merged(model, random_model(SHAPES["llama"]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_adapter_leaves_the_rounded_model_as_it_was(kind: str) -> None:
    model, ids = random_model(SHAPES[kind]), random_ids(SHAPES[kind])
    quantize_base(model)
    with torch.no_grad():
        before = model(ids)
        add_lora(model, LoraConfig(rank=4, dora=True))
        assert torch.equal(model(ids), before)
        set_adapter(model, None)
        assert torch.equal(model(ids), before)


def test_it_trains_under_autocast_and_with_recomputed_activations() -> None:
    model = four_bit(SHAPES["llama-grouped"])
    gradients = []
    for recompute, half in ((False, False), (True, False), (True, True)):
        model.recompute = recompute
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = nats_per_token(model)
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in trainable_parameters(model).values()]))
        model.zero_grad()
    assert torch.equal(gradients[0], gradients[1])
    assert 0 < (gradients[2] - gradients[0]).norm() < 0.1 * gradients[0].norm()


def test_what_is_not_rounded_may_be_halved() -> None:
    model = random_model(SHAPES["gpt2"])
    quantize_base(model, torch.bfloat16)
    add_lora(model, LoraConfig(rank=4))
    assert model.embed.weight.dtype == torch.bfloat16
    assert {p.dtype for p in trainable_parameters(model).values()} == {torch.float32}
    nats_per_token(model).backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in trainable_parameters(model).values())


def test_a_device_without_four_bits_is_refused() -> None:
    with pytest.raises(ConfigError, match="not on meta"):
        quantize_base(GPT(SHAPES["gpt2"]).to("meta"))


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtra, match="'bitsandbytes'") as caught:
        quantize_base(random_model(SHAPES["gpt2"]))
    assert "folio-lm[finetune]" in caught.value.remedy


def test_nothing_is_printed_on_the_way() -> None:
    script = (
        "import logging; from folio.model.config import GPTConfig; from folio.model.gpt import GPT;"
        "from folio.finetuning.four_bit import quantize_base;"
        "m = GPT(GPTConfig(vocab_size=9, block_size=4, n_layer=1, n_head=1, n_embd=64)); quantize_base(m);"
        "import torch; m(torch.zeros(1, 2, dtype=torch.int64));"
        "logging.getLogger('bitsandbytes.backends.cpu.ops').warning('heard')"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "heard\n")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("method", ["full", "lora", "qlora", "head"])
def test_memory_counted_beforehand_is_memory_measured(method: Method, tied: bool) -> None:
    shape = WIDE.model_copy(update={"tie_embeddings": tied})
    lora = LoraConfig(rank=4, dora=method == "lora", targets=("qkv", "mlp.proj"))
    model = random_model(shape)
    make_trainable(model, method, lora)
    _, optimizers = trained(model, steps=1)
    assert measured_memory(model, method, optimizers.state_tensors()) == method_memory(shape, method, lora)


def test_memory_falls_from_full_to_lora_to_qlora() -> None:
    full, lora, qlora, head = (method_memory(GPTConfig(), method) for method in ("full", "lora", "qlora", "head"))
    assert full.total_bytes == 16 * (full.base_bytes // 4)
    assert full.total_bytes > 3 * lora.total_bytes > 3 * qlora.total_bytes
    assert qlora.base_bytes < 0.5 * lora.base_bytes
    assert head.trainable == 768 * 50304 + 2 * 768
    assert method_memory(GPTConfig(), "lora").trainable == 12 * 16 * (768 + 2304 + 768 + 768 + 2 * (768 + 3072))


@pytest.mark.parametrize("kind", ["gpt2", "llama-untied"])
def test_head_trains_the_output_head_and_the_final_norm_alone(kind: str) -> None:
    model, ids = random_model(SHAPES[kind]), random_ids(SHAPES[kind])
    with torch.no_grad():
        before = model(ids)
    names = set(make_trainable(model, "head"))
    assert names == {name for name, _ in model.named_parameters() if name.startswith(("norm.", "head."))}
    assert not model.config.tie_embeddings
    with torch.no_grad():
        assert torch.equal(model(ids), before)
    embedding = model.embed.weight.detach().clone()
    losses, _ = trained(model)
    assert losses[-1] < losses[0]
    assert torch.equal(model.embed.weight, embedding)
    assert not model.head.weight[model.config.vocab_size :].any()  # padding stays zero


def test_giving_a_model_its_own_head_draws_nothing() -> None:
    model = random_model(SHAPES["gpt2"])
    state = torch.get_rng_state()
    untie(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.head.weight, model.embed.weight)
    assert model.head.weight is not model.embed.weight


def test_nf4_takes_the_bits_that_the_paper_counts() -> None:
    weights = 4096 * 4096
    assert math.isclose(8 * four_bit_bytes(weights) / weights, 4.127, abs_tol=1e-3)
