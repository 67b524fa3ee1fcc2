"""Many contexts, each with several continuations, in one pass: a context is computed once, nothing is padded.

The tokens of all trees lie one after another, each tree's context (its trunk) first and then its branches, and go
through the matrices as one sequence. Attention alone sees trees: a branch looks at its trunk and at itself.

R trees, S slots of the longest, N tokens in all, H heads, G key/value heads, K head size
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from folio.model.attention import attend
from folio.model.config import GPTConfig

PADDING = -1


class Branches:
    """The shape of one pass, used as a model's ``cache``: it says where each token stands and what it may look at.

    Tree r has a trunk of ``trunks[r]`` tokens (at least one) and branches of ``branches[r]`` tokens (zero of a branch
    of which only the first id is asked for). Every branch's positions follow its trunk's.
    """

    def __init__(
        self,
        config: GPTConfig,
        trunks: Sequence[int],
        branches: Sequence[Sequence[int]],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self._n_layer = config.n_layer
        lengths: list[int] = []
        roots: list[int] = []
        parts: list[int] = []
        for trunk, tails in zip(trunks, branches, strict=True):
            lengths += [trunk, *tails]
            roots += [0] + [trunk] * len(tails)  # where the positions of each part begin
            parts += range(len(tails) + 1)
        lengths_P = torch.tensor(lengths)
        sizes_R = torch.tensor([trunk + sum(tails) for trunk, tails in zip(trunks, branches, strict=True)])
        R, S, N = len(sizes_R), int(sizes_R.max()), int(sizes_R.sum())
        within_N = torch.arange(N) - (lengths_P.cumsum(0) - lengths_P).repeat_interleave(lengths_P)
        real_RS = torch.arange(S) < sizes_R[:, None]
        slots_RS = torch.zeros(R, S, dtype=torch.int64)
        slots_RS[real_RS] = torch.arange(N)
        self._slots_RS = slots_RS.to(device)
        self._places_N = real_RS.flatten().nonzero()[:, 0].to(device)
        self._positions_N = (within_N + torch.tensor(roots).repeat_interleave(lengths_P)).to(device)
        part_RS = torch.full((R, S), PADDING)
        part_RS[real_RS] = torch.tensor(parts).repeat_interleave(lengths_P)
        part = part_RS.to(device)
        self._bias_R1SS: Tensor | None = None
        if all(sum(map(bool, tails)) <= 1 for tails in branches):
            return  # each tree is one sequence: causal attention, which needs no bias and never meets the padding
        seen_RSS = (part[:, None, :] == 0) | (part[:, None, :] == part[:, :, None])
        self._bias_R1SS = torch.zeros(R, 1, S, S, device=device).masked_fill_(~seen_RSS.tril_()[:, None], -torch.inf)

    @property
    def layers(self) -> Sequence[Branches]:
        """The same for every layer: nothing is kept of any."""
        return [self] * self._n_layer

    def begin(self, tokens: int) -> Tensor:
        """The position of each token, (N,)."""
        assert tokens == len(self._positions_N)
        return self._positions_N

    def end(self, tokens: int) -> None:
        pass

    def attend(self, q_1HNK: Tensor, k_1GNK: Tensor, v_1GNK: Tensor, *, dropout: float = 0.0) -> Tensor:
        """Attention within each tree, (1, H, N, K)."""
        q, k, v = (x[0].transpose(0, 1)[self._slots_RS].transpose(1, 2) for x in (q_1HNK, k_1GNK, v_1GNK))
        if self._bias_R1SS is not None and self._bias_R1SS.dtype != q.dtype:
            self._bias_R1SS = self._bias_R1SS.to(q.dtype)
        y_RSHK = attend(q, k, v, mask=self._bias_R1SS, dropout=dropout).transpose(1, 2)
        return y_RSHK.flatten(0, 1)[self._places_N].transpose(0, 1)[None]
