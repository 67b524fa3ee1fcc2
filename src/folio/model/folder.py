"""A Folio model folder is a Hugging Face model folder: weights as safetensors, the rest as JSON, nothing pickled.

``AutoModelForCausalLM.from_pretrained`` opens what :func:`save_model` writes, and :func:`load_model` opens what others
wrote, in the families of ``families.py``. Every load is strict: each tensor of the file has its place, and each place
its tensor.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from folio import artifacts
from folio.errors import ArtifactError
from folio.model.build import allocate, skeleton
from folio.model.card import model_card
from folio.model.config import GPTConfig
from folio.model.families import HEAD, Family, Piece, family_of, pieces
from folio.model.gpt import GPT
from folio.model.hf_config import config_from_hf, config_to_hf
from folio.model.stored import AGAIN, CONFIG, INDEX, WEIGHTS, read_json, stored_tensors, weight_files, write_tensors

GENERATION = "generation_config.json"


def save_model(
    model: GPT,
    folder: Path,
    *,
    eos_id: int | None = None,
    tokenizer_files: Callable[[Path], object] | None = None,
    card: str | None = None,
    generation: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write ``model`` into an existing folder (a temporary one: see ``artifacts.new_folder``).

    ``eos_id`` is the tokenizer's end-of-text id. ``tokenizer_files`` is called with the folder to put the tokenizer
    there, ``card`` is text for the model card, below what it says of the shape, ``generation`` more keys of
    :data:`GENERATION`. Padding rows are cut; a tied head is not written. A model inside ``torch.compile`` is
    saved under its own names. ``OSError`` with the system's own number if the disk is full.
    """
    model = getattr(model, "_orig_mod", model)
    config = model.config
    parameters = dict(model.named_parameters())
    assert not any("_orig_mod" in name for name in parameters), "compile the model as a whole"
    tensors = {piece.theirs: _theirs(parameters, piece, dtype) for piece in pieces(config, family_of(config))}
    write_tensors(tensors, folder / WEIGHTS, {"format": "pt"})
    _write_json(folder / CONFIG, config_to_hf(config, eos_id, str(dtype).removeprefix("torch.")))
    ids = {} if eos_id is None else {"bos_token_id": eos_id, "eos_token_id": eos_id, "pad_token_id": eos_id}
    _write_json(folder / GENERATION, {**ids, **(generation or {})})
    if tokenizer_files is not None:
        tokenizer_files(folder)
    (folder / "README.md").write_text(model_card(config, card), encoding="utf-8")


def _theirs(parameters: Mapping[str, Tensor], piece: Piece, dtype: torch.dtype) -> Tensor:
    part = parameters[piece.ours].detach()[piece.start : piece.stop]
    return (part.T if piece.transposed else part).to("cpu", dtype).contiguous()


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def load_model(
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    verify: bool = True,
) -> GPT:
    """Open a model folder, ours or Hugging Face's, in evaluation mode.

    Weights become fp32 whatever the file holds, unless ``dtype`` says otherwise. ``verify`` first compares every file
    with the manifest, the folder's own or that of the checkpoint it lies in; a folder without one is taken as it is.
    :class:`ArtifactError` names what is missing, damaged, too much, of another shape, or cannot be represented.
    """
    if verify:
        artifacts.verify_part(folder, (CONFIG, WEIGHTS, INDEX), whole=True)
    config = read_config(folder)
    family = family_of(config)
    with ExitStack() as files:
        found = stored_tensors(files, weight_files(folder), family)
        tied_head = found.pop(HEAD, None) if config.tie_embeddings else None
        plan = _plan(folder, config, family, {name: tensor.shape for name, tensor in found.items()})
        model = allocate(config, device=device, dtype=dtype or torch.float32)
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for piece in plan:
                theirs = found[piece.theirs].read()
                parameters[piece.ours][piece.start : piece.stop].copy_(theirs.T if piece.transposed else theirs)
            if tied_head is not None:
                _check_tied(folder, model, tied_head.read())
    return model.eval()


def read_config(folder: Path) -> GPTConfig:
    """The shape of the model in ``folder``; :class:`ArtifactError` if it is none, or one that cannot be represented."""
    path = folder / CONFIG
    if not folder.is_dir():
        raise ArtifactError(f"'{folder}' does not exist or is no folder", "Check the path.")
    if not path.is_file():
        raise ArtifactError(f"'{folder}' is not a model folder: it has no config.json", "Check the path.")
    try:
        return config_from_hf(read_json(path))
    except ArtifactError as error:
        raise ArtifactError(f"'{folder}': {error.problem}", error.remedy) from None


def end_ids(folder: Path) -> tuple[int, ...]:
    """The ids that end a text, as the model in ``folder`` says: of generation_config.json, else of config.json.

    Models that talk have several: one ends a turn, one a text. None where the files name none; what a name outside the
    vocabulary would end never comes. :class:`ArtifactError` for a file that is damaged.
    """
    for path in (folder / GENERATION, folder / CONFIG):
        try:
            given = read_json(path).get("eos_token_id") if path.is_file() else None
        except ArtifactError as error:
            raise ArtifactError(f"'{folder}': {error.problem}", error.remedy) from None
        found = given if isinstance(given, list) else [given]
        if ids := tuple(id for id in found if type(id) is int):
            return ids
    return ()


def ending(eos_id: int | None, end_ids: Sequence[int]) -> dict[str, Any]:
    """For ``save_model``'s ``generation``: the end-of-text and the other ids that end a text, if there are any."""
    ids = list(dict.fromkeys([*([] if eos_id is None else [eos_id]), *end_ids]))
    return {"eos_token_id": ids} if len(ids) > 1 else {}


def _plan(folder: Path, config: GPTConfig, family: Family, shapes: Mapping[str, tuple[int, ...]]) -> list[Piece]:
    """Where each tensor goes, every one accounted for before any memory is taken."""
    if config.n_layer > len(shapes):
        raise ArtifactError(
            f"'{folder}' holds {len(shapes)} tensors; its config.json has {config.n_layer} layers", AGAIN
        )
    ours = {name: tuple(weight.shape) for name, weight in skeleton(config).named_parameters()}
    plan = list(pieces(config, family))
    expected: dict[str, tuple[int, ...]] = {}
    for piece in plan:
        shape = (piece.stop - piece.start, *ours[piece.ours][1:])
        expected[piece.theirs] = shape[::-1] if piece.transposed else shape
    faults = [
        ("missing", [name for name in expected if name not in shapes]),
        ("unexpected", [name for name in shapes if name not in expected]),
        (
            "of another shape",
            [f"{n} {shapes[n]} for {s}" for n, s in expected.items() if n in shapes and shapes[n] != s],
        ),
    ]
    if any(names for _, names in faults):
        told = "; ".join(f"{fault}: {_some(names)}" for fault, names in faults if names)
        raise ArtifactError(f"'{folder}' does not hold the weights that its config.json describes. {told}", AGAIN)
    return plan


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _check_tied(folder: Path, model: GPT, head_VC: Tensor) -> None:
    embedding_VC = model.embed.weight[: model.config.vocab_size]
    if head_VC.shape != embedding_VC.shape or not torch.equal(head_VC.to(embedding_VC), embedding_VC):
        raise ArtifactError(
            f"'{folder}': config.json ties the head to the embedding, but {HEAD} is another matrix",
            'Set "tie_word_embeddings": false in its config.json, or get the folder again.',
        )
