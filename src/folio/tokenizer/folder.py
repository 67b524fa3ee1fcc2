"""A tokenizer read from a folder: Folio's own, or a Hugging Face model's with byte-level BPE."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from folio.artifacts import verify_part
from folio.errors import ArtifactError, UserError
from folio.tokenizer.base import CONFIG_FILE, FILE, Tokenizer
from folio.tokenizer.byte_level import ByteLevelTokenizer
from folio.tokenizer.characters import CharTokenizer
from folio.tokenizer.patterns import CHARACTER_PATTERN, WORD_PATTERN
from folio.tokenizer.words import WordTokenizer

TEMPLATE_FILE = "chat_template.jinja"
_KNOWN = "Folio reads byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) and its own char and word tokenizers."
_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD"}


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in ``folder`` (``tokenizer.json``, and ``tokenizer_config.json`` if there is one).

    :class:`ArtifactError` if it is not there, is damaged (compared with the manifest of the tokenizer, model or
    checkpoint it belongs to), or is of a kind that would not be read faithfully, which is then named.
    """
    folder = Path(folder)
    path = folder / FILE
    if not path.is_file():
        found = "does not exist" if not folder.exists() else f"has no {FILE}"
        raise ArtifactError(f"'{folder}' is no tokenizer: it {found}", "Check the path.")
    verify_part(folder, (FILE, CONFIG_FILE, TEMPLATE_FILE))
    spec = _read_json(path)
    settings = _read_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else {}
    if (folder / TEMPLATE_FILE).is_file():  # which transformers, too, takes before that of the settings
        settings["chat_template"] = _read(folder / TEMPLATE_FILE)
    try:
        return _kind_of(spec)(spec, settings)
    except UserError as error:
        raise ArtifactError(f"'{path}': {error.problem}", error.remedy) from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None


def _kind_of(spec: dict[str, Any]) -> type[Tokenizer]:
    """The class that reads ``spec``; :class:`ArtifactError` naming what none does, or what contradicts itself."""
    model = spec["model"]
    kind = model.get("type") or ("BPE" if "merges" in model else None)
    if kind == "BPE":
        _check_byte_pairs(spec)
        _check_ids(spec)
        return ByteLevelTokenizer
    if kind == "WordLevel":
        _check_ids(spec)
        pattern = ((spec.get("pre_tokenizer") or {}).get("pattern") or {}).get("Regex")
        if spec.get("normalizer") is None and pattern == CHARACTER_PATTERN:
            return CharTokenizer
        if pattern == WORD_PATTERN and "<unk>" in model["vocab"]:
            return WordTokenizer  # which looks at the normalizer itself
        raise ArtifactError("a WordLevel tokenizer with rules of its own", _KNOWN)
    raise ArtifactError(f"a {kind} tokenizer, which Folio does not read", _KNOWN)


def _check_byte_pairs(spec: dict[str, Any]) -> None:
    model = spec["model"]
    strange = [
        f"{key} = {model[key]!r}"
        for key in ("byte_fallback", "continuing_subword_prefix", "end_of_word_suffix", "dropout")
        if model.get(key)
    ]
    if strange:
        sentencepiece = " (SentencePiece style)" if model.get("byte_fallback") else ""
        raise ArtifactError(f"BPE{sentencepiece} with {', '.join(strange)}, which Folio does not read", _KNOWN)
    normalizer = spec.get("normalizer") or {}
    for step in normalizer.get("normalizers", [normalizer] if normalizer else []):
        if step.get("type") not in _NORMALIZERS:
            raise ArtifactError(f"BPE with a normalizer {step.get('type')}, which Folio does not read", _KNOWN)
    vocabulary = model["vocab"]
    for pair in model["merges"]:
        left, right = pair.split(" ", 1) if isinstance(pair, str) else pair
        if not (left in vocabulary and right in vocabulary and left + right in vocabulary):
            raise ArtifactError(f"damaged: the merge {left!r} {right!r} is not in the vocabulary", "Restore the file.")


def _check_ids(spec: dict[str, Any]) -> None:
    """Every id one token, every token one id."""
    ids: dict[int, str] = {}
    entries = [*spec["model"]["vocab"].items()]
    entries += [(token["content"], token["id"]) for token in spec.get("added_tokens") or ()]
    for token, id in entries:
        if type(id) is not int or not 0 <= id < 2**31:
            raise ArtifactError(f"damaged: {token!r} has the id {id!r}", "Restore the file.")
        if ids.setdefault(id, token) != token:
            raise ArtifactError(f"damaged: {ids[id]!r} and {token!r} share the id {id}", "Restore the file.")
    if len(set(ids.values())) < len(ids):
        raise ArtifactError("damaged: one token has two ids", "Restore the file.")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (ValueError, OSError) as error:
        raise _damaged(path, str(error)) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read(path))
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(content, dict):
        raise _damaged(path, "it is not a JSON object")
    return content


def _damaged(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(f"'{path}' is damaged: {reason}", "Restore the file, or make the tokenizer again.")
