"""A number of tokens is read as people write it, from flags and files alike, and refused with examples."""

from __future__ import annotations

import pytest

from folio.config import Table, build
from folio.errors import ConfigError
from folio.shards.token_count import TokenCount
from folio.verbs.options import parse


class Budget(Table):
    """A budget."""

    tokens: TokenCount | None = None
    """How many."""


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("10B", 10_000_000_000),
        ("1.5M", 1_500_000),
        ("300k", 300_000),
        ("2 t", 2_000_000_000_000),
        ("1_000_000", 1_000_000),
        ("12,345,678", 12_345_678),
        ("1e9", 1_000_000_000),
        ("1", 1),
        ("0.001k", 1),
        ("none", None),
    ],
)
def test_what_is_written_is_what_is_meant(written: str, meant: int | None) -> None:
    for tokens in (parse(Budget, ["--tokens", written]).tokens, build(Budget, {"tokens": written}).tokens):
        assert tokens == meant
        assert type(tokens) is type(meant)


def test_numbers_of_a_file_are_read() -> None:
    assert build(Budget, {"tokens": 300}).tokens == build(Budget, {"tokens": 3e2}).tokens == 300


BAD = ["", "ten", "10X", "0", "-5", "1.5", "1.0005k", "12,34", "1__0", "B", "inf", "nan", "10 B B"]


@pytest.mark.parametrize("written", BAD)
def test_anything_else_is_refused_with_examples(written: str) -> None:
    with pytest.raises(ConfigError, match=r"--tokens '.*': must be a whole number of at least 1, such as 10B, 1\.5M"):
        parse(Budget, [f"--tokens={written}"])


@pytest.mark.parametrize("given", [True, 0, 1.5, float("inf"), float("nan"), [1]])
def test_other_values_of_a_file_are_refused(given: object) -> None:
    with pytest.raises(ConfigError, match="such as 10B"):
        build(Budget, {"tokens": given})
