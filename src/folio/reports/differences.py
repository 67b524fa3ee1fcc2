"""What differs between the configurations of runs, key by key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from folio.reports.page import Cell, flatten

ABSENT = "absent"


def differing_keys(configs: Sequence[Mapping[str, object]]) -> list[list[Cell]]:
    """A row for each dotted key whose value is not the same in all: the key, then each one's value in words."""
    flat = [flatten(config) for config in configs]
    rows: list[list[Cell]] = []
    for key in dict.fromkeys(key for config in flat for key in config):
        values = [_exact(config[key]) if key in config else None for config in flat]
        if len(set(values)) > 1:
            rows.append([key, *(_written(config[key]) if key in config else ABSENT for config in flat)])
    return rows


def _exact(value: object) -> str:
    """Equal texts for equal values: 1 and 1.0 are the same, 1 and true are not."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
