"""Which quality steps documents go through, and how strict each is."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from folio.config import Table


class C4Config(Table):
    """The rules that made C4 of web pages (Raffel et al. 2020, section 2.2), each on its own; all off unless chosen."""

    lorem_ipsum: bool = False
    """Drop a page that says "lorem ipsum" anywhere."""
    curly_bracket: bool = False
    """Drop a page with a curly bracket anywhere: most are code."""
    citations: bool = False
    """Take Wikipedia's marks out of the text: [1], [], [edit], [citation needed]."""
    max_word_length: int | None = Field(default=None, ge=1)
    """Take out lines with a word of more characters; C4's own code has 1000."""
    terminal_punctuation: bool = False
    """Take out lines that do not end in a full stop, an exclamation or question mark, or an end quotation mark."""
    min_words_per_line: int = Field(default=0, ge=0)
    """Take out lines of fewer words; the paper has 5, its first version 3."""
    javascript: bool = False
    """Take out lines that say "javascript"."""
    policy: bool = False
    """Take out lines about cookies, privacy policies and terms of use."""
    min_sentences: int = Field(default=0, ge=0)
    """Drop a page of fewer sentences, once lines are taken out; the paper has 3, its first version 5."""


class ContaminationConfig(Table):
    """How items of benchmarks are looked for, and what becomes of the documents that hold them."""

    n: int = Field(default=13, ge=1)
    """Words of a gram; a document that holds one gram of an item holds the item."""
    min_words: int = Field(default=8, ge=1)
    """A text of fewer than n words is one gram if it has at least this many; else it cannot be looked for."""
    answers: Literal["right", "all", "none"] = "right"
    """What is looked for beside an item's question or context: its right answer, each answer, or none."""
    action: Literal["drop", "cut"] = "drop"
    """Drop the document, or cut out what was found and 200 characters to either side, as for GPT-3; pieces of fewer
    than 200 characters go, and documents of more than 10 pieces."""


class NearConfig(Table):
    """How near-duplicates are found, where `duplicates` is near: MinHash over runs of words, in bands (Broder 1997)."""

    similarity: float | None = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity from which two documents are near-duplicates; those that share a band are compared exactly, in
    a walk of its own. Empty: sharing a band is enough, which costs a walk less and is wrong more often."""
    shingle_words: int = Field(default=5, ge=1)
    """Words in a run; documents are compared by the sets of their runs."""
    bands: int = Field(default=25, ge=1)
    """Bands of hashes; documents that agree on all of any one are compared. More find more, at 8 bytes a document."""
    rows: int = Field(default=5, ge=1)
    """Hashes in a band; more make documents that are less alike meet less often."""
    seed: int = Field(default=0, ge=0)
    """Which hash functions are drawn."""


class QualityConfig(Table):
    """What documents must be to stay, and what is changed in them, in the order of the steps; nothing unless chosen."""

    min_characters: int = Field(default=0, ge=0)
    """Drop documents of fewer characters."""
    max_characters: int | None = Field(default=None, ge=1)
    """Drop documents of more characters."""
    min_words: int = Field(default=0, ge=0)
    """Drop documents of fewer words, as white space parts them."""
    max_words: int | None = Field(default=None, ge=1)
    """Drop documents of more words."""
    languages: tuple[str, ...] = ()
    """Keep documents in these languages alone, by two-letter code (en, de, ...); empty keeps all."""
    language_confidence: float = Field(default=0.65, ge=0, le=1)
    """How sure it must be, from 0 to 1, that a document is in one of `languages`."""
    gopher: bool = False
    """Apply Gopher's quality rules, made for English prose: words, their length, symbols, bullets, stop words."""
    gopher_repetition: bool = False
    """Apply Gopher's repetition rules: lines, paragraphs and runs of words that recur within a document."""
    c4: C4Config = C4Config()
    """C4's rules for web pages."""
    contamination: ContaminationConfig = ContaminationConfig()
    """How items of benchmarks are found, where benchmarks are named."""
    scrub_emails: bool = False
    """Replace e-mail addresses by email@example.com."""
    scrub_ips: bool = False
    """Replace public IP addresses, of version 4 by 192.0.2.1 and of version 6 by 2001:db8::1."""
    duplicates: Literal["keep", "exact", "near"] = "keep"
    """Keep duplicates, drop documents whose text equals another's, or drop near-duplicates as well."""
    near: NearConfig = NearConfig()
    """How near-duplicates are found."""

    @model_validator(mode="after")
    def _nothing_is_in_vain(self) -> Self:
        if self.duplicates != "near" and self.near != NearConfig():
            raise ValueError("near.* is for duplicates = 'near'")
        if not self.languages and self.language_confidence != type(self).model_fields["language_confidence"].default:
            raise ValueError("language_confidence is for languages, and none is named")
        return self

    @model_validator(mode="after")
    def _least_is_below_most(self) -> Self:
        for unit in ("characters", "words"):
            least, most = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
            if most is not None and most < least:
                raise ValueError(f"max_{unit} ({most:,}) is below min_{unit} ({least:,}), so nothing would stay")
        return self
