"""Which prompts, in which order: a seeded permutation of all combinations of attributes, none twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from folio.errors import ConfigError
from folio.evaluation.tasks.template import Template
from folio.finetuning.synthesis.spec import Spec
from folio.shards.permutation import Permutation

AT_ONCE = 256
"""Positions that are permuted together."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of attributes, one time that it is asked for."""

    id: str
    """16 hexadecimal digits of the sha256 of the prompt and request tables, the attributes and the repeat."""
    attributes: dict[str, str]
    repeat: int
    messages: tuple[dict[str, str], ...]
    """The system's message if there is one, and the user's."""

    @property
    def prompt_bytes(self) -> int:
        return sum(len(message["content"].encode()) for message in self.messages)


def cell_count(spec: Spec) -> int:
    """How many cells there are; :class:`ConfigError` if they are fewer than the examples asked for."""
    cells = spec.combinations * spec.amount.repeats
    if spec.combinations > 2**62:
        raise ConfigError(f"the attributes have {spec.combinations:.1e} combinations", "Leave some values out.")
    if spec.amount.count > cells:
        needed = -(-spec.amount.count // spec.combinations)
        times = f" {spec.amount.repeats} times each" if spec.amount.repeats > 1 else ""
        raise ConfigError(
            f"amount.count = {spec.amount.count:,}, and the attributes have {spec.combinations:,} combinations{times}",
            f"Ask for fewer, add values, or let combinations be asked for again: amount.repeats = {needed}.",
        )
    return cells


def cells(spec: Spec) -> Iterator[Cell]:
    """Every cell in order: all combinations shuffled, then all again in another order for each further repeat."""
    asked = [spec.prompt.model_dump(), spec.drawing()]
    for repeat in range(spec.amount.repeats):
        order = Permutation(spec.combinations, "synthesis", spec.amount.seed, repeat)
        for attributes in _shuffled(spec, order):
            key = json.dumps([*asked, attributes, repeat], sort_keys=True, ensure_ascii=False)
            yield Cell(hashlib.sha256(key.encode()).hexdigest()[:16], attributes, repeat, _messages(spec, attributes))


def longest_cell(spec: Spec) -> Cell:
    """A cell of the longest prompt there is, for estimates; it has no id and may never come up."""
    attributes = {name: max(values, key=lambda value: len(value.encode())) for name, values in spec.attributes.items()}
    return Cell("", attributes, 0, _messages(spec, attributes))


def _messages(spec: Spec, attributes: dict[str, str]) -> tuple[dict[str, str], ...]:
    templates = (("system", spec.prompt.system), ("user", spec.prompt.template))
    return tuple(
        {"role": role, "content": Template.parse(text).render(attributes).strip()} for role, text in templates if text
    )


def _shuffled(spec: Spec, order: Permutation) -> Iterator[dict[str, str]]:
    for start in range(0, spec.combinations, AT_ONCE):
        positions = np.arange(start, min(start + AT_ONCE, spec.combinations), dtype=np.int64)
        for index in order(positions).tolist():
            yield _attributes(spec, index)


def _attributes(spec: Spec, index: int) -> dict[str, str]:
    """Combination number ``index`` in mixed radix, the last attribute counting fastest."""
    chosen: dict[str, str] = {}
    for name, values in reversed(spec.attributes.items()):
        index, place = divmod(index, len(values))
        chosen[name] = values[place]
    return {name: chosen[name] for name in spec.attributes}
