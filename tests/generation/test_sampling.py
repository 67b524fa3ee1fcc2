"""Each filter keeps what transformers' own keeps; draws follow the distribution and depend on their row alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from folio.generation.config import GenerationConfig
from folio.generation.sampling import draw, keep_top_p, next_ids, penalize_repetition, shape_logits

judges = pytest.importorskip("transformers.generation.logits_process")


def random_logits(rows: int = 5, vocabulary: int = 3000, scale: float = 3.0) -> Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(3)) * scale


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"temperature": 0.7}, ["TemperatureLogitsWarper"]),
        ({"temperature": 1.0, "top_k": 7}, ["TopKLogitsWarper"]),
        ({"temperature": 1.0, "top_k": 10**6}, []),
        ({"temperature": 1.0, "top_p": 0.6}, ["TopPLogitsWarper"]),
        ({"temperature": 1.0, "top_p": 1e-6}, ["TopPLogitsWarper"]),
        ({"temperature": 1.0, "min_p": 0.05}, ["MinPLogitsWarper"]),
        (
            {"temperature": 1.3, "top_k": 50, "top_p": 0.9, "min_p": 0.02},
            ["TemperatureLogitsWarper", "TopKLogitsWarper", "TopPLogitsWarper", "MinPLogitsWarper"],
        ),
    ],
)
def test_filters_keep_what_transformers_keeps(settings: dict[str, float], names: list[str]) -> None:
    logits_BV = random_logits()
    keys = {"TemperatureLogitsWarper": "temperature", "TopKLogitsWarper": "top_k", "TopPLogitsWarper": "top_p"}
    expected_BV = logits_BV.clone()
    for name in names:
        expected_BV = getattr(judges, name)(settings[keys.get(name, "min_p")])(None, expected_BV)

    shaped_BV = shape_logits(logits_BV, None, GenerationConfig.model_validate(settings))

    assert torch.equal(shaped_BV.isinf(), expected_BV.isinf())
    assert (not names) or names == ["TemperatureLogitsWarper"] or shaped_BV.isinf().any()
    torch.testing.assert_close(shaped_BV, expected_BV)


def test_a_flat_nucleus_wider_than_the_first_guess_is_found_whole() -> None:
    logits_BV = random_logits(vocabulary=6000, scale=0.1)
    expected_BV = judges.TopPLogitsWarper(0.9)(None, logits_BV)
    kept_BV = keep_top_p(logits_BV, 0.9)
    assert (~kept_BV.isinf()).sum(-1).min() > 4000
    assert ((kept_BV.isinf() != expected_BV.isinf()).sum(-1) <= 1).all()  # theirs sums in fp32


def test_repetition_penalty_is_transformers_own() -> None:
    logits_BV = random_logits()
    seen = torch.tensor([[1, 5, 5, 9]] * 5)
    seen_BV = torch.zeros_like(logits_BV, dtype=torch.bool).scatter_(1, seen, True)
    expected_BV = judges.RepetitionPenaltyLogitsProcessor(1.4)(seen, logits_BV.clone())
    torch.testing.assert_close(penalize_repetition(logits_BV, seen_BV, 1.4), expected_BV)
    assert not torch.equal(expected_BV, logits_BV)


def test_draws_follow_the_distribution_and_never_hit_zero() -> None:
    probs = torch.tensor([0.0, 0.5, 0.0, 0.2, 0.3, 0.0])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw(probs.log()[None], [generator])[0] for _ in range(4000)])
    shares = drawn.bincount(minlength=6) / 4000
    assert shares[probs == 0].sum() == 0
    torch.testing.assert_close(shares, probs, atol=0.03, rtol=0)


def test_a_rows_draw_does_not_depend_on_its_neighbours() -> None:
    logits_BV, config = random_logits(), GenerationConfig(temperature=1.0)
    together = next_ids(logits_BV, None, config, [torch.Generator().manual_seed(i) for i in range(5)])
    alone = [next_ids(logits_BV[i : i + 1], None, config, [torch.Generator().manual_seed(i)]) for i in range(5)]
    assert together.tolist() == torch.cat(alone).tolist()


def test_zero_temperature_takes_the_likeliest_and_draws_nothing() -> None:
    logits_BV = random_logits()
    assert (
        next_ids(logits_BV, None, GenerationConfig(temperature=0, top_k=3), []).tolist()
        == logits_BV.argmax(-1).tolist()
    )


def test_low_precision_logits_are_shaped_in_fp32() -> None:
    config = GenerationConfig(temperature=0.7, top_p=0.9)
    shaped_BV = shape_logits(random_logits().bfloat16(), None, config)
    assert shaped_BV.dtype == torch.float32


@pytest.mark.parametrize(
    "bad", [{"temperature": -1}, {"top_k": 0}, {"top_p": 0}, {"top_p": 1.1}, {"min_p": 2}, {"stop": ("",)}]
)
def test_impossible_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        GenerationConfig.model_validate(bad)
