"""Who writes under ``folio generate``: a model, or several adapters on one, each taken apart from what opened it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from folio.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from folio.finetuning.chat import Chat
    from folio.model.gpt import GPT
    from folio.tokenizer import Tokenizer
    from folio.verbs.library import Dtype, Model

ALONE = "none"
"""How --adapter calls the base without an adapter."""


@dataclass
class Writer:
    """A model about to write: its module, packed where that helps, its tokenizer, and the ids that end its texts."""

    gpt: GPT
    tokenizer: Tokenizer
    end_ids: tuple[int, ...]

    @classmethod
    def of(cls, model: Model) -> Self:
        """The writer that ``model`` becomes, which keeps no module of its own."""
        from folio.model.packed import pack, packing_helps

        gpt, model.gpt = model.gpt, None  # type: ignore[assignment]
        return cls(pack(gpt) if packing_helps(gpt) else gpt, model.tokenizer, model.end_ids)

    def chat(self, name: str) -> Chat:
        """How to talk with it; :class:`ArtifactError`, which calls it ``name``, if it has no chat template."""
        from folio.finetuning.chat import Chat

        return Chat.of(self.tokenizer, name)


def writers(
    given: str, adapters: Sequence[str], base: str | None, dtype: Dtype, device: torch.device
) -> Iterator[tuple[str | None, Writer]]:
    """Who writes, one after the other: the model ``given`` or, on it, each of several ``adapters``, with a label.

    ``base`` is that of ``given``, where it is an adapter. A model belongs to whoever takes it: of several only the base
    is kept here. All adapters are opened before the first model is given out.
    """
    from folio.verbs.adapted import adapter_folder, whole_model
    from folio.verbs.library import load

    named = named_adapters(adapters)
    if named:
        if base is not None:
            raise ConfigError("--base is the base of MODEL, and with --adapter MODEL is the base", "Leave --base out.")
        base = str(whole_model(given))
    for folder in filter(None, named.values()):
        adapter_folder(folder, "give it as MODEL")
    if len(named) < 2:
        only = next(iter(named.values()), None)
        yield None, Writer.of(load(only or given, dtype=dtype, device=device, base=base if only or not named else None))
        return
    model = load(given, dtype=dtype, device=device)
    for name, path in named.items():
        if path is not None:
            model.add_adapter(path, name)
    for name, path in named.items():
        model.set_adapter(None if path is None else name)
        yield name, Writer.of(model)


def named_adapters(given: Sequence[str]) -> dict[str, str | None]:
    """Path by name of adapters given as PATH or NAME=PATH; None is the base alone.

    A path without a name is called by its last part, a run's checkpoint by both. :class:`ConfigError` for a name that
    is given twice.
    """
    from folio.verbs.evaluate.text import short_name

    found: dict[str, str | None] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            name, path = re.sub(r"[^A-Za-z0-9_-]+", "-", short_name(text)), text
        if name in found:
            raise ConfigError(f"two adapters are called '{name}'", "Give them names: --adapter a=PATH b=PATH")
        found[name] = None if path == ALONE else path
    return found
