"""Tokens made visible: readable names, a cut-up text, and how many bytes a token carries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from folio.tokenizer.alphabet import to_bytes
from folio.tokenizer.base import Tokenizer


@dataclass(frozen=True, slots=True)
class Compression:
    """How far a tokenizer shortens a text: its UTF-8 bytes and its tokens."""

    text_bytes: int
    tokens: int

    @property
    def bytes_per_token(self) -> float:
        return self.text_bytes / self.tokens if self.tokens else 0.0


def compression(tokenizer: Tokenizer, texts: Iterable[str]) -> Compression:
    """Bytes and tokens of ``texts``, special tokens in them taken as text."""
    text_bytes = tokens = 0
    for text in texts:
        text_bytes += len(text.encode("utf-8", "replace"))
        tokens += len(tokenizer.encode_array(text))
    return Compression(text_bytes, tokens)


def readable(token: bytes) -> str:
    """A token for a person's eyes: spaces as ``␣``, line breaks and other controls escaped, broken UTF-8 in hex."""
    try:
        text = token.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in token)
    return "".join(_visible(char) for char in text)


def _visible(char: str) -> str:
    if char == " ":
        return "␣"
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


def segmentation(tokenizer: Tokenizer, text: str) -> list[tuple[int, str]]:
    """``text`` cut into tokens: (id, readable token) each."""
    return [(id, readable(tokenizer.token_bytes(id))) for id in tokenizer.encode(text)]


def longest_tokens(tokenizer: Tokenizer, count: int) -> list[tuple[int, str, int]]:
    """The ``count`` tokens of most bytes, special ones aside: (id, readable token, bytes) each; the lower id first."""
    special = set(tokenizer.special_ids.values())
    sizes = sorted((-len(tokenizer.token_bytes(id)), id) for id in tokenizer.ids() if id not in special)
    return [(id, readable(tokenizer.token_bytes(id)), -size) for size, id in sizes[:count]]


def first_merges(tokenizer: Tokenizer, count: int) -> list[tuple[int, str, str, str]]:
    """The first ``count`` merges of byte-pair encoding, readable: (id, left, right, result) each."""
    rows = []
    for left, right in tokenizer.merges[:count]:
        left_bytes, right_bytes = to_bytes(left), to_bytes(right)
        id = tokenizer.id_of(left + right)
        rows.append((id, readable(left_bytes), readable(right_bytes), readable(left_bytes + right_bytes)))
    return rows
