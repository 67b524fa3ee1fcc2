"""Which files a source has, in order, each with its size, its mark and its place."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from folio.corpus.files import KINDS, PACKINGS, READABLE, TextFile, find_files, text_file
from folio.corpus.sources import web
from folio.corpus.sources.config import SourceConfig
from folio.corpus.sources.datasets import DATASET, DEFAULTS, SHORT_NAMES, dataset_files
from folio.corpus.sources.places import LocalPlace, Place, StorePlace, WebPlace, asked, mark_in, store_of
from folio.corpus.sources.plan import SourceFile
from folio.corpus.sources.retrying import Patience, Tell
from folio.errors import ConfigError, DataError

LOOKS_AT_ONCE = 8
"""Files of a server that are asked about at the same time."""


class Found(NamedTuple):
    """The files, not yet divided into parts, with their places, and where they are from in words."""

    files: list[tuple[SourceFile, Place]]
    origin: str


def find(config: SourceConfig, patience: Patience, tell: Tell) -> Found:
    """The files that ``config`` means, sorted by name.

    :class:`DataError` if nothing is there or fits, :class:`Unreachable` if the place does not answer.
    """
    given = config.path
    scheme, mark, rest = given.partition("://")
    if mark and scheme in ("http", "https"):
        found = Found(_on_the_web(given, patience, tell), f"'{web.shown(given)}'")
    elif mark and scheme == "hf":
        parts = DATASET.fullmatch(rest.removeprefix("datasets/"))
        if parts is None or not rest.startswith("datasets/"):
            raise ConfigError(f"'{given}' is no place of a dataset", "Write hf://datasets/ORGANIZATION/NAME/PATH.")
        name, revision, path = parts.groups("")
        found = Found(*dataset_files(config, patience, name, path, unquote(revision)))
    elif mark and scheme == "file":
        found = Found(_here(url2pathname(unquote(rest))), f"'{given}'")
    elif mark:
        found = Found(_in_a_store(given, patience, tell), f"'{given}'")
    elif (dataset := _dataset(given)) is not None:
        found = Found(*dataset_files(config, patience, *dataset))
    else:
        found = Found(_here(given), f"'{given}'")
    if not (scheme == "hf" if mark else _dataset(given)):
        for key in ("configuration", "split", "revision"):
            if (value := getattr(config, key)) != SourceConfig.model_fields[key].default:
                raise ConfigError(f"'{given}' is no hub dataset, and has no {key} '{value}'", "Omit it.")
    if not found.files:
        raise DataError(f"'{web.shown(given) if mark else given}' holds no text", f"{READABLE}.")
    return Found(sorted(found.files, key=lambda pair: pair[0].name), found.origin)


def is_elsewhere(given: str) -> bool:
    """Whether ``given`` means something that is not simply on this machine: a dataset of the hub, or an address."""
    return "://" in given or _dataset(given) is not None


def dataset_of(given: str) -> str:
    """The full name of the hub dataset that ``given`` means, empty for anything else."""
    found = _dataset(given)
    return SHORT_NAMES.get(found[0], found[0]) if found else ""


def name_of(config: SourceConfig) -> str:
    """What a source may be called, wherever it lies: a dataset with its configuration, else the last part of a path."""
    if name := dataset_of(config.path):
        return " ".join(filter(None, (name, config.configuration or DEFAULTS.get(name))))
    path = unquote(urlsplit(config.path).path) if "://" in config.path else config.path
    named = [part for part in path.split("/") if part and not glob.has_magic(part)]
    return plain_name(named[-1]) if named else "text"


def plain_name(file: str) -> str:
    """The name of a file without what says how it is written: ``a`` of ``a.jsonl.zst``."""
    name = file
    for ending in (*PACKINGS, *KINDS):
        name = name.removesuffix(ending)
    return name or file


def _dataset(given: str) -> tuple[str, str, str] | None:
    """Name, path (none here) and revision, if this is a hub dataset's name and nothing on this machine."""
    parts = DATASET.fullmatch(given)
    if parts is None or parts[3] is not None or Path(given).expanduser().exists() or text_file(Path(given), given):
        return None
    return parts[1], "", parts[2] or ""


def _here(given: str) -> list[tuple[SourceFile, Place]]:
    files: list[tuple[SourceFile, Place]] = []
    for file in find_files(given):
        try:
            now = file.path.stat()
        except OSError as error:
            raise DataError(f"'{file.path}' cannot be read: {error.strerror}", "Check the file.") from None
        mark = f"modified:{now.st_mtime_ns}"
        files.append((_planned(file, now.st_size, mark, now.st_mtime_ns), LocalPlace(file.path)))
    return files


def _on_the_web(given: str, patience: Patience, tell: Tell) -> list[tuple[SourceFile, Place]]:
    web.require_answer(given, patience)
    folder, _, last = given.rpartition("/")
    if any(mark in urlsplit(folder).path for mark in "*["):
        raise ConfigError(f"'{web.shown(given)}': a pattern may stand in the last part only", "Name the folder.")
    if not last or any(mark in last for mark in "*["):
        urls = web.listed(f"{folder}/", last or "*", patience, tell)
    else:
        urls = [given]
    texts = [(url, file) for url in urls if (file := _readable(unquote(urlsplit(url).path.rpartition("/")[2])))]

    def look(pair: tuple[str, TextFile]) -> tuple[SourceFile, Place]:
        url, file = pair
        return _planned(file, *web.look(url, {}, patience, tell)), WebPlace(url)

    return _each(look, texts)


def _in_a_store(given: str, patience: Patience, tell: Tell) -> list[tuple[SourceFile, Place]]:
    file_system, path = store_of(given, patience)
    scheme = given.partition("://")[0]

    def paths() -> tuple[str, list[str]]:
        if glob.has_magic(path):
            fixed = path[: min(path.find(mark) for mark in "*?[" if mark in path)].rpartition("/")[0]
            return fixed, list(file_system.glob(path))
        if file_system.isdir(path):
            return path.rstrip("/"), list(file_system.find(path))
        return path.rpartition("/")[0], [path]

    root, found = asked(given, paths, patience, tell)
    files: list[tuple[SourceFile, Place]] = []
    for each in found:
        name = each.removeprefix(root).lstrip("/")
        if file := _readable(name):
            info = asked(given, lambda each=each: file_system.info(each), patience, tell)
            files.append((_planned(file, int(info["size"]), mark_in(info)), StorePlace(f"{scheme}://{each}")))
    return files


def _readable(name: str) -> TextFile | None:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return None if hidden else text_file(Path(name), name)


def _planned(file: TextFile, size: int, mark: str, modified_ns: int = 0) -> SourceFile:
    return SourceFile(
        name=file.name, kind=file.kind, packing=file.packing, bytes=size, mark=mark, modified_ns=modified_ns
    )


def _each(
    look: Callable[[tuple[str, TextFile]], tuple[SourceFile, Place]], texts: Iterable[tuple[str, TextFile]]
) -> list[tuple[SourceFile, Place]]:
    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        return list(pool.map(look, texts))
