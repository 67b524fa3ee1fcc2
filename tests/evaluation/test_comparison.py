"""What is compared with what: items paired by id, like with like, corrected for how many comparisons there are."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from made_up_evaluations import SOURCE, choices, evaluation, losses

from folio.errors import ArtifactError, UserError
from folio.evaluation.comparing.comparison import Arm, Comparison, compare_arms
from folio.evaluation.results import Evaluation, Measurement
from folio.verbs.action import json_value


def arm(name: str, *measurements: Measurement) -> Arm:
    return Arm(name, (evaluation(name, *measurements),))


def answers(share: float, seed: int, n: int = 400) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < share).astype(int)


def texts(shift: float, seed: int = 0, tokens_per_byte: float = 0.25) -> Measurement:
    draw = np.random.default_rng(0)
    text_bytes = draw.integers(200, 4_000, 80)
    nats = text_bytes * (draw.normal(0.8, 0.1, 80) + np.random.default_rng(seed).normal(shift, 0.02, 80))
    return losses(nats, np.maximum(1, text_bytes * tokens_per_byte).astype(int), text_bytes)


def test_items_are_paired_by_id_in_whatever_order_and_what_one_side_lacks_is_counted() -> None:
    first = arm("a", choices([1, 0, 1, 1, 0], ids=[1, 2, 3, 4, 5]))
    second = arm("b", choices([1, 1, 0, 1], ids=[9, 3, 2, 1]))
    ((one,), _) = compare_arms([first, second])
    assert (one.difference.n, one.only_first, one.only_second) == (3, 2, 1)
    assert one.difference.value == 0.0
    assert one.difference.discordant == (0, 0), "in the order of the lines it would be (1, 1)"


def test_a_loss_is_compared_by_nats_and_bits_and_not_twice_as_perplexity() -> None:
    comparisons, _ = compare_arms([arm("a", texts(0.0)), arm("b", texts(-0.02, 1))])
    assert [one.score.metric for one in comparisons] == ["nats_per_token", "bits_per_byte"]
    assert all(one.verdict.outcome == "better" for one in comparisons), "a lower loss is better"
    assert all(one.difference.value == pytest.approx(one.second_value - one.first_value) for one in comparisons)
    assert comparisons[1].first_value == pytest.approx(
        evaluation("a", texts(0.0)).measurements["loss.blocks"].score("bits_per_byte").value
    )


def test_models_of_different_tokenizers_are_compared_by_bits_per_byte_alone() -> None:
    comparisons, notes = compare_arms([arm("a", texts(0.0)), arm("b", texts(0.1, 1, tokens_per_byte=1.0))])
    assert [one.score.metric for one in comparisons] == ["bits_per_byte"]
    assert comparisons[0].verdict.outcome == "worse"
    assert any("divide by different tokens" in note for note in notes)


def by_pair(comparisons: list[Comparison]) -> dict[tuple[str, str], Comparison]:
    return {(one.first, one.second): one for one in comparisons}


def test_several_are_held_against_the_first_or_all_against_all_and_corrected_within_a_score() -> None:
    arms = [
        arm(name, choices(answers(share, seed))) for name, share, seed in (("a", 0.4, 1), ("b", 0.5, 2), ("c", 0.5, 3))
    ]
    against_first, _ = compare_arms(arms)
    assert list(by_pair(against_first)) == [("a", "b"), ("a", "c")]
    assert all(one.tests == 2 for one in against_first)
    small, large = sorted(against_first, key=lambda one: one.difference.p)
    assert small.p_adjusted == min(1.0, 2 * small.difference.p)
    assert large.p_adjusted == max(small.p_adjusted, large.difference.p)
    everything, _ = compare_arms(arms, all_pairs=True)
    assert list(by_pair(everything)) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert min(one.p_adjusted for one in everything) == min(1.0, 3 * small.difference.p)


def test_another_score_is_not_corrected_for() -> None:
    right = answers(0.5, 1)
    arms = [arm("a", choices(right), texts(0.0)), arm("b", choices(answers(0.6, 2)), texts(0.0, 1))]
    comparisons, _ = compare_arms(arms)
    assert len(comparisons) == 3
    assert all(one.tests == 1 and one.p_adjusted == one.difference.p for one in comparisons)


def test_a_measurement_that_only_one_has_is_told_of() -> None:
    _, notes = compare_arms([arm("a", choices([1, 0, 1]), texts(0)), arm("b", choices([1, 1, 0]))])
    assert "loss.blocks was measured for 'a' and not for 'b': not compared." in notes


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (choices([1, 0]), texts(0), "share no measurement: quiz.plain against loss.blocks"),
        (choices([1, 0]), choices([1, 0], facts={"sha256": "6" * 64}), "differ in the source"),
        (choices([1, 0], ids=[1, 2]), choices([1, 0], ids=[3, 4]), "share no item of quiz.plain"),
        (choices([1, 0]), Measurement("quiz.plain", choices([1, 0]).scores, [], SOURCE), "has no items"),
        (choices([1, 0]), choices([1, 0], ids=[3, 3]), "share an id"),
    ],
)
def test_what_cannot_be_paired_is_refused_in_one_line(first: Measurement, second: Measurement, words: str) -> None:
    with pytest.raises((UserError, ArtifactError), match=words):
        compare_arms([arm("a", first), arm("b", second)])


def test_one_convention_is_not_compared_with_another_of_the_same_name() -> None:
    other = choices([1, 0, 1], name="quiz.harness")
    disguised = Measurement("quiz.plain", other.scores, other.items, SOURCE)
    with pytest.raises(UserError, match=r"differ in the convention of acc \('plain' and 'harness'\)"):
        compare_arms([arm("a", choices([1, 0, 0])), arm("b", disguised)])


def seeds(name: str, shares: list[float], start: int) -> Arm:
    runs: list[Evaluation] = [
        evaluation(f"{name}-{i}", choices(answers(share, start + i))) for i, share in enumerate(shares)
    ]
    return Arm(name, tuple(runs))


def test_seeds_widen_the_interval_and_it_is_said_how_many_there_were() -> None:
    many = [seeds("old", [0.3, 0.5, 0.4], 1), seeds("new", [0.45, 0.6, 0.5], 10)]
    ((one,), notes) = compare_arms(many)
    assert one.difference.seeds == (3, 3)
    single, single_notes = compare_arms([Arm(side.name, side.evaluations[:1]) for side in many])
    assert one.difference.standard_error > single[0].difference.standard_error
    assert "Seeds of training are counted: 'old' 3, 'new' 3." in notes
    assert any("what another seed of training would change is not counted" in note for note in single_notes)
    assert one.verdict.seeds_needed is not None
    assert "3 and 3 seeds" in one.verdict.words


def test_a_single_seed_borrows_the_spread_of_the_arms_that_have_several() -> None:
    arms = [seeds("a", [0.4], 1), seeds("b", [0.5], 5), seeds("c", [0.3, 0.5, 0.6], 10)]
    found = by_pair(compare_arms(arms, all_pairs=True)[0])
    assert found["a", "b"].difference.seed_parts == pytest.approx([3 * found["a", "c"].difference.seed_parts[1]] * 2)
    notes = compare_arms(arms)[1]
    assert any("One of a single seed is taken to vary with the seed as the others do." in note for note in notes)


def test_the_answer_is_plain_json() -> None:
    comparisons, _ = compare_arms([arm("a", choices([1, 0]), texts(0)), arm("b", choices([1, 1]), texts(0.1))])
    for one in comparisons:
        answer = json.loads(json.dumps(json_value(one.as_dict()), allow_nan=False))
        assert answer["verdict"]["outcome"] in ("better", "worse", "cannot tell")
        assert {"difference", "low", "high", "p", "p_adjusted", "n", "task", "convention", "metric"} <= set(answer)


def with_unknown(measurement: Measurement, unknown: int) -> Measurement:
    """The same by a tokenizer of words: so many bytes of each document are in <unk>, and a score spells them."""
    items = [
        {**item, "unknown_bytes": unknown, "bits_spelled": item["bits"] + 8 * unknown} for item in measurement.items
    ]
    scores = measurement.scores
    if unknown:
        plain = measurement.score("bits_per_byte")
        scores = (*scores, replace(plain, metric="bits_per_byte_spelled", numerator="bits_spelled"))
    return Measurement(measurement.name, scores, items, {**measurement.facts, "tokenizer": f"words-{unknown}"})


def test_unknown_words_are_no_advantage() -> None:
    spells = arm("spells", with_unknown(texts(0.0), 0))
    guesses = arm("guesses", with_unknown(texts(-0.01, 1), 50))
    for arms in ([spells, guesses], [guesses, spells]):
        comparisons, notes = compare_arms(arms)
        assert [one.score.metric for one in comparisons] == ["bits_per_byte_spelled"]
        assert comparisons[0].verdict.outcome == ("worse" if arms[1] is guesses else "better")
        assert any("other tokenizers" in note for note in notes)


def test_a_loss_may_be_of_models_with_other_contexts_and_says_so_but_not_of_another_window() -> None:
    def convention(measurement: Measurement, name: str) -> Measurement:
        return replace(measurement, scores=tuple(replace(one, convention=name) for one in measurement.scores))

    long, short = (arm(str(size), convention(texts(0), f"disjoint blocks of {size}")) for size in (256, 64))
    _, notes = compare_arms([long, short])
    assert "loss.blocks bits_per_byte: the contexts differ: disjoint blocks of 256, disjoint blocks of 64." in notes
    with pytest.raises(UserError, match="differ in the convention"):
        compare_arms([long, arm("slides", convention(texts(0), "sliding window of 256, stride 64"))])


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("sliding window of 256, stride 256", "sliding window of 256, stride 1", False),
        ("sliding window of 256, stride 128", "sliding window of 256, stride 64", False),
        ("sliding window of 256, stride 128", "sliding window of 64, stride 32", True),
        ("sliding window of 256, stride 128", "sliding window of 64, stride 1", False),
        ("sliding window of 256, stride 8", "sliding window of 64, stride 8", True),
        ("disjoint blocks of 256", "disjoint blocks of 64", True),
        ("disjoint blocks of 256", "sliding window of 256, stride 256", False),
    ],
)
def test_windows_of_other_sizes_compare_where_they_move_in_the_same_way(first: str, second: str, alike: bool) -> None:
    def convention(name: str, measurement: Measurement) -> Measurement:
        return replace(measurement, scores=tuple(replace(one, convention=name) for one in measurement.scores))

    arms = [arm("a", convention(first, texts(0))), arm("b", convention(second, texts(0.1)))]
    if alike:
        assert compare_arms(arms)[0]
    else:
        with pytest.raises(UserError, match="differ in the convention"):
            compare_arms(arms)


def test_a_last_document_that_was_cut_elsewhere_is_left_out_and_counted() -> None:
    whole = texts(0.0)
    cut = replace(whole, items=[*whole.items[:-1], {**whole.items[-1], "tokens": 1, "bytes": 1}])
    comparisons, _ = compare_arms([arm("a", whole), arm("b", cut)])
    assert [(one.difference.n, one.unequal) for one in comparisons] == [(79, 1), (79, 1)]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("num_fewshot", 5, "number of examples"),
        ("shots", {"source": "x", "sha256": "7"}, "file that examples came from"),
    ],
)
def test_what_was_measured_otherwise_is_not_compared(key: str, value: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        compare_arms([arm("a", choices([1, 0])), arm("b", choices([1, 0], facts={**SOURCE, key: value}))])


def test_items_of_one_id_that_are_not_the_same_item_are_seen() -> None:
    first, second = (
        Measurement("quiz.plain", choices([1, 0]).scores, [{"id": 1, "acc": 1, "doc_hash": mark}], SOURCE)
        for mark in ("x", "y")
    )
    with pytest.raises(UserError, match=r"item 1 of quiz\.plain is not the same in both: its doc_hash differs"):
        compare_arms([arm("a", first), arm("b", second)])


@pytest.mark.parametrize("runs", [1, 2])
def test_a_single_item_can_tell_nothing_and_says_so(runs: int) -> None:
    arms = [
        Arm(name, tuple(evaluation(f"{name}{run}", losses([x + run / 9], [3], [9])) for run in range(runs)))
        for name, x in (("a", 2.0), ("b", 1.0))
    ]
    for one in compare_arms(arms)[0]:
        assert one.verdict.outcome == "cannot tell"
        assert "one item alone has no spread" in one.verdict.words
        assert json.loads(json.dumps(json_value(one.as_dict()), allow_nan=False))["p"] is None
