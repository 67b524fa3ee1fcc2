"""GPT-2 as one writes it from a tutorial, with the switches of the lower rungs, which Folio's own model lacks.

B batch, T time, C channels, H heads, K = C // H, V vocabulary. Names of parameters are those of
:class:`folio.model.gpt.GPT`, so that weights go from one to the other.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from folio.model.attention import attend
from folio.model.build import allocate
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.ranks import ALONE
from folio.shards.batches import Batches
from folio.studies.ladder.rungs import Settings
from folio.training.compiling import compile_forward
from folio.training.parallel import Alone

DECAY_OF_ALL, DECAY_OF_MATRICES = 0.01, 0.1
"""torch's default, and GPT-3's (Brown et al. 2020, appendix B)."""
WIDTH_OF_GPT2 = 768


def first_weights(config: GPTConfig, seed: int) -> GPT:
    """Folio's own model with GPT-2's first weights: N(0, 0.02) at its width, and sqrt(768 / C) times as wide at C.

    So products keep their size, and a narrow model stands for GPT-2 in what the change does to learning: with 0.02 at a
    width of 128 attention begins all but switched off, and such a model learns less in as many steps.
    """
    model = GPT(config).initialize(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(math.sqrt(WIDTH_OF_GPT2 / config.n_embd))
    return model


class PlainAttention(nn.Module):
    def __init__(self, config: GPTConfig, kernel: str) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.kernel = kernel
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.proj = nn.Linear(config.n_embd, config.n_embd)
        if kernel == "scores":
            seen = torch.tril(torch.ones(config.block_size, config.block_size)).bool()
            self.register_buffer("seen", seen, persistent=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        B, T, C = x_BTC.shape
        q, k, v = (x.view(B, T, self.n_head, -1).transpose(1, 2) for x in self.qkv(x_BTC).split(C, dim=2))
        if self.kernel == "scores":
            scores_BHTT = (q @ k.transpose(-2, -1)) / math.sqrt(C // self.n_head)
            scores_BHTT = scores_BHTT.masked_fill(~cast(Tensor, self.seen)[:T, :T], float("-inf"))
            y = F.softmax(scores_BHTT.float(), dim=-1).to(v.dtype) @ v
        elif self.kernel == "fused":
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = attend(q, k, v)
        return cast(Tensor, self.proj(y.transpose(1, 2).contiguous().view(B, T, C)))


class PlainMLP(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.proj = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return cast(Tensor, self.proj(F.gelu(self.up(x_BTC), approximate="tanh")))


class PlainBlock(nn.Module):
    def __init__(self, config: GPTConfig, kernel: str) -> None:
        super().__init__()
        self.attn_norm = nn.LayerNorm(config.n_embd)
        self.attn = PlainAttention(config, kernel)
        self.mlp_norm = nn.LayerNorm(config.n_embd)
        self.mlp = PlainMLP(config)

    def forward(self, x_BTC: Tensor) -> Tensor:
        x_BTC = x_BTC + self.attn(self.attn_norm(x_BTC))
        return cast(Tensor, x_BTC + self.mlp(self.mlp_norm(x_BTC)))


class PlainGPT(nn.Module):
    """GPT-2 (Radford et al. 2019): all logits of a batch at once, and their cross-entropy."""

    def __init__(self, config: GPTConfig, settings: Settings, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.config = config
        rows = config.padded_vocab_size if settings.padded else config.vocab_size
        self.embed = nn.Embedding(rows, config.n_embd)
        self.positions = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList(PlainBlock(config, settings.attention) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd)
        self.head = nn.Linear(config.n_embd, rows, bias=False)
        if settings.tied:
            self.head.weight = self.embed.weight
        if settings.init == "gpt2":
            self.take(first_weights(config, seed))

    def forward(self, ids_BT: Tensor, targets_BT: Tensor | None = None) -> Tensor:
        """Logits (B, T, V), padding rows among them; with targets, the mean of nats."""
        x_BTC = self.embed(ids_BT) + self.positions(torch.arange(ids_BT.shape[1], device=ids_BT.device))
        for block in self.blocks:
            x_BTC = block(x_BTC)
        logits_BTV: Tensor = self.head(self.norm(x_BTC))
        if targets_BT is None:
            return logits_BTV
        return F.cross_entropy(logits_BTV.view(-1, logits_BTV.shape[-1]), targets_BT.reshape(-1))

    @torch.no_grad()
    def take(self, model: GPT) -> PlainGPT:
        """Take over the weights of Folio's own model of the same shape."""
        theirs = dict(model.named_parameters())
        for name, parameter in self.named_parameters():
            parameter.copy_(theirs[name][: len(parameter)])
        return self

    @torch.no_grad()
    def as_gpt(self) -> GPT:
        """Folio's own model of these weights, on their device."""
        model = allocate(self.config, device=self.embed.weight.device)
        ours = dict(self.named_parameters())
        for name, parameter in model.named_parameters():
            known = ours[name][: self.config.vocab_size] if name in ("embed.weight", "head.weight") else ours[name]
            parameter[: len(known)].copy_(known)
        return model


class PlainTraining:
    """Steps as a tutorial takes them; a source of batches gives the ids."""

    def __init__(self, config: GPTConfig, settings: Settings, source: Batches, learning_rate: float, seed: int) -> None:
        assert not settings.own_stack
        self.device = torch.device(settings.device)
        self.settings, self.source, self.step_number = settings, source, 0
        self.model = PlainGPT(config, settings, seed).to(self.device)
        alone = Alone(cast(GPT, self.model), ALONE)
        compile_forward(alone, "on" if settings.compile else "off", self.device)
        self.loss = alone.forward
        self.optimizer = torch.optim.AdamW(
            self._groups(),
            lr=learning_rate,
            betas=(0.9, settings.beta2),
            foreach=False,
            fused=settings.optimizer == "fused",
        )

    @property
    def tokens(self) -> int:
        """Of a step."""
        return self.source.sequences * self.source.block_size

    def _groups(self) -> list[dict[str, Any]]:
        parameters = list(self.model.parameters())
        if self.settings.decay == "all":
            return [{"params": parameters, "weight_decay": DECAY_OF_ALL}]
        return [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": DECAY_OF_MATRICES},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.settings.bf16 else nullcontext()

    def step(self) -> float:
        """Take a step; returns its loss in nats per token."""
        rows_BT = torch.from_numpy(self.source.batch(self.step_number)).to(self.device)
        with self._autocast():
            loss: Tensor = self.loss(rows_BT[:, :-1], rows_BT[:, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        if self.settings.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step_number += 1
        return loss.item()

    def trained(self) -> GPT:
        """The model as it is now, as Folio's own."""
        return self.model.as_gpt()
