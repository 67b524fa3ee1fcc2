"""A model by the name a person gives it: a folder of this machine, or a Hugging Face hub id."""

from __future__ import annotations

import re
from pathlib import Path

from folio.corpus.hub import answers, connection_errors, refused_here
from folio.errors import ArtifactError, Unreachable, UserError, require
from folio.model.find import find_model

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
TOKENIZER_FILES = [
    *("tokenizer*.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"),
    "chat_template.jinja",
]
FILES = [
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json"),
    *TOKENIZER_FILES,
]
TIMEOUT_S = 5.0
HUB_EXAMPLE = "a hub id such as openai-community/gpt2"
ANY_MODEL = f"a run, a checkpoint, a model folder, an adapter, or {HUB_EXAMPLE}"


def model_folder(given: str | Path, wanted: str = ANY_MODEL) -> Path:
    """The folder that ``given`` means: of a run, a checkpoint, a model, an adapter, or a hub id such as ``org/name``.

    Of an adapter it is the adapter's own: see :func:`folio.verbs.adapted.place_of` for the base that belongs to it.
    What exists here wins; ``org/name`` is taken for a path where a folder ``org`` exists. A hub model is fetched once
    and kept in the hub's own cache. ``wanted`` says what may be given, for what is said of a name that is none of it.
    :class:`ArtifactError` if there is no such model, :class:`Unreachable` without
    network, :class:`MissingExtra` without the package huggingface_hub.
    """
    name = str(given)
    if not Path(given).exists() and not HUB_ID.fullmatch(name):
        raise ArtifactError(
            f"'{name}' does not exist", f"Give {wanted} (to fetch it takes a network, and HF_HUB_OFFLINE unset)."
        )
    if Path(given).exists() or not HUB_ID.fullmatch(name) or Path(name).parent.is_dir():
        return find_model(given)
    return find_model(download(name))


def download(name: str) -> Path:
    """The snapshot of hub model ``name`` in the hub's cache; without network the one that is there already."""
    hub = require("huggingface_hub", "hf")
    constants = require("huggingface_hub.constants", "hf")
    errors = require("huggingface_hub.errors", "hf")
    offline = constants.HF_HUB_OFFLINE or not answers(constants.ENDPOINT, TIMEOUT_S)
    try:
        return Path(hub.snapshot_download(name, allow_patterns=FILES, local_files_only=offline))
    except errors.LocalEntryNotFoundError:
        raise _unreachable(name) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise ArtifactError(
            f"'{name}' is no folder here, and the hub has no such public model",
            "Check the path or the id; for a private one, log in with: hf auth login",
        ) from None
    except errors.HfHubHTTPError as error:
        raise Unreachable(f"the hub refused '{name}': {_first_line(error)}", "Try again later.") from None
    except connection_errors() as error:
        if refused_here(error):
            raise
        raise Unreachable(
            f"'{name}' could not be fetched: {_first_line(error)}", "Try again; what has come so far is kept."
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _unreachable(name: str) -> UserError:
    return Unreachable(
        f"'{name}' is no folder here, and the hub cannot be reached to look for it",
        "Check the path, or connect to the network (and unset HF_HUB_OFFLINE).",
    )
