"""Words as readers see them: folded to one spelling, and without those that every text is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from folio.corpus.statistics import is_word

_FUNCTION_WORDS = """
    a about above after again against all almost also although always am among an and another any anybody anyone
    anything are around as at away back be because been before behind being below beside between both but by came can
    cannot come could couldn d did didn do does doesn doing don done down each either else enough even ever every
    everything few for from further get go going gone got had has hasn have haven having he hence her here hers herself
    him himself his how however i if in indeed into is isn it its itself just last least less let ll m made make many
    may me might mine more most much must my myself neither never no nobody none nor not nothing now o of off often oh
    on once one only or other others our ours ourselves out over own perhaps put quite rather re s said same say see
    seemed seems shall she should since so some somebody something soon still such t take than that the their theirs
    them themselves then there therefore these they thing things this those though through thus till to together too
    two under until unto up upon us ve very was wasn we well went were weren what whatever when where whether which
    while who whole whom whose why will with within without won would yes yet you your yours yourself
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English words that say little about what a text is about, and the ends that apostrophes leave (don't, he'll)."""


def folded(types: Mapping[str, int]) -> Counter[str]:
    """Words alone, capitals and small letters counted together, each written as it is most often."""
    spellings: dict[str, tuple[int, str]] = {}
    counts: Counter[str] = Counter()
    for token, times in types.items():
        if is_word(token):
            key = token.casefold()
            counts[key] += times
            # small letters go first where both are as frequent, so that no order of the walk shows
            spellings[key] = max(spellings.get(key, (0, "")), (times, token))
    return Counter({spellings[key][1]: times for key, times in counts.items()})


def content_words(types: Mapping[str, int], count: int) -> list[tuple[str, int]]:
    """The ``count`` most frequent words that are neither English function words, single letters nor numbers."""
    words = (
        (word, times)
        for word, times in folded(types).items()
        if word.casefold() not in FUNCTION_WORDS and len(word) > 1 and not word.isnumeric()
    )
    return sorted(words, key=lambda entry: (-entry[1], entry[0]))[:count]
