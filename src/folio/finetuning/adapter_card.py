"""The card of an adapter, ``README.md`` of its folder: what it changes, on which base, how to open it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from torch import Tensor

from folio.finetuning.config_lora import LoraConfig
from folio.model.config import GPTConfig
from folio.model.families import family_of

_OPEN = """Its base is {called}; without the base it is of no use.

```python
import folio
model = folio.load(".")  # the base with the adapter merged into it; base="..." says where the base is
```
"""
_PEFT = """
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base}), ".")
```
"""
_OWN = """
No standard class computes a base of this shape: only Folio opens it.
"""


def adapter_card(
    config: LoraConfig, shape: GPTConfig, tensors: Mapping[str, Tensor], base: str | None, text: str | None = None
) -> str:
    """The card of an adapter of these ``tensors``, by parameter name, for a model of this ``shape``.

    ``base`` is what PEFT is told that the base is called, None if nobody said; ``text`` (what it was trained on, its
    scores) follows the facts. The header has the keys of PEFT's own cards.
    """
    standard = family_of(shape) != "folio"
    kind = "DoRA" if config.dora else "rsLoRA" if config.rslora else "LoRA"
    scale = "alpha / sqrt(rank)" if config.rslora else "alpha / rank"
    changed = sum(name.endswith("_A") for name in tensors)
    facts = [
        ("method", f"{kind}, rank {config.rank}, alpha {config.alpha:g} (scaled by {scale} = {config.scaling:.4g})"),
        ("layers", f"{changed:,}: {', '.join(config.targets)}"),
        ("parameters", f"{sum(tensor.numel() for tensor in tensors.values()):,}"),
    ]
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts)])
    called = f"`{base}`" if base else "not named here"
    opening = _OPEN.format(called=called) + (_PEFT.format(base=json.dumps(base or "BASE")) if standard else _OWN)
    parts = [_header(base, standard), "# An adapter trained with Folio\n", table, "", opening]
    return "\n".join([*parts, *([text.strip(), ""] if text else [])])


def _header(base: str | None, standard: bool) -> str:
    tags = ["lora", "folio", *(["transformers"] if standard else [])]
    lines = [
        *([f"base_model: {json.dumps(base)}"] if base else []),
        f"library_name: {'peft' if standard else 'folio'}",
        "pipeline_tag: text-generation",
        "tags:",
        *([f"- {json.dumps(f'base_model:adapter:{base}')}"] if base else []),
        *(f"- {tag}" for tag in tags),
    ]
    return "\n".join(["---", *lines, "---", ""])
