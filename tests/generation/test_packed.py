"""Packed and 8-bit weights compute what the plain model computes, in the memory they claim."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from folio.model.cache import KVCache
from folio.model.gpt import GPT
from folio.model.packed import PackedLinear, block_width, pack, packing_helps
from folio.model.quantized import Int8Linear, quantize_int8, weight_bytes

WIDTHS = [(5, 7), (48, 40), (100, 64), (130, 32), (384, 96), (576, 96)]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).float().std() / b.float().std())


@pytest.mark.parametrize(("outputs", "inputs"), WIDTHS)
@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_a_packed_layer_is_the_linear_layer(
    outputs: int, inputs: int, rows: int, dtype: torch.dtype, tolerance: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias, x = (
        torch.randn(shape, generator=generator) for shape in ((outputs, inputs), outputs, (2, rows, inputs))
    )
    layer = PackedLinear(weight.to(dtype), bias.to(dtype))
    assert torch.equal(layer.weight_VC(), weight.to(dtype))
    expected = F.linear(x.to(dtype).double(), weight.to(dtype).double(), bias.to(dtype).double())
    y = layer(x.to(dtype))
    assert y.shape == expected.shape
    assert y.dtype == dtype
    assert relative(y.double(), expected) < tolerance


@pytest.mark.parametrize(("outputs", "inputs"), WIDTHS)
@pytest.mark.parametrize("rows", [1, 3, 20])
def test_an_8_bit_layer_rounds_weights_and_nothing_else(outputs: int, inputs: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias, x = (
        torch.randn(shape, generator=generator) for shape in ((outputs, inputs), outputs, (rows, inputs))
    )
    layer = Int8Linear(weight, bias)
    rounded = layer.weight_VC()
    step = (weight.amax() - weight.amin()) / 255
    assert (rounded - weight).abs().max() <= step
    assert relative(layer(x), F.linear(x, rounded, bias)) < 1e-5
    ids = torch.tensor([[0, outputs - 1], [outputs // 2, 0]])
    torch.testing.assert_close(layer.embedding(ids), rounded[ids])


@pytest.mark.parametrize("outputs", range(1, 1300, 37))
def test_blocks_waste_little(outputs: int) -> None:
    width = block_width(outputs)
    assert -(-outputs // width) * width < outputs + 128
    assert width <= 192


@pytest.mark.parametrize(("kind", "tolerance"), [(pack, 1e-5), (quantize_int8, 0.05)])
def test_a_packed_model_is_the_model(model: GPT, kind: Callable[[GPT], GPT], tolerance: float) -> None:
    packed = kind(model)
    generator = torch.Generator().manual_seed(2)
    ids_BT, targets_BT = torch.randint(0, model.config.vocab_size, (2, 3, 20), generator=generator)
    with torch.no_grad():
        assert relative(packed(ids_BT), model(ids_BT)) < tolerance
        cache = KVCache(model.config, 3, 32)
        steps = [packed(ids_BT[:, t : t + 1], cache=cache) for t in range(20)]
        assert relative(torch.cat(steps, 1), model(ids_BT)) < tolerance
        nats, count = packed(ids_BT, targets_BT)
        assert count == 60
        assert abs(float(nats / model(ids_BT, targets_BT)[0]) - 1) < tolerance
    assert relative(packed.token_nats(ids_BT, targets_BT), model.token_nats(ids_BT, targets_BT)) < tolerance
    assert not packed.training
    assert not any(parameter.requires_grad for parameter in packed.parameters())


def test_packing_leaves_the_model_as_it_was(model: GPT) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quantize_int8(model)
    with torch.no_grad():
        for parameter in pack(model).parameters():
            parameter.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_8_bit_weights_take_half_of_bf16(make_gpt: Callable[..., GPT]) -> None:
    model = make_gpt(3072, n_embd=192, n_head=4, block_size=8)
    assert weight_bytes(quantize_int8(model)) < 0.56 * weight_bytes(pack(model.to(torch.bfloat16)))


def test_packing_helps_on_this_kind_of_cpu_alone(model: GPT) -> None:
    assert packing_helps(model) == ("fbgemm" in torch.backends.quantized.supported_engines)
    assert not packing_helps(pack(model))
    with torch.device("meta"):
        assert not packing_helps(GPT(model.config))
