"""Where an answer ends: stop strings, searched in text, across the borders of tokens and of streamed pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopFilter:
    """Lets text through until a stop string appears; holds back what may yet become one.

    >>> stops = StopFilter(["END"])
    >>> stops.push("the E"), stops.push("ND of")
    ('the ', '')
    >>> stops.stopped
    True
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self.stop = tuple(stop)
        self.stopped = False
        self._held = ""

    def push(self, text: str) -> str:
        """The text that is now safe to show. Nothing once a stop string was met; its earliest occurrence counts."""
        if self.stopped:
            return ""
        text = self._held + text
        found = [at for at in (text.find(stop) for stop in self.stop) if at >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self.stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """What was held back, now that no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop``."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
