"""GPUs that people rent, and what an estimate of time and cost assumes about them."""

from __future__ import annotations

from pydantic import Field

from folio.config import Table

MEMORY_BYTES = {"A100": 80 * 10**9, "H100": 80 * 10**9, "H200": 141 * 10**9}
"""By NVIDIA's datasheets, of the SXM kinds; the A100 of 80 GB. Peaks stand in :mod:`folio.hardware`."""
FILLED = 0.8
"""The part of a GPU's memory that an estimate may fill: kernels, graphs and the allocator take some of the rest."""
NUMBERS_OF_GPUS = (1, 8)


class UsdPerHour(Table):
    """Prices of one GPU for an hour.

    Assumptions: about the middle of what clouds that rent little else asked on demand in 2025 and 2026 (A100 1.5 to
    2.5, H100 2.5 to 4, H200 3.5 to 4.5). The largest clouds ask more; spot prices are lower.
    """

    a100: float = Field(default=1.8, ge=0)
    """US dollars for an hour of one A100 of 80 GB."""
    h100: float = Field(default=3.0, ge=0)
    """US dollars for an hour of one H100."""
    h200: float = Field(default=3.8, ge=0)
    """US dollars for an hour of one H200."""

    def of(self, gpu: str) -> float:
        return float(getattr(self, gpu.lower()))


class Assumptions(Table):
    """What time and cost on rented GPUs are reckoned with.

    The utilization lies between what comes of two reports about GPT-2 124M on eight A100: nanoGPT's README, 300 billion
    tokens in about four days, which is 28 %, and llm.c's, 10 billion in about 90 minutes, which is 59 %. A model of a
    few million parameters reaches far less.
    """

    mfu: float = Field(default=0.4, gt=0, le=1)
    """The part of a GPU's datasheet peak in bf16 that training is assumed to reach. A run on one shows its own."""
    scaling_efficiency: float = Field(default=1.0, gt=0, le=1)
    """Speed of several GPUs over their number times that of one; 1 means that nothing is lost to communication."""
    usd_per_hour: UsdPerHour = UsdPerHour()
    """Prices."""
