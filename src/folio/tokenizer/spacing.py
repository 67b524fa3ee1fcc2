"""Ordinary spacing restored to a stream of words and marks.

Word tokens carry no spaces. Decoding sets one between any two, then takes back those that ordinary English typography
does not have. The rule is one regular expression inside ``tokenizer.json``, so that ``transformers`` restores the same
text. It is in Oniguruma's dialect, whose look-behind may vary in length, and every look is at the spaced text, so no
decision depends on another.
"""

from __future__ import annotations

CLOSING = r",.;:!?)\]}%…”»"
OPENING = r"(\[{$£€@#“‘«"
JOINING = r"\-–—/\n\t\r\f\v"
APOSTROPHE = r"['’]"

_CONTRACTED = r"(?i:s|d|t|m|n|ll|re|ve|st|en|ld|rt|lt|dst|clock|er\w*)(?!\w)"
"""What follows an apostrophe inside a word: love's, don't, o'er, o'clock."""
_SHORTENED = r"(?i:tis|twas|twere|twill|twould|twixt|em|gainst|fore|scaped?|bout|mongst|cause)(?!\w)"
"""Words that begin with an apostrophe of their own: 'tis, 'em."""
_CUT_SHORT = r"(?:\ws|(?:^|\W)(?:[oi]|th|wi|ha|I))"
"""Words after which a lone apostrophe ends: lovers' vows, o' the, th' other."""
_LONE_CAPITAL = r"(?:^|\W)\p{Lu}"
"""O'Brien, D'Artagnan."""

_EVEN_QUOTES = r'^[^"\n]*(?:"[^"\n]*"[^"\n]*)*'
_ODD_QUOTES = r'^[^"\n]*"[^"\n]*(?:"[^"\n]*"[^"\n]*)*'

_RULES = [
    # marks that belong to the word before or after them, line breaks, the end of a text
    rf" (?=[{CLOSING}{JOINING}])",
    rf"(?<=[{OPENING}{JOINING}]) ",
    r" (?=<\|endoftext\|>)",
    r"(?<=<\|endoftext\|>) ",
    # 3.14, 1,000 and 12:30
    r"(?<=\d \.) (?=\d)",
    r"(?<=\d ,) (?=\d{3}(?!\w))",
    r"(?<=\d :) (?=\d\d(?!\w))",
    # a straight quotation mark opens after an even number of them in the line, and closes after an odd one
    rf'(?<={_EVEN_QUOTES}") ',
    rf' (?=")(?<={_ODD_QUOTES})',
    # an apostrophe with a word on one side only
    rf" (?={APOSTROPHE}(?: \W|\z))",
    rf"(?<=\A{APOSTROPHE}) (?=\w)",
    r"(?<=\W ') (?=\w)",
    r"(?<=[^\w.,!?…] ’) (?=\w)",
    rf"(?<=\W ’) (?={_SHORTENED})",
    rf"(?<=[.,!?…]) (?=’ (?!{_SHORTENED}))",
    # an apostrophe between two words: the space before it
    rf"(?<=\w) (?={APOSTROPHE} {_CONTRACTED})",
    rf"(?<=\w) (?={APOSTROPHE} (?!{_SHORTENED})[^\W\p{{Lu}}])",
    rf"(?<={_CUT_SHORT}|{_LONE_CAPITAL}) (?={APOSTROPHE} (?!{_SHORTENED})\p{{Lu}})",
    # and the space after it
    rf"(?<=\w {APOSTROPHE}) (?={_CONTRACTED}|{_SHORTENED})",
    rf"(?<={_LONE_CAPITAL} {APOSTROPHE}) (?=\p{{Lu}})",
    rf"(?<=\w {APOSTROPHE})(?<!{_CUT_SHORT} {APOSTROPHE}) (?=\w)",
]

SPACES_TO_DROP = "|".join(_RULES)
