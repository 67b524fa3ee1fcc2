"""Templates of a description: text with ``{field}`` or ``{field|cleaner|cleaner}`` in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from string import Formatter

from folio.errors import nearest

Cleaner = Callable[[str], str]


def without_marks(text: str) -> str:
    """Text without WikiHow's marks in brackets, as lm-evaluation-harness takes them out of HellaSwag.

    In this order: outer white space goes, " [title]" becomes ". ", whatever stands in brackets goes, and two spaces in
    a row become one (once: three leave two).
    """
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def but_last_word(text: str) -> str:
    """What stands before the last space; nothing if there is none."""
    return text.rpartition(" ")[0]


def last_word(text: str) -> str:
    """What stands after the last space."""
    return text.rpartition(" ")[2]


def before_blank(text: str) -> str:
    """What stands before the first underscore. :class:`ValueError` if there is none."""
    return text[: text.index("_")] if "_" in text else _no_blank()


def after_blank(text: str) -> str:
    """What stands after the first underscore, without outer white space. :class:`ValueError` if there is none."""
    return text[text.index("_") + 1 :].strip() if "_" in text else _no_blank()


def _no_blank() -> str:
    raise ValueError("has no blank '_' to fill")


CLEANERS: dict[str, Cleaner] = {
    "strip": str.strip,
    "capitalize": str.capitalize,
    "without-marks": without_marks,
    "but-last-word": but_last_word,
    "last-word": last_word,
    "before-blank": before_blank,
    "after-blank": after_blank,
}


@dataclass(frozen=True)
class Template:
    """A parsed template: pairs of literal text and the field (with its cleaners) that follows it, if any."""

    parts: tuple[tuple[str, str, tuple[str, ...]], ...]

    @classmethod
    @cache
    def parse(cls, text: str) -> Template:
        """:class:`ValueError` for braces that do not match or an unknown cleaner."""
        parts = []
        for literal, inside, specification, conversion in Formatter().parse(text):
            if specification or conversion:
                raise ValueError(f"{{{inside}...}} holds ':' or '!'; cleaners are set off by '|'")
            field, *cleaners = (inside or "").split("|")
            if inside is not None and not field:
                raise ValueError("{} names no field")
            check_cleaners(cleaners)
            parts.append((literal, field, tuple(cleaners)))
        return cls(tuple(parts))

    @property
    def fields(self) -> set[str]:
        return {field for _, field, _ in self.parts if field}

    def render(self, values: Mapping[str, str]) -> str:
        """The text. :class:`ValueError`, naming the field, for a text that a cleaner cannot take."""
        return "".join(
            literal + (_cleaned(field, values[field], cleaners) if field else "")
            for literal, field, cleaners in self.parts
        )


def check_cleaners(names: Iterable[str]) -> None:
    """:class:`ValueError`, with the nearest name, for a cleaner that does not exist."""
    for name in names:
        if name not in CLEANERS:
            guess = nearest(name, CLEANERS)
            hint = f"did you mean '{guess}'?" if guess else f"there are: {', '.join(CLEANERS)}"
            raise ValueError(f"there is no cleaner '{name}'; {hint}")


def clean(text: str, cleaners: Iterable[str]) -> str:
    for name in cleaners:
        text = CLEANERS[name](text)
    return text


def _cleaned(field: str, text: str, cleaners: tuple[str, ...]) -> str:
    try:
        return clean(text, cleaners)
    except ValueError as error:
        raise ValueError(f"'{field}' {error}") from None
