"""Log-likelihoods of continuations: those of each text by itself, whatever is computed together, and fast or not."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from model_shapes import SHAPES, random_model

from folio.evaluation import engine
from folio.evaluation.engine import Likelihood, Query, log_likelihoods, pieces_of, token_log_probabilities
from folio.model.folder import save_model
from folio.model.gpt import GPT
from folio.model.loss import chosen_log_probabilities


def ids(draw: random.Random, least: int, most: int) -> list[int]:
    return [draw.randrange(101) for _ in range(draw.randint(least, most))]


def questions(count: int, seed: int = 0) -> list[Query]:
    draw = random.Random(seed)
    return [
        Query(ids(draw, 1, 14), tuple(ids(draw, 1, 9) for _ in range(draw.choice((1, 2, 4, 7))))) for _ in range(count)
    ]


def plainly(model: GPT, context: Sequence[int], continuation: Sequence[int]) -> tuple[list[float], bool]:
    """Log-probabilities of a continuation from full logits of its text alone, and whether each id was the likeliest."""
    whole = torch.tensor([[*context, *continuation]])
    with torch.no_grad():
        log_p = torch.log_softmax(model(whole[:, :-1])[0].double(), -1)[len(context) - 1 :]
    targets = torch.tensor(continuation)
    return log_p.gather(1, targets[:, None])[:, 0].tolist(), bool((log_p.argmax(-1) == targets).all())


@pytest.mark.parametrize("worth_reordering", [1, 10**9])
@pytest.mark.parametrize("pass_tokens", [1, 40, 100_000])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_continuation_is_scored_as_if_it_were_alone(
    shape: str, pass_tokens: int, worth_reordering: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "WORTH_REORDERING", worth_reordering)
    model = random_model(SHAPES[shape])
    asked = questions(17)
    found = log_likelihoods(model, asked, pass_tokens=pass_tokens)
    by_token = token_log_probabilities(model, asked, pass_tokens=pass_tokens)
    for query, answers, values in zip(asked, found, by_token, strict=True):
        assert len(answers) == len(values) == len(query.continuations)
        for continuation, answer, value in zip(query.continuations, answers, values, strict=True):
            expected, likeliest = plainly(model, query.context, continuation)
            assert value.tolist() == pytest.approx(expected, abs=2e-5)
            assert answer.log_likelihood == pytest.approx(sum(expected), abs=1e-4)
            assert (answer.tokens, answer.greedy, answer.cut) == (len(continuation), likeliest, 0)


def test_transformers_agrees(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = random_model(SHAPES["llama"])
    save_model(model, tmp_path)
    judge = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    asked = questions(5, seed=3)
    for query, answers in zip(asked, log_likelihoods(model, asked), strict=True):
        for continuation, answer in zip(query.continuations, answers, strict=True):
            text = torch.tensor([[*query.context, *continuation]])
            with torch.no_grad():
                log_p = torch.log_softmax(judge(text).logits[0, :-1].double(), -1)
            start = len(query.context) - 1
            expected = log_p[start:].gather(1, text[0, start + 1 :, None]).sum()
            assert answer.log_likelihood == pytest.approx(float(expected), abs=1e-4)


def test_a_context_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = random_model(SHAPES["gpt2"]), []
    hidden = GPT.hidden
    monkeypatch.setattr(
        GPT, "hidden", lambda self, ids, cache=None: (seen.append(ids.numel()), hidden(self, ids, cache))[1]
    )
    log_likelihoods(model, [Query(list(range(20)), ([1, 2, 3], [4, 5], [6], [7, 8]))])
    assert seen == [20 + 2 + 1 + 0 + 1]


def test_the_head_sees_only_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []

    def watched(hidden: torch.Tensor, head: torch.Tensor, at: torch.Tensor, *rest: object) -> object:
        rows.append(len(set(at.tolist())))
        return chosen_log_probabilities(hidden, head, at, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "chosen_log_probabilities", watched)
    log_likelihoods(random_model(SHAPES["gpt2"]), [Query(list(range(20)), ([1, 2, 3], [4, 5], [6]))])
    assert rows == [1 + 2 + 1]


def test_a_pass_holds_no_more_than_it_may() -> None:
    trees = [engine._Tree([0] * length, []) for length in (5, 30, 7, 7, 12, 3, 30, 1)]
    passes = list(engine._passes(trees, 36))
    assert sorted(len(tree.context) for one in passes for tree in one) == sorted(len(tree.context) for tree in trees)
    assert all(len(one) == 1 or len(one) * max(tree.slots for tree in one) <= 36 for one in passes)
    sizes = [tree.slots for one in passes for tree in one]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("over", [1, 5])
def test_a_context_that_is_too_long_loses_its_start(over: int) -> None:
    model = random_model(SHAPES["gpt2"])
    T = model.config.block_size
    draw = random.Random(1)
    context, long, short = ids(draw, T, T), ids(draw, over + 1, over + 1), ids(draw, 1, 1)
    (answers,) = log_likelihoods(model, [Query(context, (long, short))])
    assert [answer.cut for answer in answers] == [over, 0]
    assert answers[0].log_likelihood == pytest.approx(sum(plainly(model, context[over:], long)[0]), abs=1e-4)
    assert answers[1].log_likelihood == pytest.approx(sum(plainly(model, context, short)[0]), abs=1e-4)


@pytest.mark.parametrize("length", [32, 33, 48, 49, 200])
def test_a_continuation_longer_than_the_context_is_scored_whole_with_half_a_context_before_each_id(length: int) -> None:
    model = random_model(SHAPES["gpt2"])
    T = model.config.block_size
    assert T == 32
    draw = random.Random(2)
    context, continuation = ids(draw, 40, 40), ids(draw, length, length)
    ((answer,),) = log_likelihoods(model, [Query(context, (continuation,))])
    whole, total = context + continuation, 0.0
    if length == T:
        total = sum(plainly(model, context[-1:], continuation)[0])
    else:
        for start in range(len(context), len(whole), T // 2):
            total += sum(plainly(model, whole[start - T // 2 : start], whole[start : start + T // 2])[0])
    assert answer.log_likelihood == pytest.approx(total, abs=1e-3)
    assert (answer.tokens, answer.cut > 0) == (length, True)


def test_pieces_cover_a_continuation_once_and_are_seen_at_once() -> None:
    draw = random.Random(4)
    for _ in range(200):
        context, continuation = ids(draw, 1, 40), ids(draw, 1, 90)
        block_size = draw.randint(1, 40)
        pieces = pieces_of(context, continuation, block_size)
        assert [id for _, _, scored in pieces for id in scored] == continuation
        assert all(len(seen) + len(scored) - 1 <= block_size and len(seen) >= 1 for _, seen, scored in pieces)
        cut, seen, _ = pieces[0]
        assert list(seen) == context[cut:]
        if len(pieces) > 1:
            assert all(len(seen) >= min(block_size // 2, len(context)) for _, seen, _ in pieces)


def test_greedy_is_true_of_what_the_model_would_write() -> None:
    model = random_model(SHAPES["qwen3"])
    context = [5, 6, 7]
    written = list(context)
    for _ in range(4):
        with torch.no_grad():
            written.append(int(model(torch.tensor([written]))[0, -1].argmax()))
    right, wrong = written[3:], [*written[3:6], (written[6] + 1) % 101]
    ((first, second),) = log_likelihoods(model, [Query(context, (right, wrong))])
    assert (first.greedy, second.greedy) == (True, False)


def test_nothing_of_the_model_or_of_chance_is_touched() -> None:
    model = random_model(SHAPES["gpt2"].model_copy(update={"dropout": 0.5})).train()
    before = torch.get_rng_state()
    first = log_likelihoods(model, questions(3))
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert first == log_likelihoods(model.eval(), questions(3))


def test_lower_precision_stays_near_and_its_context_may_be_entered_again() -> None:
    model, autocast = random_model(SHAPES["gpt2"]), torch.autocast("cpu", dtype=torch.bfloat16)
    for _ in range(2):
        found = log_likelihoods(model, questions(5), autocast=autocast, pass_tokens=50)
        for one, two in zip(found, log_likelihoods(model, questions(5)), strict=True):
            assert [a.log_likelihood for a in one] == pytest.approx([b.log_likelihood for b in two], rel=0.05)
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("worth_reordering", [1, 10**9])
def test_what_all_logits_share_costs_no_digits_in_bf16(worth_reordering: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WORTH_REORDERING", worth_reordering)
    model = random_model(SHAPES["gpt2-untied"])
    asked, autocast = questions(6), torch.autocast("cpu", dtype=torch.bfloat16)

    def error() -> float:
        pairs = zip(log_likelihoods(model, asked), log_likelihoods(model, asked, autocast=autocast), strict=True)
        off = [
            abs(a.log_likelihood - b.log_likelihood) / a.tokens
            for one, two in pairs
            for a, b in zip(one, two, strict=True)
        ]
        return sum(off) / len(off)

    near_zero = error()
    with torch.no_grad():
        model.head.weight += 40 * torch.randn(model.config.n_embd, generator=torch.Generator().manual_seed(3))
    assert error() < 2 * near_zero


def test_poll_is_asked_between_passes_and_may_end_it() -> None:
    class Enough(Exception):
        pass

    calls = []

    def poll() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Enough

    model = random_model(SHAPES["gpt2"]).train()
    with pytest.raises(Enough):
        log_likelihoods(model, questions(9), poll=poll, pass_tokens=1)
    assert (len(calls), model.training) == (3, True)


def test_real_questions_have_the_plain_likelihoods(shared_data: object) -> None:
    from folio.tokenizer import gpt2_tokenizer

    path = shared_data("hellaswag_val_0-4999.jsonl")  # type: ignore[operator]
    tokenizer = gpt2_tokenizer()
    shape = SHAPES["gpt2"].model_copy(update={"vocab_size": 50257, "block_size": 256})
    model = random_model(shape)
    lines = [json.loads(line) for line in path.read_text().splitlines()[:5000:625]]
    asked = [
        Query(tokenizer.encode(line["ctx"]), tuple(tokenizer.encode(f" {ending}") for ending in line["endings"]))
        for line in lines
    ]
    for query, answers in zip(asked, log_likelihoods(model, asked), strict=True):
        for continuation, answer in zip(query.continuations, answers, strict=True):
            expected = sum(plainly(model, query.context, continuation)[0])
            assert answer == Likelihood(pytest.approx(expected, abs=1e-4), len(continuation), answer.greedy)
