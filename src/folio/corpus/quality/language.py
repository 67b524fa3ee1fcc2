"""The language of a document, by the naive Bayes model over bytes that comes with the package py3langid.

py3langid 0.4 (BSD 3-clause, 4.6 MB with its model, nothing fetched when it runs) is langid.py (Lui & Baldwin 2012) made
faster and trained anew on 139 languages and on what is no language at all.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from typing import Any

from folio.corpus.quality.verdict import Fault
from folio.errors import ConfigError, require

WINDOW_CHARACTERS = 2000
"""Of a text of more than three windows, the first, the middle and the last are read."""
_NAMES = """
    ar Arabic, bg Bulgarian, bn Bengali, ca Catalan, cs Czech, cy Welsh, da Danish, de German, el Greek, en
    English, es Spanish, et Estonian, eu Basque, fa Persian, fi Finnish, fr French, ga Irish, he Hebrew, hi
    Hindi, hr Croatian, hu Hungarian, id Indonesian, is Icelandic, it Italian, ja Japanese, ko Korean, la Latin,
    lt Lithuanian, lv Latvian, nl Dutch, no Norwegian, nb Norwegian Bokmål, nn Norwegian Nynorsk, pl Polish, pt
    Portuguese, ro Romanian, ru Russian, sk Slovak, sl Slovenian, sr Serbian, sv Swedish, th Thai, tr Turkish,
    uk Ukrainian, ur Urdu, vi Vietnamese, zh Chinese
"""
NAMES = dict(entry.strip().split(maxsplit=1) for entry in _NAMES.split(","))
"""The English names of the more common languages, by code."""
_OWN_NAMES = {"deutsch": "de", "español": "es", "français": "fr"}


class LanguageFilter:
    """Keeps documents that are in one of some ``languages`` with at least ``confidence``.

    The model gives each language a probability; those of the wanted languages are added, so that a text between the two
    forms of Norwegian passes where both are wanted. :class:`ConfigError` for a language that the model does not know,
    :class:`folio.errors.MissingExtra` without the package.
    """

    def __init__(self, languages: tuple[str, ...], confidence: float) -> None:
        self._model = _model()
        known = set(self._model.labels)
        for language in languages:
            if language not in known:
                guess = _meant(language, known)
                hint = f"Did you mean '{guess}' ({NAMES[guess]})? " if guess else "Give a code such as en, de or zh. "
                raise ConfigError(
                    f"languages: '{language}' is not known", f"{hint}docs/quality.md lists all {len(known)} codes."
                )
        self._wanted = frozenset(languages)
        self._confidence = confidence

    def fault(self, text: str) -> Fault | None:
        """``other language`` if the likeliest one is not wanted, ``language unsure`` if it is but too little so."""
        ranked: list[tuple[str, float]] = self._model.rank(_sample(text))
        sure = sum(probability for language, probability in ranked if language in self._wanted)
        if sure >= self._confidence:
            return None
        language, probability = ranked[0]
        reason = "language unsure" if language in self._wanted or probability < 0.5 else "other language"
        return Fault(reason, f"{language} {probability:.2f}")


def likeliest(text: str) -> tuple[str, float]:
    """The likeliest language and its probability; :class:`folio.errors.MissingExtra` without the package."""
    language, probability = _model().rank(_sample(text))[0]
    return str(language), float(probability)


def _meant(given: str, known: set[str]) -> str | None:
    """The code that may be meant by ``English``, ``eng``, ``EN`` or ``en-US``: of a common language, or None."""
    given = given.strip().lower()
    codes = {**{name.lower(): code for code, name in NAMES.items() if code in known}, **_OWN_NAMES}
    if (code := given.replace("_", "-").partition("-")[0]) in codes.values():
        return code
    name = NAMES.get(given, given).lower()
    for each, code in codes.items():
        if len(name) > 2 and (each.startswith(name) or name.startswith(each)):
            return code
    near = get_close_matches(name, codes, n=1, cutoff=0.75)
    return codes[near[0]] if near else None


@cache
def _model() -> Any:
    """The model, read once in a process: half a second and 100 MB."""
    langid: Any = require("py3langid.langid", "data")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


def _sample(text: str) -> str:
    size = WINDOW_CHARACTERS
    if len(text) <= 3 * size:
        return text
    middle = (len(text) - size) // 2
    return "\n".join((text[:size], text[middle : middle + size], text[-size:]))
