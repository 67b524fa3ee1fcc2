"""Which linear layers an adapter may change, under Folio's names and Hugging Face's.

Folio stacks matrices that share an input (``qkv``; for SwiGLU the gate and ``up``). Where Hugging Face's class has them
apart, each is a *part* with an adapter of its own, so that a folder of adapters means the same to both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from folio.errors import ConfigError, nearest
from folio.finetuning.config_lora import ALL
from folio.model.build import skeleton
from folio.model.config import GPTConfig
from folio.model.families import family_of, pieces


@dataclass(frozen=True, slots=True)
class Part:
    """Rows ``[start, stop)`` of our linear layer ``layer``: the layer ``theirs`` of the Hugging Face class."""

    layer: str
    theirs: str
    start: int
    stop: int
    inputs: int
    transposed: bool

    @property
    def name(self) -> str:
        """The last word of their name, such as ``q_proj``: unique within one layer of ours."""
        return self.theirs.rpartition(".")[2]


def linear_parts(config: GPTConfig) -> list[Part]:
    """Every linear layer of the blocks, in order; embeddings and the output head are none of them."""
    shapes = {name: weight.shape for name, weight in skeleton(config).named_parameters()}
    found = []
    for piece in pieces(config, family_of(config)):
        if piece.ours.startswith("blocks.") and len(shapes[piece.ours]) == 2:
            layer, theirs = piece.ours.removesuffix(".weight"), piece.theirs.removesuffix(".weight")
            found.append(Part(layer, theirs, piece.start, piece.stop, shapes[piece.ours][1], piece.transposed))
    return found


def chosen_parts(config: GPTConfig, targets: Sequence[str]) -> list[Part]:
    """The parts that ``targets`` name: each is "all-linear", or the end of a layer's name, ours or theirs.

    :class:`ConfigError` for a target that names nothing.
    """
    parts = linear_parts(config)
    chosen: set[Part] = set()
    for target in targets:
        named = [p for p in parts if target == ALL or _ends(p.layer, target) or _ends(p.theirs, target)]
        if not named:
            leaves = dict.fromkeys(name.rpartition(".")[2] for p in parts for name in (p.layer, p.theirs))
            guess = nearest(target, leaves)
            remedy = f"Did you mean {guess}? " if guess else ""
            raise ConfigError(
                f"there is no linear layer '{target}' in this model's blocks",
                f"{remedy}Layers: {ALL}, {', '.join(leaves)}.",
            )
        chosen.update(named)
    return [part for part in parts if part in chosen]


def shortest_names(chosen: Iterable[Part], parts: Sequence[Part]) -> list[str]:
    """Ends of Hugging Face names that select just ``chosen`` among ``parts``, as PEFT's target_modules does."""
    wanted = {part.theirs for part in chosen}
    names: dict[str, None] = {}
    for theirs in sorted(wanted):
        words = theirs.split(".")
        ends = [".".join(words[-count:]) for count in range(1, len(words) + 1)]
        names[next(end for end in ends if all(p.theirs in wanted for p in parts if _ends(p.theirs, end)))] = None
    return list(names)


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith("." + end)
