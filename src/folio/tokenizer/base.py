"""What every kind of tokenizer shares: special tokens, ids checked, one file format, one fingerprint."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from folio.artifacts import new_folder, write_file, write_manifest
from folio.errors import DataError
from folio.tokenizer.special import added_tokens, splitter

if TYPE_CHECKING:
    import tokenizers

END_OF_TEXT = "<|endoftext|>"
FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"


class Tokenizer(ABC):
    """Text to ids and back, as one ``tokenizer.json`` says.

    ``spec`` is that file's content in Hugging Face ``tokenizers`` format, ``settings`` that of
    ``tokenizer_config.json``. Ids equal those of ``transformers`` on the same folder, its automatic special tokens
    (``add_special_tokens``) left out.
    """

    kind: str
    pattern: str
    """The regular expression that cuts text into pre-tokens."""

    def __init__(self, spec: dict[str, Any], settings: dict[str, Any]) -> None:
        self._spec = spec
        self._settings = settings
        self._added = added_tokens(spec)
        self._ids: dict[str, int] = spec["model"]["vocab"] | {token.content: token.id for token in self._added}
        self.vocab_size: int = max(self._ids.values()) + 1
        """Rows an embedding needs: the highest id, added tokens included, and one."""
        self.eot_id = self._id_named("eos_token", END_OF_TEXT)
        """The id of the token that ends a text (and stands before each document in shards), if there is one."""
        self.bos_id = self._id_named("bos_token", None)
        """The id of the token that ``tokenizer_config.json`` names as a text's first, if it names one."""
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 65_536 else np.uint32)
        """The smallest type that holds every id, as in shards."""
        self._tokens: dict[int, str] = {id: token for token, id in self._ids.items()}
        self._ordinary = splitter(token for token in self._added if not token.special)
        self._special = splitter(self._added)

    def _id_named(self, setting: str, otherwise: str | None) -> int | None:
        token: Any = self._settings.get(setting, otherwise)
        return self._ids.get(token["content"] if isinstance(token, dict) else token)

    @cached_property
    def backend(self) -> tokenizers.Tokenizer:
        """The same file as Hugging Face ``tokenizers`` reads it; special tokens in text are text to it."""
        import tokenizers

        backend = tokenizers.Tokenizer.from_str(json.dumps(self._spec))
        backend.encode_special_tokens = True
        return backend

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of what decides ids: vocabulary, merges, pattern, normalizer, special tokens; a save keeps it."""
        decisive = {
            "vocabulary": self._ids,
            "merges": self.merges,
            "pattern": self.pattern,
            "normalizer": self._spec.get("normalizer"),
            "unknown": self._spec["model"]["unk_token"] if self.kind == "word" else None,
            "special": sorted((token.content, token.id, token.special) for token in self._added),
        }
        content = json.dumps(decisive, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def merges(self) -> list[tuple[str, str]]:
        """The pairs that byte-pair encoding joins, in order, written as in the file; none for other kinds."""
        return []

    @property
    def special_ids(self) -> dict[str, int]:
        """The special tokens and their ids."""
        return {token.content: token.id for token in self._added if token.special}

    @property
    def settings(self) -> dict[str, Any]:
        """What ``tokenizer_config.json`` says: the names of special tokens, a chat template."""
        return dict(self._settings)

    def with_settings(self, **changes: Any) -> Self:
        """The same tokenizer with these keys of ``tokenizer_config.json`` changed."""
        return type(self)(self._spec, {**self._settings, **changes})

    def encode(self, text: str, allowed_special: bool = False) -> list[int]:
        """The ids of ``text``. A special token written in it is plain text unless ``allowed_special``.

        :class:`DataError` for a character that a char tokenizer lacks.
        """
        splits = self._special if allowed_special else self._ordinary
        if splits is None:
            return self._encode_plain(text)
        ids: list[int] = []
        for plain, added in splits(text):
            if plain:
                ids += self._encode_plain(plain)
            if added:
                ids.append(self._ids[added])
        return ids

    def encode_array(self, text: str) -> np.ndarray:
        """The ids of ``text`` as an array of :attr:`dtype`, special tokens as plain text: the fast way for corpora."""
        if self._ordinary is None:
            return self._encode_plain_array(text)
        return np.array(self.encode(text), dtype=self.dtype)

    def unknown_bytes(self, text: str) -> int:
        """UTF-8 bytes of ``text`` that no id stands for: those of words outside the vocabulary."""
        return 0

    @abstractmethod
    def _encode_plain(self, text: str) -> list[int]:
        """The ids of text without added tokens."""

    def _encode_plain_array(self, text: str) -> np.ndarray:
        return np.array(self._encode_plain(text), dtype=self.dtype)

    @abstractmethod
    def token_bytes(self, id: int) -> bytes:
        """The bytes that token ``id`` stands for, in UTF-8 where it is text; refuses as :meth:`token` does."""

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ``ids``; bytes that are no UTF-8 become U+FFFD. Special tokens are written out."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int] | np.ndarray) -> bytes:
        """The bytes of ``ids``, exactly; :class:`DataError` for an id outside the vocabulary."""
        return b"".join(map(self.token_bytes, as_ids(ids)))

    def token(self, id: int) -> str:
        """Token ``id`` as ``tokenizer.json`` writes it, empty for an id kept in reserve; :class:`DataError` beyond."""
        if 0 <= id < self.vocab_size:
            return self._tokens.get(id, "")
        raise DataError(
            f"id {id} is not in the vocabulary ({self.vocab_size:,} ids, kind {self.kind})",
            "Use the tokenizer that made the ids.",
        )

    def id_of(self, token: str) -> int:
        """The id of ``token``, written as in ``tokenizer.json``; :class:`DataError` if there is none."""
        try:
            return self._ids[token]
        except KeyError:
            raise DataError(
                f"'{token}' is not a token of this vocabulary (kind {self.kind})", "Check how it is written."
            ) from None

    def has(self, token: str) -> bool:
        """Whether ``token``, written as in ``tokenizer.json``, has an id."""
        return token in self._ids

    def ids(self) -> list[int]:
        """Every id that has a token, in order."""
        return sorted(self._tokens)

    def save(self, folder: Path) -> None:
        """Write an artefact of kind "tokenizer"; :class:`ArtifactError` if ``folder`` holds something else."""
        with new_folder(folder, replace="tokenizer") as temporary:
            self.save_into(temporary)
            config = {"kind": self.kind, "vocab_size": self.vocab_size, "fingerprint": self.fingerprint}
            write_manifest(temporary, "tokenizer", config)

    def save_into(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json`` alone, for a folder that holds more (a model's)."""
        write_file(folder / FILE, json.dumps(self._spec, indent=2, ensure_ascii=False) + "\n")
        write_file(folder / CONFIG_FILE, json.dumps(self._settings, indent=2, ensure_ascii=False) + "\n")

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[dict[str, Any], dict[str, Any]]]:
        return type(self), (self._spec, self._settings)

    def __repr__(self) -> str:
        return f"<{self.kind} tokenizer, {self.vocab_size:,} ids, {self.fingerprint[:12]}>"


def as_ids(ids: Sequence[int] | np.ndarray) -> list[int]:
    """``ids`` as a list of ints, whether it came as list, array or tensor."""
    return ids.tolist() if hasattr(ids, "tolist") else list(ids)


def settings_for(eot: str = END_OF_TEXT, unknown: str | None = END_OF_TEXT) -> dict[str, Any]:
    """``tokenizer_config.json`` with which ``transformers`` loads the file beside it as it is."""
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": eot,
        "eos_token": eot,
        "clean_up_tokenization_spaces": False,
    }
    return settings if unknown is None else {**settings, "unk_token": unknown}


def spec_of(backend: tokenizers.Tokenizer, special: Iterable[str]) -> dict[str, Any]:
    """``tokenizer.json`` of ``backend`` with ``special`` tokens, which stand in its vocabulary already."""
    import tokenizers

    backend.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in special])
    spec: dict[str, Any] = json.loads(backend.to_str())
    return spec


def well_formed(text: str) -> str:
    """``text``, repaired if it holds surrogates (as JSON escapes can bring them)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return repair_surrogates(text)
    return text


def repair_surrogates(text: str) -> str:
    """``text`` with surrogate pairs joined, and lone surrogates, which no UTF-8 has, as U+FFFD (tiktoken's rule)."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
