"""The loss of packed examples is that of each example alone, with the same gradient, whoever lies beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from folio.finetuning.batches import PackedRows, evaluation_rows
from folio.finetuning.examples import Example
from folio.finetuning.objective import PackedTokens
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.model.loss import IGNORE

CPU = torch.device("cpu")
T = 24
SHAPES = {
    "learned": GPTConfig(vocab_size=37, block_size=T, n_layer=2, n_head=2, n_embd=32),
    "rope and GQA": GPTConfig(
        vocab_size=37, block_size=T, n_layer=2, n_head=4, n_kv_head=2, n_embd=32, norm="rmsnorm", activation="swiglu",
        position="rope", qk_norm=True, bias=False, tie_embeddings=False,
    ),
}  # fmt: skip
LENGTHS = (5, 11, 3, 24, 7, 9, 2, 16)


def model_of(shape: GPTConfig) -> GPT:
    """A model whose weights are large enough for one token to matter to another."""
    model = GPT(shape).initialize(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)
    return model.train()


def examples_of(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> list[Example]:
    draw = np.random.default_rng(seed)
    made = []
    for number, length in enumerate(lengths):
        learned = draw.random(length + 1) < 0.6
        learned[0], learned[-1] = False, True
        made.append(Example(f"e{number}", draw.integers(0, 37, length + 1).astype(np.int32), learned))
    return made


def packed(examples: list[Example], rows: int = 99) -> PackedRows:
    return next(iter(evaluation_rows(examples, T, rows)))


def alone(model: GPT, example: Example) -> Tensor:
    """Its summed nats by the plain forward of the example by itself."""
    ids = torch.from_numpy(example.ids.astype(np.int64))[None]
    targets = torch.where(torch.from_numpy(example.learned)[None], ids, IGNORE)
    nats, _ = model(ids[:, :-1], targets[:, 1:])
    return nats  # type: ignore[no-any-return]


def gradients(model: GPT, nats: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    nats.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()), msg=name)


@pytest.mark.parametrize("name", SHAPES)
def test_loss_and_gradient_are_those_of_each_example_alone(name: str) -> None:
    model, examples = model_of(SHAPES[name]), examples_of()
    rows = packed(examples)
    assert max(map(len, rows.lengths)) > 1  # several share a row
    together = PackedTokens(model.config).nats(model.forward, rows, CPU)
    each = torch.stack([alone(model, example) for example in examples]).sum()
    torch.testing.assert_close(together, each, rtol=1e-5, atol=0)
    assert_close(gradients(model, together), gradients(model, each))


def test_what_is_counted_is_what_is_learned() -> None:
    examples = examples_of()
    rows = packed(examples)
    assert PackedTokens(SHAPES["learned"]).count(rows) == sum(int(one.learned[1:].sum()) for one in examples)
    assert PackedTokens(SHAPES["learned"]).count(packed(examples, 1)) < PackedTokens(SHAPES["learned"]).count(rows)


def each_place(objective: PackedTokens, model: GPT, rows: PackedRows) -> list[float]:
    ids, targets, context = objective.inputs(rows, CPU)
    nats, _ = model(ids, targets, cache=context, each=True)
    return nats.detach().flatten().tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", SHAPES)
def test_an_example_does_not_see_its_neighbours(name: str) -> None:
    """Other ids beside it, of the same and of another length, before and after: its nats stay."""
    model = model_of(SHAPES[name])
    own = examples_of((6,))[0]
    seen = []
    for before, after in ((examples_of((5,), 1), examples_of((9,), 2)), (examples_of((5,), 3), examples_of((9,), 4)),
                          (examples_of((8,), 5), examples_of((2,), 6)), ([], [])):  # fmt: skip
        rows = side_by_side([*before, own, *after])
        start = sum(one.length for one in before)
        seen.append(each_place(PackedTokens(model.config), model, rows)[start : start + own.length])
    assert seen[0] == pytest.approx(seen[1], abs=1e-6)
    assert seen[0] == pytest.approx(seen[2], abs=1e-5)
    assert seen[0] == pytest.approx(seen[3], abs=1e-5)


def side_by_side(examples: list[Example]) -> PackedRows:
    """One row of them in that order."""
    ids, targets = np.zeros((1, T), dtype=np.int64), np.full((1, T), IGNORE, dtype=np.int64)
    start = 0
    for one in examples:
        end = start + one.length
        ids[0, start:end] = one.ids[:-1]
        targets[0, start:end] = np.where(one.learned[1:], one.ids[1:], IGNORE)
        start = end
    return PackedRows(ids, targets, (tuple(one.length for one in examples),))


@pytest.mark.parametrize("name", SHAPES)
def test_across_a_row_is_read_as_it_lies(name: str) -> None:
    model = model_of(SHAPES[name])
    row = side_by_side(examples_of((5, 9, 6)))
    across, apart = PackedTokens(model.config, across=True), PackedTokens(model.config)
    plain, _ = model(torch.from_numpy(row.ids[:, :20]), torch.from_numpy(row.targets[:, :20]))
    nats = across.nats(model.forward, row, CPU)
    torch.testing.assert_close(nats, plain, rtol=1e-6, atol=0)
    assert nats.item() != pytest.approx(apart.nats(model.forward, row, CPU).item(), rel=1e-4)
    assert each_place(across, model, row)[:5] == pytest.approx(each_place(apart, model, row)[:5], abs=1e-5)


@pytest.mark.parametrize("across", [False, True])
def test_recomputing_gives_the_same_gradient(across: bool) -> None:
    model, rows = model_of(SHAPES["rope and GQA"]), packed(examples_of())
    objective = PackedTokens(model.config, across=across)
    kept = gradients(model, objective.nats(model.forward, rows, CPU))
    model.recompute = True
    again = gradients(model, objective.nats(model.forward, rows, CPU))
    assert [name for name in kept if not torch.equal(kept[name], again[name])] == []


def dropped(shape: GPTConfig, seed: int, **objective: Any) -> float:
    """The loss of a model of ``shape`` by an objective that drops half of what attention sees, and nothing else."""
    model = model_of(shape)
    halves = PackedTokens(shape.model_copy(update={"dropout": 0.5}), **objective)
    torch.manual_seed(seed)
    return halves.nats(model.forward, packed(examples_of()), CPU).item()


def test_dropout_acts_within_packed_attention() -> None:
    """The model's own layers drop nothing here, so what differs is attention."""
    shape = SHAPES["learned"]
    model = model_of(shape)
    plain = PackedTokens(shape).nats(model.forward, packed(examples_of()), CPU).item()
    assert dropped(shape, 0) != pytest.approx(plain, rel=1e-4)
    assert dropped(shape, 0) != pytest.approx(dropped(shape, 1), rel=1e-4)
    assert dropped(shape, 0) == dropped(shape, 0)


def test_measuring_drops_nothing() -> None:
    """``inputs`` alone are those of an evaluation, whatever the model drops while training."""
    shape = SHAPES["learned"].model_copy(update={"dropout": 0.5})
    model, rows = model_of(shape).eval(), packed(examples_of())
    first, second = (each_place(PackedTokens(shape), model, rows) for _ in range(2))
    assert first == second
    assert sum(first) == pytest.approx(sum(alone(model, one).item() for one in examples_of()), rel=1e-5)


@pytest.mark.parametrize("across", [False, True])
def test_recomputing_draws_the_same_dropout_again(across: bool) -> None:
    shape = SHAPES["learned"].model_copy(update={"dropout": 0.3})
    model, rows = model_of(shape), packed(examples_of())
    found = []
    for recompute in (False, True):
        model.recompute = recompute
        torch.manual_seed(0)
        found.append(gradients(model, PackedTokens(shape, across=across).nats(model.forward, rows, CPU)))
    assert_close(found[0], found[1])
