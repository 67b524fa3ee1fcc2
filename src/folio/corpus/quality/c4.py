"""C4's rules for web pages: lines that are no prose go, and pages that have too little left.

The source is Raffel et al. 2020, section 2.2 ("Exploring the limits of transfer learning", JMLR 21); for lines about
policies, words of a thousand characters and Wikipedia's marks it is the code that made the set. Two of its rules are
not here: the list of bad words, and dropping every three-sentence span that was met before.
"""

from __future__ import annotations

import re
from collections import Counter

from folio.corpus.quality.config import C4Config
from folio.corpus.quality.verdict import Change, Fault, Verdict

END_MARKS = (".", "!", "?", '"', "'", "”", "’", "。", "！", "？", "؟", "।")
ELLIPSES = ("...", "…")
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_SENTENCE_END = re.compile(r"[.!?؟।]+[\"'”’)\]]*(?=\s|$)|[。！？]+")


def c4_verdict(text: str, config: C4Config) -> Verdict:
    """``text`` with the lines that ``config`` lets stand, or the fault of the page.

    A line goes by the first rule that applies, in the order of :class:`C4Config`, and is counted there; blank lines
    break the rules about punctuation and number of words, and are counted apart.
    """
    lowered = text.lower()
    if config.lorem_ipsum and (at := lowered.find("lorem ipsum")) >= 0:
        return Verdict(text, Fault("lorem ipsum", at=min(at, len(text))))
    if config.curly_bracket and (bracket := re.search(r"[{}]", text)):
        return Verdict(text, Fault("curly bracket", at=bracket.start()))
    counts: Counter[str] = Counter()
    kept: list[str] = []
    for raw in text.split("\n"):
        line, marks = _CITATION.subn("", raw) if config.citations else (raw, 0)
        counts["citation"] += marks
        reason = _line_fault(line.strip(), config)
        if reason is None:
            kept.append(line)
        else:
            counts[reason if line.strip() else "blank line"] += 1
    changed = "\n".join(kept)
    if config.min_sentences and (sentences := count_sentences(kept)) < config.min_sentences:
        return Verdict(changed, Fault("too few sentences", f"{sentences} sentence{'s' * (sentences != 1)}"))
    if text.strip() and not changed.strip():
        return Verdict(changed, Fault("no line left"))
    return Verdict(changed, changes=tuple(Change(reason, hits) for reason, hits in (+counts).items()))


def count_sentences(lines: list[str]) -> int:
    """Ends of sentences, at least one for each line with any text; an abbreviation's full stop counts as well."""
    return sum(max(1, len(_SENTENCE_END.findall(line))) for line in lines if line.strip())


def _line_fault(line: str, config: C4Config) -> str | None:
    words = line.split()
    if config.max_word_length is not None and any(len(word) > config.max_word_length for word in words):
        return "line with a long word"
    if config.terminal_punctuation and (not line.endswith(END_MARKS) or line.endswith(ELLIPSES)):
        return "line without terminal punctuation"
    if len(words) < config.min_words_per_line:
        return "line of few words"
    lowered = line.lower()
    if config.javascript and "javascript" in lowered:
        return "line with javascript"
    if config.policy and any(phrase in lowered for phrase in POLICIES):
        return "line about policies"
    return None
