"""Prompts drawn from held-out text by a rule that anyone can follow again.

The rule ``passages``: text is cut at blank lines, and what begins in the held-out part is a candidate. Candidates stand
in the order of the sha256 of the seed and their text, repeated texts once; the first that every model can read are the
prompts. So the draw is without replacement, the same on every machine, and a candidate's place depends on no other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from folio.errors import DataError

RULE = "passages"
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of ``document``, without white space at its ends."""

    document: str
    start: int
    stop: int

    @property
    def text(self) -> str:
        return self.document[self.start : self.stop]

    @property
    def words(self) -> int:
        """Runs of anything but white space."""
        return sum(1 for _ in _WORD.finditer(self.document, self.start, self.stop))

    def following(self, words: int) -> str | None:
        """The next so many words of the document, white space before them included; None if it has fewer."""
        for number, word in enumerate(_WORD.finditer(self.document, self.stop), start=1):
            if number == words:
                return self.document[self.stop : word.end()]
        return None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A passage that was drawn. ``id`` depends on its text alone."""

    id: str
    passage: Passage

    @property
    def text(self) -> str:
        return self.passage.text


@dataclass(frozen=True, slots=True)
class Drawn:
    """The prompts in the order of the draw, and what became of the other candidates.

    ``left_out`` counts by reason: repeated texts and the limits on words among all ``candidates``, what a model cannot
    read among those that were drawn.
    """

    prompts: tuple[Prompt, ...]
    candidates: int
    left_out: Mapping[str, int]


def passages(document: str, begin: int = 0) -> Iterator[Passage]:
    """The passages of ``document`` that begin at character ``begin`` or later.

    One that the cut goes through begins in the part before it, which a model may have been trained on: it is not among
    them. With ``last_lines(text, 0.1)`` of Tiny Shakespeare that makes 841, as many as Efficient Shakespeare counted;
    with the one that is cut there are 842.
    """
    start = 0
    for stop, after in [*(match.span() for match in _BLANK_LINES.finditer(document)), (len(document), len(document))]:
        piece = document[start:stop]
        first = start + len(piece) - len(piece.lstrip())
        if piece.strip() and first >= begin:
            yield Passage(document, first, start + len(piece.rstrip()))
        start = after


def last_lines(document: str, share: float) -> int:
    """The character at which the last ``share`` of the lines begins: those from ``int(lines * (1 - share))`` on."""
    lines = document.removesuffix("\n").split("\n")
    return sum(len(line) + 1 for line in lines[: int(len(lines) * (1 - share))])


def draw(
    candidates: Iterable[Passage],
    count: int,
    seed: int,
    *,
    min_words: int = 1,
    max_words: int | None = None,
    refusal: Callable[[str], str | None] = lambda text: None,
) -> Drawn:
    """``count`` prompts by the rule above; ``refusal`` gives the reason why a text cannot be a prompt, or None.

    :class:`DataError` if there are fewer, saying how many were found and why others were left out.
    """
    pool: dict[str, Passage] = {}
    left_out: dict[str, int] = {}
    met = 0
    for passage in candidates:
        met += 1
        reason = _limits(passage, min_words, max_words) or ("repeating another" if passage.text in pool else None)
        if reason is None:
            pool[passage.text] = passage
        else:
            left_out[reason] = left_out.get(reason, 0) + 1
    prompts: list[Prompt] = []
    for text in sorted(pool, key=lambda text: _digest(f"{seed}:{text}")):
        if len(prompts) == count:
            break
        if (reason := refusal(text)) is None:
            prompts.append(Prompt(_digest(text)[:12], pool[text]))
        else:
            left_out[reason] = left_out.get(reason, 0) + 1
    if len(prompts) < count:
        told = "".join(f"; {number:,} {reason}" for reason, number in left_out.items())
        raise DataError(
            f"the text gives {len(prompts):,} prompts, and {count:,} were asked for ({met:,} passages{told})",
            f"Ask for --prompts {len(prompts)}, or give another text." if prompts else "Give another text.",
        )
    return Drawn(tuple(prompts), met, left_out)


def sample_seed(seed: int, prompt_id: str, sample: int) -> int:
    """The seed of one continuation, below 2**31: it depends on nothing but what is given here."""
    return int(_digest(f"{seed}:{prompt_id}:{sample}")[:8], 16) >> 1


def _limits(passage: Passage, min_words: int, max_words: int | None) -> str | None:
    if passage.words < min_words:
        return f"of less than {min_words:,} words"
    return f"of more than {max_words:,} words" if max_words is not None and passage.words > max_words else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
