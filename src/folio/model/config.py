"""The shape of a model, as one frozen value."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from folio.config import Table


class GPTConfig(Table):
    """The shape of a GPT. The defaults are GPT-2 124M's (Radford et al. 2019)."""

    vocab_size: int = Field(default=50257, ge=1)
    """Ids the model knows; padded inside to a multiple of 64 for speed, never seen outside."""
    block_size: int = Field(default=1024, ge=1)
    """Longest context, in tokens."""
    n_layer: int = Field(default=12, ge=1)
    """Transformer blocks."""
    n_head: int = Field(default=12, ge=1)
    """Attention heads; must divide n_embd unless head_dim is given."""
    n_kv_head: int | None = Field(default=None, ge=1)
    """Key and value heads (grouped-query attention); must divide n_head. Empty: as many as n_head."""
    n_embd: int = Field(default=768, ge=1)
    """Width of the residual stream."""
    head_dim: int | None = Field(default=None, ge=1)
    """Width of a head. Empty: n_embd / n_head."""
    mlp_width: int | None = Field(default=None, ge=1)
    """Hidden width of the MLP. Empty: 4 x n_embd, or for swiglu 8/3 x n_embd rounded up to a multiple of 64."""
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    """Normalization before each sublayer and after the last."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Added to the variance (or mean square) before the root."""
    activation: Literal["gelu", "relu", "relu2", "swiglu"] = "gelu"
    """MLP activation: tanh GELU as in GPT-2, ReLU, squared ReLU, or gated SiLU."""
    position: Literal["learned", "rope", "none"] = "learned"
    """Learned absolute positions, rotary ones, or none."""
    rope_theta: float = Field(default=10000.0, gt=0)
    """Base of the rotary frequencies."""
    qk_norm: bool = False
    """RMS-normalize queries and keys per head, with a learned gain, before rotation (as in Qwen3)."""
    bias: bool = True
    """Biases in linear layers and in layernorm."""
    tie_embeddings: bool = True
    """The output head is the token embedding."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout on embeddings, attention weights and sublayer outputs while training."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.head_dim is None and self.n_embd % self.n_head:
            raise ValueError(f"n_head {self.n_head} does not divide n_embd {self.n_embd}")
        if self.n_head % self.kv_heads:
            raise ValueError(f"n_kv_head {self.kv_heads} does not divide n_head {self.n_head}")
        if self.position == "rope" and self.head_size % 2:
            source = "head_dim" if self.head_dim else f"n_embd {self.n_embd} / n_head {self.n_head} ="
            raise ValueError(f"rope needs an even head size; {source} {self.head_size} is odd")
        return self

    @property
    def head_size(self) -> int:
        """Width of a head, resolved."""
        return self.head_dim or self.n_embd // self.n_head

    @property
    def attention_width(self) -> int:
        """All heads side by side: what attention writes before its projection, n_embd unless ``head_dim`` is given."""
        return self.n_head * self.head_size

    @property
    def kv_heads(self) -> int:
        return self.n_kv_head or self.n_head

    @property
    def hidden(self) -> int:
        """Hidden width of the MLP, resolved."""
        if self.mlp_width is not None:
            return self.mlp_width
        return -(-(self.n_embd * 8 // 3) // 64) * 64 if self.activation == "swiglu" else 4 * self.n_embd

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding inside the model: ``vocab_size`` rounded up to a multiple of 64."""
        return -(-self.vocab_size // 64) * 64
