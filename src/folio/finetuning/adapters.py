"""Folders of adapters, in PEFT's format: ``peft`` opens ours on the Hugging Face model, and Folio opens PEFT's.

An adapter is of use on its own base only. Ours says which in its manifest: the base's shape, the sha256 of its weights,
and the base's manifest as parent. PEFT's says nothing, so names and shapes of the tensors have to fit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from folio import artifacts
from folio.artifacts import MANIFEST, MODEL_PART, Manifest, Parent, new_folder, read_manifest, write_manifest
from folio.checksums import record_of
from folio.errors import ArtifactError
from folio.finetuning.adapter_card import adapter_card
from folio.finetuning.config_lora import LoraConfig
from folio.finetuning.lora import DEFAULT, adapter_named, parameter_name, put_adapter
from folio.finetuning.peft_config import covered_parts, lora_config, peft_config
from folio.finetuning.targets import linear_parts, shortest_names
from folio.model.config import GPTConfig
from folio.model.find import ADAPTER_CONFIG as CONFIG
from folio.model.find import ADAPTER_WEIGHTS as WEIGHTS
from folio.model.gpt import GPT
from folio.model.stored import read_json, stored_tensors, weight_files, write_tensors

KIND = "adapter"
OWN_BASE = "Give the model that it was trained on."
_PREFIX = "base_model.model."
_SLOTS = {"A": "lora_A.weight", "B": "lora_B.weight", "m": "lora_magnitude_vector"}


@dataclass(frozen=True)
class Base:
    """Which model an adapter belongs to: the sha256 of its weights, and its manifest, if it has one."""

    weights: str
    parent: Parent | None = None
    name: str | None = None
    """What PEFT is told that the base is called: a hub id, or a path as its reader will know it."""


def base_of(folder: Path, name: str | None = None) -> Base:
    """The identity of the model in ``folder``. Weights are read through where no manifest has their sha256."""
    manifest, prefix = None, ""
    for home, before in ((folder, ""), (folder.parent, f"{MODEL_PART}/")):
        if manifest is None and (not before or folder.name == MODEL_PART) and (home / MANIFEST).is_file():
            with suppress(ArtifactError):  # other programs have files of that name too
                manifest, prefix = read_manifest(home), before
    files = weight_files(folder)
    records = {} if manifest is None else manifest.files
    prints = [(records.get(f"{prefix}{file.name}") or record_of(file)).sha256 for file in files]
    weights = prints[0] if len(prints) == 1 else hashlib.sha256("".join(prints).encode()).hexdigest()
    return Base(weights, None if manifest is None else Parent(kind=manifest.kind, id=manifest.id), name)


def save_adapter(
    model: GPT,
    path: Path,
    *,
    base: Base | None = None,
    name: str = DEFAULT,
    card: str | None = None,
    extra: Callable[[Path], object] | None = None,
) -> Manifest:
    """Write the adapter ``name`` of ``model`` as a folder with a manifest and a card, whole or not at all.

    ``card`` is text that follows what the card says of the adapter. ``extra`` is called with the folder, to write more
    into it (the tokenizer's files), before the manifest, which then speaks of them too. :class:`ArtifactError` if
    ``path`` holds something else, :class:`ConfigError` if the model has no such adapter.
    """
    adapter = adapter_named(model, name)
    with new_folder(path, replace=KIND) as folder:
        write_adapter(folder, model.config, adapter.config, adapter.parameters, base=base)
        text = adapter_card(adapter.config, model.config, adapter.parameters, base.name if base else None, card)
        (folder / "README.md").write_text(text, encoding="utf-8")
        if extra is not None:
            extra(folder)
        facts = {
            "lora": adapter.config.model_dump(mode="json"),
            "base": {"shape": model.config.model_dump(mode="json"), "weights_sha256": base.weights if base else None},
        }
        parents = (base.parent,) if base is not None and base.parent is not None else ()
        return write_manifest(folder, KIND, facts, parents=parents, device=str(model.embed.weight.device))


def write_adapter(
    folder: Path, shape: GPTConfig, config: LoraConfig, tensors: Mapping[str, Tensor], *, base: Base | None = None
) -> None:
    """Write PEFT's two files into an existing folder. ``tensors`` are whole, by parameter name; they become fp32."""
    parts = linear_parts(shape)
    chosen = [part for part in parts if parameter_name(part, "A") in tensors]
    stored = {
        f"{_PREFIX}{part.theirs}.{theirs}": tensors[parameter_name(part, slot)].detach().to("cpu").float().contiguous()
        for part in chosen
        for slot, theirs in _SLOTS.items()
        if parameter_name(part, slot) in tensors
    }
    assert len(stored) == len(tensors), "a tensor that belongs to no linear layer of the model"
    write_tensors(stored, folder / WEIGHTS, {"format": "pt"})
    values = peft_config(
        config,
        shortest_names(chosen, parts),
        transposed=any(part.transposed for part in chosen),
        base_name=base.name if base else None,
    )
    (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def load_adapter(
    model: GPT,
    folder: Path,
    *,
    name: str = DEFAULT,
    base: Base | None = None,
    trainable: bool = False,
    verify: bool = True,
) -> LoraConfig:
    """Lay the adapter in ``folder``, ours or PEFT's, on ``model`` under ``name``; ``set_adapter`` then uses it.

    ``base`` is what :func:`base_of` says of the model's folder: the manifest of an adapter of ours is held against it.
    :class:`ArtifactError` for an adapter of another base, a damaged one, or one that does what Folio's do not.
    """
    if verify:
        verify_adapter(folder)
    if (folder / MANIFEST).is_file():
        _refuse_other_base(folder, read_manifest(folder, KIND).config.get("base") or {}, model.config, base)
    config, tensors = read_adapter(folder, model.config)
    put_adapter(model, name, config, tensors, trainable=trainable)
    return config


def verify_adapter(folder: Path) -> None:
    """:class:`ArtifactError` if ``folder`` holds no adapter, or a file in it is not what its manifest says."""
    if not folder.is_dir():
        raise ArtifactError(f"'{folder}' does not exist or is no folder", "Check the path.")
    artifacts.verify_part(folder, (CONFIG, WEIGHTS), whole=True)
    if not (folder / CONFIG).is_file():
        raise ArtifactError(f"'{folder}' is not an adapter: it has no {CONFIG}", "Check the path.")


def read_adapter(folder: Path, shape: GPTConfig) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Configuration and tensors, by parameter name, of an adapter for a model of this ``shape``; strict both ways."""
    try:
        values = read_json(folder / CONFIG)
        config = lora_config(values)
    except ArtifactError as error:
        raise ArtifactError(f"'{folder}': {error.problem}", error.remedy) from None
    parts = linear_parts(shape)
    chosen = covered_parts(values, parts)
    expected: dict[str, tuple[str, tuple[int, ...]]] = {}
    for part in chosen:
        rows = part.stop - part.start
        shapes = {"A": (config.rank, part.inputs), "B": (rows, config.rank), "m": (rows,)}
        for slot, theirs in _SLOTS.items():
            if slot != "m" or config.dora:
                expected[f"{_PREFIX}{part.theirs}.{theirs}"] = parameter_name(part, slot), shapes[slot]
    with ExitStack() as files:
        found = stored_tensors(files, [folder / WEIGHTS], "folio")
        found = {key.removesuffix(".weight") if key.endswith("vector.weight") else key: t for key, t in found.items()}
        for key, (_, size) in expected.items():
            if key in found and found[key].shape != size:
                told = f"'{key.removeprefix(_PREFIX)}' has the shape {found[key].shape}, this model needs {size}"
                raise ArtifactError(f"'{folder}' was made for another model: {told}", OWN_BASE)
        missing = [key for key in expected if key not in found]
        surplus = [key for key in found if key not in expected]
        if missing or surplus or not found:
            told = f"it lacks '{missing[0]}'" if missing else f"there is no place for '{(surplus or ['nothing'])[0]}'"
            raise ArtifactError(f"'{folder}' was made for another model: {told.replace(_PREFIX, '')}", OWN_BASE)
        tensors = {ours: found[key].read() for key, (ours, _) in expected.items()}
    return config.model_copy(update={"targets": tuple(shortest_names(chosen, parts))}), tensors


def _refuse_other_base(folder: Path, recorded: Mapping[str, Any], shape: GPTConfig, base: Base | None) -> None:
    here, there = shape.model_dump(mode="json"), recorded.get("shape") or {}
    keys = [key for key in here if key in there and key != "dropout"]
    differ = [f"{key} {there[key]}, not {here[key]}" for key in keys if there[key] != here[key]]
    if differ:
        raise ArtifactError(f"'{folder}' was made for a model of another shape: {'; '.join(differ[:3])}", OWN_BASE)
    weights = recorded.get("weights_sha256")
    if base is not None and weights is not None and weights != base.weights:
        given = f"those of '{base.name}'" if base.name else "this model's"
        raise ArtifactError(
            f"'{folder}' was made for other weights (sha256 {weights[:12]}) than {given} ({base.weights[:12]})",
            f"{OWN_BASE} To use it on this one all the same, take a copy of it without its {MANIFEST}.",
        )
