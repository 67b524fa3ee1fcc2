"""Small shapes of every kind, and models whose every weight is random, gains and biases included."""

from __future__ import annotations

import torch

from folio.model.config import GPTConfig
from folio.model.gpt import GPT

SMALL = {"vocab_size": 101, "block_size": 32, "n_layer": 3, "n_head": 4, "n_embd": 48}
LLAMA = {**SMALL, "norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False, "norm_eps": 1e-6}

SHAPES = {
    "gpt2": GPTConfig(**SMALL),
    "gpt2-untied": GPTConfig(**SMALL, tie_embeddings=False, mlp_width=80),
    "gpt2-relu": GPTConfig(**SMALL, activation="relu", norm_eps=1e-4),
    "gpt2-relu2": GPTConfig(**SMALL, activation="relu2"),
    "llama": GPTConfig(**LLAMA),
    "llama-untied": GPTConfig(**LLAMA, tie_embeddings=False, rope_theta=500.0),
    "llama-grouped": GPTConfig(**LLAMA, n_kv_head=2, mlp_width=100),
    "llama-one-kv-head": GPTConfig(**LLAMA, n_kv_head=1, tie_embeddings=False),
    "qwen3": GPTConfig(**LLAMA, qk_norm=True),
    "qwen3-grouped-untied": GPTConfig(**LLAMA, qk_norm=True, n_kv_head=2, tie_embeddings=False, rope_theta=1e6),
    "llama-narrow-heads": GPTConfig(**LLAMA, head_dim=8, n_kv_head=2),
    "qwen3-wide-heads": GPTConfig(**{**LLAMA, "n_head": 5}, qk_norm=True, head_dim=16, n_kv_head=1),
    "folio": GPTConfig(**SMALL, norm="rmsnorm", activation="relu2", position="rope", qk_norm=True, bias=False),
    "folio-mixed": GPTConfig(**SMALL, n_kv_head=2, activation="swiglu", tie_embeddings=False),
    "folio-no-positions": GPTConfig(**SMALL, position="none", bias=False),
    "folio-wide-heads": GPTConfig(**SMALL, head_dim=20),
}
STANDARD = [name for name in SHAPES if not name.startswith("folio")]


def random_model(config: GPTConfig, seed: int = 0) -> GPT:
    """A model in evaluation mode with no weight at 0 or 1: a mixed-up bias or gain must show in the logits."""
    generator = torch.Generator().manual_seed(seed)
    model = GPT(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            centre = 1.0 if name.endswith("norm.weight") else 0.0
            weight.copy_(centre + 0.2 * torch.randn(weight.shape, generator=generator))
        model.embed.weight[config.vocab_size :] = 0
        model.head_weight[config.vocab_size :] = 0
    return model.eval()


def random_ids(config: GPTConfig, batch: int = 2, length: int | None = None, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, config.vocab_size, (batch, length or config.block_size), generator=generator)


def assert_same_logits(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Equal within ``tolerance`` times the logits' standard deviation."""
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.1
    assert (ours - theirs).abs().max() < tolerance * theirs.std()
