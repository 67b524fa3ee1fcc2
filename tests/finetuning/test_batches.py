"""Batches of whole examples: each once an epoch, none split, the same whoever asks and in whatever order."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.errors import ConfigError, DataError
from folio.finetuning.batches import PackedRows, SftBatches, evaluation_rows
from folio.finetuning.examples import Example
from folio.model.branches import Branches
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.model.loss import IGNORE

Target = tuple[tuple[int, ...], tuple[int, ...]]


def examples_of(lengths: list[int], seed: int = 0) -> list[Example]:
    """Examples whose ids are all different numbers, so that where each lies can be told from the ids."""
    random = np.random.default_rng(seed)
    made, next_id = [], 1
    for index, length in enumerate(lengths):
        ids = np.arange(next_id, next_id + length + 1, dtype=np.int32)
        learned = random.random(length + 1) < 0.6
        learned[0], learned[-1] = False, True
        made.append(Example(f"e{index}", ids, learned))
        next_id += length + 1
    return made


def contents(rows: PackedRows) -> list[Target]:
    """(inputs, targets) of each example that the rows hold, cut out by ``lengths`` alone."""
    found = []
    for ids, targets, lengths in zip(rows.ids, rows.targets, rows.lengths, strict=True):
        start = 0
        for length in lengths:
            found.append((tuple(ids[start : start + length].tolist()), tuple(targets[start : start + length].tolist())))
            start += length
        assert (targets[start:] == IGNORE).all()
        assert (ids[start:] == 0).all()
        assert start <= len(ids)
    return found


def wanted(examples: list[Example]) -> Counter[Target]:
    return Counter(
        (
            tuple(example.ids[:-1].tolist()),
            tuple(
                id if learned else IGNORE
                for id, learned in zip(example.ids[1:].tolist(), example.learned[1:], strict=True)
            ),
        )
        for example in examples
    )


SETS = st.lists(st.integers(1, 20), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(lengths=SETS, more=st.integers(0, 20), seed=st.integers(0, 99), epoch=st.integers(0, 3), packing=st.booleans())
def test_every_example_comes_whole_and_once_an_epoch(
    lengths: list[int], more: int, seed: int, epoch: int, packing: bool
) -> None:
    examples = examples_of(lengths)
    batches = SftBatches(examples, max(lengths) + more, 1, seed, packing)
    per_epoch = int(batches.steps_an_epoch)
    steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    shown = Counter(target for step in steps for target in contents(batches.batch(step)))
    assert shown == wanted(examples)
    assert sum(batches.batch(step).tokens for step in steps) == batches.tokens == sum(lengths)
    assert sum(batches.batch(step).learned_tokens for step in steps) == batches.learned_tokens
    assert packing or all(len(row) == 1 for step in steps for row in batches.batch(step).lengths)


@settings(max_examples=100, deadline=None)
@given(
    lengths=SETS,
    sequences=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 12), max_size=4),
    step=st.integers(0, 10**9),
)
def test_rows_are_the_same_for_any_slicing(lengths: list[int], sequences: int, cuts: list[int], step: int) -> None:
    batches = SftBatches(examples_of(lengths), 24, sequences, seed=3)
    whole = batches.batch(step)
    edges = [0, *sorted(min(cut, sequences) for cut in cuts), sequences]
    parts = [batches.batch(step, slice(a, b)) for a, b in pairwise(edges)]
    assert np.array_equal(np.concatenate([part.ids for part in parts]), whole.ids)
    assert np.array_equal(np.concatenate([part.targets for part in parts]), whole.targets)
    assert tuple(row for part in parts for row in part.lengths) == whole.lengths
    backwards = batches.batch(step, np.arange(sequences)[::-1])
    assert np.array_equal(backwards.ids[::-1], whole.ids)


def test_shapes_and_types() -> None:
    rows = SftBatches(examples_of([3, 4, 5]), 8, 2, seed=0).batch(0)
    assert rows.ids.shape == rows.targets.shape == (2, 8)
    assert rows.ids.dtype == rows.targets.dtype == np.int64


def test_golden_order() -> None:
    """A change of this order changes every fine-tuning run."""
    batches = SftBatches(examples_of([5] * 12), 8, 4, seed=1)
    assert [batches.row_numbers(step).tolist() for step in range(4)] == [
        [3, 11, 5, 9],
        [1, 0, 6, 4],
        [2, 10, 7, 8],
        [9, 0, 10, 3],
    ]


def test_epochs_differ_and_seeds_differ() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = SftBatches(examples_of([5] * 40), 8, 40, seed)
        return batches.row_numbers(epoch).tolist()

    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


@settings(max_examples=60, deadline=None)
@given(lengths=SETS, sequences=st.integers(1, 40), steps=st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_tokens_before_a_step_are_those_of_the_batches_before_it(
    lengths: list[int], sequences: int, steps: list[int]
) -> None:
    """In whatever order steps are asked for, within an epoch and over several."""
    batches = SftBatches(examples_of(lengths), 24, sequences, seed=5)
    read = np.cumsum([0, *(batches.batch(step).tokens for step in range(61))])
    assert [batches.tokens_before(step) for step in steps] == [read[step] for step in steps]


def test_an_epoch_is_counted_once_however_often_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    batches, counted = SftBatches(examples_of([5] * 12), 8, 3, seed=1), []
    order = batches._order
    monkeypatch.setattr(batches, "_order", lambda epoch: counted.append(epoch) or order(epoch))
    for step in range(1, 20):
        for asked in (step, step - 1, step):
            batches.tokens_before(asked)
    assert counted == [0, 1, 2, 3, 4]


def test_rows_say_which_examples_they_hold() -> None:
    examples = examples_of([4, 9, 2, 2, 7, 1, 8])
    parts = [*evaluation_rows(examples, 10, 2), SftBatches(examples, 10, 5, seed=2).batch(1)]
    for part in parts:
        named = [examples[number] for row in part.members for number in row]
        assert Counter(contents(part)) == wanted(named)
        assert tuple(tuple(examples[number].length for number in row) for row in part.members) == part.lengths
    assert sorted(number for part in parts[:-1] for row in part.members for number in row) == list(range(7))


def test_batches_run_on_into_the_next_epoch() -> None:
    examples = examples_of([5] * 7)
    one_by_one = SftBatches(examples, 5, 1, seed=4)
    endless = np.concatenate([one_by_one.row_numbers(step) for step in range(30)])
    by_three = SftBatches(examples, 5, 3, seed=4)
    assert np.array_equal(np.concatenate([by_three.row_numbers(step) for step in range(10)]), endless)
    assert (by_three.rows_per_epoch, by_three.steps_an_epoch, by_three.epochs(7)) == (7, Fraction(7, 3), 3.0)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_evaluation_shows_every_example_once(rows: int, packing: bool) -> None:
    examples = examples_of([4, 9, 2, 2, 7, 1, 8])
    shown = [target for part in evaluation_rows(examples, 10, rows, packing) for target in contents(part)]
    assert Counter(shown) == wanted(examples)
    assert all(len(part.ids) <= rows for part in evaluation_rows(examples, 10, rows, packing))


@pytest.mark.parametrize("position", ["learned", "rope"])
def test_loss_of_a_packed_batch_is_that_of_its_examples_alone(position: str) -> None:
    """Real attention over the flattened rows, told apart by ``lengths`` alone."""
    config = GPTConfig(vocab_size=64, block_size=16, n_layer=2, n_head=2, n_embd=16, position=position)
    model = GPT(config).initialize(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8)  # far from uniform, so that a wrong neighbour shows
    examples = examples_of([5, 9, 3, 8, 2, 2, 11, 4])
    alone = 0.0
    for example in examples:
        ids = torch.tensor(example.ids[None].astype(np.int64))
        targets = torch.where(torch.tensor(example.learned[None, 1:]), ids[:, 1:], IGNORE)
        alone += float(model.token_nats(ids[:, :-1], targets).sum())
    together = 0.0
    for part in evaluation_rows(examples, 16, rows=2):
        lengths = [length for row in part.lengths for length in row]
        real = np.concatenate([np.arange(16) < sum(row) for row in part.lengths])
        ids, targets = (torch.tensor(array.ravel()[real]) for array in (part.ids, part.targets))
        branches = Branches(config, lengths, [[]] * len(lengths))
        with torch.no_grad():
            nats, count = model(ids[None], targets[None], cache=branches)
        together += float(nats)
        assert int(count) == part.learned_tokens
    assert together == pytest.approx(alone, rel=1e-5)


def test_what_does_not_fit_and_what_is_empty_is_refused() -> None:
    with pytest.raises(DataError, match="example 'e1' takes 9 places and a row has 8"):
        SftBatches(examples_of([3, 9]), 8, 1, 0)
    with pytest.raises(DataError, match="no examples"):
        SftBatches([], 8, 1, 0)
    with pytest.raises(ConfigError, match="sequences is 0"):
        SftBatches(examples_of([3]), 8, 0, 0)
    with pytest.raises(ConfigError, match="block_size is 0"):
        SftBatches(examples_of([3]), 0, 1, 0)
    with pytest.raises(ConfigError, match="rows is 0"):
        evaluation_rows(examples_of([3]), 8, 0)
