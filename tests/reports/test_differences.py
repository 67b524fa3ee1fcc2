"""What differs between configurations is listed, all of it and nothing else."""

from __future__ import annotations

from folio.reports.differences import differing_keys


def test_nested_keys_are_dotted_and_equal_ones_left_out() -> None:
    one = {"train": {"steps": 5, "optimizer": {"kind": "adamw", "betas": [0.9, 0.95]}}, "seed": 1}
    two = {"train": {"steps": 5, "optimizer": {"kind": "muon", "betas": [0.9, 0.99]}}, "seed": 1}
    assert differing_keys([one, two]) == [
        ["train.optimizer.kind", "adamw", "muon"],
        ["train.optimizer.betas", "[0.9, 0.95]", "[0.9, 0.99]"],
    ]


def test_what_one_of_three_lacks_is_absent() -> None:
    assert differing_keys([{"a": 1}, {"a": 1, "b": None}, {"a": 1}]) == [["b", "absent", "null", "absent"]]


def test_a_table_beside_a_value_and_an_empty_table_are_seen() -> None:
    assert differing_keys([{"a": {"b": 1}}, {"a": 2}]) == [["a.b", "1", "absent"], ["a", "absent", "2"]]
    assert differing_keys([{"a": {}}, {"a": {"b": 1}}]) == [["a", "{}", "absent"], ["a.b", "absent", "1"]]


def test_a_whole_fraction_equals_its_number_and_true_does_not_equal_one() -> None:
    assert differing_keys([{"a": 1}, {"a": 1.0}]) == []
    assert differing_keys([{"a": 1}, {"a": True}]) == [["a", "1", "true"]]
    assert differing_keys([{"a": "1"}, {"a": 1}]) == [["a", "1", "1"]]


def test_text_stands_as_it_is() -> None:
    assert differing_keys([{"a": '"quoted"'}, {"a": "b\n"}]) == [["a", '"quoted"', "b\n"]]


def test_one_configuration_differs_from_nothing() -> None:
    assert differing_keys([{"a": 1}]) == []
