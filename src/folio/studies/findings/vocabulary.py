"""What is known of the words of a study's texts: how far a vocabulary reaches by min_count, and how long lines are.

Kept in the study's folder, ``texts/NAME.json``, so that its report needs no text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from folio.artifacts import write_file
from folio.checksums import read_sealed_json, sealed_json
from folio.corpus import Corpus, CorpusConfig, open_corpus
from folio.corpus.exploration import length_record
from folio.corpus.statistics import Lengths
from folio.errors import ArtifactError
from folio.studies.running.records import StudyFolder
from folio.tokenizer.base import well_formed
from folio.tokenizer.config import TokenizerConfig
from folio.tokenizer.pieces import pieces
from folio.tokenizer.words import words_of

TEXTS = "texts"
CURVE = range(1, 11)
"""The values of min_count that the curve always has."""
LONGEST = 1_000
"""Words of a line: longer ones are counted together, but for quantiles and means."""
RULES = 1
"""Raised when what is counted changes, so that texts are counted anew."""


class ReadText:
    """The words of ``texts`` as the word tokenizer cuts them, and of each line; memory goes by the different words."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.counts: Counter[str] = Counter()
        """How often each word, mark and line break occurs."""
        self.lines = Lengths()
        """Words and marks of the lines that have any; the end of a line is none of them."""
        for text in map(well_formed, texts):
            self._read(text)

    def _read(self, text: str) -> None:
        length = 0
        for piece in pieces(text):
            for number, part in enumerate(piece.split("\n")):
                if number:
                    self._end(length)
                    self.counts["\n"] += 1
                    length = 0
                words = list(words_of(part))
                self.counts.update(words)
                length += len(words)
        self._end(length)

    def _end(self, length: int) -> None:
        if length:
            self.lines.add(length)


def facts_of_text(training: Iterable[str], held_out: Iterable[str], min_counts: Iterable[int] = ()) -> dict[str, Any]:
    """The words of a text, JSON-ready; each side is read once, as a stream.

    ``coverage`` has, for min_count 1 to 10 and those of ``min_counts``, how many words of the training text occur so
    often, and the share of the running words of each side that they are (None of a side without words).
    """
    known, new = ReadText(training), ReadText(held_out)
    unseen = {word: times for word, times in new.counts.items() if word not in known.counts}
    return {
        "training": _side(known),
        "held_out": {**_side(new), "unseen_words": sum(unseen.values()), "unseen_types": len(unseen)},
        "coverage": _coverage(known.counts, new.counts, sorted({*CURVE, *min_counts})),
    }


def _side(read: ReadText) -> dict[str, Any]:
    counts = sorted(read.lines.counts.items())
    return {
        "words": read.counts.total(),
        "types": len(read.counts),
        "lines": read.lines.counts.total(),
        "line_words": {
            **length_record(read.lines, "words"),
            "counts": [[length, times] for length, times in counts if length <= LONGEST],
            "longer": sum(times for length, times in counts if length > LONGEST),
        },
    }


def _coverage(known: Counter[str], new: Counter[str], min_counts: Sequence[int]) -> list[dict[str, Any]]:
    types = Counter(known.values())
    reached = {times: times * number for times, number in types.items()}
    reached_new: Counter[int] = Counter()
    for word, times in new.items():
        reached_new[known[word]] += times
    sides = {"training": (reached, known.total()), "held_out": (reached_new, new.total())}
    return [
        {
            "min_count": least,
            "types": _from(types, least),
            **{name: _from(found, least) / total if total else None for name, (found, total) in sides.items()},
        }
        for least in min_counts
    ]


def _from(by_count: Mapping[int, int], least: int) -> int:
    return sum(value for times, value in by_count.items() if times >= least)


def write_texts(folder: StudyFolder, asked: Iterable[tuple[CorpusConfig, TokenizerConfig]]) -> list[Path]:
    """Write ``texts/NAME.json`` for each different text from which a tokenizer of words is made; those files.

    ``asked`` is the corpus and the tokenizer of every recipe that reads a corpus; others than tokenizers of words are
    passed over. A text that was counted before is not counted again, and files of texts that are not asked for go.
    """
    configs: dict[str, CorpusConfig] = {}
    min_counts: dict[str, set[int]] = {}
    for corpus, tokenizer in asked:
        if tokenizer.kind == "word" and tokenizer.path is None:
            key = corpus.model_dump_json()
            configs[key] = corpus
            min_counts.setdefault(key, set()).update(() if tokenizer.vocab_size is not None else (tokenizer.min_count,))
    texts: dict[str, tuple[Corpus, set[int]]] = {}
    for key, config in configs.items():
        opened = open_corpus(config)
        texts.setdefault(opened.fingerprint, (opened, set()))[1].update(min_counts[key])
    written: list[Path] = []
    for opened, counts in texts.values():
        path = _path(folder, opened, written)
        _write(path, opened, sorted(counts))
        written.append(path)
    for old in (folder.path / TEXTS).glob("*.json"):
        if old not in written:
            old.unlink()
    return written


def _path(folder: StudyFolder, corpus: Corpus, taken: Sequence[Path]) -> Path:
    name = re.sub(r"[^\w.-]+", "-", corpus.name).strip("-.") or "text"
    path = folder.path / TEXTS / f"{name}.json"
    return path if path not in taken else path.with_name(f"{name}-{corpus.fingerprint[:12]}.json")


def _write(path: Path, corpus: Corpus, min_counts: list[int]) -> None:
    about = {"text": corpus.name, "fingerprint": corpus.fingerprint, "rules": RULES, "min_counts": min_counts}
    try:
        before = read_text(path)
    except ArtifactError:
        before = {}
    if about.items() <= before.items():
        return
    training = (document.text for document in corpus.documents("train"))
    held_out = (document.text for document in corpus.documents("val"))
    write_file(path, sealed_json({**about, **facts_of_text(training, held_out, min_counts)}))


def text_files(folder: StudyFolder) -> list[Path]:
    """The files that :func:`write_texts` wrote, by name."""
    return sorted((folder.path / TEXTS).glob("*.json"))


def read_text(path: Path) -> dict[str, Any]:
    """What one of them says; :class:`ArtifactError` if it is damaged, or made by other rules."""
    remedy = "Remove it, and go on with the study."
    facts = read_sealed_json(path, remedy)
    if facts.get("rules") != RULES:
        raise ArtifactError(f"'{path}' holds no words of a text, or those of another Folio", remedy)
    return facts
