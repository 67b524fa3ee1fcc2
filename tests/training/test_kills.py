"""Runs that are killed (``kill -9``) at random moments, over and over, end with the bits of runs left alone.

The quick form is part of every test run. ``-m slow`` kills more than a hundred times: plain and asynchronous
checkpoints, compiled models, averaged weights, one rank and two, whole jobs and single ranks.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from real_runs import write_recipe

from folio.cli import main
from folio.verbs.victim import FIRST, SAVE, START, STEP, VALIDATION

LONGER = (
    *("--train.steps", "96", "--train.checkpoint-every", "4", "--train.validate-every", "8"),
    *("--train.validation-tokens", "0", "--train.sample-every", "0"),
)
SLOW: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "one rank": (1, 25, LONGER),
    "one rank, async checkpoints": (1, 20, (*LONGER, "--train.checkpoint-async")),
    "one rank, averaged weights, AdamW": (
        1,
        10,
        (*LONGER, "--train.ema-decay", "0.9", "--train.optimizer.kind", "adamw"),
    ),
    "one rank, compiled": (1, 10, (*LONGER, "--train.compile", "on")),
    "two ranks, ddp": (2, 14, (*LONGER, "--train.parallel", "ddp")),
    "two ranks, fsdp": (2, 14, (*LONGER, "--train.parallel", "fsdp")),
    "two ranks, ddp, async checkpoints": (2, 8, (*LONGER, "--train.parallel", "ddp", "--train.checkpoint-async")),
    "two ranks, fsdp, async checkpoints": (2, 8, (*LONGER, "--train.parallel", "fsdp", "--train.checkpoint-async")),
}
"""Ranks, kills, and the flags over the small recipe."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


def killed(recipe: Path, kills: int, ranks: int, flags: tuple[str, ...], capsys: Any) -> Counter[str]:
    """How many kills hit each moment, every run having ended with the undisturbed one's bits."""
    verb = ["verify-resume", str(recipe), "--kills", str(kills), "--ranks", str(ranks), *flags, "--json"]
    code = main(verb)
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert code == 0, captured.err
    assert len(answer["kills"]) == kills
    assert answer["differences"] == 0
    assert {run["weights_sha256"] for run in answer["runs"]} == {answer["undisturbed"]["weights_sha256"]}
    if ranks > 1:
        assert {kill["target"] for kill in answer["kills"]} - {"all"}, "no rank was killed alone"
    return Counter(kill["moment"] for kill in answer["kills"])


def test_six_kills_change_no_bit(recipe: Path, capsys: Any) -> None:
    assert sum(killed(recipe, 6, 1, (), capsys).values()) == 6


def test_three_kills_of_two_ranks_change_no_bit(recipe: Path, capsys: Any) -> None:
    """Of one rank, which torchrun answers by starting both again, and of the whole job."""
    assert sum(killed(recipe, 3, 2, (), capsys).values()) == 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", SLOW)
def test_a_hundred_kills_change_no_bit(case: str, recipe: Path, capsys: Any) -> None:
    ranks, kills, flags = SLOW[case]
    moments = killed(recipe, kills, ranks, flags, capsys)
    with capsys.disabled():
        print(f"\n{case}: {kills} kills: {dict(moments)}")
    if kills >= 20:
        assert {STEP, SAVE, VALIDATION} <= moments.keys()
        assert moments[START] + moments[FIRST] > 0


def test_the_slow_form_kills_a_hundred_times_and_more() -> None:
    assert sum(kills for _, kills, _ in SLOW.values()) >= 100
