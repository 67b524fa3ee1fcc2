"""E-mail and IP addresses replaced by neutral ones, as was done for FineWeb (Penedo et al. 2024, section 3.6).

The replacements are set aside for documentation (RFC 2606, 5737, 3849) and are themselves left alone, so that
scrubbing twice is scrubbing once.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from folio.corpus.quality.addresses import is_public
from folio.corpus.quality.verdict import Change, Verdict

EMAIL = "email@example.com"
IPV4 = "192.0.2.1"
IPV6 = "2001:db8::1"

# Bounded repeats keep the search linear in the text, whatever it is.
_EMAIL = re.compile(
    r"(?<!\w)\w[\w.%+'-]{0,63}@(?!\d+x\.(?:png|jpe?g|gif|webp|svg|avif)\b)"
    r"((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,9}(?:xn--[a-z\d-]{1,59}|[^\W\d_]{2,63}))"
)
_EXAMPLE_DOMAIN = re.compile(r"(?:.*\.)?(?:example(?:\.(?:com|net|org))?|invalid|test|localhost)", re.IGNORECASE)
_IPV4 = re.compile(r"(?<![\w.])(?<![A-Za-z]-)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\w|\.[0-9]|-(?:alpha|beta|dev|pre|rc))")
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9a-fA-F]{3}:[0-9a-fA-F:]{1,35}(?:(?:\.[0-9]{1,3}){3})?(?!\w)")
_VERSION_BEFORE = re.compile(
    r"(?:\b(?:v|ver|versions?|rev|revisions?|releases?|builds?|firmware|drivers?|kernel|sections?|sec|chapters?|clauses?"
    r"|paragraphs?|figures?|fig|appendix|annex|oid)\b\.?|§|[=~<>!^]=|~>|\^)[\s:=#(\"']{0,3}$",
    re.IGNORECASE,
)
_WORDS_BEFORE = 24


def scrub(text: str, *, emails: bool, ips: bool) -> Verdict:
    """``text`` with e-mail addresses, public IP addresses, or both replaced, and how many of each.

    Four numbers with dots are no address, but a version or a section, if they belong to a longer such row, carry ``v``
    or another letter, hang on a name by a hyphen (``tool-1.2.3.4``), end in ``-rc`` or the like, or follow a word such
    as version, release, build, firmware, section or §, or ``==`` and its kin. Of version 6 only what begins with 2 or
    3 is public, so that no time of day, no ``std::`` and no hardware address is one.
    """
    changes: list[Change] = []
    if emails and "@" in text:
        text = _replaced(text, _EMAIL, _neutral_email, "e-mail address", changes)
    if ips:
        if ":" in text:
            text = _replaced(text, _IPV6, _neutral_ipv6, "IPv6 address", changes)
        text = _replaced(text, _IPV4, _neutral_ipv4, "IPv4 address", changes)
    return Verdict(text, changes=tuple(changes))


def _replaced(
    text: str, pattern: re.Pattern[str], neutral: Callable[[re.Match[str]], str], reason: str, changes: list[Change]
) -> str:
    parts: list[str] = []
    hits = first = done = size = 0
    for match in pattern.finditer(text):
        new = neutral(match)
        if new == match[0]:
            continue
        parts += [text[done : match.start()], new]
        size += match.start() - done + len(new)
        done = match.end()
        hits += 1
        if hits == 1:
            first = size - len(new)
    if not hits:
        return text
    changes.append(Change(reason, hits, first))
    return "".join([*parts, text[done:]])


def _neutral_email(match: re.Match[str]) -> str:
    return match[0] if _EXAMPLE_DOMAIN.fullmatch(match[1]) else EMAIL


def _neutral_ipv4(match: re.Match[str]) -> str:
    before = match.string[max(0, match.start() - _WORDS_BEFORE) : match.start()]
    return match[0] if _VERSION_BEFORE.search(before) or not is_public(match[0]) else IPV4


def _neutral_ipv6(match: re.Match[str]) -> str:
    address = match[0].rstrip(":") if not match[0].endswith("::") else match[0]
    return IPV6 + match[0][len(address) :] if is_public(address) else match[0]
