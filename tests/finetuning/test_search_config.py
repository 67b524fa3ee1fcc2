"""What can be searched, what is refused and why, and which settings a search tries."""

from __future__ import annotations

import math
import tomllib
from typing import Any

import pytest

from folio.config import build, to_toml
from folio.errors import ConfigError
from folio.finetuning.search.config import READ_BY, SearchConfig
from folio.finetuning.search.settings import RATE, settings_of


def config(**keys: Any) -> SearchConfig:
    return build(SearchConfig, keys)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"kind": "list"}, "no learning_rates"),
        ({"kind": "list", "learning_rates": [1e-3]}, "only one setting"),
        ({"kind": "list", "learning_rates": [1e-3, 1e-4, 1e-3]}, "0.001 twice"),
        ({"kind": "list", "learning_rates": [1e-3, 0]}, "learning_rates"),
        ({"kind": "list", "learning_rates": [1e-3, math.inf]}, "learning_rates"),
        ({"kind": "list", "learning_rates": [1e-3, 1e-4], "low": 1e-5}, "low belongs to kind random or range"),
        ({"kind": "list", "learning_rates": [1e-3, 1e-4], "seed": 3}, "seed belongs to kind random"),
        ({"kind": "range", "learning_rates": [1e-3]}, "learning_rates belongs to kind list"),
        ({"kind": "range", "rank": [4, 8]}, "rank belongs to kind list or random"),
        ({"kind": "range", "reduction": 3}, "reduction belongs to"),
        ({"kind": "range", "count": 5}, "shows no curve"),
        ({"kind": "range", "low": 2.0}, "low is 2 and high is 1"),
        ({"kind": "random", "low": 1e-2, "high": 1e-3}, "low must be the lower one"),
        ({"kind": "random", "count": 1}, "at least 2"),
        ({"kind": "random", "rank": [8, 8]}, "8 twice"),
        ({"kind": "random", "epochs": [1, 2], "budget_steps": 50}, "leave budget_steps out"),
        ({"learning_rates": [1e-3, 1e-4]}, "kind is none"),
        ({"kind": "lists"}, "did you mean 'list'"),
        ({"kind": "random", "reduction": 0}, "reduction"),
    ],
)
def test_what_cannot_be_searched_or_would_be_ignored_is_refused(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(**keys)
    assert complaint in str(error.value)


def test_every_key_is_read_by_some_kind() -> None:
    assert {key for keys in READ_BY.values() for key in keys} == set(SearchConfig.model_fields) - {"kind"}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"kind": "list", "learning_rates": [1e-3, 3e-4], "rank": [4, 8], "budget_epochs": 0.5},
        {"kind": "random", "count": 5, "seed": 2, "epochs": [1, 2.5]},
        {"kind": "range", "low": 1e-5},
    ],
)
def test_a_resolved_configuration_reads_back_as_itself(keys: dict[str, Any]) -> None:
    first = config(**keys)
    assert build(SearchConfig, tomllib.loads(to_toml(first))) == first
    assert build(SearchConfig, first.model_dump(mode="json")) == first


def test_a_list_is_tried_each_with_each() -> None:
    settings = settings_of(config(kind="list", learning_rates=[1e-4, 1e-3], rank=[4, 8], epochs=[1, 2, 3]))
    assert len(settings) == len({tuple(one.values.values()) for one in settings}) == 2 * 2 * 3
    assert [one.number for one in settings] == list(range(1, 13))
    assert settings[0].keys() == {"train.optimizer.learning_rate": 1e-4, "lora.rank": 4, "train.epochs": 1}
    alone = settings_of(config(kind="list", rank=[4, 8]))
    assert [dict(one.values) for one in alone] == [{"rank": 4}, {"rank": 8}]


def test_random_rates_are_log_uniform_between_their_limits() -> None:
    settings = settings_of(config(kind="random", low=1e-5, high=1e-2, count=2000, rank=[4, 8, 16]))
    places = sorted(math.log10(one.rate / 1e-5) / 3 for one in settings)
    assert places[0] >= 0
    assert places[-1] <= 1
    assert max(abs(place - (index + 0.5) / 2000) for index, place in enumerate(places)) < 1.63 / math.sqrt(2000)
    ranks = [one.values["rank"] for one in settings]
    assert all(abs(ranks.count(rank) / 2000 - 1 / 3) < 0.05 for rank in (4, 8, 16))


def test_random_settings_depend_on_the_seed_and_their_number_alone() -> None:
    few, many = (settings_of(config(kind="random", count=count)) for count in (3, 10))
    assert many[:3] == few
    other = settings_of(config(kind="random", count=10, seed=1))
    assert {one.rate for one in other}.isdisjoint({one.rate for one in many})
    narrow = settings_of(config(kind="random", low=1.0001e-3, high=1.0002e-3, count=20))
    assert all(1.0001e-3 <= one.values[RATE] <= 1.0002e-3 for one in narrow)
