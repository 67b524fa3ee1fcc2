"""Keys and values kept between steps of generation, in memory laid out once.

B batch, T time (new tokens), S time seen so far, G key/value heads, K head size
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from folio.model.attention import attend
from folio.model.config import GPTConfig


class LayerContext(Protocol):
    """What the tokens of one layer look at."""

    def attend(self, q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, *, dropout: float = 0.0) -> Tensor:
        """Attention of the tokens of this pass, (B, H, T, K); ``dropout`` is that of its weights."""
        ...


class Context(Protocol):
    """What the tokens of a pass follow, instead of starting a plain sequence: a :class:`KVCache` is one."""

    @property
    def layers(self) -> Sequence[LayerContext]: ...

    def begin(self, new_tokens: int) -> Tensor:
        """The positions of the tokens, (T,) or (B, T)."""
        ...

    def end(self, new_tokens: int) -> None: ...


class LayerCache:
    """One layer's keys and values, (B, G, capacity, K) each, of which the first ``owner.length + T`` are in use."""

    def __init__(self, owner: KVCache, keys: Tensor, values: Tensor) -> None:
        self.owner = owner
        self.keys = keys
        self.values = values

    def attend(self, q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, *, dropout: float = 0.0) -> Tensor:
        """Attention of the new tokens to all so far, (B, H, T, K)."""
        k_BGSK, v_BGSK = self.append(k_BGTK, v_BGTK)
        q = q_BHTK.to(k_BGSK.dtype)
        return attend(q, k_BGSK, v_BGSK, mask=self.owner.mask, dropout=dropout).to(q_BHTK.dtype)

    def append(self, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' keys and values; return all of them so far, (B, G, S, K)."""
        start, stop = self.owner.length, self.owner.length + k_BGTK.shape[2]
        self.keys[:, :, start:stop] = k_BGTK
        self.values[:, :, start:stop] = v_BGTK
        return self.keys[:, :, :stop], self.values[:, :, :stop]


class KVCache:
    """The keys and values of every layer. A model's forward pass reads and extends it.

    Rows of different length are padded on the left: ``padding_B`` counts the slots of each row that hold no token, and
    positions are counted from the first real one.
    """

    def __init__(
        self,
        config: GPTConfig,
        batch_size: int,
        capacity: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        padding_B: Tensor | None = None,
    ) -> None:
        shape = (batch_size, config.kv_heads, capacity, config.head_size)
        self.capacity = capacity
        self.length = 0
        self.padding_B = padding_B if padding_B is not None and bool(padding_B.any()) else None
        self.mask: Tensor | None = None
        self.layers = [
            LayerCache(
                self, torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device)
            )
            for _ in range(config.n_layer)
        ]

    def begin(self, new_tokens: int) -> Tensor:
        """Make ready for ``new_tokens`` more; return their positions, (T,) or (B, T) for rows of different length."""
        stop = self.length + new_tokens
        if stop > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens; {stop} were asked for")
        device = self.layers[0].keys.device
        slots_T = torch.arange(self.length, stop, device=device)
        if self.padding_B is None:
            self.mask = None
            if new_tokens > 1 and self.length > 0:
                self.mask = torch.arange(stop, device=device) <= slots_T[:, None]
            return slots_T
        slots_S = torch.arange(stop, device=device)
        real_B1TS = (slots_S >= self.padding_B[:, None])[:, None, None, :] & (slots_S <= slots_T[:, None])
        # A padded query sees itself alone: a row of nothing but minus infinity would turn into NaN.
        self.mask = real_B1TS | (slots_S == slots_T[:, None])
        return (slots_T - self.padding_B[:, None]).clamp(min=0)

    def end(self, new_tokens: int) -> None:
        """Every layer has stored ``new_tokens`` more."""
        self.length += new_tokens

    def reset(self) -> None:
        """Forget every token; the memory and the rows' padding stay."""
        self.length = 0

    def keep_rows(self, rows: list[int]) -> None:
        """Go on with these rows alone, in this order."""
        if self.padding_B is not None:
            kept_B = self.padding_B[rows]
            self.padding_B = kept_B if bool(kept_B.any()) else None
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
