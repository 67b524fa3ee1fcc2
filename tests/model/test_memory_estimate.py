"""The memory estimate against what autograd keeps and what the process takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from model_shapes import SHAPES, random_ids, random_model

from folio.model.config import GPTConfig
from folio.model.memory import inference_memory, training_memory

MODERN = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False}
BODY = {"vocab_size": 512, "n_head": 4, "n_embd": 128}
KEPT = {
    "gpt2": GPTConfig(**BODY, n_layer=4, block_size=256),
    "gpt2-dropout": GPTConfig(**BODY, n_layer=4, block_size=256, dropout=0.1),
    "gpt2-long": GPTConfig(**BODY, n_layer=2, block_size=1536),
    "llama-grouped": GPTConfig(**BODY, **MODERN, n_layer=4, block_size=256, n_kv_head=2),
    "llama-grouped-long": GPTConfig(**BODY, **MODERN, n_layer=2, block_size=1536, n_kv_head=2),
    "qwen3": GPTConfig(**BODY, **MODERN, n_layer=4, block_size=256, qk_norm=True),
    "wide-heads": GPTConfig(**BODY, **MODERN, n_layer=4, block_size=256, qk_norm=True, head_dim=128, n_kv_head=2),
    "wide-heads-long": GPTConfig(**BODY, **MODERN, n_layer=2, block_size=1536, head_dim=128, n_kv_head=2),
}


def kept_bytes(config: GPTConfig, micro_batch: int, dtype: str, recompute: bool) -> int:
    """Bytes of the distinct storages that autograd keeps for backward, weights aside."""
    model = random_model(config).train()
    model.recompute = recompute
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = random_ids(config, batch=micro_batch)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        nats, _ = model(ids, ids)
    assert nats.requires_grad
    return sum(kept.values())


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning")
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", KEPT)
def test_activations_are_those_that_autograd_keeps(shape: str, dtype: str) -> None:
    """Within 10 %."""
    config = KEPT[shape]
    estimate = training_memory(config, 2, dtype=dtype)
    assert estimate.activations + estimate.head_gradient == pytest.approx(
        kept_bytes(config, 2, dtype, recompute=False), rel=0.1
    )


@pytest.mark.parametrize("shape", ["gpt2", "llama-grouped"])
def test_recomputed_activations_are_one_stream_a_block_and_one_block(shape: str) -> None:
    """Within 25 %: the final norm is counted twice here."""
    config = KEPT[shape]
    one_block = training_memory(config.model_copy(update={"n_layer": 1}), 2).activations
    estimate = training_memory(config, 2, recompute=True)
    measured = kept_bytes(config, 2, "fp32", recompute=True) + one_block
    assert estimate.activations + estimate.head_gradient == pytest.approx(measured, rel=0.25)
    assert estimate.activations < 0.5 * training_memory(config, 2).activations


MEASURE = """
import re, sys, torch
from pathlib import Path
from folio.model.config import GPTConfig
from folio.model.gpt import GPT

def peak_bytes():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

def step(config, B, recompute=False):
    model = GPT(config).initialize(0)
    model.recompute = recompute
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(2):
        ids = torch.randint(0, config.vocab_size, (B, config.block_size))
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            nats, count = model(ids, ids)
        (nats / count).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

torch.set_num_threads(1)
dtype, recompute = sys.argv[2], sys.argv[3] == "True"
config = GPTConfig.model_validate_json(sys.argv[1])
step(GPTConfig(vocab_size=64, block_size=32, n_layer=1, n_head=2, n_embd=32), 2)  # libraries and kernels are loaded
before = peak_bytes()
step(config, 8, recompute=recompute)
print(peak_bytes() - before)
"""
SIZED = {"vocab_size": 4096, "block_size": 256, "n_layer": 6, "n_head": 4, "n_embd": 256}
EXACT = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell a process its peak")
@pytest.mark.parametrize(
    ("shape", "dtype", "recompute"),
    [
        (GPTConfig(**SIZED), "fp32", False),
        (GPTConfig(**SIZED), "fp32", True),
        (GPTConfig(**SIZED, **MODERN, n_kv_head=2), "bf16", False),
    ],
)
def test_the_process_takes_what_was_estimated(shape: GPTConfig, dtype: str, recompute: bool) -> None:
    """The growth of the peak resident size over two steps of training, within 20 %.

    glibc is told to give freed memory back, so that what is resident is what lives; left to itself it holds more.
    """
    arguments = [sys.executable, "-c", MEASURE, shape.model_dump_json(), dtype, str(recompute)]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=True, env={**os.environ, **EXACT})
    estimate = training_memory(shape, 8, dtype=dtype, recompute=recompute)
    assert estimate.peak == pytest.approx(int(answer.stdout), rel=0.2)


GENERATE = """
import re, sys, torch
from pathlib import Path
from folio.model.build import allocate
from folio.model.cache import KVCache
from folio.model.config import GPTConfig

def peak_bytes():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

@torch.no_grad()
def fill(config, B, dtype):
    model = allocate(config, dtype=dtype)
    for weight in model.parameters():
        weight.fill_(0.01)
    cache = KVCache(config, batch_size=B, capacity=config.block_size, dtype=dtype)
    for _ in range(0, config.block_size, 16):
        model(torch.zeros(B, 16, dtype=torch.long), cache=cache)

torch.set_num_threads(1)
dtype = getattr(torch, sys.argv[2])
fill(GPTConfig(vocab_size=64, block_size=32, n_layer=1, n_head=2, n_embd=32), 2, dtype)
before = peak_bytes()
fill(GPTConfig.model_validate_json(sys.argv[1]), 8, dtype)
print(peak_bytes() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell a process its peak")
def test_generation_takes_what_was_estimated() -> None:
    """The growth of the peak resident size while a cache is filled, within 20 %."""
    shape = GPTConfig(**MODERN, vocab_size=2048, block_size=256, n_layer=8, n_head=8, n_kv_head=4, n_embd=512)
    arguments = [sys.executable, "-c", GENERATE, shape.model_dump_json(), "bfloat16"]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=True, env={**os.environ, **EXACT})
    assert inference_memory(shape, 8, dtype="bf16").peak == pytest.approx(int(answer.stdout), rel=0.2)


def test_accumulation_keeps_gradients_beside_activations() -> None:
    plain, accumulating = (training_memory(SHAPES["gpt2"], 4, accumulates=a) for a in (False, True))
    assert plain.activations + plain.head_gradient > plain.gradients
    assert accumulating.peak == plain.peak + plain.gradients


def test_muon_keeps_one_number_a_matrix_weight() -> None:
    config = GPTConfig()
    adamw, muon = (training_memory(config, 1, optimizer=kind) for kind in ("adamw", "muon"))
    assert adamw.optimizer - muon.optimizer == 4 * 84_934_656


@pytest.mark.parametrize("shape", ["llama-grouped", "qwen3-wide-heads"])
def test_the_cache_is_as_large_as_the_cache_made_for_it(shape: str) -> None:
    from folio.model.cache import KVCache

    config = SHAPES[shape]
    made = KVCache(config, batch_size=3, capacity=20, dtype=torch.bfloat16)
    held = sum(tensor.nbytes for layer in made.layers for tensor in (layer.keys, layer.values))
    assert inference_memory(config, 3, 20, dtype="bf16").cache == held
