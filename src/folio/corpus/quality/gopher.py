"""Gopher's quality rules: what prose looks like, counted in words and lines (Rae et al. 2021, appendix A.1.1).

The paper leaves open what a word is; here it is what white space parts, and lines are those that are not blank.
"""

from __future__ import annotations

from dataclasses import dataclass

from folio.corpus.quality.verdict import Fault

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
BULLETS = ("•", "‣", "⁃", "◦", "▪", "●", "-", "*")
ELLIPSES = ("...", "…")
_AROUND_WORDS = "\"'“”‘’()[]{}<>*_.,;:!?-–—…"


@dataclass(frozen=True, slots=True)
class GopherRules:
    """The paper's thresholds; a document at one of them stays."""

    min_words: int = 50
    max_words: int = 100_000
    min_mean_word_length: float = 3.0
    max_mean_word_length: float = 10.0
    max_symbols_per_word: float = 0.1
    """Hash signs to words, and ellipses to words, each by itself."""
    max_bullet_lines: float = 0.9
    """Of the lines: those that begin with a bullet point."""
    max_ellipsis_lines: float = 0.3
    """Of the lines: those that end with an ellipsis."""
    min_alphabetic_words: float = 0.8
    """Of the words: those with at least one alphabetic character."""
    min_stop_words: int = 2
    """Different ones of :data:`STOP_WORDS`, in any case."""


def gopher_fault(text: str, rules: GopherRules = GopherRules()) -> Fault | None:
    """The first of the rules, in the order of :class:`GopherRules`, that ``text`` breaks."""
    words = text.split()
    count = len(words)
    if count < max(1, rules.min_words):
        return Fault("too few words", f"{count:,} words")
    if count > rules.max_words:
        return Fault("too many words", f"{count:,} words")
    mean = sum(map(len, words)) / count
    if mean < rules.min_mean_word_length:
        return Fault("words too short", f"{mean:.2f} characters a word")
    if mean > rules.max_mean_word_length:
        return Fault("words too long", f"{mean:.2f} characters a word")
    hashes = text.count("#")
    if hashes / count > rules.max_symbols_per_word:
        return Fault("too many hash signs", f"{hashes / count:.3f} a word", text.index("#"))
    ellipses = sum(text.count(mark) for mark in ELLIPSES)
    if ellipses / count > rules.max_symbols_per_word:
        first = min(place for mark in ELLIPSES if (place := text.find(mark)) >= 0)
        return Fault("too many ellipses", f"{ellipses / count:.3f} a word", first)
    lines = [line for part in text.split("\n") if (line := part.strip())]
    bulleted = sum(line.startswith(BULLETS) for line in lines) / len(lines)
    if bulleted > rules.max_bullet_lines:
        return Fault("too many bullet lines", f"{bulleted:.1%} of lines")
    trailing = sum(line.endswith(ELLIPSES) for line in lines) / len(lines)
    if trailing > rules.max_ellipsis_lines:
        return Fault("too many lines end in an ellipsis", f"{trailing:.1%} of lines")
    alphabetic = sum(any(map(str.isalpha, word)) for word in words) / count
    if alphabetic < rules.min_alphabetic_words:
        return Fault("too few alphabetic words", f"{alphabetic:.1%} of words")
    stops = len(STOP_WORDS & {word.strip(_AROUND_WORDS).lower() for word in words})
    if stops < rules.min_stop_words:
        return Fault("too few stop words", f"{stops} of {len(STOP_WORDS)}")
    return None
