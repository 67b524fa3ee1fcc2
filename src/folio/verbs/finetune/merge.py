"""``folio finetune merge MODEL --out FOLDER``: an adapter and its base as one plain model folder."""

from __future__ import annotations

import shlex
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from folio.config import Table
from folio.verbs.action import Action, Outcome, Terminal

if TYPE_CHECKING:
    from folio.verbs.library import Model

_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
"""Keys of generation_config.json that mean something in one tokenizer alone."""


class MergeOptions(Table):
    """Which adapter, and where the model goes."""

    model: Positional[str]
    """A run or a checkpoint that was trained with adapters, or an adapter's folder, Folio's or PEFT's."""
    out: Path
    """The model folder to write: a new one, or empty."""
    base: str | None = None
    """The base, in full precision, where it is not where the adapter says."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Of the weights that are written; the sum is made in fp32."""


def merge(options: MergeOptions, terminal: Terminal) -> Outcome:
    """Add the adapter to the base's own weights, and write what comes of it as a Hugging Face folder."""
    from folio.artifacts import new_folder, refuse_occupied, write_manifest
    from folio.model.folder import save_model
    from folio.verbs.adapted import adapter_folder
    from folio.verbs.evaluate.continuing import shown
    from folio.verbs.evaluate.text import source_of
    from folio.verbs.library import TORCH_DTYPES, load

    refuse_occupied(options.out)
    adapter_folder(options.model, "it is a whole model already")
    model = load(options.model, device="cpu", base=options.base)
    place = model.place
    names = [f"`{shown(str(folder))}`" for folder in (place.home, place.folder)]
    eos_id, generation = _ends(model)
    with new_folder(options.out) as folder:
        save_model(
            model.gpt,
            folder,
            eos_id=eos_id,
            tokenizer_files=lambda to: _copy_tokenizer(place.tokenizer, to),
            card=f"The base {names[0]} with the adapter {names[1]} merged into it.",
            generation=generation,
            dtype=TORCH_DTYPES[options.dtype],
        )
        parents = (*source_of(place.folder), *source_of(place.home))
        write_manifest(folder, "model", model.config.model_dump(mode="json"), parents=parents)
    terminal.print(f"base     {place.home}\nadapter  {place.folder}\nmodel    {options.out} ({options.dtype})")
    data = {"base": place.home, "adapter": place.folder, "model": options.out, "dtype": options.dtype}
    return Outcome(data, wrote=(options.out,), next=(f"folio generate {shlex.quote(str(options.out))}",))


def _ends(model: Model) -> tuple[int | None, dict[str, Any]]:
    """The end-of-text id, and what generation_config.json holds: the base's own, but for ids of another tokenizer."""
    from folio.errors import ArtifactError
    from folio.model.folder import GENERATION, end_ids, ending
    from folio.model.stored import read_json

    place = model.place
    eos_id = next(iter(end_ids(place.home)), None)
    several: dict[str, Any] = {}
    with suppress(ArtifactError):  # one that Folio does not read is for others to use; _copy_tokenizer verifies it
        eos_id = model.tokenizer.eot_id
        several = ending(eos_id, model.end_ids)
    file = place.home / GENERATION
    kept = read_json(file) if file.is_file() else {}
    kept.pop("transformers_version", None)
    if place.tokenizer != place.home:
        kept = {key: value for key, value in kept.items() if key not in _IDS} | several
    return eos_id, kept


def _copy_tokenizer(source: Path, to: Path) -> None:
    """Copy the tokenizer's files as they are, whoever wrote them, those that a manifest speaks of being verified."""
    from folio.artifacts import verify_part
    from folio.verbs.hub import TOKENIZER_FILES

    files = [file for pattern in TOKENIZER_FILES for file in source.glob(pattern)]
    verify_part(source, [file.name for file in files])
    for file in files:
        shutil.copyfile(file, to / file.name)


ACTION = Action(
    MergeOptions,
    merge,
    "Merge an adapter into its base: one plain model folder.",
    examples=(
        "folio finetune merge runs/locations-lora --out models/locations",
        "folio finetune merge my/adapter --base org/name --out merged --dtype bf16",
    ),
)
