"""The loss of packed examples is that of each example alone, with the same gradient, whoever lies beside it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from folio.finetuning import objective as objective_module
from folio.finetuning.batches import PackedRows, evaluation_rows
from folio.finetuning.examples import Example
from folio.finetuning.objective import PackedTokens
from folio.model.branches import Branches
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
    return PackedRows(ids, targets, (tuple(one.length for one in examples),), (tuple(range(len(examples))),))


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


class Noting(Branches):
    """Notes what dropout each layer asks for."""

    asked: ClassVar[list[float]] = []

    def attend(self, q_1HNK: Tensor, k_1GNK: Tensor, v_1GNK: Tensor, *, dropout: float = 0.0) -> Tensor:
        self.asked.append(dropout)
        return super().attend(q_1HNK, k_1GNK, v_1GNK, dropout=dropout)


def test_dropout_acts_within_packed_attention_while_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective_module, "Branches", Noting)
    shape = SHAPES["learned"].model_copy(update={"dropout": 0.3})
    model, rows = model_of(shape), packed(examples_of())
    for training, wanted in ((True, 0.3), (False, 0.0)):
        Noting.asked.clear()
        PackedTokens(shape).nats(model.train(training).forward, rows, CPU)
        assert Noting.asked == [wanted] * shape.n_layer


def test_weights_of_packed_attention_are_dropped_and_the_rest_scaled_up() -> None:
    """Values that are all one: what comes out is the sum of the weights that are left."""
    shape = SHAPES["learned"]
    apart = Branches(shape, [40, 24], [(), ()])
    q, k = torch.randn(2, 1, shape.n_head, 64, shape.head_size, generator=torch.Generator().manual_seed(0))
    values = torch.ones_like(q)
    torch.manual_seed(0)
    first, second = (apart.attend(q, k, values, dropout=0.5) for _ in range(2))
    assert torch.allclose(apart.attend(q, k, values), values)
    assert not torch.equal(first, second)
    assert first.mean().item() == pytest.approx(1, abs=0.1)
    assert first[:, :, 0].unique().tolist() == [0.0, 2.0]  # a first token sees itself alone


@pytest.mark.parametrize("across", [False, True])
def test_what_is_dropped_while_training_plays_no_part_in_evaluation(across: bool) -> None:
    rows, found = packed(examples_of()), {}
    for dropout in (0.0, 0.3):
        shape = SHAPES["learned"].model_copy(update={"dropout": dropout})
        model = model_of(shape)
        objective = PackedTokens(shape, across=across)
        torch.manual_seed(0)
        for training in (False, True):
            found[dropout, training] = objective.nats(model.train(training).forward, rows, CPU).item()
    assert found[0.3, False] == found[0.0, False] == found[0.0, True]
    assert found[0.3, True] != pytest.approx(found[0.3, False], rel=1e-4)


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
