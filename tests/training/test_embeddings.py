"""Vectors on the rows of their words, and rows that stay: whatever the optimizer, and after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import GPT2, SHAPE, Counting, assert_same_bits, run_steps, save, weights

from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.runtime import Runtime
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from folio.tokenizer.vectors import WordVectors
from folio.training.config import TrainConfig
from folio.training.config_embeddings import EmbeddingsConfig
from folio.training.embeddings import embedding_rows, freeze_rows, place_vectors
from folio.training.plan import BatchPlan, solve_batch
from folio.training.saving import load_checkpoint
from folio.training.state import TrainingState

TIED_COUNTS = "b a c a\nb d c d\ne f e f g\n"
"""a, b, c, d, e, f: twice each; the line's end: three times; g: once."""
WORD2VEC = EmbeddingsConfig(init="word2vec")


@pytest.fixture
def tokenizer() -> Tokenizer:
    return train_tokenizer([TIED_COUNTS], TokenizerConfig(kind="word", min_count=2))


def vectors_for(words: tuple[str, ...], width: int = 32) -> WordVectors:
    rows = np.random.default_rng(3).normal(size=(len(words), width)).astype(np.float32)
    return WordVectors(words, rows, {"train_s": 1.0})


def model_for(tokenizer: Tokenizer, **shape: Any) -> GPT:
    return GPT(GPT2.model_copy(update={"vocab_size": tokenizer.vocab_size, **shape})).initialize(7)


def test_word_id_row_word_holds_for_every_row_ties_in_counts_included(tokenizer: Tokenizer) -> None:
    """The vectors come in an order that is not that of the ids, as those of another vocabulary would."""
    words = ("f", "a", "\n", "c", "e", "b", "d")
    vectors, model = vectors_for(words), model_for(tokenizer)
    first = place_vectors(model, vectors, tokenizer, WORD2VEC)
    rows = model.embed.weight.detach().numpy()
    by_word = dict(zip(words, vectors.rows * np.float32(first.factor), strict=True))
    for id in range(tokenizer.vocab_size - 2):
        word = tokenizer.token(id)
        np.testing.assert_array_equal(rows[id], by_word[word])
        assert tokenizer.encode(word) == [id]
        assert first.vectors.words[id] == word
    np.testing.assert_array_equal(first.vectors.rows, rows[: tokenizer.vocab_size])
    assert not rows[tokenizer.vocab_size :].any()
    assert first.learnt == len(words)


def test_rows_of_another_order_do_not_pass(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistake that this check is for: ids from one vocabulary's order, rows from another's."""
    names = {tokenizer.id_of("a"): "b", tokenizer.id_of("b"): "a"}
    token = type(tokenizer).token
    monkeypatch.setattr(type(tokenizer), "token", lambda self, id: names.get(id) or token(self, id))
    with pytest.raises(AssertionError, match="not 'a'"):
        place_vectors(model_for(tokenizer), vectors_for(("a", "b", "c")), tokenizer, WORD2VEC)


@pytest.mark.parametrize("rule", ["mean", "random"])
def test_ids_without_a_vector_get_their_rows_by_the_rule(tokenizer: Tokenizer, rule: str) -> None:
    vectors, model, untouched = vectors_for(("a", "b", "c")), model_for(tokenizer), model_for(tokenizer)
    first = place_vectors(model, vectors, tokenizer, WORD2VEC.model_copy(update={"other_rows": rule}))
    assert first.vectors.facts["others"] == ["\n", "d", "e", "f", "<unk>", "<|endoftext|>"]
    mean = (vectors.rows * np.float32(first.factor)).mean(axis=0)
    for token in first.vectors.facts["others"]:
        id = tokenizer.id_of(token)
        expected = mean if rule == "mean" else untouched.embed.weight[id].detach().numpy()
        np.testing.assert_array_equal(model.embed.weight[id].detach().numpy(), expected)


def test_a_vector_of_unk_stands_on_its_row(tokenizer: Tokenizer) -> None:
    vectors, model = vectors_for(("a", "<unk>")), model_for(tokenizer)
    first = place_vectors(model, vectors, tokenizer, WORD2VEC)
    assert "<unk>" not in first.vectors.facts["others"]
    row = model.embed.weight[tokenizer.id_of("<unk>")].detach().numpy()
    np.testing.assert_array_equal(row, vectors.rows[1] * np.float32(first.factor))


def test_scale_is_the_models_or_the_vectors_own_and_nothing_else_changes(tokenizer: Tokenizer) -> None:
    vectors, untouched = vectors_for(("a", "b", "c", "d")), model_for(tokenizer)
    ids = [tokenizer.id_of(word) for word in vectors.words]
    for scale, rms in (("model", 0.02), ("vectors", float(np.sqrt(np.mean(vectors.rows**2))))):
        model = model_for(tokenizer)
        place_vectors(model, vectors, tokenizer, WORD2VEC.model_copy(update={"scale": scale}))
        rows = model.embed.weight.detach()[ids]
        assert float(rows.square().mean().sqrt()) == pytest.approx(rms, rel=1e-5)
        others = {name: p for name, p in model.named_parameters() if name != "embed.weight"}
        assert all(torch.equal(p, untouched.get_parameter(name)) for name, p in others.items())


# Rows that stay

KINDS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "muon": {"optimizer": {"kind": "muon"}},
    "averaged": {"ema_decay": 0.5},
    "muon averaged": {"optimizer": {"kind": "muon"}, "ema_decay": 0.5},
}
UNTIED = SHAPE.model_copy(update={"tie_embeddings": False})


def frozen_state(shape: GPTConfig, runtime: Runtime, **train: Any) -> tuple[TrainingState, Counting, BatchPlan]:
    config = TrainConfig.model_validate({"steps": 8, "batch_tokens": 8 * shape.block_size, "seed": 5, **train})
    torch.manual_seed(config.seed)
    model = GPT(shape).initialize(config.seed)
    freeze_rows(model)
    plan = solve_batch(config.batch_tokens, shape.block_size, config.micro_batch)
    return TrainingState(model, config, runtime), Counting(plan.sequences, shape.block_size, shape.vocab_size), plan


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [SHAPE, GPT2, UNTIED], ids=["rope", "gpt2", "untied"])
def test_frozen_rows_keep_their_bits_and_have_no_state(shape: GPTConfig, kind: str) -> None:
    """No gradient, no decay, no average; the head is the same tensor where it is tied, and is trained where not."""
    runtime = Runtime(torch.device("cpu"), "fp32")
    state, source, plan = frozen_state(shape, runtime, **KINDS[kind])
    before = weights(state)
    run_steps(state, source, plan, 4)
    after = weights(state)
    assert torch.equal(after["embed.weight"], before["embed.weight"])
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    assert moved == set(before) - {"embed.weight"}
    assert not [name for name in state.tensors() if "embed.weight" in name]
    assert all(parameter is not state.model.embed.weight for parameter in state.optimizers.parameters)
    with state.shipping_weights() as shipped:
        assert torch.equal(shipped.embed.weight, before["embed.weight"])
        assert (shipped.head_weight is shipped.embed.weight) == shape.tie_embeddings


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_run_resumes_to_the_same_bits(tmp_path: Path, kind: str) -> None:
    runtime = Runtime(torch.device("cpu"), "fp32")
    whole, source, plan = frozen_state(SHAPE, runtime, **KINDS[kind])
    run_steps(whole, source, plan, 4)
    checkpoint = save(tmp_path / "run", whole)
    run_steps(whole, source, plan, 4)
    again, _, _ = frozen_state(SHAPE, runtime, **KINDS[kind])
    with torch.no_grad():
        again.model.embed.weight.zero_()  # what is not trained comes from the checkpoint as well
    load_checkpoint(checkpoint, again)
    assert not again.model.embed.weight.requires_grad
    run_steps(again, source, plan, 4)
    assert_same_bits(weights(again), weights(whole))
    assert_same_bits(again.tensors(), whole.tensors())


@pytest.mark.parametrize("shape", [SHAPE, GPT2, UNTIED], ids=["qwen3", "gpt2", "untied"])
def test_the_embedding_is_read_alone_from_a_saved_model(shape: GPTConfig, tmp_path: Path) -> None:
    state, source, plan = frozen_state(shape, Runtime(torch.device("cpu"), "fp32"))
    run_steps(state, source, plan, 1)
    rows = embedding_rows(save(tmp_path / "run", state).model)
    np.testing.assert_array_equal(rows, state.model.embed.weight[: shape.vocab_size].detach().numpy())
