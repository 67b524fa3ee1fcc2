"""One request to an OpenAI-compatible endpoint: an :class:`Answer`, or a :class:`Failure` that says what it may cost.

Base URL, key and model come from the environment, as the ``openai`` client reads them. The key is nowhere but in the
client: whatever an endpoint says is cleared of it before anyone else sees it. The client's own retries are off, since
each request must be reserved before it is sent.
"""

from __future__ import annotations

import asyncio
import email.utils
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from folio.errors import ConfigError, UserError, require
from folio.finetuning.synthesis.answer import Answer, streamed_answer, whole_answer
from folio.finetuning.synthesis.filters import REFUSED
from folio.finetuning.synthesis.tables import LimitsTable, RequestTable

KEY, BASE_URL, MODEL = "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"
RETRIED = {408, 409, 425, 429}
"""Refusals that pass; and every 5xx does."""
STOPS = {401, 402, 404, 405}
"""Refusals that every request would meet: key, money, model, address. The other 4xx may be about one prompt."""
MAY_HAVE_COST = {408, 502, 504}
"""A gateway gave up waiting for an endpoint that may have answered: such a request counts in full."""
NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "ProxyError"}
"""The client's errors after which no endpoint can have read the request."""


class Failure(Exception):
    """A request without an answer. ``str()`` is one line without the key."""

    def __init__(
        self,
        reason: str,
        told: str,
        *,
        may_cost: bool = True,
        wait_s: float = 0.0,
        then: Literal["retry", "pass over", "stop"] = "retry",
    ) -> None:
        super().__init__(told)
        self.reason = reason
        """A few words, the same for failures of one kind: "status 429", "timed out"."""
        self.may_cost = may_cost
        """Whether the endpoint may have charged for it, up to the worst case."""
        self.wait_s = wait_s
        """What Retry-After asked for."""
        self.then = then
        """Send it again, go on with other prompts, or stop since every other request would end in the same way."""


def model_name(request: RequestTable) -> str:
    """The spec's model, or the environment's; :class:`ConfigError` if neither names one."""
    name = request.model or os.environ.get(MODEL, "").strip()
    if not name:
        raise ConfigError("no model is named", f"Set request.model in the spec, or {MODEL} in the environment.")
    return name


class Endpoint:
    """The endpoint of the environment. Ask inside ``async with``; it may be entered again after it was left."""

    def __init__(self, request: RequestTable, limits: LimitsTable) -> None:
        """:class:`UserError` for a missing or impossible key, an impossible base URL, or a missing package."""
        openai: Any = require("openai", "finetune")
        self._openai = openai
        self._key = os.environ.get(KEY, "").strip()
        base = os.environ.get(BASE_URL, "").strip()
        if not self._key:
            raise UserError(
                f"{KEY} is not set",
                "Set it to the endpoint's key; a local server that wants none takes any word.",
            )
        if not (self._key.isascii() and self._key.isprintable()) or " " in self._key:
            raise UserError(f"{KEY} is no key: it holds spaces or characters beyond ASCII", "Copy it again, whole.")
        if base and (urlsplit(base).scheme not in ("http", "https") or not urlsplit(base).hostname):
            raise UserError(f"{BASE_URL} is no http address", "It reads like http://localhost:8000/v1")
        self.request, self.limits = request, limits
        self.model = model_name(request)
        self._options = {"api_key": self._key, "base_url": base or None, "max_retries": 0, "timeout": limits.timeout_s}
        self._client = openai.AsyncOpenAI(**self._options)
        self.place = _place(str(self._client.base_url))
        """Scheme and host of the endpoint: what may be shown of its address."""

    async def __aenter__(self) -> Endpoint:
        # connections belong to the event loop that is running now
        self._client = self._openai.AsyncOpenAI(**self._options)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.close()

    async def ask(self, messages: tuple[dict[str, str], ...]) -> Answer:
        """One answer to one conversation; :class:`Failure` for everything else."""
        request = self.request
        options: dict[str, Any] = {request.max_tokens_name: request.max_tokens, "temperature": request.temperature}
        if request.top_p is not None:
            options["top_p"] = request.top_p
        if request.stream:
            options |= {"stream": True, "stream_options": {"include_usage": True}}
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                given = await self._client.chat.completions.create(model=self.model, messages=list(messages), **options)
                answer = await streamed_answer(given) if request.stream else whole_answer(given)
        except Exception as error:
            failure = self._failure(error)
        else:
            return answer.mapped(self._writable)
        # outside the block, so that no traceback ever shows the client's error, which may quote the key
        raise failure

    def _failure(self, error: Exception) -> Failure:
        """What an error of the client, or of reading what it gave, means."""
        openai = self._openai
        names = {type(link).__name__ for link in _links(error)}
        if names & NEVER_SENT:
            return Failure("no connection", self.cleared(_cause(error)), may_cost=False)
        if isinstance(error, TimeoutError | openai.APITimeoutError):
            return Failure("timed out", f"no whole answer within {self.limits.timeout_s:g} s")
        if isinstance(error, openai.APIStatusError):
            return self._refused(error)
        if isinstance(error, openai.APIConnectionError) or "TransportError" in _bases(error):
            return Failure("connection", self.cleared(_cause(error)))
        return Failure("broken answer", self.cleared(f"the answer is none: {error}"))

    def cleared(self, text: str) -> str:
        """``text`` in one line of bearable length, without the key."""
        line = " ".join(text.replace(self._key, "[key]").encode("utf-8", "replace").decode().split())
        return line if len(line) <= 300 else line[:297] + "..."

    def _writable(self, text: str) -> str:
        """``text`` without the key, and as UTF-8 can hold it."""
        # JSON may escape half a surrogate pair, and a stream may send the halves apart
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        # short keys are words for local servers ("none", "local"): no secrets, and they may stand in any text
        return text.replace(self._key, "[key]") if len(self._key) >= 16 else text

    def _refused(self, error: Any) -> Failure:
        status = int(error.status_code)
        body = error.body if isinstance(error.body, Mapping) else {}
        code = str(body.get("code") or body.get("type") or "")
        told = self.cleared(str(body.get("message") or error.message or ""))
        if status == 400 and "content" in code:
            return Failure(REFUSED, told, may_cost=False)
        stops = status in STOPS or "insufficient_quota" in code
        passes = status in RETRIED or status >= 500
        return Failure(
            f"status {status}",
            f"{status} {told}",
            may_cost=status in MAY_HAVE_COST,
            wait_s=retry_after_s(error.response.headers),
            then="stop" if stops else "retry" if passes else "pass over",
        )


def retry_after_s(headers: Mapping[str, str], now: float | None = None) -> float:
    """Seconds that an answer's headers ask to wait: retry-after-ms, or Retry-After in seconds or as a date; else 0."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        given = headers.get(name, "")
        try:
            seconds = float(given) * unit_s
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else 0.0
    try:
        at = email.utils.parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
    except (ValueError, TypeError):
        return 0.0
    return max(0.0, at - (time.time() if now is None else now))


def _links(error: BaseException) -> Iterator[BaseException]:
    """An error and those that caused it."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _bases(error: BaseException) -> set[str]:
    return {base.__name__ for base in type(error).__mro__}


def _cause(error: BaseException) -> str:
    told = error.__cause__ or error
    return f"{type(told).__name__}: {told}"


def _place(base: str) -> str:
    parts = urlsplit(base)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
