"""Weights as they lie in the files of a folder: written whole, read one tensor at a time."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from folio.errors import ArtifactError
from folio.model.families import Family, canonical_name

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
AGAIN = "Get or make the folder again."
_DTYPES = ("F64", "F32", "F16", "BF16")


def read_json(path: Path) -> dict[str, Any]:
    """The table of keys in a JSON file; :class:`ArtifactError` if it is damaged."""
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path.name} is damaged: {error}", AGAIN) from None
    if not isinstance(values, dict):
        raise ArtifactError(f"{path.name} is damaged: it holds no table of keys", AGAIN)
    return values


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file; ``OSError`` with the system's own number, not the format's, if the disk refuses."""
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: one, or the shards that its index names. A pickle is refused."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        names = read_json(folder / INDEX).get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(n, str) and Path(n).name == n for n in names.values()):
            raise ArtifactError(f"'{folder / INDEX}' is damaged: its weight_map is not one of file names", AGAIN)
        return [folder / name for name in sorted(set(names.values()))]
    if list(folder.glob("pytorch_model*.bin")):
        raise ArtifactError(
            f"'{folder}' holds its weights as a pickle (pytorch_model.bin), which can run code when opened",
            "Get the safetensors version, or convert it where you trust it: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder).",
        )
    raise ArtifactError(f"'{folder}' holds no weights: there is no {WEIGHTS}", "Check the path.")


class Stored:
    """A tensor that still lies in its file."""

    def __init__(self, handle: Any, name: str) -> None:
        view = handle.get_slice(name)
        self.handle, self.name = handle, name
        self.shape = tuple(view.get_shape())
        self.dtype: str = view.get_dtype()

    def read(self) -> Tensor:
        tensor: Tensor = self.handle.get_tensor(self.name)
        return tensor


def stored_tensors(files: ExitStack, paths: Iterable[Path], family: Family) -> dict[str, Stored]:
    """Every weight of the files, under the name that today's transformers gives it."""
    found: dict[str, Stored] = {}
    for path in paths:
        try:
            handle = files.enter_context(safe_open(path, framework="pt", device="cpu"))
        except FileNotFoundError:
            raise ArtifactError(f"'{path}' is missing", AGAIN) from None
        except (SafetensorError, OSError) as error:
            raise ArtifactError(f"'{path}' is damaged: {error}", AGAIN) from None
        for name in handle.keys():  # noqa: SIM118 - a safetensors handle is no mapping
            known = canonical_name(family, name)
            if known is None:
                continue
            if known in found:
                raise ArtifactError(f"'{path}' holds '{known}' a second time", AGAIN)
            found[known] = Stored(handle, name)
            if found[known].dtype not in _DTYPES:
                raise ArtifactError(
                    f"'{path}': '{name}' is stored as {found[known].dtype}, which Folio cannot read",
                    f"It reads {', '.join(_DTYPES)}.",
                )
    return found
