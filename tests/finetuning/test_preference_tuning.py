"""Preference tuning starts at log 2, learns what is preferred, and counts every pair once, however it is shared out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from preference_pairs import char_tokenizer, even_model, pairs_of, shape
from torch import Tensor

from folio.config import build
from folio.errors import ConfigError, DataError
from folio.finetuning.config_lora import LoraConfig, Method
from folio.finetuning.examples import Example
from folio.finetuning.preference.batches import PreferenceBatches
from folio.finetuning.preference.config import DpoConfig
from folio.finetuning.preference.likelihood import answer_log_probabilities
from folio.finetuning.preference.measure import measure_preferences, measures
from folio.finetuning.preference.objective import Preference
from folio.finetuning.preference.pairs import Pair
from folio.finetuning.preference.reference import make_reference
from folio.finetuning.trainable import make_trainable
from folio.model.gpt import GPT
from folio.ranks import Ranks

CPU = torch.device("cpu")
MANY = [{"prompt": f"{n}?", "chosen": f" a rose{'!' * (n % 7)}", "rejected": f" men, {n}"} for n in range(37)]


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Pair, ...]:
    return pairs_of(tmp_path)


@pytest.fixture
def model() -> GPT:
    return even_model(shape(char_tokenizer()))


def batches(pairs: tuple[Pair, ...], model: GPT, sequences: int, seed: int = 0) -> PreferenceBatches:
    return PreferenceBatches(pairs, make_reference(model, pairs), 48, sequences, seed)


def by_hand(model: GPT, pair: Pair) -> list[float]:
    """log p of both answers, each prompt and answer alone through the plain model, token by token."""
    found = []
    for example in (pair.chosen, pair.rejected):
        ids = torch.from_numpy(example.ids.astype(np.int64))
        with torch.no_grad():
            log_p = F.log_softmax(model(ids[None, :-1])[0].double(), -1)
        learned = torch.from_numpy(example.learned[1:])
        found.append(float(log_p[torch.arange(len(ids) - 1), ids[1:]][learned].sum()))
    return found


def test_answers_are_as_likely_as_each_by_itself_whatever_shares_a_pass(pairs: tuple[Pair, ...], model: GPT) -> None:
    expected = np.array([by_hand(model, pair) for pair in pairs]).T
    for pass_tokens in (1, 30, 10_000):
        assert np.allclose(answer_log_probabilities(model, pairs, pass_tokens=pass_tokens), expected, rtol=1e-5)
    backwards = answer_log_probabilities(model, pairs[::-1])[:, ::-1]
    assert np.allclose(backwards, expected, rtol=1e-5)


def test_likelihoods_are_measured_without_dropout_and_without_a_trace(pairs: tuple[Pair, ...]) -> None:
    model = even_model(shape(char_tokenizer(), dropout=0.5)).train()
    random = torch.get_rng_state()
    polled: list[int] = []
    one = answer_log_probabilities(model, pairs, pass_tokens=1, poll=lambda: polled.append(1))
    assert np.array_equal(one, answer_log_probabilities(model, pairs, pass_tokens=1))
    assert model.training
    assert torch.equal(random, torch.get_rng_state())
    assert len(polled) == 2 * len(pairs)


class Shared(Ranks):
    """One of several ranks, which hands what it gathers to ``table`` and hears what the others left there."""

    def __init__(self, rank: int, world_size: int, table: dict[int, Any]) -> None:
        object.__setattr__(self, "_rank", rank)
        object.__setattr__(self, "_world_size", world_size)
        object.__setattr__(self, "_table", table)

    rank = property(lambda self: self._rank)  # type: ignore[assignment]
    world_size = property(lambda self: self._world_size)  # type: ignore[assignment]

    def gather(self, value: Any) -> list[Any]:
        self._table[self._rank] = value
        return [self._table[rank] for rank in sorted(self._table)]


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_ranks_share_passes_evenly_and_none_is_counted_twice(
    pairs: tuple[Pair, ...], model: GPT, world_size: int
) -> None:
    alone = answer_log_probabilities(model, pairs, pass_tokens=1)
    table: dict[int, Any] = {}
    polls: list[int] = []
    for rank in range(world_size):
        own = Shared(rank, world_size, table)
        found = answer_log_probabilities(model, pairs, pass_tokens=1, ranks=own, poll=lambda: polls.append(len(table)))
    passes = [polls.count(rank) for rank in range(world_size)]
    assert len(set(passes)) == 1  # a model that is spread over ranks needs all at every pass
    assert np.array_equal(found, alone)
    assert sum(len(share) for share in table.values()) == 2 * len(pairs)


def test_a_reference_knows_its_pairs(pairs: tuple[Pair, ...], model: GPT) -> None:
    reference = make_reference(model, pairs)
    reference.check(pairs)
    reference.first(2).check(pairs[:2])
    first = pairs[0]
    other = Example(first.id, first.chosen.ids[::-1].copy(), first.chosen.learned)
    for others in (pairs[::-1], pairs[:2], (Pair(first.id, other, first.rejected), *pairs[1:])):
        with pytest.raises(DataError, match="belongs to other pairs"):
            PreferenceBatches(others, reference, 48, 2, seed=0)


def test_dropout_acts_while_training_alone(pairs: tuple[Pair, ...], model: GPT) -> None:
    source, found = batches(pairs, model, len(pairs)), {}
    for dropout in (0.0, 0.3):
        own = even_model(shape(char_tokenizer(), dropout=dropout))
        torch.manual_seed(0)
        for training in (False, True):
            forward = own.train(training).forward
            found[dropout, training] = Preference(own.config).nats(forward, source.batch(0), CPU).item()
    assert found[0.3, False] == found[0.0, False] == found[0.0, True]
    assert found[0.3, True] != pytest.approx(found[0.3, False], rel=1e-4)


def test_of_one_pair_no_error_is_known(model: GPT) -> None:
    facts = measures(Preference(model.config), np.array([[2.0], [0.0]]), np.full((2, 1), 7))
    assert (facts["standard_error_nats"], facts["standard_error_margin"]) == (None, None)


@pytest.mark.parametrize("method", ["full", "lora", "head"])
def test_the_loss_begins_at_log_2_by_any_method(pairs: tuple[Pair, ...], model: GPT, method: Method) -> None:
    make_trainable(model, method, LoraConfig(rank=2))
    model.train()
    source = batches(pairs, model, len(pairs))
    for smoothing in (0.0, 0.3):
        objective = Preference(model.config, label_smoothing=smoothing)
        loss = objective.nats(model, source.batch(0), CPU)
        assert loss.dtype == torch.float32
        assert loss.item() / objective.count(source.batch(0)) == pytest.approx(math.log(2), abs=1e-6)
        facts = measure_preferences(model, pairs, source.reference, objective)
        assert facts["nats_per_pair"] == pytest.approx(math.log(2), abs=1e-12)  # the very passes of the reference
        assert (facts["margin"], facts["accuracy"]) == (0.0, 0.5)
    assert Preference(model.config, loss="ipo", beta=0.5).nats(model, source.batch(0), CPU).item() == pytest.approx(
        len(pairs) * 1.0, rel=1e-4
    )


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
@pytest.mark.parametrize("method", ["full", "lora", "qlora", "head"])
def test_a_few_steps_teach_what_is_preferred(pairs: tuple[Pair, ...], model: GPT, method: Method, loss: Any) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    trained = make_trainable(model, method, LoraConfig(rank=4))
    source = batches(pairs, model, 2)
    objective = Preference(model.config, beta=0.5, loss=loss)
    before = measure_preferences(model, pairs, source.reference, objective)
    optimizer = torch.optim.AdamW(trained.values(), lr=2e-2)
    model.train()
    for step in range(30):
        rows = source.batch(step)
        (objective.nats(model, rows, CPU) / objective.count(rows)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    after = measure_preferences(model, pairs, source.reference, objective)
    assert after["nats_per_pair"] < 0.5 * before["nats_per_pair"]
    if loss == "sigmoid":  # ipo moves means over tokens, rewards are sums: of answers of unlike length they may differ
        assert after["accuracy"] == 1.0
        assert after["margin"] > 0
    assert after["chosen_reward"] - after["rejected_reward"] == pytest.approx(after["margin"])


def test_the_opposite_preference_teaches_the_opposite(pairs: tuple[Pair, ...], model: GPT) -> None:
    """The gradient of chosen against rejected is minus that of rejected against chosen, where the margin is 0."""
    turned = tuple(Pair(pair.id, pair.rejected, pair.chosen) for pair in pairs)
    gradients = []
    for side in (pairs, turned):
        model.zero_grad()
        source = batches(side, model, len(side))
        Preference(model.config).nats(model, source.batch(0), CPU).backward()  # type: ignore[no-untyped-call]
        gradients.append(model.blocks[0].mlp.up.weight.grad.clone())
    assert torch.allclose(gradients[0], -gradients[1], atol=1e-5 * float(gradients[0].abs().max()))
    assert bool(gradients[0].any())


def gradient(model: GPT, objective: Preference, parts: list[Any]) -> tuple[float, Tensor]:
    model.zero_grad()
    nats = torch.zeros(())
    for rows in parts:
        loss = objective.nats(model, rows, CPU)
        loss.backward()  # type: ignore[no-untyped-call]
        nats += loss.detach()
    return nats.item(), model.embed.weight.grad.clone()  # type: ignore[union-attr]


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_every_pair_weighs_the_same_however_a_batch_is_cut(tmp_path: Path, loss: Any) -> None:
    tokenizer = char_tokenizer("0123456789")
    pairs = pairs_of(tmp_path, MANY[:12], tokenizer)
    config = shape(tokenizer)
    model, reference = even_model(config), make_reference(even_model(config, 0.03), pairs)
    source = PreferenceBatches(pairs, reference, 48, 12, seed=5)
    objective = Preference(config, beta=0.3, loss=loss)
    whole = gradient(model, objective, [source.batch(0)])
    for cuts in ([slice(0, 5), slice(5, 12)], [slice(n, n + 1) for n in range(12)]):
        parts = gradient(model, objective, [source.batch(0, rows) for rows in cuts])
        assert parts[0] == pytest.approx(whole[0], rel=1e-5)
        assert torch.allclose(parts[1], whole[1], rtol=1e-3, atol=1e-5 * float(whole[1].abs().max()))


def test_a_batch_is_a_pure_function_of_its_step_and_every_pair_comes_once_an_epoch(tmp_path: Path) -> None:
    tokenizer = char_tokenizer("0123456789")
    pairs = pairs_of(tmp_path, MANY, tokenizer)
    reference = make_reference(even_model(shape(tokenizer)), pairs)
    source = PreferenceBatches(pairs, reference, 48, 5, seed=3)
    again = PreferenceBatches(pairs, reference, 48, 5, seed=3)
    numbers = np.concatenate([source.row_numbers(step) for step in range(37)])
    for epoch in range(5):
        assert sorted(numbers[37 * epoch : 37 * (epoch + 1)]) == list(range(37))
    assert list(numbers[:37]) != list(numbers[37:74])
    total = 0
    for step in range(20):
        rows, part = source.batch(step), again.batch(step, slice(1, 3))
        assert source.tokens_before(step) == total
        total += rows.tokens
        chosen = [pairs[number] for number in source.row_numbers(step)]
        assert rows.lengths == tuple([p.chosen.length for p in chosen] + [p.rejected.length for p in chosen])
        assert np.array_equal(rows.reference, reference.log_p[:, source.row_numbers(step)])
        assert part.lengths == rows.lengths[1:3] + rows.lengths[6:8]
        assert (rows.ids.shape, rows.targets.shape) == ((1, rows.tokens), (1, rows.tokens))
        starts = np.cumsum([0, *rows.lengths])
        for place, pair in enumerate(chosen):
            for example, start in ((pair.chosen, starts[place]), (pair.rejected, starts[5 + place])):
                targets = rows.targets[0, start : start + example.length]
                assert np.array_equal(rows.ids[0, start : start + example.length], example.ids[:-1])
                assert np.array_equal(targets[targets >= 0], example.ids[example.learned])
                assert (targets >= 0).sum() == example.learned_tokens
        assert rows.answer_tokens.sum() == (rows.targets >= 0).sum()
    assert (source.steps_for(1), source.steps_for(2), float(source.steps_an_epoch)) == (8, 15, 37 / 5)
    assert source.epochs(37) == 5.0
    other = PreferenceBatches(pairs, reference, 48, 5, seed=4)
    assert not np.array_equal(other.row_numbers(0), source.row_numbers(0))


def test_batches_that_cannot_be_are_refused(pairs: tuple[Pair, ...], model: GPT) -> None:
    reference = make_reference(model, pairs)
    with pytest.raises(DataError, match="no pairs"):
        PreferenceBatches((), reference, 48, 2, seed=0)
    with pytest.raises(DataError, match=r"takes .* places and the context has 8"):
        PreferenceBatches(pairs, reference, 8, 2, seed=0)
    with pytest.raises(ConfigError, match="sequences is 0"):
        PreferenceBatches(pairs, reference, 48, 0, seed=0)


def test_measures_carry_their_errors_and_half_of_a_tie_is_right(model: GPT) -> None:
    ratios = np.array([[2.0, 1.0, 0.0, 3.0], [0.0, 3.0, 0.0, -1.0]])
    facts = measures(Preference(model.config, beta=0.5), ratios, np.full((2, 4), 7))
    margins = np.array([1.0, -1.0, 0.0, 2.0])
    losses = np.log1p(np.exp(-margins))
    assert facts["nats_per_pair"] == pytest.approx(losses.mean())
    assert facts["standard_error_nats"] == pytest.approx(losses.std(ddof=1) / 2)
    assert facts["accuracy"] == 0.625
    assert facts["accuracy_low"] < 0.625 < facts["accuracy_high"]
    assert (facts["margin"], facts["standard_error_margin"]) == pytest.approx((0.5, margins.std(ddof=1) / 2))
    assert (facts["chosen_reward"], facts["rejected_reward"]) == (0.75, 0.25)
    assert (facts["pairs"], facts["tokens"]) == (4, 56)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0}, "beta = 0"),
        ({"label_smoothing": 0.5}, "label_smoothing = 0.5"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "label_smoothing belongs to loss 'sigmoid'"),
        ({"loss": "sigmoidal"}, "did you mean 'sigmoid'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(DpoConfig, options)


def test_the_options_are_those_of_the_objective(model: GPT) -> None:
    config = DpoConfig(beta=0.2, label_smoothing=0.1)
    objective = Preference(model.config, **config.model_dump())
    assert (objective.beta, objective.label_smoothing, objective.loss, objective.unit) == (0.2, 0.1, "sigmoid", "pair")


def test_under_bfloat16_the_loss_is_near_and_fp32(pairs: tuple[Pair, ...], model: GPT) -> None:
    source = batches(pairs, model, len(pairs))
    with torch.autocast("cpu", torch.bfloat16):
        loss = Preference(model.config).nats(model, source.batch(0), CPU)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.dtype == torch.float32
    assert loss.item() / len(pairs) == pytest.approx(math.log(2), abs=0.05)
    assert model.embed.weight.grad is not None
    assert bool(torch.isfinite(model.embed.weight.grad).all())
