"""A number of tokens as people write it: 10B, 1.5M, 300k, 1_000_000."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator

EXAMPLES = "such as 10B, 1.5M, 300k or 1_000_000"
_POWERS = {"": 0, "k": 3, "m": 6, "b": 9, "t": 12}
_WRITTEN = re.compile(r"(\d+(?:[_,]\d{3})+|\d+(?:_\d+)*)(\.\d+)?(?:e\+?(\d{1,2}))?\s*([kmbt]?)", re.IGNORECASE)


def read_token_count(given: Any) -> int:
    """The whole number of at least 1 that ``given`` means, a number or text; ValueError with examples for any other.

    ``k``, ``M``, ``B`` and ``T``, in either case, are thousand to trillion. Digits may be parted by ``_``, or by
    commas into threes.
    """
    number: Decimal | None = None
    if isinstance(given, int | float) and not isinstance(given, bool):
        number = Decimal(given)
    elif isinstance(given, str) and (match := _WRITTEN.fullmatch(given.strip())):
        whole, fraction, power, unit = match.groups()
        digits = whole.replace("_", "").replace(",", "") + (fraction or "")
        number = Decimal(digits).scaleb(int(power or 0) + _POWERS[unit.lower()])
    if number is None or not number.is_finite() or number != int(number) or number < 1:
        raise ValueError(f"must be a whole number of at least 1, {EXAMPLES}")
    return int(number)


TokenCount = Annotated[int, BeforeValidator(read_token_count)]
"""For a field of a table: always a whole number once read, however it was written."""
