"""Parameters and operations, against numbers that are known and operations that are counted."""

from __future__ import annotations

import pytest
import torch
from model_shapes import SHAPES, random_ids, random_model
from torch.utils.flop_counter import FlopCounterMode

from folio.model.accounting import decode_flops, forward_flops, parameter_counts, training_flops
from folio.model.config import GPTConfig

GPT2_SIZES = [
    (12, 12, 768, 124_439_808),
    (24, 16, 1024, 354_823_168),
    (36, 20, 1280, 774_030_080),
    (48, 25, 1600, 1_557_611_200),
]


@pytest.mark.parametrize(("layers", "heads", "width", "parameters"), GPT2_SIZES)
def test_gpt2_has_as_many_parameters_as_openai_published(layers: int, heads: int, width: int, parameters: int) -> None:
    counts = parameter_counts(GPTConfig(n_layer=layers, n_head=heads, n_embd=width))
    assert counts.total == parameters
    assert counts.embedding == (50257 + 1024) * width
    assert counts.non_embedding == parameters - counts.embedding


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_those_of_the_model_without_padding(shape: str) -> None:
    config = SHAPES[shape]
    padding = (config.padded_vocab_size - config.vocab_size) * config.n_embd * (1 if config.tie_embeddings else 2)
    assert parameter_counts(config).total == sum(w.numel() for w in random_model(config).parameters()) - padding


@pytest.mark.parametrize("shape", SHAPES)
def test_operations_are_those_that_torch_counts(shape: str) -> None:
    """torch counts an attention of one block of queries, whole and unmasked, and the padded head.

    Gradients are on: the attention that is trained is made of plain products, which torch can count.
    """
    config = SHAPES[shape]
    model = random_model(config)
    with FlopCounterMode(display=False) as counter:
        model(random_ids(config, batch=2))
    padding = 2 * (config.padded_vocab_size - config.vocab_size) * config.n_embd
    assert counter.get_total_flops() / (2 * config.block_size) == forward_flops(config, causal=False) + padding


def test_training_is_three_times_forward_and_causal_attention_half() -> None:
    config = GPTConfig()
    whole, causal = forward_flops(config, causal=False), forward_flops(config)
    attention = 4 * 12 * 768 * 1024
    assert whole == 2 * (84_934_656 + 50257 * 768) + attention
    assert causal == whole - attention + attention * 1025 // 2048
    assert training_flops(config) == 3 * causal
    assert training_flops(config, causal=False) == 6 * (84_934_656 + 50257 * 768) + 12 * 12 * 12 * 64 * 1024


def test_causal_operations_are_the_sum_over_single_steps() -> None:
    config = SHAPES["llama-grouped"]
    steps = [decode_flops(config, position) for position in range(config.block_size)]
    assert sum(steps) == forward_flops(config) * config.block_size


def test_counting_takes_no_memory_for_weights() -> None:
    assert parameter_counts(GPTConfig(n_layer=96, n_head=96, n_embd=12288)).total > 170e9
    assert torch.get_default_dtype() == torch.float32
