"""The loss on examples: what it sums to by hand, over which examples, however they are cut into passes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from folio.finetuning import measure
from folio.finetuning.batches import evaluation_rows
from folio.finetuning.examples import Encoder, Example, fitted
from folio.finetuning.formats import Record
from folio.finetuning.measure import Held, first_tokens, loss_of_examples
from folio.finetuning.objective import PackedTokens
from folio.launch import Launch
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.model.loss import IGNORE
from folio.ranks import Ranks
from folio.tokenizer import TokenizerConfig, train_tokenizer
from folio.training.metrics import METRICS, MetricsLog, read_metrics

PAIRS = [
    ("who? ", "the sun"), ("where is it? ", "a rösé by the sea"), ("x", "no"), ("tell it. ", "as it was, it is"),
    ("a long one of many words: ", "yes"), ("is it so? ", "it is not, it was the rösé"),
]  # fmt: skip
TOKENIZER = train_tokenizer(["".join(a + b for a, b in PAIRS)], TokenizerConfig(kind="char"))
SHAPE = GPTConfig(vocab_size=TOKENIZER.vocab_size, block_size=48, n_layer=2, n_head=2, n_embd=32, dropout=0.2)


@pytest.fixture(scope="module")
def model() -> GPT:
    made = GPT(SHAPE).initialize(1)
    with torch.no_grad():
        made.embed.weight.mul_(10)
    return made.train()


def encoded() -> list[Example]:
    encoder = Encoder(TOKENIZER)
    found = []
    for number, (prompt, completion) in enumerate(PAIRS):
        record = Record(f"r{number}", f"line {number}", "completion", {"prompt": prompt, "completion": completion})
        example = encoder.encode(record).example
        assert example is not None
        found.append(example)
    return found


def held_of(max_tokens: int = 0, packing: bool = True, block_size: int = 48) -> Held:
    return Held.of(encoded(), TOKENIZER, block_size, packing, max_tokens)


def by_hand(model: GPT, examples: list[Example]) -> tuple[list[float], list[int]]:
    """Nats and learned tokens of each, from the logits of the example by itself, in float64."""
    nats, tokens = [], []
    with torch.no_grad():
        for one in examples:
            ids = torch.from_numpy(one.ids.astype(np.int64))
            logprobs = model(ids[None, :-1])[0].double().log_softmax(-1)
            each = -logprobs[torch.arange(len(ids) - 1), ids[1:]]
            learned = torch.from_numpy(one.learned[1:])
            nats.append(float(each[learned].sum()))
            tokens.append(int(learned.sum()))
    return nats, tokens


def measured(model: GPT, held: Held, **options: Any) -> dict[str, Any]:
    return loss_of_examples(model, held, PackedTokens(SHAPE, across=options.pop("across", False)), **options)


def test_it_is_what_the_examples_sum_to_by_hand(model: GPT) -> None:
    nats, tokens = by_hand(model.eval(), encoded())
    found = measured(model.train(), held_of())
    assert model.training
    loss = sum(nats) / sum(tokens)
    assert found["nats_per_token"] == pytest.approx(loss, rel=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-6)
    assert (found["tokens"], found["examples"]) == (sum(tokens), len(PAIRS))
    assert "alone" in found["convention"]


def test_the_standard_error_is_that_of_a_ratio(model: GPT) -> None:
    """Cochran (1977, 6.4): of the residuals nats - loss x tokens, not of the losses of examples."""
    nats, tokens = by_hand(model.eval(), encoded())
    n, loss = len(nats), sum(nats) / sum(tokens)
    residuals = [a - loss * b for a, b in zip(nats, tokens, strict=True)]
    variance = sum(one**2 for one in residuals) / (n - 1)
    wanted = math.sqrt(n * variance) / sum(tokens)
    assert measured(model, held_of())["standard_error_nats"] == pytest.approx(wanted, rel=1e-5)


def test_bits_per_byte_are_of_the_bytes_of_answers(model: GPT) -> None:
    """The end-of-text costs nats and is no text."""
    found = measured(model, held_of())
    size = sum(len(completion.encode()) for _, completion in PAIRS)
    assert size > sum(len(completion) for _, completion in PAIRS)  # bytes, not characters
    bits = found["nats_per_token"] * found["tokens"] / math.log(2)
    assert found["bits_per_byte"] == pytest.approx(bits / size, rel=1e-9)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("pass_tokens", [1, 100, 8192])
def test_it_does_not_depend_on_how_rows_are_cut_into_passes(
    model: GPT, monkeypatch: pytest.MonkeyPatch, pass_tokens: int, packing: bool
) -> None:
    usual = measured(model, held_of())
    monkeypatch.setattr(measure, "PASS_TOKENS", pass_tokens)
    held = held_of(packing=packing)
    assert (len(held.passes) > 1) == (pass_tokens < 8192)
    found = measured(model, held)
    for key, value in usual.items():
        assert found[key] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), key


def test_a_row_longer_than_the_examples_need_changes_nothing(model: GPT) -> None:
    short, usual = measured(model, held_of(block_size=40)), measured(model, held_of())
    assert short["nats_per_token"] == pytest.approx(usual["nats_per_token"], rel=1e-6)


def test_across_an_example_is_seen_after_those_before_it(model: GPT) -> None:
    held = held_of()
    found = measured(model, held, across=True)
    model.eval()
    nats, tokens = 0.0, 0
    for rows in evaluation_rows(held.examples, 48):
        filled = sum(rows.lengths[0])
        ids, targets = (torch.from_numpy(x[:, :filled]) for x in (rows.ids, rows.targets))
        with torch.no_grad():
            total, count = model(ids, targets)
        nats, tokens = nats + float(total), tokens + int(count)
    model.train()
    assert found["tokens"] == tokens == measured(model, held)["tokens"]
    assert found["nats_per_token"] == pytest.approx(nats / tokens, rel=1e-6)
    assert found["convention"] != measured(model, held)["convention"]
    assert abs(found["nats_per_token"] - measured(model, held)["nats_per_token"]) > 1e-5


def test_so_many_tokens_are_taken_in_whole_examples() -> None:
    examples = encoded()
    counts = [one.learned_tokens for one in examples]
    for wanted in range(1, sum(counts) + 9):
        taken = list(first_tokens(examples, wanted))
        assert [one.id for one in taken] == [one.id for one in examples[: len(taken)]]
        total = sum(counts[: len(taken)])
        assert total <= wanted or len(taken) == 1  # one at least
        assert len(taken) == len(examples) or total + counts[len(taken)] > wanted  # and no room for another
        assert tuple(one.id for one in held_of(wanted).examples) == tuple(one.id for one in taken)
    assert len(held_of(0).examples) == len(examples)


def test_it_asks_between_passes_and_stops_when_told(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "PASS_TOKENS", 1)
    held, asked = held_of(), []

    def poll() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(model, held, poll=poll)
    assert len(held.passes) > 2
    assert model.training  # as it was


def test_a_single_example_has_no_standard_error_that_could_mislead(model: GPT) -> None:
    held = Held.of(encoded()[:1], TOKENIZER, 48, True)
    found = measured(model, held)
    assert found["standard_error_nats"] is None
    assert found["examples"] == 1
    assert int((held.passes[0].targets != IGNORE).sum()) == found["tokens"]


def test_what_end_of_text_costs_is_told_apart_and_examples_cut_off_do_not_count(model: GPT) -> None:
    examples = encoded()
    costs = []
    with torch.no_grad():
        for one in examples:
            ids = torch.from_numpy(one.ids.astype(np.int64))
            logprobs = model.eval()(ids[None, :-1])[0].double().log_softmax(-1)
            costs.append(-float(logprobs[-1, ids[-1]]))
    found = loss_of_examples(model, held_of(), PackedTokens(SHAPE))
    assert found["end_nats"] == pytest.approx(sum(costs) / len(costs), rel=1e-5)
    cut = [fitted(one, 12, "truncate") for one in examples]
    kept = [cost for cost, one in zip(costs, examples, strict=True) if one.length <= 12]
    assert 0 < len(kept) < len(costs)
    held = Held.of([one for one in cut if one is not None], TOKENIZER, 48, True)
    assert loss_of_examples(model, held, PackedTokens(SHAPE))["end_nats"] == pytest.approx(
        sum(kept) / len(kept), rel=1e-5
    )


def test_where_no_example_has_its_end_nothing_is_said_of_it(model: GPT, tmp_path: Path) -> None:
    cut = [fitted(one, 6, "truncate") for one in encoded()]
    held = Held.of([one for one in cut if one is not None and one.length == 6], TOKENIZER, 48, True)
    assert held.examples
    found = measured(model, held)
    assert "end_nats" not in found
    with MetricsLog(tmp_path / METRICS) as log:
        log.log(kind="validation", step=0, **found)
    assert [line["kind"] for line in read_metrics(tmp_path)] == ["validation"]  # and nothing was not finite


@pytest.mark.parametrize("across", [False, True])
def test_the_loss_of_each_example_is_told_in_the_order_of_the_examples(model: GPT, across: bool) -> None:
    found = measured(model, held_of(), across=across)
    nats, tokens = by_hand(model.eval(), encoded())
    model.train()
    assert [count for _, count in found["each"]] == tokens
    assert sum(one for one, _ in found["each"]) / sum(tokens) == pytest.approx(found["nats_per_token"], rel=1e-5)
    if not across:
        assert [one for one, _ in found["each"]] == pytest.approx(nats, rel=1e-5)
    assert all(len(f"{one:.10g}".replace(".", "").lstrip("0")) <= 6 for one, _ in found["each"])


def test_of_too_many_examples_the_loss_of_each_is_left_out(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "EACH", len(PAIRS) - 1)
    assert "each" not in measured(model, held_of())
    monkeypatch.setattr(measure, "EACH", len(PAIRS))
    assert len(measured(model, held_of())["each"]) == len(PAIRS)


def test_a_loss_that_is_no_number_can_be_written_down(model: GPT, tmp_path: Path) -> None:
    broken = GPT(SHAPE).initialize(1)
    with torch.no_grad():
        broken.embed.weight.fill_(math.nan)
    found = measured(broken, held_of())
    assert [one for one, _ in found["each"]] == [None] * len(PAIRS)
    with MetricsLog(tmp_path / METRICS) as log:
        log.log(kind="validation", step=0, **found)
    assert read_metrics(tmp_path)[0]["each"] == found["each"]


class Shared(Ranks):
    """One of several ranks, which hands what it gathers to ``table`` and hears what the others left there."""

    def __init__(self, rank: int, world_size: int, table: dict[int, Any]) -> None:
        super().__init__(Launch(rank=rank, world_size=world_size))
        object.__setattr__(self, "table", table)

    def gather(self, value: Any) -> list[Any]:
        self.table[self.rank] = value
        return [self.table[rank] for rank in sorted(self.table)]


@pytest.mark.parametrize("world_size", [2, 4, 9])
def test_any_number_of_ranks_finds_the_same(model: GPT, monkeypatch: pytest.MonkeyPatch, world_size: int) -> None:
    monkeypatch.setattr(measure, "PASS_TOKENS", 1)
    held, table = held_of(), dict[int, Any]()
    for rank in range(world_size):
        found = measured(model, held, ranks=Shared(rank, world_size, table))
    assert found == measured(model, held)
