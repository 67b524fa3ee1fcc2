"""GPT-2's way of writing any byte as one printable character, so that a token of raw bytes can stand in JSON."""

from __future__ import annotations

_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_OTHER = [byte for byte in range(256) if byte not in _PRINTABLE]

CHAR_OF = [chr(byte) if byte in _PRINTABLE else chr(256 + _OTHER.index(byte)) for byte in range(256)]
"""Byte -> its character: itself where it prints in Latin-1, else the next free one from U+0100 (a space is ``Ġ``)."""

BYTE_OF = {char: byte for byte, char in enumerate(CHAR_OF)}
"""The way back."""


def to_printable(token: bytes) -> str:
    return "".join(CHAR_OF[byte] for byte in token)


def to_bytes(token: str) -> bytes:
    """The bytes that ``token`` writes; a token with any other character (a special one) stands for its UTF-8."""
    try:
        return bytes(map(BYTE_OF.__getitem__, token))
    except KeyError:
        return token.encode()
