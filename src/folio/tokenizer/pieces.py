"""Cutting long text where no pre-token is cut, so that memory stays bounded and no regular expression overflows."""

from __future__ import annotations

import re
from collections.abc import Iterator

PIECE_CHARACTERS = 400_000
LONGEST_SPACE = 400_000
"""Characters of white space in one run that ``fancy-regex`` still matches; at a million its stack overflows."""

_SEAM = re.compile(r"(?<=[^\W_])(?=[ \n])")
_TOO_MUCH_SPACE = re.compile(rf"\s{{{LONGEST_SPACE}}}")


def pieces(text: str, characters: int = PIECE_CHARACTERS) -> Iterator[str]:
    """Cut ``text`` into pieces of ``characters`` or somewhat more; joined they are the text.

    Cuts fall only before a space or newline that follows a letter or digit: there every pattern in
    :mod:`folio.tokenizer.patterns` ends one pre-token and begins another. Text with no such place stays whole.
    """
    start = 0
    while len(text) - start > characters:
        seam = _SEAM.search(text, start + characters)
        if seam is None:
            break
        yield text[start : seam.start()]
        start = seam.start()
    if start < len(text):
        yield text[start:]


def overflows(piece: str) -> bool:
    """Whether ``piece`` holds more white space in one run than ``fancy-regex`` can match."""
    return len(piece) > LONGEST_SPACE and _TOO_MUCH_SPACE.search(piece) is not None
