"""Where a file of a source lies, and its bytes from there: a disk, a web server, or any store that fsspec knows."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from folio.corpus.sources import web
from folio.corpus.sources.plan import SourceChanged, SourceFile
from folio.corpus.sources.ranges import Fetch, RangeReader
from folio.corpus.sources.retrying import Patience, Tell, Transient, persistently
from folio.errors import DataError, MissingExtra, Unreachable, require

ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "https://s3.amazonaws.com"),
    "gs": ("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com"),
}
"""Who has to answer for a store to be there: environment variables, the first that is set, else the address."""
MARKS = {"ETag": "etag", "etag": "etag", "md5": "etag", "md5Hash": "etag", "LastModified": "modified"}
"""What stores call the mark of a file's content, best first."""
LATER_MARKS = {"last_modified": "modified", "mtime": "modified", "updated": "modified", "created": "modified"}


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A file of this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class WebPlace:
    """A file at an address; one of the ``hub`` is asked for with the user's own token, read when it is needed."""

    url: str
    hub: bool = False

    @property
    def path(self) -> str:
        return web.shown(self.url)

    def headers(self) -> dict[str, str]:
        if not self.hub:
            return {}
        utilities: Any = require("huggingface_hub.utils", "hf")
        return {str(name): str(value) for name, value in utilities.build_hf_headers().items()}


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A file in a store of fsspec's, ``s3://`` or another. Keys and endpoints are those of its own environment."""

    url: str

    @property
    def path(self) -> str:
        return self.url


Place = LocalPlace | WebPlace | StorePlace


def open_place(place: Place, file: SourceFile, patience: Patience, tell: Tell, block_bytes: int) -> IO[bytes]:
    """The bytes of ``file`` as they lie there, seekable; at least ``block_bytes`` at a time from afar.

    :class:`SourceChanged` if it is not the file that was planned.
    """
    if isinstance(place, LocalPlace):
        require_unchanged(place, file)
        return open(place.path, "rb")
    fetch: Fetch
    if isinstance(place, WebPlace):
        fetch = web.fetcher(place.url, file.bytes, file.mark, place.headers(), patience, tell)
    else:
        fetch = _store_fetcher(place, file, patience, tell)
    return cast(IO[bytes], RangeReader(fetch, file.bytes, block_bytes))


def require_unchanged(place: LocalPlace, file: SourceFile) -> None:
    """:class:`SourceChanged` unless size and time of change are those of the plan."""
    try:
        now = place.path.stat()
    except FileNotFoundError:
        raise DataError(f"'{place.path}' was there and is gone", "Put it back.") from None
    except OSError as error:
        raise DataError(f"'{place.path}' cannot be read: {error.strerror}", "Check the file.") from None
    if (now.st_size, now.st_mtime_ns) != (file.bytes, file.modified_ns):
        sizes = f"{file.bytes:,} bytes then, {now.st_size:,} now"
        how = sizes if now.st_size != file.bytes else "its time of change is another"
        raise SourceChanged(f"'{place.path}' has changed since it was planned: {how}", "Begin anew with it as it is.")


def store_of(url: str, patience: Patience) -> tuple[Any, str]:
    """The file system that fsspec has for ``url``, and the path there.

    :class:`MissingExtra` where a package is missing, :class:`Unreachable` where its known endpoint does not answer.
    """
    scheme = url.partition("://")[0]
    fsspec: Any = require("fsspec", "data")
    if scheme not in fsspec.available_protocols():
        raise DataError(f"'{url}': no kind of store is called '{scheme}://'", "Check the address.")
    if scheme in ENDPOINTS:
        *variables, public = ENDPOINTS[scheme]
        web.require_answer(next((os.environ[name] for name in variables if os.environ.get(name)), public), patience)
    try:
        file_system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise MissingExtra(f"'{scheme}://' cannot be opened: {error}", "Install what fsspec needs for it.") from None
    return file_system, str(path)


def mark_in(info: dict[str, Any]) -> str:
    """The mark of a file, out of what its store tells about it."""
    for name, kind in {**MARKS, **LATER_MARKS}.items():
        if info.get(name):
            return f"{kind}:{info[name]}"
    return ""


def asked(what: str, ask: Any, patience: Patience, tell: Tell) -> Any:
    """What a store answers to ``ask()``, with what may pass tried again."""

    def attempt() -> Any:
        try:
            return ask()
        except FileNotFoundError:
            raise DataError(f"'{what}' is not there", "Check the address.") from None
        except PermissionError as error:
            raise Unreachable(f"'{what}': {error}", "Check the keys that the store is asked with.") from None
        except _store_errors() as error:
            raise Transient((str(error).splitlines() or [type(error).__name__])[0]) from None

    return persistently(f"'{what}'", attempt, patience, tell)


def _store_fetcher(place: StorePlace, file: SourceFile, patience: Patience, tell: Tell) -> Fetch:
    file_system, path = store_of(place.url, patience)
    file_system.invalidate_cache()
    info = asked(place.url, lambda: file_system.info(path), patience, tell)
    if (int(info["size"]), mark_in(info)) != (file.bytes, file.mark):
        raise SourceChanged(f"'{place.url}' has changed since it was planned", "Begin anew with it as it is now.")

    def fetch(start: int, stop: int) -> bytes:
        def ask() -> bytes:
            content = bytes(file_system.cat_file(path, start=start, end=stop))
            if len(content) != stop - start:
                raise EOFError(f"{len(content):,} of {stop - start:,} bytes arrived")
            return content

        return bytes(asked(place.url, ask, patience, tell))

    return fetch


def _store_errors() -> tuple[type[Exception], ...]:
    """What stores raise for a network that fails: OSErrors, and those of the packages below, if they are loaded."""
    below = (("aiohttp", "ClientError"), ("botocore.exceptions", "BotoCoreError"))
    loaded = (getattr(sys.modules[module], name) for module, name in below if module in sys.modules)
    return (OSError, EOFError, *loaded)
