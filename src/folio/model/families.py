"""Which Hugging Face class a shape is saved as, and which tensor of theirs holds which part of ours.

gpt2    GPT2LMHeadModel    learned positions, LayerNorm, biases, one MLP matrix in, heads that share out the width
llama   LlamaForCausalLM   RoPE, RMSNorm, SwiGLU, no biases, grouped keys and values, heads of any width
qwen3   Qwen3ForCausalLM   the same with QK-norm
folio   no standard class  everything else, under Folio's own names
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from folio.model.build import skeleton
from folio.model.config import GPTConfig

Family = Literal["gpt2", "llama", "qwen3", "folio"]

ARCHITECTURES: dict[Family, str] = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "folio": "FolioForCausalLM",
}
PREFIXES: dict[Family, str] = {"gpt2": "transformer.", "llama": "model.", "qwen3": "model.", "folio": ""}
HEAD = "lm_head.weight"

# Buffers that older releases of transformers saved beside the weights: masks and rotary frequencies, made anew here.
_BUFFERS: dict[Family, str] = {
    "gpt2": r"transformer\.h\.\d+\.(attn|crossattention)\.(bias|masked_bias)",
    "llama": r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",
    "qwen3": r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",
    "folio": r"(?!)",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor of a file: rows ``[start, stop)`` of our parameter ``ours``, in the file perhaps ``transposed``."""

    theirs: str
    ours: str
    start: int
    stop: int
    transposed: bool = False


def family_of(config: GPTConfig) -> Family:
    """The Hugging Face family whose class computes exactly what ``config`` describes."""
    whole = config.kv_heads == config.n_head and config.attention_width == config.n_embd
    if config.position == "learned" and config.norm == "layernorm" and config.activation != "swiglu":
        return "gpt2" if config.bias and whole and not config.qk_norm else "folio"
    if config.position == "rope" and config.norm == "rmsnorm" and config.activation == "swiglu" and not config.bias:
        if config.qk_norm:
            return "qwen3"
        return "folio" if config.n_embd % config.n_head else "llama"  # whose class wants it so, whatever head_dim is
    return "folio"


def canonical_name(family: Family, name: str) -> str | None:
    """``name`` as today's transformers writes it, with the family's prefix; None for a buffer that is not a weight."""
    prefix = PREFIXES[family]
    if prefix and name != HEAD and not name.startswith(prefix):
        name = prefix + name
    return None if re.fullmatch(_BUFFERS[family], name) else name


def pieces(config: GPTConfig, family: Family) -> Iterator[Piece]:
    """Every tensor of a file and the rows of ours it holds; together they cover each parameter once, padding aside."""
    match family:
        case "gpt2":
            yield from _gpt2(config)
        case "llama" | "qwen3":
            yield from _llama(config)
        case "folio":
            yield from _folio(config)


def _gpt2(config: GPTConfig) -> Iterator[Piece]:
    C, hidden = config.n_embd, config.hidden

    def both(theirs: str, ours: str, rows: int, transposed: bool = False) -> Iterator[Piece]:
        yield Piece(f"{theirs}.weight", f"{ours}.weight", 0, rows, transposed)
        yield Piece(f"{theirs}.bias", f"{ours}.bias", 0, rows)

    yield Piece("transformer.wte.weight", "embed.weight", 0, config.vocab_size)
    yield Piece("transformer.wpe.weight", "positions.weight", 0, config.block_size)
    for i in range(config.n_layer):
        theirs, ours = f"transformer.h.{i}", f"blocks.{i}"
        yield from both(f"{theirs}.ln_1", f"{ours}.attn_norm", C)
        yield from both(f"{theirs}.attn.c_attn", f"{ours}.attn.qkv", 3 * C, transposed=True)
        yield from both(f"{theirs}.attn.c_proj", f"{ours}.attn.proj", C, transposed=True)
        yield from both(f"{theirs}.ln_2", f"{ours}.mlp_norm", C)
        yield from both(f"{theirs}.mlp.c_fc", f"{ours}.mlp.up", hidden, transposed=True)
        yield from both(f"{theirs}.mlp.c_proj", f"{ours}.mlp.proj", C, transposed=True)
    yield from both("transformer.ln_f", "norm", C)
    yield from _head(config)


def _llama(config: GPTConfig) -> Iterator[Piece]:
    C, K, hidden = config.n_embd, config.head_size, config.hidden
    q, kv = config.n_head * K, config.kv_heads * K
    yield Piece("model.embed_tokens.weight", "embed.weight", 0, config.vocab_size)
    for i in range(config.n_layer):
        theirs, ours = f"model.layers.{i}", f"blocks.{i}"
        yield Piece(f"{theirs}.input_layernorm.weight", f"{ours}.attn_norm.weight", 0, C)
        yield Piece(f"{theirs}.self_attn.q_proj.weight", f"{ours}.attn.qkv.weight", 0, q)
        yield Piece(f"{theirs}.self_attn.k_proj.weight", f"{ours}.attn.qkv.weight", q, q + kv)
        yield Piece(f"{theirs}.self_attn.v_proj.weight", f"{ours}.attn.qkv.weight", q + kv, q + 2 * kv)
        if config.qk_norm:
            yield Piece(f"{theirs}.self_attn.q_norm.weight", f"{ours}.attn.q_norm.weight", 0, K)
            yield Piece(f"{theirs}.self_attn.k_norm.weight", f"{ours}.attn.k_norm.weight", 0, K)
        yield Piece(f"{theirs}.self_attn.o_proj.weight", f"{ours}.attn.proj.weight", 0, C)
        yield Piece(f"{theirs}.post_attention_layernorm.weight", f"{ours}.mlp_norm.weight", 0, C)
        yield Piece(f"{theirs}.mlp.gate_proj.weight", f"{ours}.mlp.up.weight", 0, hidden)
        yield Piece(f"{theirs}.mlp.up_proj.weight", f"{ours}.mlp.up.weight", hidden, 2 * hidden)
        yield Piece(f"{theirs}.mlp.down_proj.weight", f"{ours}.mlp.proj.weight", 0, C)
    yield Piece("model.norm.weight", "norm.weight", 0, C)
    yield from _head(config)


def _folio(config: GPTConfig) -> Iterator[Piece]:
    for name, parameter in skeleton(config).named_parameters():
        padded = name in ("embed.weight", "head.weight")
        yield Piece(name, name, 0, config.vocab_size if padded else parameter.shape[0])


def _head(config: GPTConfig) -> Iterator[Piece]:
    if not config.tie_embeddings:
        yield Piece(HEAD, "head.weight", 0, config.vocab_size)
