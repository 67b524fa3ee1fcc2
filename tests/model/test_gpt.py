"""What makes it a transformer that knows the order of its tokens, and GPT-2 in particular."""

from __future__ import annotations

import math

import pytest
import torch
from model_shapes import SHAPES, assert_same_logits, random_ids, random_model

from folio.model.build import allocate, skeleton
from folio.model.cache import KVCache
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.model.layers import rotary_table, rotate


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "folio-no-positions"])
@torch.no_grad()
def test_the_order_of_the_prefix_changes_the_last_logits(shape: str) -> None:
    """A rotation along the head axis, or none at all, would leave them as they are.

    In a model of one block, that is: in a deeper one the causal mask alone tells later blocks something of the order.
    """
    model = random_model(SHAPES[shape].model_copy(update={"n_layer": 1}))
    ids = random_ids(model.config, batch=1)
    turned = torch.cat((ids[:, :-1].flip(1), ids[:, -1:]), dim=1)
    before, after = model(ids)[0, -1], model(turned)[0, -1]
    assert (before - after).abs().max() > 0.01 * before.std()


@torch.no_grad()
def test_without_positions_the_order_of_the_prefix_is_invisible_to_one_block() -> None:
    """The control of the test above: what it looks for does vanish when positions do."""
    model = random_model(SHAPES["folio-no-positions"].model_copy(update={"n_layer": 1}))
    ids = random_ids(model.config, batch=1)
    turned = torch.cat((ids[:, :-1].flip(1), ids[:, -1:]), dim=1)
    assert_same_logits(model(turned)[0, -1], model(ids)[0, -1])


def test_rotation_depends_on_distance_alone() -> None:
    """Su et al. 2021, eq. 16: the product of a rotated query and key is a function of their offset."""
    cos, sin = rotary_table(8, 64, 10000.0)
    q, k = torch.randn(1, 3, 1, 8).expand(1, 3, 64, 8), torch.randn(1, 3, 1, 8).expand(1, 3, 64, 8)
    scores = rotate(q, cos, sin) @ rotate(k, cos, sin).transpose(-2, -1)
    for offset in (0, 1, 7):
        along = scores.diagonal(-offset, -2, -1)
        assert torch.allclose(along, along[..., :1].expand_as(along), atol=1e-4)
    assert not torch.allclose(scores[..., 0, 0], scores[..., 9, 0], atol=1e-2)


@torch.no_grad()
def test_a_token_never_sees_what_follows() -> None:
    for shape in SHAPES.values():
        model = random_model(shape)
        ids = random_ids(shape)
        changed = ids.clone()
        changed[:, 20:] = (changed[:, 20:] + 1) % shape.vocab_size
        before, after = model(ids), model(changed)
        assert_same_logits(after[:, :20], before[:, :20])
        assert (after[:, 20:] - before[:, 20:]).abs().max() > 0.1


def test_residual_projections_start_small() -> None:
    """GPT-2, section 2.3: 0.02 / sqrt(2 layers), where sqrt(layers) or the heads once made it larger."""
    config = GPTConfig(vocab_size=500, block_size=64, n_layer=8, n_head=4, n_embd=256)
    model = GPT(config).initialize(seed=0)
    for name, weight in model.named_parameters():
        if name.endswith("proj.weight"):
            assert weight.std().item() == pytest.approx(0.02 / math.sqrt(16), rel=0.02)
        elif name.endswith("norm.weight"):
            assert bool((weight == 1).all())
        elif name.endswith("bias"):
            assert not bool(weight.any())
        elif name != "embed.weight":
            assert weight.std().item() == pytest.approx(0.02, rel=0.02), name
    assert model.embed.weight[:500].std().item() == pytest.approx(0.02, rel=0.02)
    assert not bool(model.embed.weight[500:].any())


def test_one_seed_gives_one_model() -> None:
    config = SHAPES["llama-grouped"]
    first, again, other = (GPT(config).initialize(seed).embed.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_zero_residual_starts_as_the_identity() -> None:
    model = GPT(SHAPES["gpt2"]).initialize(0, "zero-residual").eval()
    ids = random_ids(model.config)
    with torch.no_grad():
        plain = model.norm(model.embed(ids) + model.positions.weight)
        assert torch.equal(model.hidden(ids), plain)


@torch.no_grad()
def test_the_final_norm_is_used() -> None:
    for shape in SHAPES.values():
        model = random_model(shape)
        ids = random_ids(shape)
        before = model(ids)
        model.norm.weight.mul_(2.0)
        if getattr(model.norm, "bias", None) is not None:
            model.norm.bias.mul_(2.0)
        assert_same_logits(model(ids), 2 * before)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [[1] * 32, [20, 1, 1, 10], [32]])
@torch.no_grad()
def test_cached_decode_equals_the_full_forward(shape: str, steps: list[int]) -> None:
    model = random_model(SHAPES[shape])
    ids = random_ids(model.config)
    cache = KVCache(model.config, batch_size=2, capacity=32)
    parts = [model(part, cache=cache) for part in ids.split(steps, dim=1)]
    assert_same_logits(torch.cat(parts, dim=1), model(ids))


@pytest.mark.parametrize("shape", SHAPES)
def test_training_attention_equals_the_one_of_inference(shape: str) -> None:
    """The products that keep their probabilities, against the fused kernel."""
    model = random_model(SHAPES[shape])
    ids = random_ids(model.config)
    learning = model(ids)
    assert learning.requires_grad
    with torch.no_grad():
        assert_same_logits(learning.detach(), model(ids))


def test_recomputed_activations_give_the_same_gradients() -> None:
    gradients = []
    for recompute in (False, True):
        model = random_model(SHAPES["qwen3-grouped-untied"]).train()
        model.recompute = recompute
        nats, _ = model(random_ids(model.config), random_ids(model.config, seed=3))
        nats.backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        assert torch.equal(plain, again)


def test_more_tokens_than_the_context_are_refused() -> None:
    model = random_model(SHAPES["gpt2"])
    with pytest.raises(ValueError, match="33 tokens are more"):
        model(torch.zeros(1, 33, dtype=torch.long))


def test_a_model_for_loading_is_not_drawn_first() -> None:
    config = GPTConfig(vocab_size=100, block_size=64, n_layer=2, n_head=2, n_embd=32, position="rope", bias=False)
    state = torch.random.get_rng_state()
    assert all(weight.is_meta for weight in skeleton(config).parameters())
    model = allocate(config, dtype=torch.bfloat16)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.cos.dtype == torch.float32
    assert torch.equal(model.sin, GPT(config).sin)
    assert not bool(model.embed.weight[100:].any())
