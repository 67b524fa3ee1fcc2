"""The rungs, from the bottom up: each changes one field of :class:`Settings`, on top of all that lie below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from folio.errors import ConfigError, nearest
from folio.studies.ladder.machine import Machine

Kind = Literal["bottom", "hardware", "precision", "memory", "kernels", "model", "optimizer", "shape"]
KINDS: tuple[Kind, ...] = ("bottom", "hardware", "precision", "memory", "kernels", "model", "optimizer", "shape")

BOTTOM = "plain"


@dataclass(frozen=True)
class Settings:
    """Everything that a rung can change. The defaults are the bottom: a tutorial's GPT-2, torch as it comes."""

    device: str = "cpu"
    ranks: int = 1
    tied: bool = False
    init: Literal["torch", "gpt2"] = "torch"
    products: Literal["torch", "tf32", "onednn"] = "torch"
    bf16: bool = False
    fp8: bool = False
    keep_pages: bool = False
    compile: bool = False
    attention: Literal["scores", "fused", "products"] = "scores"
    padded: bool = False
    clip: float = 0.0
    beta2: float = 0.999
    decay: Literal["all", "groups"] = "all"
    optimizer: Literal["loop", "fused", "muon"] = "loop"
    loss: Literal["whole", "chunks"] = "whole"
    accumulate: bool = False
    schedule: Literal["constant", "wsd"] = "constant"
    position: Literal["learned", "rope"] = "learned"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    activation: Literal["gelu", "relu2", "swiglu"] = "gelu"
    grouped: bool = False
    qk_norm: bool = False

    @property
    def own_stack(self) -> bool:
        """Whether this is Folio's own model, optimizers and loop: from the rung on whose loss they bring."""
        return self.loss == "chunks"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Rung:
    """One change: ``field`` of the settings becomes ``value``. ``words`` say what is done, for the table."""

    name: str
    kind: Kind
    field: str
    value: Any
    words: str
    learns: bool = True
    """Whether it belongs to what is learned in a step, or in the way there; if not, it is speed and memory alone."""


RUNGS: tuple[Rung, ...] = (
    Rung("gpu", "hardware", "device", None, "the same code on the GPU", learns=False),
    Rung("tied", "model", "tied", True, "the output head is the token embedding"),
    Rung("init", "model", "init", "gpt2", "weights as GPT-2's, N(0, 0.02) at its width, smaller where a block writes"),
    Rung("tf32", "precision", "products", "tf32", "fp32 products with a 10-bit mantissa (TF32)"),
    Rung("onednn", "precision", "products", "onednn", "fp32 products through oneDNN, checked to be as accurate"),
    Rung("bf16", "precision", "bf16", True, "products in bf16 (autocast), weights in fp32"),
    Rung("pages", "memory", "keep_pages", True, "the allocator keeps freed pages for the next step", learns=False),
    Rung("compile", "kernels", "compile", True, "torch.compile", learns=False),
    Rung("flash", "kernels", "attention", "fused", "PyTorch's fused attention: no T x T scores in memory"),
    Rung("products", "kernels", "attention", "products", "attention as matrix products, its future never computed"),
    Rung("vocabulary", "model", "padded", True, "rows of the vocabulary padded to a multiple of 64"),
    Rung("clip", "optimizer", "clip", 1.0, "gradients clipped to a norm of 1"),
    Rung("betas", "optimizer", "beta2", 0.95, "AdamW remembers squared gradients for 20 steps, not 1,000"),
    Rung("groups", "optimizer", "decay", "groups", "weight decay of 0.1 on matrices alone, none on gains and biases"),
    Rung("fused", "kernels", "optimizer", "fused", "AdamW as one kernel over all parameters"),
    Rung("chunked", "memory", "loss", "chunks", "Folio's own model and loop: head and loss a chunk at a time"),
    Rung("accumulate", "memory", "accumulate", True, "a step of several micro-batches", learns=False),
    Rung("ddp", "hardware", "ranks", None, "a process for each GPU, or for half of the cores (DDP)", learns=False),
    Rung("muon", "optimizer", "optimizer", "muon", "Muon for the blocks' matrices, AdamW for the rest"),
    Rung("wsd", "optimizer", "schedule", "wsd", "rate: warm-up, stable, linear decay to zero"),
    Rung("rope", "shape", "position", "rope", "rotary positions for learned ones"),
    Rung("rmsnorm", "shape", "norm", "rmsnorm", "RMSNorm for LayerNorm"),
    Rung("relu2", "shape", "activation", "relu2", "squared ReLU for GELU"),
    Rung("swiglu", "shape", "activation", "swiglu", "SwiGLU, 8/3 as wide, for squared ReLU"),
    Rung("gqa", "shape", "grouped", True, "two heads of queries share one of keys and values"),
    Rung("qknorm", "shape", "qk_norm", True, "queries and keys normalized"),
    Rung("fp8", "precision", "fp8", True, "the blocks' products in fp8, scaled per tensor"),
)
"""From the bottom up. Up to ``chunked`` model, optimizer and the tokens of a step are the bottom's kind; from
``accumulate`` on a step that is timed has more tokens, and from ``muon`` on model and optimizer are others."""
LAST_OF_SPEED = "chunked"


@dataclass(frozen=True)
class Step:
    """A rung on this machine: its settings, all below it included, or why it is not taken.

    ``kept``: those above stand on it. What gains nothing here is measured, and taken out again.
    """

    rung: Rung
    settings: Settings
    kept: bool = True
    refused: str = ""

    @property
    def name(self) -> str:
        return self.rung.name


BOTTOM_RUNG = Rung(BOTTOM, "bottom", "", None, "GPT-2 as a tutorial writes it: fp32, T x T scores, AdamW in a loop")


def steps_on(machine: Machine, asked: Sequence[str] = ()) -> list[Step]:
    """Every rung with its settings on ``machine``, the bottom first.

    ``asked`` picks which are measured: the others lie between them all the same, and are left out of the list.
    :class:`ConfigError` for a name that no rung has.
    """
    names = [rung.name for rung in RUNGS]
    for name in asked:
        if name != BOTTOM and name not in names:
            guess = nearest(name, names)
            raise ConfigError(
                f"the ladder has no rung '{name}'",
                f"Did you mean {guess}?" if guess else f"It has: {', '.join(names)}.",
            )
    below = Settings()
    found = [Step(BOTTOM_RUNG, below)]
    for rung in RUNGS:
        refused, kept = machine.refusal(rung.name), machine.keeps(rung.name)
        change: dict[str, Any] = {rung.field: _value(rung, machine)}
        settings = below if refused else replace(below, **change)
        if not asked or rung.name in asked:
            found.append(Step(rung, settings, kept, refused))
        if kept and not refused:
            below = settings
    return found


def _value(rung: Rung, machine: Machine) -> Any:
    """What the rung sets its field to: the machine says how many ranks there are, and which device."""
    return {"gpu": machine.device, "ddp": machine.ranks}.get(rung.name, rung.value)


def in_speed_part(name: str) -> bool:
    """Whether the rung is one of those that leave the model GPT-2's, its optimizer AdamW, and a step as large."""
    names = [BOTTOM, *(rung.name for rung in RUNGS)]
    return names.index(name) <= names.index(LAST_OF_SPEED)
