"""The files of a hub dataset's configuration, pinned by commit; from the hub's cache as far as they lie there.

A dataset's card says which files a configuration and split consist of. The hub is asked only once it has given a sign
of life: its own client tries for most of a minute. Without it the cache is taken for the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from folio.corpus.files import KINDS, text_file
from folio.corpus.hub import answers, connection_errors
from folio.corpus.sources.places import LocalPlace, Place, WebPlace
from folio.corpus.sources.plan import SourceFile
from folio.corpus.sources.retrying import Patience
from folio.errors import ConfigError, Unreachable, nearest, require

if TYPE_CHECKING:
    from folio.corpus.sources.config import SourceConfig

SHORT_NAMES = {"fineweb-edu": "HuggingFaceFW/fineweb-edu"}
DEFAULTS = {"HuggingFaceFW/fineweb-edu": "sample-10BT"}
"""Configurations taken where none is given, in place of the whole set that the card has as its default."""
SHUFFLED = {"HuggingFaceFW/fineweb-edu"}
"""Datasets whose documents come in no order, so that their first ones are as good as any."""
KNOWN = {
    ("HuggingFaceFW/fineweb-edu", "sample-10BT"): ["sample/10BT/*"],
    ("HuggingFaceFW/fineweb-edu", "sample-100BT"): ["sample/100BT/*"],
    ("HuggingFaceFW/fineweb-edu", "sample-350BT"): ["sample/350BT/*"],
}
"""Files of configurations, for where the card is out of reach."""
DATASET = re.compile(
    rf"({'|'.join(SHORT_NAMES)}|[\w.-]+/[\w.-]+)(?:@(refs/convert/\w+|refs/pr/\d+|[^/\s]+))?(?:/(.*))?"
)
"""A dataset's name, perhaps a revision, perhaps a path in it."""
SHA256_HEX = re.compile(r"[0-9a-f]{64}")


class _Entry(NamedTuple):
    """A file of the dataset: its path there, size, mark, and place."""

    path: str
    bytes: int
    mark: str
    modified_ns: int
    place: Place


def dataset_files(
    config: SourceConfig, patience: Patience, name: str, path: str = "", revision: str = ""
) -> tuple[list[tuple[SourceFile, Place]], str]:
    """The files of dataset ``name``: those that the pattern ``path`` means, or else those of ``config``'s configuration
    and split; and where they are from, in words.

    ``path`` may also be a folder; ``revision`` goes before that of ``config``.
    :class:`ConfigError` for a dataset, configuration or split that does not exist, :class:`Unreachable` if neither the
    hub nor its cache has it.
    """
    name, wanted = SHORT_NAMES.get(name, name), revision or config.revision
    constants: Any = require("huggingface_hub.constants", "hf")
    reachable = not constants.HF_HUB_OFFLINE and answers(constants.ENDPOINT, patience.answer_s)
    commit, card, entries = (_on_the_hub if reachable else _in_the_cache)(name, wanted)
    patterns = [path, f"{path.rstrip('/')}/**"] if path else _patterns(name, config, card, entries)
    matching = [re.compile(_regular(pattern)) for pattern in patterns]
    files: list[tuple[SourceFile, Place]] = []
    for entry in entries:
        text = text_file(Path(entry.path), entry.path)
        if text is not None and any(each.fullmatch(entry.path) for each in matching):
            file = SourceFile(
                name=text.name,
                kind=text.kind,
                packing=text.packing,
                bytes=entry.bytes,
                mark=entry.mark,
                modified_ns=entry.modified_ns,
            )
            files.append((file, entry.place))
    found = "" if reachable else ", as much of it as the hub's cache on this machine holds"
    return files, f"huggingface dataset {name}, {', '.join(patterns)} at commit {commit}{found}"


def _on_the_hub(name: str, revision: str) -> tuple[str, dict[str, Any], list[_Entry]]:
    hub: Any = require("huggingface_hub", "hf")
    errors: Any = require("huggingface_hub.errors", "hf")
    constants: Any = require("huggingface_hub.constants", "hf")
    api = hub.HfApi(endpoint=constants.ENDPOINT)
    try:
        about = api.dataset_info(name, revision=revision, timeout=20.0)
        tree = api.list_repo_tree(name, recursive=True, revision=about.sha, repo_type="dataset")
        entries = [_listed(name, about.sha, file) for file in tree if isinstance(file, hub.RepoFile)]
    except errors.GatedRepoError:
        raise Unreachable(
            f"hub dataset {name} asks for its terms to be accepted",
            "Accept them on its page, then log in: hf auth login",
        ) from None
    except errors.RevisionNotFoundError:
        raise ConfigError(f"hub dataset {name} has no revision '{revision}'", "Give a branch, tag or commit.") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise _unknown(name) from None
    except connection_errors() as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unreachable(f"hub dataset {name}: {reason}", "Try again later.") from None
    return about.sha, about.card_data.to_dict() if about.card_data else {}, entries


def _listed(name: str, commit: str, file: Any) -> _Entry:
    hub: Any = require("huggingface_hub", "hf")
    constants: Any = require("huggingface_hub.constants", "hf")
    mark = f"sha256:{file.lfs.sha256}" if file.lfs else f"git:{file.blob_id}"
    cached = hub.try_to_load_from_cache(
        name, file.path, cache_dir=constants.HF_HUB_CACHE, revision=commit, repo_type="dataset"
    )
    if isinstance(cached, str) and (found := Path(cached).stat()).st_size == file.size:
        return _Entry(file.path, file.size, mark, found.st_mtime_ns, LocalPlace(Path(cached)))
    url = f"{constants.ENDPOINT}/datasets/{name}/resolve/{commit}/{quote(file.path)}"
    return _Entry(file.path, file.size, mark, 0, WebPlace(url, hub=True))


def _in_the_cache(name: str, revision: str) -> tuple[str, dict[str, Any], list[_Entry]]:
    hub: Any = require("huggingface_hub", "hf")
    errors: Any = require("huggingface_hub.errors", "hf")
    constants: Any = require("huggingface_hub.constants", "hf")
    try:
        folder = Path(
            hub.snapshot_download(
                name,
                repo_type="dataset",
                revision=revision,
                local_files_only=True,
                cache_dir=constants.HF_HUB_CACHE,
            )
        )
    except errors.HFValidationError:
        raise _unknown(name) from None
    except errors.LocalEntryNotFoundError:
        why, remedy = "the hub does not answer", "Connect to the network, or give files that you have."
        if constants.HF_HUB_OFFLINE:
            why, remedy = "HF_HUB_OFFLINE is set", "Unset HF_HUB_OFFLINE, or give files that you have."
        raise Unreachable(f"hub dataset {name}: not in the hub's cache, and {why}", remedy) from None
    files = [(path, path.resolve()) for path in folder.rglob("*") if path.is_file()]
    entries = []
    for path, blob in files:
        # The cache keeps contents under their sha256 (large files) or git's name for them, and links to them.
        marks = {64: f"sha256:{blob.name}", 40: f"git:{blob.name}"} if blob != path else {}
        found = blob.stat()
        mark = marks.get(len(blob.name), f"modified:{found.st_mtime_ns}")
        name_there = path.relative_to(folder).as_posix()
        entries.append(_Entry(name_there, found.st_size, mark, found.st_mtime_ns, LocalPlace(path)))
    card: dict[str, Any] = {}
    if (folder / "README.md").is_file():
        cards: Any = require("huggingface_hub.repocard", "hf")
        card = cards.metadata_load(folder / "README.md") or {}
    return folder.name, card, entries


def _unknown(name: str) -> ConfigError:
    return ConfigError(
        f"there is no hub dataset '{name}', or not for you", "Name it as the hub does: ORGANIZATION/NAME."
    )


def _patterns(name: str, config: SourceConfig, card: dict[str, Any], entries: Sequence[_Entry]) -> list[str]:
    """The patterns of the configuration's files: by the card, by what is known of it, or all files of one kind."""
    configurations = {each["config_name"]: each for each in card.get("configs") or [] if "data_files" in each}
    wanted = config.configuration or DEFAULTS.get(name) or _default(name, configurations)
    if wanted is not None and wanted in configurations:
        return _of_split(name, wanted, configurations[wanted]["data_files"], config.split)
    if wanted is None:
        kinds = [text.kind for entry in entries if (text := text_file(Path(entry.path), entry.path))]
        kind = next((kind for kind in (".parquet", ".jsonl") if kind in kinds), KINDS[0])
        return [f"**/*{kind}*"]
    if (name, wanted) in KNOWN:
        return KNOWN[name, wanted]
    if any(entry.path.startswith(f"{wanted}/") for entry in entries):
        return [f"{wanted}/**/{config.split}*", f"{wanted}/{config.split}/*"]  # as the hub's own conversion names them
    guess = nearest(wanted, configurations)
    hint = f"Did you mean '{guess}'? " if guess else ""
    listing = f"There are: {', '.join(configurations)}." if configurations else "Its card names none."
    raise ConfigError(f"hub dataset {name} has no configuration '{wanted}'", hint + listing)


def _default(name: str, configurations: dict[str, Any]) -> str | None:
    marked = [key for key, each in configurations.items() if each.get("default") or key == "default"]
    chosen = marked or list(configurations)
    if len(chosen) > 1:
        raise ConfigError(f"hub dataset {name} has several configurations", f"Choose one of: {', '.join(chosen)}.")
    return chosen[0] if chosen else None


def _of_split(name: str, configuration: str, data_files: Any, split: str) -> list[str]:
    by_split: dict[str, list[str]] = {}
    for each in [data_files] if isinstance(data_files, str | dict) else data_files:
        side, path = ("train", each) if isinstance(each, str) else (each.get("split", "train"), each["path"])
        by_split.setdefault(side, []).extend([path] if isinstance(path, str) else path)
    if split not in by_split:
        remedy = f"There are: {', '.join(by_split)}."
        raise ConfigError(f"configuration '{configuration}' of hub dataset {name} has no split '{split}'", remedy)
    return by_split[split]


def _regular(pattern: str) -> str:
    """A pattern of paths as a regular expression: ``**`` crosses folders, ``*`` and ``?`` do not."""
    pieces: Iterable[str] = re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|[^*?\[]+|\[", pattern)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        meaning.get(piece) or (piece if re.fullmatch(r"\[.+\]", piece) else re.escape(piece)) for piece in pieces
    )
