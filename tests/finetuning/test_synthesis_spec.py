"""Specs: what they may say, every mistake at once, and which prompts they make."""

from __future__ import annotations

import tomllib
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest
from faulty_endpoint import spec_text

from folio.errors import ConfigError
from folio.finetuning.synthesis.cells import cell_count, cells, longest_cell
from folio.finetuning.synthesis.spec import Spec, check_spec, read_spec, spec_path


def spec_of(count: int = 5, values: int = 3, **tables: dict[str, Any]) -> Spec:
    data = tomllib.loads(spec_text(count, values=values))
    return check_spec({**data, **{name: {**data.get(name, {}), **more} for name, more in tables.items()}})


def refusal(data: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        check_spec(data, "'my.toml'")
    return str(caught.value)


def test_every_mistake_is_told_at_once_with_its_key() -> None:
    data = {
        "prompt": {"template": "Write of {placw} and {mood} with {size}."},
        "attributes": {"place": ["a", "b", "a"], "mood": [], "smell": ["x"]},
        "request": {"temprature": 1.0, "max_tokens": 0},
        "amount": {"count": 0},
        "budget": {"cost": 1.0},
        "filters": {"min_words": 9, "max_words": 3, "near_duplicate": 2, "forbidden": ["--"]},
        "output": {"begin": "<A>"},
        "limts": {},
    }
    told = refusal(data)
    for words in (
        "prompt.template names {placw}, which is no attribute; did you mean {place}?",
        "prompt.template names {size}, which is no attribute; attributes: place, mood, smell",
        "attributes.place has 'a' more than once",
        "attributes.mood = '[]': must be a list of at least one text",
        "attributes.smell is named in no template",
        "unknown key request.temprature; did you mean request.temperature?",
        "request.max_tokens = 0",
        "amount.count = 0",
        "cost needs prompt_price and completion_price",
        "filters.near_duplicate = 2",
        "filters.forbidden = ",
        "begin and end go together",
        "unknown key limts; did you mean limits?",
    ):
        assert words in told, told


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        (["a"], "attributes: must be a table of lists"),
        ({"a": "xyz"}, "attributes.a = 'xyz'"),
        ({"a": [1, 2]}, "attributes.a = '[1, 2]'"),
        ({"two words": ["x"]}, "attributes.two words: a name has letters"),
    ],
)
def test_attributes_that_are_no_lists_of_texts_are_named(attributes: Any, words: str) -> None:
    assert words in refusal({"prompt": {"template": "x {a}"}, "attributes": attributes, "amount": {"count": 1}})


def test_braces_that_do_not_match_are_a_mistake_of_the_template() -> None:
    assert "prompt.template: " in refusal({"prompt": {"template": "Write {a"}, "amount": {"count": 1}})


def test_a_missing_table_is_named() -> None:
    assert "amount is required" in refusal({"prompt": {"template": "x"}})


def test_more_than_there_are_combinations_is_refused_unless_repeats_are_asked_for() -> None:
    assert cell_count(spec_of(27)) == 27
    with pytest.raises(ConfigError, match=r"amount.count = 28, and the attributes have 27 combinations") as caught:
        cell_count(spec_of(28))
    assert "amount.repeats = 2" in caught.value.remedy
    assert cell_count(spec_of(28, amount={"count": 28, "repeats": 2})) == 54


def test_each_combination_comes_once_and_each_repeat_in_another_order() -> None:
    spec = spec_of(5, amount={"count": 5, "repeats": 2})
    found = list(cells(spec))
    first, second = found[:27], found[27:]
    everything = {tuple(values) for values in product(*spec.attributes.values())}
    for turn in (first, second):
        assert {tuple(cell.attributes.values()) for cell in turn} == everything
        assert len(turn) == 27
    assert [cell.attributes for cell in first] != [cell.attributes for cell in second]
    assert len({cell.id for cell in found}) == 54


def test_order_is_the_seeds_and_ids_are_the_prompts() -> None:
    def ids(**tables: Any) -> list[str]:
        return [cell.id for cell in cells(spec_of(**tables))]

    assert ids() == ids()
    assert ids(amount={"seed": 1}) != ids()
    assert sorted(ids(amount={"seed": 1})) == sorted(ids())
    assert not set(ids(request={"temperature": 0.5})) & set(ids())
    assert ids(limits={"concurrency": 1}, request={"stream": True}) == ids()


def test_a_product_too_large_to_list_is_walked_at_once() -> None:
    many = {name: [f"{name}{at}" for at in range(100)] for name in "abcdefgh"}
    spec = check_spec(
        {
            "prompt": {"template": " ".join(f"{{{name}}}" for name in many)},
            "attributes": many,
            "amount": {"count": 10},
        }
    )
    assert cell_count(spec) == 10**16
    assert len({cell.id for cell in islice(cells(spec), 50)}) == 50


def test_prompts_are_the_templates_with_values_in_place() -> None:
    data = {
        "prompt": {"template": "{{x}} {a}", "system": "Be {b}."},
        "attributes": {"a": ["{b}"], "b": ["kind"]},
        "amount": {"count": 1},
    }
    (cell,) = cells(check_spec(data))
    assert cell.messages == ({"role": "system", "content": "Be kind."}, {"role": "user", "content": "{x} {b}"})


def test_the_shipped_spec_is_found_by_name_and_has_no_mistake() -> None:
    spec = check_spec(read_spec("fantasy-locations"))
    assert spec.request.temperature == 1.1
    assert (spec.output.begin, spec.output.end) == ("<LOC>", "</LOC>")
    assert cell_count(spec) > spec.amount.count == 1000
    assert "{" not in next(cells(spec)).messages[1]["content"]


def test_its_filters_pass_the_kind_of_text_it_asks_for(shared_data: Any) -> None:
    from folio.finetuning.synthesis.filters import Filters

    spec = check_spec(read_spec("fantasy-locations"))
    *blocks, _ = shared_data("fantasy_locations.txt").read_text(encoding="utf-8").split("</LOC>")
    filters = Filters(spec.filters, spec.output, [])
    reasons = []
    for block in blocks:
        text = filters.cleaned(block.strip() + "</LOC>")
        reasons.append(filters.reason(text, "stop"))
        filters.add(text)
    assert reasons == [None] * 1000


def test_the_longest_prompt_is_at_least_as_long_as_any() -> None:
    spec = check_spec(
        {
            "prompt": {"template": "{a} {b} {a}", "system": "{b}"},
            "attributes": {"a": ["x", "yyy", "\u00e9\u00e9"], "b": ["1", "22"]},
            "amount": {"count": 1},
        }
    )
    assert longest_cell(spec).prompt_bytes == max(cell.prompt_bytes for cell in cells(spec)) == 4 + 2 + 4 + 2 + 2


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="there is no spec 'fantasy-location'") as caught:
        spec_path("fantasy-location")
    assert "Did you mean fantasy-locations?" in caught.value.remedy
    assert spec_path("some/where.toml") == Path("some/where.toml")
