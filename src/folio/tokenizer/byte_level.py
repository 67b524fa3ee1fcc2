"""Byte-level BPE (GPT-2's kind): any text is bytes, any bytes are tokens, so nothing is ever unknown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from folio.errors import ArtifactError, DataError
from folio.tokenizer.alphabet import CHAR_OF, to_bytes, to_printable
from folio.tokenizer.base import END_OF_TEXT, Tokenizer, as_ids, repair_surrogates, settings_for, spec_of, well_formed
from folio.tokenizer.merges import is_ranked
from folio.tokenizer.patterns import DIGITS_PATTERN, GPT2_PATTERN, TIKTOKEN_PATTERNS
from folio.tokenizer.pieces import LONGEST_SPACE, PIECE_CHARACTERS, overflows, pieces

if TYPE_CHECKING:
    import tiktoken

OF_UTF8 = [*range(0xC0), *range(0xC2, 0xF5)]
"""The bytes that occur in UTF-8: what a vocabulary needs to hold any text."""
SHORT_CHARACTERS = min(PIECE_CHARACTERS, LONGEST_SPACE)
"""Text up to this length is encoded in one call, as most documents are; longer text is cut, or looked at first."""
_CUTS = ("Split", "Digits", "Punctuation")
"""Rules that only cut, unless they say that they remove."""
GPT2_SIZE = 50_257
GPT2_FINGERPRINT = "dcc34306deac0ea335bf4d486e508bb04a35c6b9cd0c07fc0d3b4b2b29557f66"
"""Of OpenAI's vocabulary, from whichever folder it is read."""


class ByteLevelTokenizer(Tokenizer):
    """Byte-level BPE from any ``tokenizer.json``, encoded by tiktoken where that gives the same ids."""

    def __init__(self, spec: dict[str, Any], settings: dict[str, Any]) -> None:
        super().__init__(spec, settings)
        self.kind = "bpe"
        self._bytes = {id: to_bytes(token) for id, token in self._tokens.items()}
        self._bytes |= {token.id: token.content.encode() for token in self._added}
        lacking = bytes(byte for byte in OF_UTF8 if CHAR_OF[byte] not in self._ids)
        self._lacking = re.compile(b"[" + re.escape(lacking) + b"]") if lacking else None
        self.pattern = pattern_of(spec)
        if self.vocab_size == GPT2_SIZE and self.fingerprint == GPT2_FINGERPRINT:
            self.kind = "gpt2"

    @cached_property
    def merges(self) -> list[tuple[str, str]]:
        """The pairs that are joined, in order, in the printable alphabet of :mod:`folio.tokenizer.alphabet`."""
        pairs = self._spec["model"]["merges"]
        split = (pair.split(" ", 1) if isinstance(pair, str) else pair for pair in pairs)
        return [(left, right) for left, right in split]

    @cached_property
    def tiktoken_encoding(self) -> tiktoken.Encoding | None:
        """tiktoken over the same ranks; None where it would not give the same ids.

        That is: a pattern that is not known to cover every text, or a vocabulary that ranks alone do not decide.
        """
        import tiktoken

        pattern = TIKTOKEN_PATTERNS.get(self.pattern)
        added = {token.content for token in self._added}
        vocabulary = self._spec["model"]["vocab"]
        ranks = {to_bytes(token): id for token, id in vocabulary.items() if token not in added}
        merges = [(to_bytes(left), to_bytes(right)) for left, right in self.merges]
        alphabet = {bytes([byte]): self._ids[char] for byte, char in enumerate(CHAR_OF) if char in self._ids}
        if pattern is None or len(ranks) != len(alphabet) + len(merges):
            return None
        for byte in alphabet:  # they come before merges whatever their ids
            ranks[byte] = -1 - byte[0]
        if self.kind != "gpt2" and not is_ranked(merges, ranks):
            return None
        return tiktoken.Encoding(
            self.fingerprint[:12], pat_str=pattern, mergeable_ranks=ranks | alphabet, special_tokens=self.special_ids
        )

    def _encode_plain(self, text: str) -> list[int]:
        text = self._normalized(text)
        encoding = self.tiktoken_encoding
        if encoding is None:
            return self._encode_exactly(text)
        ids: list[int] = []
        for piece in pieces(text):
            ids += self._encode_exactly(piece) if overflows(piece) else encoding.encode_ordinary(piece)
        return ids

    @cached_property
    def _encoding_of_any_text(self) -> tiktoken.Encoding | None:
        """tiktoken, where text of moderate length needs nothing done to it before."""
        as_it_is = self._spec.get("normalizer") is None and self._lacking is None
        return self.tiktoken_encoding if as_it_is else None

    def _encode_plain_array(self, text: str) -> np.ndarray:
        if len(text) <= SHORT_CHARACTERS and (direct := self._encoding_of_any_text) is not None:
            return _numpy_ids(direct, text).astype(self.dtype)
        text = self._normalized(text)
        encoding = self.tiktoken_encoding
        if encoding is None:
            return np.array(self._encode_exactly(text), dtype=self.dtype)
        parts = [
            np.array(self._encode_exactly(piece), dtype=self.dtype)
            if overflows(piece)
            else _numpy_ids(encoding, piece).astype(self.dtype)
            for piece in pieces(text)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, self.dtype), *parts])

    def _encode_exactly(self, text: str) -> list[int]:
        """By ``tokenizers`` itself: slower, and right for any pattern and any run of white space."""
        ids: list[int] = self.backend.encode(well_formed(text), add_special_tokens=False).ids
        return ids

    def _normalized(self, text: str) -> str:
        """``text`` as it is encoded; :class:`DataError` for a character of which the vocabulary lacks a byte."""
        if self._spec.get("normalizer") is not None:
            text = self.backend.normalizer.normalize_str(well_formed(text))
        if self._lacking is not None and (found := self._lacking.search(raw := well_formed(text).encode())):
            before = raw[: found.start()].decode(errors="ignore")
            char = text[len(before)]
            raise DataError(
                f"this tokenizer lacks the byte 0x{found[0].hex()}, which {char!r} (U+{ord(char):04X}) has, "
                f"met after {before[-20:]!r}",
                "Write the text without it.",
            )
        return text

    def token_bytes(self, id: int) -> bytes:
        return self._bytes.get(id) or self.token(id).encode()

    def decode_bytes(self, ids: Sequence[int] | np.ndarray) -> bytes:
        ids = as_ids(ids)
        try:
            return b"".join([self._bytes[id] for id in ids])
        except KeyError:
            return super().decode_bytes(ids)  # which says what is wrong


def _numpy_ids(encoding: tiktoken.Encoding, text: str) -> np.ndarray:
    try:
        return encoding.encode_to_numpy(text, disallowed_special=())
    except UnicodeEncodeError:
        return encoding.encode_to_numpy(repair_surrogates(text), disallowed_special=())


def byte_level_spec(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], special: tuple[str, ...] = (END_OF_TEXT,)
) -> dict[str, Any]:
    """``tokenizer.json`` for byte-level BPE with GPT-2's pattern; ``vocabulary`` holds the special tokens too."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, processors

    backend = Backend(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return spec_of(backend, special)


def from_ranked_tokens(
    tokens: list[bytes], merges: list[tuple[bytes, bytes]], special: tuple[str, ...] = ()
) -> ByteLevelTokenizer:
    """A tokenizer of ``tokens`` with the ids of their order, then ``special``, then end-of-text."""
    everything = [*map(to_printable, tokens), *special, END_OF_TEXT]
    vocabulary = {token: id for id, token in enumerate(everything)}
    if len(vocabulary) < len(everything):
        raise DataError("a special token is also an ordinary token of this vocabulary", "Write it differently.")
    printable = [(to_printable(left), to_printable(right)) for left, right in merges]
    return ByteLevelTokenizer(byte_level_spec(vocabulary, printable, (*special, END_OF_TEXT)), settings_for())


def pattern_of(spec: dict[str, Any]) -> str:
    """What cuts text into pre-tokens: one regular expression, or the rules as the file has them where it takes several.

    :class:`ArtifactError` naming what is not byte-level BPE, or what drops or adds text.
    """
    parts = spec.get("pre_tokenizer") or {}
    steps = parts.get("pretokenizers", [parts])
    *cuts, last = steps
    if last.get("type") != "ByteLevel":
        raise ArtifactError(
            f"this tokenizer splits text by {last.get('type') or 'nothing'}, not into bytes as GPT-2 does",
            "Folio reads byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) and its own kinds.",
        )
    if last.get("add_prefix_space"):
        raise ArtifactError("this tokenizer adds a space before every text, which Folio does not", "Use another one.")
    by_gpt2 = last.get("use_regex", True)
    if not cuts and by_gpt2:
        return GPT2_PATTERN
    match cuts:
        case [{"type": "Split", "pattern": {"Regex": str(regex)}, **how}] if not by_gpt2:
            if (how.get("behavior"), bool(how.get("invert"))) in (("Isolated", False), ("Removed", True)):
                return regex
        case [{"type": "Digits", "individual_digits": True}] if by_gpt2:
            return DIGITS_PATTERN
    if all(cut.get("type") in _CUTS and cut.get("behavior") != "Removed" for cut in cuts):
        return json.dumps(steps, sort_keys=True, ensure_ascii=False)
    kinds = " + ".join(f"{step.get('type')}" + " that removes" * (step.get("behavior") == "Removed") for step in steps)
    raise ArtifactError(
        f"this tokenizer splits text in a way Folio does not know ({kinds})",
        "Folio reads byte-level BPE whose rules keep all of a text (GPT-2, Llama 3, Qwen, SmolLM) and its own kinds.",
    )
