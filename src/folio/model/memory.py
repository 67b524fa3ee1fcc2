"""How much memory training and generation take at their peak, by counting what is kept.

An estimate of what lives at once: small temporaries of the kernels and what an allocator wastes are not in it, nor are
Python and torch themselves (about 0.3 GB). Measured peaks are compared with it in
``tests/model/test_memory_estimate.py`` and ``benchmarks/measure_memory.py``.

B sequences of a micro-batch, T tokens of each, C channels, K head size, V padded vocabulary
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from folio.model.accounting import parameter_counts
from folio.model.attention import kept_probabilities
from folio.model.build import skeleton
from folio.model.config import GPTConfig
from folio.model.loss import CHUNK_BYTES

Optimizer = Literal["adamw", "muon"]
_BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes of each kind at the peak of a training step."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    """What the forward pass keeps for the backward pass, with copies of the weights in the products' dtype."""
    loss: int
    """Logits of one chunk, and what is made of them."""
    head_gradient: int
    """Part of the gradients, made with the loss."""
    accumulates: bool
    average: int = 0
    """The moving average of the weights, where one is kept."""
    step: int = 0
    """What the optimizer makes while it moves the weights, the activations being gone."""

    @property
    def peak(self) -> int:
        """Bytes at the worst moment.

        Activations go as gradients come, so without accumulation the larger of the two counts; with it, the gradients
        of earlier micro-batches lie there while the activations are made.
        """
        most = self.activations + self.head_gradient + self.loss
        most = most + self.gradients if self.accumulates else max(most, self.gradients)
        return self.weights + self.optimizer + self.average + max(most, self.gradients + self.step)

    def as_dict(self) -> dict[str, int]:
        names = ("weights", "gradients", "optimizer", "average", "activations", "loss", "peak")
        return {f"{name}_bytes": getattr(self, name) for name in names}


def training_memory(
    config: GPTConfig,
    micro_batch: int,
    context: int | None = None,
    *,
    dtype: str = "fp32",
    optimizer: Optimizer = "adamw",
    recompute: bool = False,
    accumulates: bool = False,
    ema: bool = False,
    shards: int = 1,
    device: str = "cpu",
) -> TrainingMemory:
    """Estimate a training step of ``micro_batch`` sequences of ``context`` tokens (all of the block size).

    Weights, gradients and optimizer states are fp32; ``dtype`` ("fp32", "tf32", "bf16", "fp16") is that of the matrix
    products under autocast. AdamW keeps two numbers a weight; Muon one for the blocks' matrices, AdamW having the rest.
    ``recompute`` keeps each block's input and one block's inside. On a CPU, short contexts keep the attention
    probabilities (see ``attention.py``). ``ema`` keeps an average of the weights. With ``shards`` above 1 each rank has
    that part of weights, gradients and optimizer, and whole at a time only what lies outside the blocks and two blocks.
    """
    B, T = micro_batch, context or config.block_size
    size = _BYTES[dtype]
    weights = sum(weight.numel() for weight in skeleton(config).parameters())
    matrices = parameter_counts(config).matrices
    states = 2 * weights - (matrices if optimizer == "muon" else 0)
    head = config.padded_vocab_size * config.n_embd
    block = B * T * _block_bytes(config, T, size, kept_probabilities(device, T))
    stream = 4 * B * T * config.n_embd
    blocks = config.n_layer * stream + block if recompute else config.n_layer * block
    copies = 0 if size == 4 else size * (matrices // (config.n_layer if recompute else 1) + head)
    final = B * T * config.n_embd * (4 + 2 * size)
    block_weights = matrices // config.n_layer
    gathered = 0 if shards == 1 else 4 * (weights - matrices + 2 * block_weights)
    return TrainingMemory(
        weights=-(-4 * weights // shards) + gathered,
        gradients=-(-4 * weights // shards) + gathered,
        optimizer=-(-4 * states // shards),
        activations=blocks + copies + final,
        loss=_loss_bytes(config, B * T, size),
        head_gradient=4 * head,
        accumulates=accumulates,
        average=-(-4 * weights // shards) if ema else 0,
        step=_muon_bytes(config, size) if optimizer == "muon" else 0,
    )


def _loss_bytes(config: GPTConfig, N: int, size: int) -> int:
    """Bytes that the loss of ``N`` positions takes at its worst, the head's gradient aside (see ``loss.py``).

    First logits and their logarithms, through a copy in fp32; then logits, slopes and a chunk's part of that gradient.
    """
    V, C = config.padded_vocab_size, config.n_embd
    rows = min(N, max(1, CHUNK_BYTES // (4 * V)))
    logarithms = rows * V * (size + 4 + (4 if size < 4 else 0))
    part = size * V * C if size < 4 else 0
    if rows < N:
        part += 4 * V * C
    return max(logarithms, 2 * size * rows * V + part)


def _muon_bytes(config: GPTConfig, size: int) -> int:
    """Bytes of one Muon step: for all matrices of a shape, update, stack and direction in fp32, and three copies."""
    by_shape: dict[tuple[int, ...], int] = {}
    for name, weight in skeleton(config).named_parameters():
        if name.startswith("blocks.") and weight.ndim == 2:
            by_shape[tuple(weight.shape)] = by_shape.get(tuple(weight.shape), 0) + weight.numel()
    return (3 * 4 + 3 * size) * max(by_shape.values())


def _block_bytes(config: GPTConfig, T: int, size: int, probabilities: int) -> int:
    """Bytes that one block keeps per token for its backward pass.

    ``size`` is that of the products' dtype, ``probabilities`` the attention weights kept per head and sequence. The
    residual stream is fp32; a norm keeps its input alone.
    """
    C, H, G, K = config.n_embd, config.n_head, config.kv_heads, config.head_size
    norms = 2 * 4 * C
    keys = 2 * H * K if probabilities else 2 * G * K  # the products repeat keys and values for every head
    attention = size * (C + H * K + keys + H * K)  # input of qkv; q, k, v; input of proj
    if config.qk_norm:
        attention += (H + G) * K * size
    if probabilities:
        attention += size * H * probabilities // T * (2 if config.dropout else 1)
    inside = (4 if config.activation == "swiglu" else 2) * config.hidden
    mlp = size * (C + inside)
    masks = 2 * size * C if config.dropout else 0
    return norms + attention + mlp + masks


@dataclass(frozen=True, slots=True)
class InferenceMemory:
    """Bytes to generate: weights, and keys and values of every position of every sequence."""

    weights: int
    cache: int

    @property
    def peak(self) -> int:
        return self.weights + self.cache

    def as_dict(self) -> dict[str, int]:
        return {"weights_bytes": self.weights, "cache_bytes": self.cache, "peak_bytes": self.peak}


def inference_memory(
    config: GPTConfig, batch_size: int = 1, context: int | None = None, *, dtype: str = "fp32"
) -> InferenceMemory:
    """Estimate generation of ``batch_size`` sequences up to ``context`` tokens, weights and cache held in ``dtype``."""
    size, T = _BYTES[dtype], context or config.block_size
    weights = sum(weight.numel() for weight in skeleton(config).parameters())
    cache = 2 * config.n_layer * batch_size * T * config.kv_heads * config.head_size
    return InferenceMemory(weights=size * weights, cache=size * cache)
