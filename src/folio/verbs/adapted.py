"""Models that are adapters on a base: where the base lies, and both opened as one plain model.

Merged into plain weights an adapter costs nothing at work, and whatever takes a model takes it: packing, int8, scoring,
saving. The sum is made in fp32 on the CPU, whatever the model is to run in and on, so it is the same bits everywhere,
and those of a merged folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from folio.artifacts import MANIFEST
from folio.errors import ArtifactError, ConfigError, MissingExtra, UserError
from folio.finetuning.adapters import Base, base_of, load_adapter, verify_adapter
from folio.finetuning.lora import DEFAULT, merged, set_adapter
from folio.model.find import ADAPTER_CONFIG, is_adapter
from folio.model.folder import end_ids, load_model
from folio.model.gpt import GPT
from folio.model.stored import read_json
from folio.tokenizer import Tokenizer
from folio.tokenizer.base import FILE as TOKENIZER_FILE
from folio.verbs.hub import HUB_EXAMPLE, model_folder


@dataclass(frozen=True)
class Place:
    """Where a model lies: a whole one in ``home``, and the adapter on top of it, if there is one, in ``adapter``."""

    home: Path
    adapter: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder that was meant: the adapter's, else the model's."""
        return self.home if self.adapter is None else self.adapter

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer: the adapter's own where it has one, else the base's."""
        return self.folder if (self.folder / TOKENIZER_FILE).is_file() else self.home

    def end_ids(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """The ids that the model's own files end a text with; of ``tokenizer``, which may be another than the base's.

        An adapter's own tokenizer may have given a number a new meaning: there only its special tokens count.
        """
        ids = end_ids(self.home)
        return ids if self.tokenizer == self.home else tuple(id for id in ids if id in tokenizer.special_ids.values())


def place_of(folder: Path, base: str | Path | None = None) -> Place:
    """The model that ``folder``, a model's or an adapter's, stands for; ``base`` names an adapter's base by hand.

    Else the base is where the adapter's own configuration says: from the working directory, then from each folder above
    the adapter, so that both may move together; or a hub id. :class:`ArtifactError`, or :class:`Unreachable`, if it is
    nowhere; :class:`ConfigError` for a ``base`` of what needs none.
    """
    if is_adapter(folder):
        return Place(_recorded_base(folder) if base is None else whole_model(base), folder)
    if base is not None:
        raise ConfigError(f"'{folder}' is a whole model: it has no base", "Leave the base out.")
    return Place(folder)


def whole_model(given: str | Path) -> Path:
    """The model folder that ``given`` means, as a base for training; :class:`ArtifactError` if it is an adapter."""
    folder = model_folder(given, f"a run, a checkpoint, a model folder, or {HUB_EXAMPLE}")
    if is_adapter(folder):
        raise ArtifactError(
            f"'{given}' is an adapter, and a base has to be a whole model",
            f"Make one of it: folio finetune merge {given} --out FOLDER",
        )
    return folder


def adapter_folder(given: str | Path, instead: str = "it is a whole model") -> Path:
    """The adapter folder that ``given`` means; :class:`ArtifactError`, which says ``instead``, of a whole model."""
    folder = model_folder(given, f"a run, a checkpoint or a folder with an adapter, or {HUB_EXAMPLE}")
    if not is_adapter(folder):
        raise ArtifactError(f"'{given}' is no adapter; {instead}", "Check the path.")
    return folder


def _recorded_base(adapter: Path) -> Path:
    remedy = (
        f"Say where it is: --base MODEL; or make one model of both: folio finetune merge {adapter} --base MODEL "
        "--out FOLDER"
    )
    if not (adapter / ADAPTER_CONFIG).is_file():
        raise ArtifactError(f"'{adapter}' is no whole adapter: it has no {ADAPTER_CONFIG}", "Check the path.")
    try:
        name = read_json(adapter / ADAPTER_CONFIG).get("base_model_name_or_path")
    except ArtifactError as error:
        raise ArtifactError(f"'{adapter}': {error.problem}", error.remedy) from None
    if not name or not isinstance(name, str):
        raise ArtifactError(f"adapter '{adapter}' does not say which model it was made for", remedy)
    here = next((place for place in _candidates(adapter, name) if place.is_dir()), None)
    try:
        return whole_model(name) if here is None else whole_model(here)
    except MissingExtra:
        raise
    except UserError as error:
        raise type(error)(f"the base of adapter '{adapter}' was not found: {error.problem}", remedy) from None


def _candidates(adapter: Path, name: str) -> Iterator[Path]:
    yield Path(name)
    for parent in adapter.resolve().parents:
        yield parent / name


def open_plain(place: Place, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> GPT:
    """The model at ``place`` in evaluation mode, an adapter merged into its base; every file is verified.

    :class:`ArtifactError` for an adapter that was made for another base, besides what opening either raises.
    """
    if place.adapter is None:
        return load_model(place.home, device=device, dtype=dtype)
    adapters = Adapters(place.home)
    adapters.add(place.adapter, DEFAULT)
    return moved(adapters.plain(DEFAULT), device, dtype)


class Adapters:
    """Adapters on one base, whose weights are held once, in fp32 on the CPU, from the first time they are needed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folders: dict[str, Path] = {}
        self._laid: GPT | None = None

    def add(self, folder: Path, name: str) -> None:
        """Lay the adapter in ``folder`` beside the others; :class:`ConfigError` for a name that is taken."""
        self._lay(self.laid, folder, name)
        self.folders[name] = folder

    def expect(self, folder: Path, name: str) -> None:
        """The same, without reading anything before it is needed."""
        self.folders[name] = folder

    def plain(self, name: str | None) -> GPT:
        """The base with the adapter ``name`` merged into it, None: the base alone; what is unchanged is shared.

        :class:`ConfigError` for a name that no adapter has.
        """
        set_adapter(self.laid, name)
        return merged(self.laid)

    @property
    def laid(self) -> GPT:
        """The base with every adapter on it."""
        if self._laid is None:
            model = load_model(self.home)
            for name, folder in self.folders.items():
                self._lay(model, folder, name)
            self._laid = model
        return self._laid

    def _lay(self, model: GPT, folder: Path, name: str) -> None:
        verify_adapter(folder)
        base = self._identity if (folder / MANIFEST).is_file() else None
        load_adapter(model, folder, name=name, base=base, verify=False)

    @cached_property
    def _identity(self) -> Base:
        """What an adapter of ours is held against. Reads the weights through where no manifest has their sha256."""
        return base_of(self.home, str(self.home))


def moved(plain: GPT, device: torch.device | str, dtype: torch.dtype) -> GPT:
    """``plain`` itself with its weights in that dtype on that device; tensors that others share stay as they are."""
    for parameter in plain.parameters():
        parameter.data = parameter.data.to(device, dtype)
    for name, buffer in list(plain.named_buffers(recurse=False)):
        plain.register_buffer(name, buffer.to(device), persistent=False)
    return plain
