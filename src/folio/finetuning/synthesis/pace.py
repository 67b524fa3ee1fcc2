"""When the next request may be sent: rates per minute, and the pauses that an endpoint or its failures ask for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from folio.finetuning.synthesis.tables import LimitsTable

MINUTE_S = 60.0


class Pace:
    """Spaces requests evenly, so that no minute holds more than the limits allow (tokens: to one request).

    A request takes its turn when it asks for it; its tokens count as its worst case until :meth:`give_back`.
    """

    def __init__(self, limits: LimitsTable, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self.clock = limits, clock
        self._next_request_s = self._next_tokens_s = self._closed_until_s = clock()

    def turn(self, tokens: int) -> float:
        """Seconds to wait before sending a request of at most ``tokens``."""
        now = self.clock()
        at = max(now, self._next_request_s, self._next_tokens_s, self._closed_until_s)
        if self.limits.requests_per_minute:
            self._next_request_s = at + MINUTE_S / self.limits.requests_per_minute
        if self.limits.tokens_per_minute:
            self._next_tokens_s = at + tokens * MINUTE_S / self.limits.tokens_per_minute
        return at - now

    def give_back(self, tokens: int) -> None:
        """A request used ``tokens`` fewer than it took its turn for."""
        if self.limits.tokens_per_minute:
            self._next_tokens_s -= tokens * MINUTE_S / self.limits.tokens_per_minute

    def close_for(self, seconds: float) -> None:
        """Send nothing for ``seconds``: the endpoint said so, and all requests go to the same one."""
        self._closed_until_s = max(self._closed_until_s, self.clock() + seconds)

    @property
    def closed_s(self) -> float:
        """Seconds that :meth:`close_for` still has to run."""
        return max(0.0, self._closed_until_s - self.clock())


def backoff(limits: LimitsTable, retry: int, draw: random.Random) -> float:
    """Seconds before retry number ``retry`` (from 0): doubled each time, drawn between half and all of it.

    The draw keeps requests that failed together from coming back together.
    """
    whole = min(limits.longest_wait_s, limits.backoff_s * 2.0 ** min(retry, 30))
    return whole * draw.uniform(0.5, 1.0)
