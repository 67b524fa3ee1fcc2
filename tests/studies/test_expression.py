"""Expressions compute what Python would, and nothing else: no name reaches code, no number grows without bound."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.errors import ConfigError
from folio.studies.grid.expression import read_expression

VALUES = {"width": 128, "rate": 0.003, "kind": "warm", "model.n_embd": 64, "tied": True, "layers": [1, 2]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("width / 64", 2),
        ("width / 48", 128 / 48),
        ("-2 ** 2", -4),
        ("2 ** -1", 0.5),
        ("2 - 3 - 4", -5),
        ("7 // 2 * 2 + 7 % 2", 7),
        ("model.n_embd * 4", 256),
        ("max(1, width // 48, 2)", 2),
        ("round(sqrt(model.n_embd)) + log2(width)", 15),
        ("1e-3 if width > 100 else 3e-3", 0.001),
        ("1 if width < 100 else 2 if width < 200 else 3", 2),
        ("rate > 0.001 and kind == 'warm'", True),
        ('not tied or kind != "warm"', False),
        ("not not tied", True),
        ("64 < width <= 128", True),
        ("kind in ['warm', 'frozen']", True),
        ("width not in [64, 128]", False),
        ("2 in layers", True),
        ("kind == none", False),
        ("(1 + 2) * -3", -9),
    ],
)
def test_value(text: str, value: object) -> None:
    found = read_expression(text, VALUES).value(VALUES)
    assert found == value
    assert isinstance(found, bool) == isinstance(value, bool)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("width /", "it ends too early"),
        ("(width", "')' is missing"),
        ("width 2", "'2' is not expected"),
        ("width = 2", "'=' is not understood"),
        ("", "it ends too early"),
        ("__import__('os')", "there is no function __import__"),
        ("width.__class__", "there is no width.__class__ here"),
        ("widht / 2", "Did you mean width?"),
        ("(" * 50 + "1" + ")" * 50, "too many brackets"),
        ("1 + " * 400 + "1", "too long"),
    ],
)
def test_what_is_no_expression_is_told_with_its_place(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_expression(text, VALUES)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("width / 0", "division by zero"),
        ("kind > 1", "'warm' is no number"),
        ("kind * 3", "'warm' is no number"),
        ("tied + 1", "True is no number"),
        ("9 ** 9 ** 9 ** 9", "out of range"),
        ("9 ** 99", "out of bounds"),
        ("(-8) ** 0.5", "out of bounds"),
        ("width and tied", "neither true nor false"),
        ("width in 3", "3 is no list"),
    ],
)
def test_what_cannot_be_computed_is_told_with_the_cell(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_expression(text).value(VALUES, "width 128")
    assert says in str(caught.value)
    assert "for width 128" in str(caught.value)


def test_a_condition_has_to_be_true_or_false() -> None:
    with pytest.raises(ConfigError, match="not true or false"):
        read_expression("width + 1").holds(VALUES)


numbers = st.integers(0, 50)


@given(
    st.recursive(
        numbers.map(str),
        lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%", "<", "=="]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        max_leaves=12,
    )
)
def test_arithmetic_is_that_of_python(text: str) -> None:
    try:
        expected = eval(text, {"__builtins__": {}})
    except ArithmeticError:
        expected = None
    try:
        found = read_expression(text).value({})
    except ConfigError:
        found = None
        if isinstance(expected, bool | int) and not any(sign in text for sign in ("<", "==")):
            assert abs(expected) > 1e18 or expected is None
        return
    assert found == expected
    assert not isinstance(found, float) or math.isfinite(found)
