"""The statistics of a comparison, against numbers worked out by hand, other implementations, and simulated worlds."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from folio.evaluation.comparing import paired
from folio.evaluation.comparing.paired import Difference, Floats, paired_accuracies, paired_ratios, tango_interval
from folio.evaluation.comparing.seeds import SeedSpread, paired_over_seeds, pooled, seed_spread
from folio.evaluation.comparing.verdict import in_short, judge, needed
from folio.evaluation.estimates import Z95
from folio.evaluation.significance import (
    holm,
    mcnemar_p,
    normal_two_sided,
    student_quantile,
    student_two_sided,
)


def test_mcnemar_is_the_two_sided_binomial_to_the_last_digit() -> None:
    assert mcnemar_p(0, 0) == 1.0
    assert mcnemar_p(0, 5) == 2 / 32
    assert mcnemar_p(6, 0) == 2 / 64
    assert mcnemar_p(3, 12) == mcnemar_p(12, 3) == 2 * (1 + 15 + 105 + 455) / 2**15
    assert mcnemar_p(7, 7) == 1.0
    tail = sum(math.comb(1_041, k) for k in range(490))
    assert mcnemar_p(489, 552) == float(Fraction(2 * tail, 2**1_041))


@pytest.mark.parametrize(
    ("freedom", "share", "value"),
    [
        (1, 0.975, 12.706), (2, 0.975, 4.303), (3, 0.975, 3.182), (4, 0.975, 2.776), (9, 0.975, 2.262),
        (30, 0.975, 2.042), (120, 0.975, 1.980), (1, 0.9, 3.078), (5, 0.995, 4.032), (10, 0.8, 0.879),
    ],
)  # fmt: skip
def test_students_quantiles_are_those_of_the_printed_tables(freedom: int, share: float, value: float) -> None:
    assert student_quantile(share, freedom) == pytest.approx(value, abs=6e-4)
    assert student_two_sided(student_quantile(share, freedom), freedom) == pytest.approx(2 * (1 - share), abs=1e-12)


def test_the_distributions_agree_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 3, 8, 25, 400, 9_999):
        for t in (0.0, 0.3, 1.5, 2.5, 8.0):
            assert student_two_sided(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-9, abs=1e-12)
    for gained, lost in ((0, 3), (5, 9), (40, 61), (1_000, 1_100)):
        assert mcnemar_p(gained, lost) == pytest.approx(stats.binomtest(gained, gained + lost).pvalue, rel=1e-9)
    assert normal_two_sided(9.0) == pytest.approx(2 * stats.norm.sf(9.0), rel=1e-9)


def test_holm_steps_down_as_worked_by_hand() -> None:
    steps = holm([0.01, 0.04, 0.03, 0.005])
    assert [p for p, _ in steps] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [level for _, level in steps] == pytest.approx([0.05 / 3, 0.05, 0.05 / 2, 0.05 / 4])
    assert [p for p, _ in holm([0.9, 0.8])] == [1.0, 1.0]
    adjusted = holm([math.nan, 0.04])
    assert math.isnan(adjusted[0][0])
    assert adjusted[1][0] == 0.04, "what cannot be tested does not count"


def score_statistic(gained: int, lost: int, n: int, difference: float) -> float:
    """The score of Tango, from the likelihood itself: its maximum under the difference, found on a fine grid."""
    p_lost = np.linspace(max(0.0, -difference), (1 - difference) / 2, 2_000_001)[1:-1]
    p_gained = p_lost + difference
    kept = (p_gained > 0) & (p_lost + p_gained < 1)
    p_lost, p_gained = p_lost[kept], p_gained[kept]
    likelihood = gained * np.log(p_gained) + lost * np.log(p_lost) + (n - gained - lost) * np.log(1 - p_gained - p_lost)
    best = int(np.argmax(likelihood))
    variance = n * (p_lost[best] + p_gained[best] - difference**2)
    return float((gained - lost - n * difference) / math.sqrt(variance))


@pytest.mark.parametrize(("gained", "lost", "n"), [(1, 0, 44), (12, 5, 60), (300, 340, 2_000), (0, 9, 30)])
def test_the_score_interval_ends_where_the_likelihood_says(gained: int, lost: int, n: int) -> None:
    low, high = tango_interval(gained, lost, n)
    assert score_statistic(gained, lost, n, low) == pytest.approx(Z95, abs=2e-3)
    assert score_statistic(gained, lost, n, high) == pytest.approx(-Z95, abs=2e-3)
    turned = tango_interval(lost, gained, n)
    assert (-turned[1], -turned[0]) == pytest.approx((low, high))


def test_accuracies_that_agree_on_every_item_still_have_an_interval() -> None:
    result = paired_accuracies([1, 0] * 25, [1, 0] * 25)
    assert (result.value, result.p, result.discordant) == (0.0, 1.0, (0, 0))
    assert result.high == -result.low == pytest.approx(Z95**2 / (50 + Z95**2))


def test_a_gain_in_accuracy_is_that_of_the_second() -> None:
    result = paired_accuracies([0, 0, 0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1])
    assert (result.value, result.discordant, result.p) == (0.75, (6, 0), 2 / 64)


def test_mcnemar_errs_at_most_and_about_as_often_as_promised() -> None:
    draw = np.random.default_rng(1)
    rejected = covered = 0
    worlds, n = 4_000, 300
    for _ in range(worlds):
        gained, lost, _ = draw.multinomial(n, (0.15, 0.15, 0.7))
        rejected += mcnemar_p(int(gained), int(lost)) <= 0.05
    assert 0.025 < rejected / worlds <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)
    for _ in range(1_000):
        gained, lost, _ = draw.multinomial(n, (0.2, 0.12, 0.68))
        low, high = tango_interval(int(gained), int(lost), n)
        covered += low <= 0.08 <= high
    assert 0.93 < covered / 1_000 < 0.97


def document_losses(
    draw: np.random.Generator, n: int, *, skewed: bool = False, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses of two models on documents of very different lengths; the second is worse by ``shift`` nats a token."""
    tokens = np.round(draw.lognormal(5, 0.6, n)) + 1
    first = tokens * draw.normal(3, 0.3, n)
    chance = draw.exponential(0.1, n) - 0.1 if skewed else draw.normal(0, 0.1, n)
    return first, first + tokens * (shift + chance), tokens


@pytest.mark.parametrize(
    ("n", "skewed", "lowest"), [(5, False, 0.92), (12, False, 0.92), (60, False, 0.93), (60, True, 0.91)]
)
def test_the_bootstrap_covers_and_errs_as_promised_also_on_few_documents(
    n: int, skewed: bool, lowest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paired, "RESAMPLES", 1_000)
    draw = np.random.default_rng(n)
    worlds, rejected, covered = 1_500, 0, 0
    for world in range(worlds):
        result = paired_ratios(*document_losses(draw, n, skewed=skewed), seed=world)
        rejected += result.p <= 0.05
        covered += result.low <= 0 <= result.high
    assert lowest <= covered / worlds <= 0.97
    assert rejected == pytest.approx(worlds - covered, abs=0.006 * worlds), "p and interval say the same"


def test_the_bootstrap_of_plain_means_is_close_to_the_t_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    draw = np.random.default_rng(3)
    first = draw.normal(0, 1, 40)
    second = first + draw.normal(0.25, 0.7, 40)
    result = paired_ratios(first, second, np.ones(40))
    judge_of_it = stats.ttest_rel(second, first)
    assert result.p == pytest.approx(judge_of_it.pvalue, rel=0.25)
    interval = judge_of_it.confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), abs=0.02)
    few = paired_ratios(first[:6], second[:6], np.ones(6))
    assert few.p == pytest.approx(stats.ttest_rel(second[:6], first[:6]).pvalue)
    assert "too few items" in few.method


def test_the_same_seed_draws_the_same_and_long_documents_weigh_more() -> None:
    draw = np.random.default_rng(0)
    world = document_losses(draw, 50, shift=0.1)
    assert paired_ratios(*world, seed=4) == paired_ratios(*world, seed=4)
    assert paired_ratios(*world, seed=4).low != paired_ratios(*world, seed=5).low
    assert paired_ratios([0, 0], [9, 2], [9, 1]).value == pytest.approx(1.1)


def test_what_no_resample_contradicts_is_a_bound_and_one_item_says_nothing() -> None:
    sure = paired_ratios(np.zeros(50), np.linspace(1, 2, 50), np.ones(50))
    assert sure.p_is_bound
    assert 0 < sure.p < 0.001
    one = paired_ratios([1.0], [2.0], [1.0])
    assert one.value == 1.0
    assert all(math.isnan(x) for x in (one.p, one.low, one.high, one.standard_error))
    same = paired_ratios(np.ones(20), np.ones(20), np.ones(20))
    assert (same.value, same.p) == (0.0, 1.0)


def worlds_of_seeds(
    draw: np.random.Generator, seeds: tuple[int, int], n: int, seed_sd: float, right: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Two ways of training that are equally good; items are hard or easy, seeds lucky or not, and both by chance."""
    item = draw.normal(0, 1, n)
    sides = []
    for k in seeds:
        logits = item + draw.normal(0, 0.3, n) + draw.normal(0, seed_sd, (k, 1)) + draw.normal(0, 0.7, (k, n))
        sides.append((logits > 0.5).astype(float) if right else logits)
    return sides[0], sides[1]


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("seed_sd", [0.0, 0.3])
@pytest.mark.parametrize("seeds", [(2, 2), (5, 3), (1, 4)])
def test_several_seeds_err_at_most_about_one_time_in_twenty(
    seeds: tuple[int, int], seed_sd: float, right: bool
) -> None:
    draw = np.random.default_rng(7)
    worlds, n = 800, 120
    rejected = sum(
        paired_over_seeds(*worlds_of_seeds(draw, seeds, n, seed_sd, right), np.ones(n)).p <= 0.05 for _ in range(worlds)
    )
    assert rejected / worlds <= 0.065


def test_the_variance_of_seeds_is_what_it_was_made_with() -> None:
    draw = np.random.default_rng(2)
    seed_sd, n = 0.2, 200
    parts = [
        sum(paired_over_seeds(*worlds_of_seeds(draw, (4, 4), n, seed_sd, False), np.ones(n)).seed_parts)
        for _ in range(400)
    ]
    assert np.mean(parts) == pytest.approx(2 * seed_sd**2 / 4, rel=0.1)


def test_seeds_by_hand() -> None:
    first, second = np.array([[0.0, 2.0, 4.0], [2.0, 4.0, 6.0]]), np.array([[5.0, 6.0, 10.0]])
    result = paired_over_seeds(first, second, np.ones(3))
    assert result.value == pytest.approx(4.0)  # 7 against the mean of 2 and 4
    assert result.item_sd == pytest.approx(1.0)  # differences 4, 3, 5
    assert result.seed_parts == pytest.approx((1.0, 2.0))  # variance 2 over two seeds; borrowed, over one
    assert result.standard_error == pytest.approx(math.sqrt(1 / 3 + 1 + 2))
    # (1/3 + 3)^2 / ((1/3)^2 / 2 + 3^2 / 1) = 1.2: the borrowed variance is no second estimate
    assert (result.freedom, result.seeds) == (1, (2, 1))
    assert result.high - result.value == pytest.approx(12.7062 * result.standard_error, rel=1e-4)


def test_single_seeds_borrow_from_other_arms() -> None:
    lent = pooled([seed_spread(np.array([[0.0, 2.0], [2.0, 4.0]]), np.ones(2)), SeedSpread(5.0, 1.0, 3)])
    assert (lent.variance, lent.noise, lent.freedom) == ((2 + 15) / 4, 3 / 4, 4)
    result = paired_over_seeds(np.array([[1.0, 2.0]]), np.array([[3.0, 5.0]]), np.ones(2), lent)
    assert result.seed_parts == pytest.approx((3.5, 3.5))
    # variance 0.25 + 7; freedom 7.25^2 / (8.5^2 / 4 + 0.25^2 / 1)
    assert (result.value, result.freedom) == (2.5, 2)


def test_what_is_said_to_be_needed_has_the_power_that_is_said() -> None:
    draw = np.random.default_rng(11)
    first = (draw.random(400) < 0.5).astype(float)
    second = np.where(draw.random(400) < 0.2, 1 - first, first)
    second[:4] = 1 - first[:4]
    seen = paired_accuracies(first, second)
    assert seen.discordant is not None
    items, seeds = needed(seen, 0.05)
    assert items is not None
    assert seeds is None
    z = 1.959964 + 0.841621
    assert items == pytest.approx((z * seen.item_sd / seen.value) ** 2, rel=0.01)
    shares = np.array(seen.discordant) / 400
    shown = 0
    for _ in range(1_000):
        gained, lost, _ = draw.multinomial(items, (*shares, 1 - shares.sum()))
        shown += mcnemar_p(int(gained), int(lost)) <= 0.05
    assert 0.76 < shown / 1_000 < 0.84


def test_where_seeds_differ_most_more_seeds_are_asked_for_and_they_would_do() -> None:
    draw = np.random.default_rng(5)
    first = draw.normal(0, 0.5, (3, 1)) + draw.normal(0, 0.05, (3, 200))
    second = 0.2 + draw.normal(0, 0.5, (3, 1)) + draw.normal(0, 0.05, (3, 200))
    seen = paired_over_seeds(first, second, np.ones(200))
    items, seeds = needed(seen, 0.05)
    assert items is None
    assert seeds is not None
    one_seed = sum(part * 3 for part in seen.seed_parts) / 2
    shown = sum(
        paired_over_seeds(
            draw.normal(0, math.sqrt(one_seed), (seeds, 1)) + draw.normal(0, 0.05, (seeds, 50)),
            draw.normal(seen.value, math.sqrt(one_seed), (seeds, 1)) + draw.normal(0, 0.05, (seeds, 50)),
            np.ones(50),
        ).p
        <= 0.05
        for _ in range(300)
    )
    assert 0.72 < shown / 300 < 0.88
    words = judge(seen, seen.p, 0.05, better="higher", points=False).words
    assert "seeds of each" in words
    assert "more items alone would not do" in words


def test_verdicts_in_words() -> None:
    draw = np.random.default_rng(0)
    right = draw.permutation(np.repeat([1.0, 0.0], [1_300, 3_700]))
    changed = right.copy()
    changed[np.flatnonzero(right == 0)[:415]] = 1
    changed[np.flatnonzero(right == 1)[:400]] = 0
    unsure = paired_accuracies(right, changed)
    verdict = judge(unsure, unsure.p, 0.05, better="higher", points=True)
    assert verdict.outcome == "cannot tell"
    assert verdict.words == (
        "cannot tell with n = 5,000: difference +0.3 points (95 % -0.8 to +1.4); you would need about n = 150,000 to "
        "see a difference of this size (80 % power, 5 % level)"
    )
    gain = paired_accuracies(np.zeros(100), np.repeat([1.0, 0.0], [20, 80]))
    assert judge(gain, gain.p, 0.05, better="higher", points=True).outcome == "better"
    assert judge(gain, gain.p, 0.05, better="lower", points=True).outcome == "worse"
    assert judge(gain, 0.3, 0.05, better="higher", points=True).outcome == "cannot tell", "the corrected p decides"
    none = paired_accuracies([1, 0, 1], [1, 0, 1])
    assert "the same on every item" in judge(none, none.p, 0.05, better="higher", points=True).words
    one = paired_ratios([1.0], [2.0], [1.0])
    assert "one item alone" in judge(one, one.p, 0.05, better="lower", points=False).words


def test_a_verdict_in_short_is_its_outcome_and_what_is_missing() -> None:
    assert in_short("better") == "better"
    assert in_short("cannot tell") == "cannot tell"
    assert in_short("cannot tell", 61_234) == "cannot tell, would need n about 62,000"
    assert in_short("cannot tell", None, 5) == "cannot tell, would need about 5 seeds of each"
    assert in_short("cannot tell", 60, 5) == "cannot tell, would need n about 60 and about 5 seeds of each"


@pytest.mark.parametrize(("gained", "equal", "needs"), [(2, 0, 6), (4, 0, 6), (3, 3, 12)])
def test_few_answers_that_all_differ_one_way_need_as_many_as_the_exact_test_can_reject_with(
    gained: int, equal: int, needs: int
) -> None:
    seen = paired_accuracies(np.zeros(gained + equal), np.repeat([1.0, 0.0], [gained, equal]))
    verdict = judge(seen, seen.p, 0.05, better="higher", points=True)
    assert verdict.outcome == "cannot tell"
    assert verdict.items_needed is not None
    assert verdict.items_needed >= needs
    rejecting = verdict.items_needed * gained // (gained + equal)
    assert mcnemar_p(rejecting, 0) <= 0.05 < mcnemar_p(5, 0)


def test_a_corrected_level_asks_for_more_discordant_items() -> None:
    seen = paired_accuracies(np.zeros(4), np.ones(4))
    items, _ = needed(seen, 0.01)
    assert items is not None
    assert items >= 8
    assert mcnemar_p(8, 0) <= 0.01 < mcnemar_p(7, 0)


def test_one_item_of_an_accuracy_on_which_models_differ_can_tell_nothing() -> None:
    seen = paired_accuracies([0.0], [1.0])
    verdict = judge(seen, seen.p, 0.05, better="higher", points=True)
    assert verdict.words == "cannot tell with n = 1: one item alone has no spread"
    assert math.isnan(verdict.detectable)


@pytest.mark.parametrize("second", [np.zeros(10), np.ones(10)])
def test_without_a_spread_nothing_is_said_to_be_detectable(second: Floats) -> None:
    seen = paired_accuracies(np.zeros(10), second)
    verdict = judge(seen, seen.p, 0.05, better="higher", points=True)
    assert verdict.outcome == ("better" if second.any() else "cannot tell")
    assert math.isnan(verdict.detectable)


def test_where_neither_items_nor_seeds_alone_would_do_both_are_asked_for() -> None:
    seen = Difference(
        value=0.1, n=100, standard_error=1.0, low=-1.9, high=2.1, p=0.9, method="", item_sd=5.0, seeds=(3, 3),
        seed_parts=(0.2, 0.1), freedom=4,
    )  # fmt: skip
    allowed = (0.1 / (1.959964 + 0.841621)) ** 2
    items, seeds = needed(seen, 0.05)
    assert items == math.ceil(2 * 25 / allowed)
    assert seeds == math.ceil(2 * 0.9 / allowed)
    words = judge(seen, 0.9, 0.05, better="higher", points=False).words
    assert "you would need about n = 40,000 and 1,500 seeds of each" in words
    closer = judge(replace(seen, p=0.04), 0.08, 0.025, better="higher", points=False).words
    assert "p = 0.04 alone but 0.08 corrected" in closer
    assert "2.5 % level" in closer
