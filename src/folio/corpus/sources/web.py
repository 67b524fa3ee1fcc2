"""Ranges of a file over HTTP, each answer compared with the file that was planned.

Spoken by the standard library, so that every answer's ETag and range can be looked at, a body that breaks off is
taken up where it ended, and nothing beyond ``folio`` itself is needed. Proxies are those of the environment.
"""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from fnmatch import fnmatchcase
from functools import cache
from html.parser import HTMLParser
from http.client import HTTPException
from typing import IO, Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from folio.corpus.hub import answers
from folio.corpus.sources.plan import SourceChanged
from folio.corpus.sources.ranges import Fetch
from folio.corpus.sources.retrying import Patience, Tell, Transient, persistently
from folio.errors import DataError, Unreachable

BLOCK_BYTES = 1 << 20
MAY_PASS = {408, 425, 429, 500, 502, 503, 504}
"""Statuses after which the same request may succeed."""


def shown(url: str) -> str:
    """The address without what may be secret in it: a name and password, a signature."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def require_answer(url: str, patience: Patience) -> None:
    """:class:`Unreachable` unless the address gives a sign of life within ``patience.answer_s``."""
    if not answers(url, patience.answer_s):
        raise Unreachable(
            f"'{shown(url)}': no answer within {patience.answer_s:g} s", "Check the address, and the network."
        )


def look(url: str, headers: Mapping[str, str], patience: Patience, tell: Tell) -> tuple[int, str]:
    """Size in bytes and mark (``etag:``, else ``modified:``, else empty) of the file at ``url``."""

    def attempt() -> tuple[int, str]:
        with _ask(url, headers, 0, 1, patience) as answer:
            return _size(url, answer), mark_of(answer.headers)

    return persistently(f"'{shown(url)}'", attempt, patience, tell)


def mark_of(headers: Mapping[str, str] | Message) -> str:
    if etag := headers.get("ETag"):
        return f"etag:{etag}"
    return f"modified:{modified}" if (modified := headers.get("Last-Modified")) else ""


def fetcher(url: str, size: int, mark: str, headers: Mapping[str, str], patience: Patience, tell: Tell) -> Fetch:
    """Ranges of the file that had this ``size`` and ``mark``; :class:`SourceChanged` as soon as it has another.

    What arrived before a connection broke is kept, and the next attempt asks for the rest.
    """

    def fetch(start: int, stop: int) -> bytes:
        content = bytearray()

        def attempt() -> bytes:
            with _ask(url, headers, start + len(content), stop, patience) as answer:
                _require_same(url, (size, mark), (_size(url, answer), mark_of(answer.headers)))
                while len(content) < stop - start and (block := _read(answer, stop - start - len(content))):
                    content.extend(block)
            if len(content) < stop - start:
                raise Transient(f"the answer broke off after {len(content):,} of {stop - start:,} bytes")
            return bytes(content)

        return persistently(f"'{shown(url)}'", attempt, patience, tell)

    return fetch


def _require_same(url: str, then: tuple[int, str], now: tuple[int, str]) -> None:
    # A hub file is pinned by its commit and known by its sha256, of which the place that serves it knows nothing.
    compared = then[1].startswith(("etag:", "modified:"))
    if now[0] != then[0] or (compared and now[1] != then[1]):
        was, found = (f"{size:,} bytes, {mark or 'no mark'}" for size, mark in (then, now))
        raise SourceChanged(
            f"'{shown(url)}' has changed since it was planned: {was} then, {found} now",
            "Begin anew with the file as it is now.",
        )


def _read(answer: IO[bytes], most: int) -> bytes:
    try:
        return answer.read(min(most, BLOCK_BYTES))
    except (OSError, HTTPException) as error:
        raise Transient(_reason(error)) from None


def _ask(url: str, headers: Mapping[str, str], start: int, stop: int, patience: Patience) -> Any:
    """The open answer to a request for a range; :class:`Transient` for what may pass."""
    wanted = {**headers, "Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    try:
        return _opener().open(urllib.request.Request(url, headers=wanted), timeout=patience.stall_s)
    except urllib.error.HTTPError as answer:
        if answer.code == 416 and answer.headers.get("Content-Range", "").endswith("/0"):
            return answer  # an empty file has no range
        answer.close()
        raise _refusal(url, answer) from None
    except (OSError, HTTPException) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise Unreachable(f"'{shown(url)}': {cause.verify_message}", "Mend the certificates.") from None
        raise Transient(_reason(cause)) from None


def _refusal(url: str, answer: urllib.error.HTTPError) -> Exception:
    said = f"HTTP {answer.code} {answer.reason}".rstrip()
    if answer.code in MAY_PASS:
        after = answer.headers.get("Retry-After", "")
        return Transient(said, float(after) if after.isdecimal() else 0.0)
    if answer.code in (404, 410):
        return DataError(f"'{shown(url)}' is not there ({said})", "Check the address.")
    if answer.code in (401, 403):
        return Unreachable(f"'{shown(url)}': {said}", "It asks who you are; log in, or choose an open source.")
    return Unreachable(f"'{shown(url)}': {said}")


def _size(url: str, answer: Any) -> int:
    total = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
    if answer.status not in (206, 416) or not total.isdecimal():
        raise DataError(
            f"'{shown(url)}': its server gives files only whole, and ranges are needed here",
            "Download the file and give its path.",
        )
    return int(total)


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(getattr(error, "strerror", None) or error or type(error).__name__).splitlines()[0]


class _SecretsStay(urllib.request.HTTPRedirectHandler):
    """Who is led to another host does not show it the keys of the first one."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            request.remove_header("Authorization")
        return request


@cache
def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_SecretsStay)


def listed(url: str, pattern: str, patience: Patience, tell: Tell) -> list[str]:
    """The addresses of the files in the folder ``url``, by the page that its server shows, whose names match."""

    def attempt() -> str:
        try:
            with _opener().open(url, timeout=patience.stall_s) as answer:
                return str(answer.read().decode("utf-8", "replace"))
        except urllib.error.HTTPError as answer:
            answer.close()
            raise _refusal(url, answer) from None
        except (OSError, HTTPException) as error:
            raise Transient(_reason(getattr(error, "reason", error))) from None

    links = _Links()
    links.feed(persistently(f"'{shown(url)}'", attempt, patience, tell))
    found = (urljoin(url, link) for link in links.found)
    here = {link for link in found if link.startswith(url) and "/" not in link[len(url) :].rstrip()}
    return sorted(link for link in here if fnmatchcase(unquote(urlsplit(link).path.rpartition("/")[2]), pattern))


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]
