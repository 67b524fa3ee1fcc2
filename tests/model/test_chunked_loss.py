"""The chunked loss is the plain one: sum of nats, count, gradients; padding rows take no part."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from model_shapes import SHAPES, random_ids, random_model
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from folio.model.loss import IGNORE, cross_entropy, each_token_nats, token_nats

V, PADDED, C, N = 61, 64, 16, 50


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, C, generator=generator, dtype=dtype, requires_grad=True)
    head = torch.randn(PADDED, C, generator=generator, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, V, (N,), generator=generator)
    targets[::7] = IGNORE
    return hidden, head, targets


@pytest.mark.parametrize("positions", [1, 7, 49, 50, 1000])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_it_equals_plain_cross_entropy(positions: int, scale: float) -> None:
    hidden, head, targets = inputs()
    nats, count = cross_entropy(hidden, head, targets, V, chunk_bytes=positions * 4 * PADDED)
    (nats * scale).backward()
    plain_hidden, plain_head, _ = inputs()
    plain = F.cross_entropy((plain_hidden @ plain_head.T)[:, :V], targets, ignore_index=IGNORE, reduction="sum")
    (plain * scale).backward()
    assert count.item() == int((targets != IGNORE).sum())
    assert nats.item() == pytest.approx(plain.item(), rel=1e-6)
    assert torch.allclose(hidden.grad, plain_hidden.grad, rtol=1e-5, atol=1e-6)
    assert torch.allclose(head.grad, plain_head.grad, rtol=1e-5, atol=1e-6)


def test_padding_rows_get_no_gradient_and_no_probability() -> None:
    hidden, head, targets = inputs()
    with torch.no_grad():
        head[V:] = 100.0
    nats, _ = cross_entropy(hidden, head, targets, V, chunk_bytes=4 * PADDED * 8)
    nats.backward()
    assert torch.count_nonzero(head.grad[V:]) == 0
    with torch.no_grad():
        head[V:] = -3.0
    assert torch.equal(cross_entropy(hidden, head, targets, V)[0], nats)


def test_nothing_to_learn_is_zero_nats_of_zero_tokens() -> None:
    hidden, head, targets = inputs()
    nats, count = cross_entropy(hidden, head, torch.full_like(targets, IGNORE), V)
    nats.backward()
    assert (nats.item(), count.item()) == (0.0, 0)
    assert not bool(hidden.grad.any())


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def test_the_logits_of_a_batch_never_exist_at_once() -> None:
    """No operation, forward or backward, returns more than a chunk of logits or the head itself."""
    hidden = torch.randn(640, 8, requires_grad=True)
    head = torch.randn(512, 8, requires_grad=True)
    targets = torch.randint(0, 500, (640,))
    with LargestTensor() as watch:
        nats, _ = cross_entropy(hidden, head, targets, 500, chunk_bytes=4 * 512 * 32)
        nats.backward()
    assert watch.elements == 32 * 512
    with LargestTensor() as control:
        F.cross_entropy(hidden @ head.T, targets, reduction="sum").backward()
    assert control.elements == 640 * 512


def test_the_loss_does_not_depend_on_how_a_batch_is_cut() -> None:
    """Every token weighs the same, however many micro-batches and however uneven."""
    model = random_model(SHAPES["gpt2"])
    ids, targets = random_ids(model.config, batch=5), random_ids(model.config, batch=5, seed=2)
    targets[1, 5:] = IGNORE
    with torch.no_grad():
        nats, count = model(ids, targets)
        parts = [model(i, t) for i, t in zip(ids.split([1, 3, 1]), targets.split([1, 3, 1]), strict=True)]
    assert sum(int(c) for _, c in parts) == int(count)
    assert sum(float(n) for n, _ in parts) == pytest.approx(float(nats), rel=1e-6)


def test_token_nats_are_what_the_sum_is_made_of() -> None:
    model = random_model(SHAPES["folio-mixed"])
    ids, targets = random_ids(model.config), random_ids(model.config, seed=2)
    targets[0, :9] = IGNORE
    nats = model.token_nats(ids, targets)
    assert nats.shape == ids.shape
    assert nats.dtype == torch.float32
    assert not bool(nats[0, :9].any())
    with torch.no_grad():
        total, _ = model(ids, targets)
        expected = -F.log_softmax(model(ids), -1)[1, 3, targets[1, 3]]
    assert float(nats.sum()) == pytest.approx(float(total), rel=1e-5)
    assert float(nats[1, 3]) == pytest.approx(float(expected), rel=1e-5)


def test_a_uniform_model_has_log_v_nats() -> None:
    """Over the true vocabulary, not the padded one."""
    hidden, head, targets = torch.zeros(9, C), torch.randn(PADDED, C), torch.arange(9)
    assert torch.allclose(token_nats(hidden, head, targets, V), torch.full((9,), math.log(V)))


def test_under_bfloat16_the_sum_is_still_fp32() -> None:
    hidden, head, targets = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        nats, _ = cross_entropy(hidden, head, targets, V)
    nats.backward()
    plain, _ = cross_entropy(hidden.detach(), head.detach(), targets, V)
    assert (nats.dtype, hidden.grad.dtype, head.grad.dtype) == (torch.float32,) * 3
    assert nats.item() == pytest.approx(plain.item(), rel=0.01)


def plain_nats(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy((hidden @ head.T)[:, :V], targets, ignore_index=IGNORE, reduction="none")


@pytest.mark.parametrize("positions", [1, 7, 50, 1000])
def test_nats_of_each_position_have_gradients_that_weigh_each_its_own_way(positions: int) -> None:
    hidden, head, targets = inputs()
    nats = each_token_nats(hidden, head, targets, V, chunk_bytes=positions * 4 * PADDED)
    weights = torch.linspace(-2, 3, N)
    (nats * weights).sum().backward()
    plain_hidden, plain_head, _ = inputs()
    plain = plain_nats(plain_hidden, plain_head, targets)
    (plain * weights).sum().backward()
    assert (nats.dtype, nats.shape) == (torch.float32, (N,))
    assert torch.allclose(nats.double(), plain, rtol=1e-6)
    assert not bool(nats[::7].any())
    assert torch.allclose(hidden.grad, plain_hidden.grad, rtol=1e-5, atol=1e-6)
    assert torch.allclose(head.grad, plain_head.grad, rtol=1e-5, atol=1e-6)
    assert torch.count_nonzero(head.grad[V:]) == 0


def test_an_ignored_position_passes_no_gradient_on_whatever_comes_back() -> None:
    hidden, head, targets = inputs()
    each_token_nats(hidden, head, targets, V).sum().backward()
    assert not bool(hidden.grad[::7].any())
    assert bool(hidden.grad[1].any())


def test_padding_rows_have_no_probability_at_any_position() -> None:
    hidden, head, targets = inputs()
    nats = each_token_nats(hidden, head, targets, V)
    with torch.no_grad():
        head[V:] = 100.0
        assert torch.equal(each_token_nats(hidden, head, targets, V), nats)


def test_gradients_of_each_position_need_no_more_than_a_chunk_of_logits() -> None:
    """The head's copy in another dtype aside, forward and backward alike."""
    hidden = torch.randn(640, 8, requires_grad=True)
    head = torch.randn(512, 8, requires_grad=True)
    targets = torch.randint(0, 500, (640,))
    with LargestTensor() as watch:
        each_token_nats(hidden, head, targets, 500, chunk_bytes=4 * 512 * 32).square().sum().backward()
    assert watch.elements == 32 * 512


@pytest.mark.parametrize("trained", ["hidden", "head"])
def test_a_frozen_head_or_body_costs_no_gradient(trained: str) -> None:
    hidden, head, targets = inputs()
    (head if trained == "hidden" else hidden).requires_grad_(False)
    each_token_nats(hidden, head, targets, V).sum().backward()
    summed, summed_head, _ = inputs()
    cross_entropy(summed, summed_head, targets, V)[0].backward()
    assert (hidden.grad is None, head.grad is None) == (trained == "head", trained == "hidden")
    got, wanted = (hidden.grad, summed.grad) if trained == "hidden" else (head.grad, summed_head.grad)
    assert torch.allclose(got, wanted, rtol=1e-6)


def test_under_bfloat16_nats_of_each_position_are_fp32_with_gradients() -> None:
    hidden, head, targets = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        nats = each_token_nats(hidden, head, targets, V)
        nats.sum().backward()  # a backward pass that is run under autocast makes no difference
    plain_hidden, plain_head, _ = inputs(torch.float32)
    plain_nats(plain_hidden, plain_head, targets).sum().backward()
    assert (nats.dtype, hidden.grad.dtype, head.grad.dtype) == (torch.float32,) * 3
    assert nats.sum().item() == pytest.approx(token_nats(hidden, head, targets, V).sum().item(), rel=0.01)
    assert torch.allclose(head.grad, plain_head.grad, atol=0.02 * float(plain_head.grad.abs().max()))


def test_a_model_gives_the_nats_of_each_position_with_the_gradient_of_their_sum() -> None:
    model = random_model(SHAPES["llama-grouped"])
    ids, targets = random_ids(model.config), random_ids(model.config, seed=2)
    targets[0, :9] = IGNORE
    nats, count = model(ids, targets, each=True)
    assert torch.equal(nats.detach(), model.token_nats(ids, targets))
    assert int(count) == int((targets != IGNORE).sum())
    each = torch.autograd.grad(nats.sum(), list(model.parameters()))
    whole = torch.autograd.grad(model(ids, targets)[0], list(model.parameters()))
    for one, other in zip(each, whole, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))
