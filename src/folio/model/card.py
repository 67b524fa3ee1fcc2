"""The model card, ``README.md`` of a model folder: what it is, how to open it."""

from __future__ import annotations

from folio.model.accounting import parameter_counts
from folio.model.config import GPTConfig
from folio.model.families import ARCHITECTURES, family_of

_HEADER = """---
library_name: {library}
pipeline_tag: text-generation
tags: [folio]
---
"""
_STANDARD = """Saved as `{architecture}`: any program that reads a Hugging Face folder opens it.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained("."), AutoTokenizer.from_pretrained(".")
```
"""
_OWN = """**No standard class computes this combination**: its `model_type` is "folio", only Folio opens it, and
it cannot be exported. Other programs know GPT-2 shapes (learned positions, LayerNorm, biases, ungrouped heads) and
RoPE + RMSNorm + SwiGLU without biases, with or without QK-norm.
"""
_OPEN = """
```python
import folio
model = folio.load(".")
```
"""


def model_card(config: GPTConfig, text: str | None = None) -> str:
    """The card of a model of this shape; ``text`` (what it was trained on, its scores) follows the facts."""
    family = family_of(config)
    counts = parameter_counts(config)
    facts = [
        ("parameters", f"{counts.total:,}, of which {counts.embedding:,} in embeddings"),
        ("layers, width", f"{config.n_layer}, {config.n_embd} (MLP {config.hidden:,}, {config.activation})"),
        ("heads", f"{config.n_head} for queries, {config.kv_heads} for keys and values, {config.head_size} wide"),
        ("positions", f"{config.position}, context of {config.block_size:,} tokens"),
        ("normalization", config.norm + (", QK-norm" if config.qk_norm else "")),
        ("vocabulary", f"{config.vocab_size:,} ids, head {'tied' if config.tie_embeddings else 'untied'}"),
    ]
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts)])
    own = family == "folio"
    opening = (_OWN if own else _STANDARD.format(architecture=ARCHITECTURES[family])) + _OPEN
    parts = [
        _HEADER.format(library="folio" if own else "transformers"),
        "# A language model trained with Folio\n",
        table,
    ]
    return "\n".join([*parts, "", opening, *([text.strip(), ""] if text else [])])
