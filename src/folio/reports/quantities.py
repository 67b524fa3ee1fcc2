"""Times and sizes as people say them, and what an event of a run says in such words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from folio.reports.scales import short_number


def duration(seconds: float) -> str:
    """Time as people say it: 0.8 s, 42 s, 4 min 12 s, 3 h 5 min, 2 d 4 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller, smaller_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {smaller_unit}"
    return f"{whole} s"


def size_text(count: float) -> str:
    """Bytes as people say them, by powers of ten: 812 bytes, 4.2 MB, 1.26 GB."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(count) >= size:
            return f"{count / size:,.{2 if size > 1e6 else 1}f} {unit}"
    return f"{count:,.0f} bytes"


def event_words(event: Mapping[str, Any]) -> str:
    """What an event says besides its name and step: ``peak: 633.7 MB, elapsed: 7.3 s``."""
    said = {key: value for key, value in event.items() if key not in ("kind", "step", "event") and value is not None}
    return ", ".join(_said(key, value) for key, value in said.items())


def _said(key: str, value: object) -> str:
    name = key
    if isinstance(value, int | float) and not isinstance(value, bool):
        for ending, written in (("_s", duration), ("_bytes", size_text)):
            if key.endswith(ending) and not key.endswith("_per_s"):
                return f"{key.removesuffix(ending).replace('_', ' ')}: {written(float(value))}"
        value = f"{value:,}" if isinstance(value, int) else short_number(value)
    return f"{name.replace('_', ' ')}: {value}"
