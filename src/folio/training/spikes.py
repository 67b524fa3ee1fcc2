"""Which steps are left out: those whose loss or gradient is no number, or lies far above what it was of late.

A single bad batch can throw a run back by hundreds of steps; thrown away, it costs one (Chowdhery et al. 2022, sec. 5.1
skip data around spikes; Groeneveld et al. 2024 watch loss and gradient norm over a window).
"""

from __future__ import annotations

import math

import torch

from folio.errors import Diverged
from folio.training.config import SpikeConfig

RUNAWAY_WINDOW = 20
REMEDY = "Lower the learning rate, lengthen the warm-up, or clip harder; the last checkpoint is untouched."


class SpikeGuard:
    """Remembers losses and gradient norms of the last steps, and judges the next step by them.

    All it knows is in :attr:`memory`, float64 (4, window): losses, norms, and 1 for a step left out, each a ring; in
    the last row, steps judged, remembered and left out, the first loss. It is saved: a resumed run judges alike.

    What is left out is remembered as if it lay just at the limit. So one spike does not hide the next, and a rise
    that lasts, as when a model leaves a plateau and its gradients grow, is taken for what it is after a few steps.
    """

    def __init__(self, config: SpikeConfig) -> None:
        self.config = config
        self.memory = torch.zeros(4, config.window, dtype=torch.float64)

    @property
    def left_out(self) -> int:
        """Steps left out since the run began."""
        return int(self.memory[3, 2])

    def judge(self, loss: float, norm: float) -> str | None:
        """Why this step is to be left out, or None; either way it is remembered."""
        reason = self._reason(loss, norm)
        judged, known, left_out, first = self.memory[3, :4].tolist()
        self.memory[2, int(judged) % self.config.window] = float(reason is not None)
        if math.isfinite(loss) and math.isfinite(norm):
            limits = [math.inf, math.inf] if reason is None else [self._limit(row) for row in (0, 1)]
            place = int(known) % self.config.window
            self.memory[0, place], self.memory[1, place] = min(loss, limits[0]), min(norm, limits[1])
            known, first = known + 1, loss if not known else first
        left_out += reason is not None
        self.memory[3, :4] = torch.tensor([judged + 1, known, left_out, first], dtype=torch.float64)
        return reason

    def _remembered(self, row: int) -> torch.Tensor:
        return self.memory[row, : min(int(self.memory[3, 1]), self.config.window)]

    def _limit(self, row: int) -> float:
        """Above this a loss, or a norm, is a spike."""
        values = self._remembered(row)
        deviation = float(values.std())
        return float(values.mean()) + self.config.z_score * deviation if deviation else math.inf

    def _reason(self, loss: float, norm: float) -> str | None:
        for name, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value):
                return f"the {name} is {value}"
        known = len(self._remembered(0))
        if not self.config.z_score or known < max(2, self.config.window // 4):
            return None
        for name, value, row in (("loss", loss, 0), ("gradient norm", norm, 1)):
            mean, deviation = float(self._remembered(row).mean()), float(self._remembered(row).std())
            if value - mean > self.config.z_score * deviation:
                z = (value - mean) / deviation if deviation else math.inf
                return f"the {name} {value:.4g} lies {z:.1f} standard deviations above the last {known} ({mean:.4g})"
        return None

    def stop_if_lost(self, step: int) -> None:
        """:class:`Diverged` when too many steps were left out of late, or when the loss runs away without a jump.

        It runs away when the median of the last 20 remembered is above 1.25 times the run's first loss plus 0.25.
        """
        out = int(self.memory[2].sum())
        if out >= self.config.stop_after:
            of = min(int(self.memory[3, 0]), self.config.window)
            raise Diverged(f"{out} of the last {of} steps had to be left out, up to step {step}", REMEDY)
        kept, first = int(self.memory[3, 1]), float(self.memory[3, 3])
        if kept < RUNAWAY_WINDOW:
            return
        last = [int(i) % self.config.window for i in range(max(kept - RUNAWAY_WINDOW, kept - self.config.window), kept)]
        median = float(self.memory[0, last].median())
        if median > 1.25 * first + 0.25:
            raise Diverged(f"the loss diverged: {median:.3f} around step {step}, {first:.3f} at the start", REMEDY)
