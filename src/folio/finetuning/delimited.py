"""Blocks of plain text between two marks, such as ``<LOC>`` and ``</LOC>``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from folio.corpus.files import TextFile, open_bytes
from folio.errors import DataError

_MARK = re.compile(r"\s*<([^<>/\s]+)>")


def first_mark(text: str) -> str | None:
    """The mark in angle brackets that ``text`` begins with, if it is closed anywhere: ``<LOC>``."""
    match = _MARK.match(text)
    return f"<{match[1]}>" if match and f"</{match[1]}>" in text else None


def closing_of(opening: str) -> str:
    """``</NAME>`` for ``<NAME>``; :class:`DataError` for an opening of another form."""
    match = _MARK.fullmatch(opening)
    if match is None:
        raise DataError(f"no closing mark follows from the opening mark {opening!r}", "Give the closing mark as well.")
    return f"</{match[1]}>"


def blocks(text: str, opening: str, closing: str, name: str) -> Iterator[tuple[int, str]]:
    """Each block's line (of its opening mark, from 1) and its text without outer white space.

    :class:`DataError`, with file ``name`` and line, for a block left open, a mark that closes nothing, and text that
    stands outside of blocks.
    """
    marks = sorted((opening, closing), key=len, reverse=True)  # one may begin with the other
    place, line = 0, 1
    opened: int | None = None
    for match in re.finditer("|".join(map(re.escape, marks)), text):
        between = text[place : match.start()]
        if opened is None:
            _refuse_outside(between, line, opening, closing, name)
        line += between.count("\n")
        if match[0] == opening:
            if opened is not None:
                raise _left_open(name, opened, opening, closing, f"the next {opening} stands in line {line:,}")
            opened = line
        elif opened is None:
            raise DataError(
                f"'{name}', line {line:,}: {closing} closes nothing", f"Remove it, or put {opening} before its block."
            )
        else:
            yield opened, between.strip()
            opened = None
        line += match[0].count("\n")
        place = match.end()
    if opened is not None:
        raise _left_open(name, opened, opening, closing, "the file ends")
    _refuse_outside(text[place:], line, opening, closing, name)


def _left_open(name: str, line: int, opening: str, closing: str, before: str) -> DataError:
    return DataError(
        f"'{name}', line {line:,}: {opening} is not closed before {before}", f"Put {closing} where the block ends."
    )


def _refuse_outside(text: str, line: int, opening: str, closing: str, name: str) -> None:
    if stray := text.strip():
        line += text[: text.index(stray[0])].count("\n")
        shown = stray.splitlines()[0][:40]
        raise DataError(
            f"'{name}', line {line:,}: {shown!r} stands outside of {opening}...{closing}",
            "Put it into a block or remove it.",
        )


def read_text(file: TextFile) -> str:
    """The whole of a .txt, without a byte-order mark; :class:`DataError` with the line for what is not UTF-8."""
    with open_bytes(file) as stream:
        content = stream.read()
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"'{file.path}', line {line:,} is not UTF-8: a byte is 0x{content[error.start]:02x}",
            f"Convert it, for example: iconv -f latin1 -t utf-8 '{file.path}'",
        ) from None
