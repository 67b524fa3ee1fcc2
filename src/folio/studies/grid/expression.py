"""Arithmetic and comparisons over the names of a study: ``width / 64``, ``rate > 0.01 and embeddings == "warm"``.

What may be written is told in :mod:`folio.studies.grid.grammar`. Nothing is executed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from folio.errors import ConfigError, nearest
from folio.studies.grid.grammar import Reader
from folio.studies.grid.operators import LARGEST, Node

LONGEST = 1000


@dataclass(frozen=True)
class Expression:
    """A text that was understood: :meth:`value` gives what it amounts to, ``names`` are what it looks up."""

    text: str
    names: frozenset[str]
    _node: Node

    def value(self, values: Mapping[str, Any], where: str = "") -> Any:
        """With ``values`` by name; a fraction that is whole is a whole number.

        :class:`ConfigError`, naming ``where``, for what cannot be: a division by zero, text compared with a number.
        """
        at = f" for {where}" if where else ""
        try:
            return whole(self._node(values))
        except KeyError as error:
            raise ConfigError(f"'{self.text}'{at}: {error.args[0]} has no value there", "Give it one.") from None
        except (ArithmeticError, TypeError, ValueError) as error:
            raise ConfigError(f"'{self.text}'{at}: {error}", "Mend the expression.") from None

    def holds(self, values: Mapping[str, Any], where: str = "") -> bool:
        """Its value as a yes or no; :class:`ConfigError` if it is neither."""
        value = self.value(values, where)
        if not isinstance(value, bool):
            raise ConfigError(f"'{self.text}' is {value!r}, not true or false", "Compare it with something.")
        return value


def read_expression(text: str, known: Collection[str] | None = None) -> Expression:
    """Understand ``text``; :class:`ConfigError` names the place, or a name that is not ``known`` and the nearest."""
    if len(text) > LONGEST:
        raise ConfigError(f"an expression of {len(text):,} characters is too long", f"At most {LONGEST:,}.")
    reader = Reader(text)
    node = reader.choice()
    if reader.token:
        reader.fail(f"'{reader.token}' is not expected")
    for name in sorted(reader.names):
        if known is not None and name not in known:
            guess = nearest(name, known)
            remedy = f"Did you mean {guess}?" if guess else f"There are: {', '.join(sorted(known))[:200]}."
            raise ConfigError(f"'{text}': there is no {name} here", remedy)
    return Expression(text, frozenset(reader.names), node)


def whole(value: Any) -> Any:
    """``value``, a fraction without a fractional part as a whole number."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST else value
