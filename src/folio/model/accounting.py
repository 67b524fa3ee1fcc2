"""Parameters and floating-point operations of a shape, by formula.

Operations are those of matrix products, two per multiply-and-add; norms, activations and the softmax are left out, as
is usual (Kaplan et al. 2020, section 2.1; Chowdhery et al. 2022, appendix B).
"""

from __future__ import annotations

from dataclasses import dataclass

from folio.model.build import skeleton
from folio.model.config import GPTConfig
from folio.model.families import family_of, pieces


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Numbers of weights, padding rows left out; a tied head counts once."""

    total: int
    embedding: int
    """Token and position embeddings, and an untied head."""
    matrices: int
    """Weights of the blocks' matrices: what every token is multiplied with, the head aside."""

    @property
    def non_embedding(self) -> int:
        return self.total - self.embedding


def parameter_counts(config: GPTConfig) -> ParameterCounts:
    """Count the weights that a file of this shape would hold."""
    shapes = {name: tuple(weight.shape) for name, weight in skeleton(config).named_parameters()}
    total = embedding = matrices = 0
    for piece in pieces(config, family_of(config)):
        shape = shapes[piece.ours]
        size = (piece.stop - piece.start) * (shape[1] if len(shape) == 2 else 1)
        total += size
        if not piece.ours.startswith("blocks.") and len(shape) == 2:
            embedding += size
        elif len(shape) == 2:
            matrices += size
    return ParameterCounts(total, embedding, matrices)


def forward_flops(config: GPTConfig, context: int | None = None, *, causal: bool = True) -> int:
    """Operations of the forward pass per token, averaged over a sequence of ``context`` tokens (all of the block size).

    2 (blocks' matrices + V C) + 4 n_layer H K S: a token is multiplied with every matrix and the head, and per layer
    with the S keys and S values it looks at, H heads of K numbers (C in all where no ``head_dim`` is given). ``causal``
    counts what a causal kernel must compute, S = (context + 1) / 2 on average, which is Kaplan's
    2 N + 2 n_layer n_ctx d_attn; without it S = context, the convention of PaLM.
    """
    T = context or config.block_size
    products = parameter_counts(config).matrices + config.vocab_size * config.n_embd
    looked_at = T + 1 if causal else 2 * T
    return 2 * products + 2 * config.n_layer * config.attention_width * looked_at


def training_flops(config: GPTConfig, context: int | None = None, *, causal: bool = True) -> int:
    """Operations of a training step per token: forward once, backward twice as much (for inputs and for weights).

    ``causal=False`` is PaLM's 6 N + 12 L H Q T (appendix B), with N the weights that are multiplied: the usual
    numerator of MFU. Recomputed activations are work but not counted, as in PaLM.
    """
    return 3 * forward_flops(config, context, causal=causal)


def decode_flops(config: GPTConfig, position: int) -> int:
    """Operations to generate one token with a KV cache that holds ``position`` tokens before it."""
    products = parameter_counts(config).matrices + config.vocab_size * config.n_embd
    return 2 * products + 4 * config.n_layer * config.attention_width * (position + 1)
