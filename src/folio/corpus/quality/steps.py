"""Documents in, better documents out: the quality steps in their one order, streamed, with a report.

Every step but the search for duplicates is a pure function of a document, so that many processes can share the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Protocol

from folio.corpus.document import Document
from folio.corpus.quality.c4 import c4_verdict
from folio.corpus.quality.config import C4Config, QualityConfig
from folio.corpus.quality.contamination import Contamination
from folio.corpus.quality.exact import ExactDuplicates
from folio.corpus.quality.gopher import gopher_fault
from folio.corpus.quality.language import LanguageFilter
from folio.corpus.quality.length import length_fault
from folio.corpus.quality.near import candidates, find_duplicates, shingles_of, survey
from folio.corpus.quality.personal import scrub
from folio.corpus.quality.repetition import repetition_fault
from folio.corpus.quality.report import Example, QualityReport, Tally
from folio.corpus.quality.verdict import Fault, Verdict

ORDER = ("length", "language", "gopher", "repetition", "c4", "contamination", "personal", "duplicates")
"""Cheap steps first; those that change the text before duplicates are sought in what they leave; a document that any
other step drops is no duplicate of one that stays."""
EXCERPT_CHARACTERS = 160

Judge = Callable[[str], Verdict]


class FindsDuplicates(Protocol):
    """:class:`~folio.corpus.quality.exact.ExactDuplicates`, :class:`~folio.corpus.quality.near.Duplicates`."""

    def fault(self, document: Document) -> Fault | None:
        """Why it goes, or None."""


class QualitySteps:
    """The steps that a :class:`QualityConfig` asks for.

    ``contaminated`` knows the benchmarks whose items are looked for, by the settings that ``config`` has for that;
    without it the step is left out. :class:`folio.errors.MissingExtra` where languages are asked for without py3langid.
    """

    def __init__(self, config: QualityConfig, contaminated: Contamination | None = None) -> None:
        assert contaminated is None or contaminated.config == config.contamination
        self.config = config
        self._judges = _judges(config, contaminated)
        self.names = tuple(
            name for name in ORDER if name in self._judges or (name == "duplicates" and config.duplicates != "keep")
        )

    def walk(self, documents: Callable[[], Iterable[Document]], report: QualityReport) -> Iterator[Document]:
        """Every document that stays, as the steps leave it, in one process; ``report`` is filled on the way.

        ``documents`` is called once, and for near-duplicates two or three times.
        """
        duplicates: FindsDuplicates | None = None
        if self.config.duplicates == "exact":
            duplicates = ExactDuplicates()
        elif self.config.duplicates == "near":
            near = self.config.near
            found = survey(self.singly(documents()), near)
            wanted = candidates(found) if near.similarity is not None else None
            shingles = shingles_of(self.singly(documents()), wanted, near) if wanted is not None else None
            duplicates = find_duplicates(found, near, shingles)
        yield from self.kept(documents(), report, duplicates)

    def singly(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents as all steps but the last leave them: what surveys are made of."""
        return self.kept(documents, QualityReport(), None)

    def kept(
        self, documents: Iterable[Document], report: QualityReport, duplicates: FindsDuplicates | None
    ) -> Iterator[Document]:
        """One walk, over all documents or a process's share of them; ``report`` is filled on the way."""
        report.steps = self.names
        for document in documents:
            report.documents += 1
            report.characters += len(document.text)
            better = self._judged(document, report)
            if better is not None and duplicates is not None:
                fault = duplicates.fault(better)
                if fault is not None:
                    self._drop("duplicates", better, fault, report)
                    better = None
            if better is not None:
                report.kept += 1
                report.kept_characters += len(better.text)
                yield better

    def _judged(self, document: Document, report: QualityReport) -> Document | None:
        for name, judge in self._judges.items():
            verdict = judge(document.text)
            for benchmark, item in verdict.met:
                report.met.setdefault(benchmark, set()).add(item)
            if verdict.fault is not None:
                self._drop(name, document, verdict.fault, report)
                return None
            if verdict.text != document.text:
                self._change(name, document, verdict, report)
                document = replace(document, text=verdict.text)
        return document

    def _drop(self, step: str, document: Document, fault: Fault, report: QualityReport) -> None:
        example = Example(document.id, document.source, fault.found, self._excerpt(document.text, fault.at))
        key = (step, fault.reason)
        report.dropped[key] = report.dropped.get(key, Tally()) + Tally(1, len(document.text), 1, (example,))

    def _change(self, step: str, document: Document, verdict: Verdict, report: QualityReport) -> None:
        lost = len(document.text) - len(verdict.text)
        for change in verdict.changes:
            found = f"{change.hits:,} in this document"
            example = Example(document.id, document.source, found, self._excerpt(verdict.text, change.at))
            key = (step, change.reason)
            report.changed[key] = report.changed.get(key, Tally()) + Tally(1, lost, change.hits, (example,))
            lost = 0

    def _excerpt(self, text: str, at: int) -> str:
        """Some of a text on one line, from a little before ``at``; scrubbed too, if the text is to be."""
        start = max(0, at - EXCERPT_CHARACTERS // 4)
        part = text[start : start + 2 * EXCERPT_CHARACTERS]
        part = scrub(part, emails=self.config.scrub_emails, ips=self.config.scrub_ips).text
        return " ".join(part.split())[:EXCERPT_CHARACTERS]


def _judges(config: QualityConfig, contaminated: Contamination | None) -> dict[str, Judge]:
    """The steps that look at a text by itself, in :data:`ORDER`."""
    judges: dict[str, Judge] = {}
    if config.min_characters or config.max_characters is not None or config.min_words or config.max_words is not None:
        judges["length"] = _of(partial(length_fault, config=config))
    if config.languages:
        judges["language"] = _of(LanguageFilter(config.languages, config.language_confidence).fault)
    if config.gopher:
        judges["gopher"] = _of(gopher_fault)
    if config.gopher_repetition:
        judges["repetition"] = _of(repetition_fault)
    if config.c4 != C4Config():
        judges["c4"] = partial(c4_verdict, config=config.c4)
    if contaminated is not None:
        judges["contamination"] = contaminated.verdict
    if config.scrub_emails or config.scrub_ips:
        judges["personal"] = partial(scrub, emails=config.scrub_emails, ips=config.scrub_ips)
    return judges


def _of(fault: Callable[[str], Fault | None]) -> Judge:
    return lambda text: Verdict(text, fault(text))
