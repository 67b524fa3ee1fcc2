"""What is learned of examples, apart from any run: held-out parts, the test side, and what is warned of."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from finetuned_runs import WORDS, completion, pair, write

from folio.config import build
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.ranks import ALONE
from folio.tokenizer import TokenizerConfig, train_tokenizer
from folio.verbs.finetune.recipe import FinetuneRecipe
from folio.verbs.finetune.tasks import Passes, Task, task_of

TOKENIZER = train_tokenizer(["".join(WORDS) + ": a man.the egg.blue snow.a pan.fjq not"], TokenizerConfig(kind="char"))
SHAPE = GPTConfig(vocab_size=TOKENIZER.vocab_size, block_size=32, n_layer=1, n_head=2, n_embd=16)
PASSES = Passes(nullcontext(), ALONE, lambda: None)
MAKERS = {"answers": completion, "preferences": pair}


def model_of(seed: int) -> GPT:
    made = GPT(SHAPE).initialize(seed)
    with torch.no_grad():
        made.embed.weight.mul_(10)
    return made


def task(folder: Path, kind: str, context: int = 32, /, train: dict[str, Any] | None = None, **data: Any) -> Task:
    """Twelve examples to learn from, four for validation, four others for the test."""
    make = MAKERS[kind]
    write(folder / "train.jsonl", [make(word, number) for number, word in enumerate(WORDS)])
    for side in ("validation", "test"):
        held = [make(f"{side[0]} {word}", number) for number, word in enumerate(WORDS[:4])]
        data.setdefault(side, str(write(folder / f"{side}.jsonl", held)))
    given = {"path": str(folder / "train.jsonl"), "unknown_characters": "drop", **data}
    return task_of(build(FinetuneRecipe, {"data": given, "train": train or {}}), TOKENIZER, context)


def never() -> GPT:
    raise AssertionError("not to be asked for")


@pytest.mark.parametrize("kind", MAKERS)
def test_the_test_side_is_measured_as_validation_is(tmp_path: Path, kind: str) -> None:
    """On the same examples both give the same, however little of validation was asked for."""
    first = task(tmp_path, kind)
    model, start = model_of(1), model_of(2)
    first.source(4, start, PASSES)
    validation = first.validation(model, PASSES)
    other = task(tmp_path, kind, test=str(tmp_path / "validation.jsonl"), validation=str(tmp_path / "test.jsonl"),
                 train={"validation_tokens": 1})  # fmt: skip
    found = other.test(model, PASSES, lambda: start)
    assert found == {key: value for key, value in validation.items() if not key.startswith("train_")}
    assert math.isfinite(found.get("nats_per_token", found.get("nats_per_pair")))


@pytest.mark.parametrize("kind", MAKERS)
def test_without_a_test_side_nothing_is_measured_or_opened(tmp_path: Path, kind: str) -> None:
    assert task(tmp_path, kind, test=None).test(model_of(1), PASSES, never) == {}


def test_answers_are_held_against_nothing(tmp_path: Path) -> None:
    assert task(tmp_path, "answers").test(model_of(1), PASSES, never)["examples"] == 4


def test_preferences_are_held_against_the_model_that_training_began_with(tmp_path: Path) -> None:
    model = model_of(1)
    same, other = (task(tmp_path, "preferences").test(model, PASSES, lambda s=s: s) for s in (model, model_of(2)))
    assert same["nats_per_pair"] == pytest.approx(math.log(2), abs=1e-9)
    assert other["nats_per_pair"] != pytest.approx(math.log(2), abs=1e-6)


def test_validation_tokens_takes_whole_pairs(tmp_path: Path) -> None:
    whole = task(tmp_path, "preferences")
    held = whole.sets.validation
    sizes = [one.learned_tokens for one in held]  # type: ignore[union-attr]
    for tokens, count in ((1, 1), (sizes[0], 1), (sum(sizes[:3]), 3), (sum(sizes[:3]) - 1, 2), (10**6, 4)):
        part = task(tmp_path, "preferences", train={"validation_tokens": tokens})
        part.source(4, model_of(2), PASSES)
        assert part.validation(model_of(1), PASSES)["pairs"] == count


def test_examples_that_are_cut_and_epochs_of_hardly_a_step_are_warned_of(tmp_path: Path) -> None:
    rows = task(tmp_path, "answers").rows(1).rows_per_epoch
    assert task(tmp_path, "answers").warnings(1) == []
    (few,) = task(tmp_path, "answers").warnings(rows)
    assert f"an epoch is {rows} rows and a step takes {rows}" in few
    assert task(tmp_path, "answers", train={"steps": 9}).warnings(rows) == []  # the epochs say nothing
    (cut,) = task(tmp_path, "answers", 9).warnings(1)
    assert "training examples are cut and teach no end" in cut
    (cut,) = task(tmp_path, "preferences", block_size=9).warnings(1)
    assert "12 of 12 training pairs are cut and teach no end: use a longer --data.block-size" in cut
