"""Documents too short or too long, by characters and by words."""

from __future__ import annotations

from folio.corpus.quality.config import QualityConfig
from folio.corpus.quality.verdict import Fault


def length_fault(text: str, config: QualityConfig) -> Fault | None:
    """Whether the bounds of ``config`` are broken; each bound is itself allowed. Words are what white space parts."""
    counted = [(len(text), config.min_characters, config.max_characters, "characters")]
    if config.min_words or config.max_words is not None:
        counted.append((len(text.split()), config.min_words, config.max_words, "words"))
    for count, least, most, unit in counted:
        if count < least:
            return Fault(f"too few {unit}", f"{count:,} {unit}")
        if most is not None and count > most:
            return Fault(f"too many {unit}", f"{count:,} {unit}")
    return None
