"""What the signs and functions of a study's expressions do: numbers stay numbers, and within bounds."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

Node = Callable[[Mapping[str, Any]], Any]
"""Part of an expression: its value, given the values of names."""
LARGEST = 1e18
CONSTANTS: dict[str, Any] = {"true": True, "false": False, "none": None}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "ceil": math.ceil,
    "floor": math.floor,
    "log2": math.log2,
    "max": max,
    "min": min,
    "round": round,
    "sqrt": math.sqrt,
}
ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": lambda a, b: float(a) ** float(b),
}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda a, b: a in b,
    "not in": lambda a, b: a not in b,
}


def computed(sign: str, left: Node, right: Node) -> Node:
    return lambda values: bounded(ARITHMETIC[sign](number(left(values)), number(right(values))))


def number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value


def truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def bounded(value: Any) -> Any:
    if isinstance(value, complex) or not math.isfinite(value) or abs(value) > LARGEST:
        raise ValueError(f"{value!r} is out of bounds")
    return value


def comparable(sign: str, left: Any, right: Any) -> tuple[Any, Any]:
    """Both sides; :class:`TypeError` where ``sign`` asks for an order of what has none, or for a place in no list."""
    if sign in ("in", "not in"):
        if not isinstance(right, list | tuple):
            raise TypeError(f"{right!r} is no list")
    elif sign not in ("==", "!="):
        number(left), number(right)
    return left, right
