"""``adapter_config.json`` as PEFT writes and reads it, both ways.

PEFT knows many kinds of adapter. What Folio's compute is among them; a file that asks for anything else is refused by
the key that asks for it, so no adapter is ever applied halfway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from folio.config import validated
from folio.errors import ArtifactError
from folio.finetuning.config_lora import ALL, LoraConfig
from folio.finetuning.targets import Part

_READ = {
    *("peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "init_lora_weights"),
    *("target_modules", "exclude_modules", "layers_to_transform"),
}
_WITHOUT_EFFECT = {
    *("auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "inference_mode", "peft_version", "revision"),
    *(
        "task_type",
        "layers_pattern",
        "megatron_core",
        "qalora_group_size",
        "runtime_config",
        "eva_config",
        "loftq_config",
    ),
}
"""What another key has set in motion, or what says nothing about the outputs."""
_STARTS = (True, False, "gaussian", "eva", "orthogonal")
"""First values that leave the base as it is. Others (PiSSA, OLoRA, LoftQ) change it, and the adapter fits only that."""


def peft_config(config: LoraConfig, names: Sequence[str], *, transposed: bool, base_name: str | None) -> dict[str, Any]:
    """PEFT's file for an adapter on the layers that end in ``names``."""
    alpha = int(config.alpha) if config.alpha == int(config.alpha) else config.alpha
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": config.rank,
        "lora_alpha": alpha,
        "lora_dropout": config.dropout,
        "target_modules": list(names),
        "use_rslora": config.rslora,
        "use_dora": config.dora,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def lora_config(values: Mapping[str, Any]) -> LoraConfig:
    """What PEFT's file says, but for the layers; :class:`ArtifactError` names a key that asks for anything else."""
    if values.get("peft_type") != "LORA":
        raise ArtifactError(f"it is a {values.get('peft_type')} adapter", "Folio reads LoRA, rsLoRA and DoRA.")
    start = values.get("init_lora_weights", True)
    if start not in _STARTS:
        raise ArtifactError(
            f"its init_lora_weights '{start}' changed the base before training",
            "Convert it to plain LoRA with PEFT (path_initial_model_for_weight_conversion).",
        )
    for key, value in values.items():
        if key not in _READ | _WITHOUT_EFFECT and value and value != "none":
            raise ArtifactError(f"it uses {key}, which Folio's adapters have not", "Open it with peft.")
    for key in ("target_modules", "exclude_modules"):
        names = values.get(key) or []
        if not (isinstance(names, str) and _is_pattern(names)) and not (
            isinstance(names, list) and all(isinstance(name, str) for name in names)
        ):
            raise ArtifactError(f"its {key} are neither names nor a pattern", "Get or make the folder again.")
    given = {
        "rank": values.get("r"),
        "alpha": values.get("lora_alpha"),
        "dropout": values.get("lora_dropout", 0.0),
        "rslora": values.get("use_rslora", False),
        "dora": values.get("use_dora", False),
    }
    config, mistakes = validated(LoraConfig, given)
    if config is None:
        raise ArtifactError(f"its configuration is damaged: {'; '.join(mistakes)}", "Get or make the folder again.")
    return config


def covered_parts(values: Mapping[str, Any], parts: Sequence[Part]) -> list[Part]:
    """The layers that PEFT would put the adapter on: names' ends or a pattern, less exclusions, in certain blocks."""
    layers = values.get("layers_to_transform")
    layers = [layers] if isinstance(layers, int) else layers
    wanted, excluded = values.get("target_modules"), values.get("exclude_modules")
    return [
        part
        for part in parts
        if _named(part.theirs, wanted)
        and not (excluded and _named(part.theirs, excluded))
        and (layers is None or _block(part) in layers)
    ]


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _named(name: str, names: Any) -> bool:
    if isinstance(names, str):
        return names == ALL or re.fullmatch(names, name) is not None
    return any(name == end or name.endswith(f".{end}") for end in names or ())


def _block(part: Part) -> int:
    found = re.search(r"\.(\d+)\.", part.theirs)
    assert found is not None
    return int(found[1])
