"""The loss of a model on a text: every target once, whatever way it is measured, with its standard error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from model_shapes import SHAPES, random_model

from folio.errors import DataError
from folio.evaluation import loss as module
from folio.evaluation.loss import LossScore, loss_on
from folio.model.gpt import GPT


class Ids:
    """A stream of ids in memory."""

    def __init__(self, ids: np.ndarray) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, count: int) -> np.ndarray:
        return self.ids[start : start + count]


def stream(count: int, vocab_size: int = 101) -> Any:
    return Ids(np.random.default_rng(0).integers(0, vocab_size, count).astype(np.uint16))


def plainly(model: GPT, ids: np.ndarray) -> tuple[float, int]:
    """Nats and targets, block after block, from full logits."""
    total, count, T = 0.0, 0, model.config.block_size
    for start in range(0, len(ids) - 1, T):
        block = torch.from_numpy(ids[start : start + T + 1].astype(np.int64))
        with torch.no_grad():
            logits = model(block[None, :-1])[0].double()
        total -= float(torch.log_softmax(logits, -1).gather(1, block[1:, None]).sum())
        count += len(block) - 1
    return total, count


@pytest.mark.parametrize("count", [2, 17, 33, 34, 32 * 7 + 1, 1000])
@pytest.mark.parametrize("shape", ["gpt2", "qwen3"])
def test_every_target_is_counted_once_and_the_sum_is_the_plain_one(shape: str, count: int) -> None:
    model, ids = random_model(SHAPES[shape]), stream(count)
    score = loss_on(model, ids, bytes_per_token=1.0)
    nats, targets = plainly(model, ids.ids)
    assert (score.tokens, targets) == (count - 1, count - 1)
    assert score.total_nats == pytest.approx(nats, rel=1e-6)
    assert score.nats_per_token == pytest.approx(nats / (count - 1), rel=1e-6)
    assert score.perplexity == pytest.approx(math.exp(nats / (count - 1)), rel=1e-5)
    assert score.blocks == math.ceil((count - 1) / 32)


def test_the_score_does_not_depend_on_how_many_blocks_share_a_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = random_model(SHAPES["llama-grouped"]), stream(1000)
    scores = []
    for tokens in (1, 64, 32 * 5, 8192):
        monkeypatch.setattr(module, "FORWARD_TOKENS", tokens)
        scores.append(loss_on(model, ids, bytes_per_token=2.0))
    for score in scores[1:]:
        assert score.tokens == scores[0].tokens
        assert score.nats_per_token == pytest.approx(scores[0].nats_per_token, rel=1e-6)
        assert score.standard_error_nats == pytest.approx(scores[0].standard_error_nats, rel=1e-4)


def test_the_mean_of_a_text_is_the_weighted_mean_of_its_parts() -> None:
    """Losses summed over batches, or batches averaged without weights, would not pass."""
    model, ids = random_model(SHAPES["gpt2"]), stream(32 * 6 + 5)
    whole = loss_on(model, ids, bytes_per_token=1.0)
    head = loss_on(model, Ids(ids.ids[: 32 * 4 + 1]), bytes_per_token=1.0)  # type: ignore[arg-type]
    tail = loss_on(model, Ids(ids.ids[32 * 4 :]), bytes_per_token=1.0)  # type: ignore[arg-type]
    assert whole.tokens == head.tokens + tail.tokens
    assert whole.nats_per_token == pytest.approx(
        (head.nats_per_token * head.tokens + tail.nats_per_token * tail.tokens) / whole.tokens, rel=1e-6
    )


def test_a_model_that_knows_nothing_scores_the_logarithm_of_its_vocabulary() -> None:
    model = GPT(SHAPES["gpt2"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    score = loss_on(model, stream(500), bytes_per_token=4.0)
    assert score.nats_per_token == pytest.approx(math.log(101), rel=1e-6)
    assert score.bits_per_byte == pytest.approx(math.log2(101) / 4, rel=1e-6)
    assert score.standard_error_nats == pytest.approx(0.0, abs=1e-6)


def test_the_standard_error_is_that_of_a_ratio_of_block_sums() -> None:
    nats, tokens = np.array([8.0, 12.0, 3.0]), np.array([4, 4, 2])
    score = module._score(nats, tokens, 4, 2.0)
    mean = 2.3
    residuals = [8 - 4 * mean, 12 - 4 * mean, 3 - 2 * mean]  # -1.2, 2.8, -1.6
    by_hand = math.sqrt(3 / 2 * sum(r * r for r in residuals)) / 10
    assert by_hand == pytest.approx(math.sqrt(1.5 * 11.84) / 10)
    assert score.nats_per_token == pytest.approx(mean)
    assert score.standard_error_nats == pytest.approx(by_hand)
    assert score.bits_per_byte == pytest.approx(2.3 / math.log(2) / 2)
    assert score.perplexity == pytest.approx(math.exp(2.3))


def test_the_standard_error_covers_what_other_texts_would_give() -> None:
    draw = np.random.default_rng(1)
    scores = [module._score(draw.normal(90, 12, 60), np.full(60, 30), 30, 1.0) for _ in range(300)]
    spread = float(np.std([score.nats_per_token for score in scores]))
    assert float(np.mean([score.standard_error_nats for score in scores])) == pytest.approx(spread, rel=0.15)


def test_one_block_has_no_standard_error() -> None:
    assert math.isnan(loss_on(random_model(SHAPES["gpt2"]), stream(20), bytes_per_token=1.0).standard_error_nats)


def test_a_sample_is_the_first_tokens_in_whole_blocks() -> None:
    model, ids = random_model(SHAPES["gpt2"]), stream(1000)
    sample = loss_on(model, ids, bytes_per_token=1.0, max_tokens=100)
    assert (sample.tokens, sample.blocks) == (96, 3)
    assert sample.total_nats == pytest.approx(plainly(model, ids.ids[:97])[0], rel=1e-6)
    assert loss_on(model, ids, bytes_per_token=1.0, max_tokens=10**9).tokens == 999


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(DataError, match="1 tokens"):
        loss_on(random_model(SHAPES["gpt2"]), stream(1), bytes_per_token=1.0)


def test_dropout_is_off_while_scoring_and_the_mode_is_put_back() -> None:
    shape = SHAPES["gpt2"]
    model = random_model(shape.model_copy(update={"dropout": 0.5})).train()
    score = loss_on(model, stream(300), bytes_per_token=1.0)
    assert model.training
    assert score.total_nats == pytest.approx(plainly(random_model(shape), stream(300).ids)[0], rel=1e-6)


def test_a_score_names_its_convention() -> None:
    score = loss_on(random_model(SHAPES["gpt2"]), stream(300), bytes_per_token=1.0)
    assert score.as_dict()["convention"] == "disjoint blocks"
    assert set(score.as_dict()) == set(LossScore.__dataclass_fields__)
