"""Words without an id read as the nearest word that has one: how that is found, and written into ``tokenizer.json``.

The format has one word for one id, so that a second word cannot share it. But it has normalizers, which change a text
before it is cut, and among them ``Replace``: one for each word that stands for others, in whose place it is put as a
whole word. What is replaced is in no vocabulary and what replaces it is, so their order does not matter.

R words without an id, K words with one, C numbers in a vector
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from folio.errors import ArtifactError
from folio.tokenizer.vectors import unit_rows
from folio.tokenizer.word2vec import Rows

_BEGIN, _END = r"(?<!\w)(?:", r")(?!\w)"
_AT_ONCE = 4096
"""Words whose cosines are held at a time."""
_ASCII_WORD = re.compile(r"\w+", re.ASCII)


def nearest_rows(rare_RC: Rows, kept_KC: Rows) -> np.ndarray:
    """For each rare row the kept one of highest cosine, (R,); of equal ones the first, which is the most frequent."""
    kept = unit_rows(kept_KC)
    found = [
        np.argmax(unit_rows(rare_RC[start : start + _AT_ONCE]) @ kept.T, axis=1)
        for start in range(0, len(rare_RC), _AT_ONCE)
    ]
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def normalizer_of(nearest: Mapping[str, str]) -> dict[str, Any] | None:
    """``normalizer`` of a ``tokenizer.json`` by which each word in ``nearest`` is read as the other; None for none.

    The spaces around what is put in keep it apart from its neighbours, and are no tokens.
    """
    by_target: dict[str, list[str]] = {}
    for word, target in nearest.items():
        by_target.setdefault(target, []).append(word)
    steps = []
    for target, words in by_target.items():
        marks = [word for word in words if not is_word(word)]
        patterns: list[dict[str, str]] = [{"String": mark} for mark in marks]
        if letters := [word for word in words if is_word(word)]:
            patterns.append({"Regex": _BEGIN + "|".join(letters) + _END})
        steps += [{"type": "Replace", "pattern": pattern, "content": f" {target} "} for pattern in patterns]
    return {"type": "Sequence", "normalizers": steps} if steps else None


def nearest_of(normalizer: Mapping[str, Any] | None) -> dict[str, str]:
    """What :func:`normalizer_of` was given; :class:`ArtifactError` for a normalizer that is none of its kind."""
    if normalizer is None:
        return {}
    nearest: dict[str, str] = {}
    steps = normalizer["normalizers"] if normalizer.get("type") == "Sequence" else [normalizer]
    for step in steps:
        words = _replaced(step["pattern"]) if step.get("type") == "Replace" else []
        content = step.get("content", "")
        if not words or content != f" {content[1:-1]} ":
            raise ArtifactError(f"a normalizer {step.get('type')} that Folio does not know", "Use another tokenizer.")
        nearest |= dict.fromkeys(words, content[1:-1])
    return nearest


def _replaced(pattern: Mapping[str, str]) -> list[str]:
    """The words that one step replaces, none if it is not one of ours."""
    if (mark := pattern.get("String")) is not None:
        return [mark] if len(mark) == 1 and not is_word(mark) else []
    expression = pattern.get("Regex", "")
    if not (expression.startswith(_BEGIN) and expression.endswith(_END)):
        return []
    words = expression[len(_BEGIN) : -len(_END)].split("|")
    return words if all(map(is_word, words)) else []


@cache
def is_word(token: str) -> bool:
    r"""Whether a token of the word pattern is one of ``\w+``; else it is a single mark or line break.

    Oniguruma says what a letter is, as it does where the text is cut.
    """
    if token.isascii():
        return bool(_ASCII_WORD.fullmatch(token))
    from tokenizers import Regex, pre_tokenizers

    return not pre_tokenizers.Split(Regex(r"\w+"), behavior="removed").pre_tokenize_str(token)
