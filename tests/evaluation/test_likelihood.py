"""The likelihood of text: every target once under each way of reading, errors by document, bytes for any tokenizer."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from model_shapes import SHAPES, random_model

from folio.corpus import Document
from folio.errors import ConfigError, DataError
from folio.evaluation.likelihood import FEWEST_DOCUMENTS, Windows, measure_loss
from folio.evaluation.loss import loss_on
from folio.evaluation.material import BLOCK_TOKENS, first_tokens, passages_of, passages_of_stream
from folio.evaluation.text import IdStream, TextStream
from folio.model.gpt import GPT
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

WORDS = (
    *("the", "boy", "ran", "over", "a", "roof", "and", "fell", "into", "deep", "water"),
    *(",", "then", "laughed", ".", "MORE", "of", "it\n"),
)


def documents(count: int, words: int = 60, seed: int = 0) -> list[Document]:
    draw = random.Random(seed)
    return [Document(f"d{i}", " ".join(draw.choices(WORDS, k=draw.randint(1, words))), "made up") for i in range(count)]


def tokenizer_of(texts: list[Document], kind: str) -> Tokenizer:
    settings = {"bpe": {"vocab_size": 280}, "word": {"min_count": 2}, "char": {}}[kind]
    return train_tokenizer([one.text for one in texts], TokenizerConfig(kind=kind, **settings))


def model_for(tokenizer: Tokenizer, block_size: int = 32) -> GPT:
    update = {"vocab_size": tokenizer.vocab_size, "block_size": block_size}
    return random_model(SHAPES["gpt2"].model_copy(update=update))


def nats_of(model: GPT, seen: list[int], scored: list[int]) -> float:
    whole = torch.tensor([[*seen, *scored]])
    with torch.no_grad():
        log_p = torch.log_softmax(model(whole[:, :-1])[0].double(), -1)
    return -float(log_p[len(seen) - 1 :].gather(1, torch.tensor(scored)[:, None]).sum())


@pytest.mark.parametrize("kind", ["bpe", "char", "word"])
def test_blocks_give_the_very_sum_of_the_validation_loss(kind: str) -> None:
    texts = documents(23)
    tokenizer = tokenizer_of(texts, kind)
    model = model_for(tokenizer)
    stream = TextStream(texts, tokenizer)
    validation = loss_on(model, stream, bytes_per_token=stream.text_bytes / len(stream))
    measured = measure_loss(model, passages_of(texts, tokenizer), Windows("blocks", 32))
    assert sum(item["tokens"] for item in measured.items) == validation.tokens == len(stream) - 1
    assert measured.score("nats_per_token").value == pytest.approx(validation.nats_per_token, rel=1e-6)
    assert measured.score("perplexity").value == pytest.approx(validation.perplexity, rel=1e-5)
    assert measured.facts["bytes"] == stream.text_bytes == sum(len(one.text.encode()) for one in texts)
    bits = validation.total_nats / math.log(2) / stream.text_bytes
    assert measured.score("bits_per_byte").value == pytest.approx(bits, rel=1e-6)


@pytest.mark.parametrize("stride", [1, 5, 16, 32])
def test_a_sliding_window_scores_each_target_once_with_what_the_stride_leaves_before_it(stride: int) -> None:
    texts = documents(11, words=40)
    tokenizer = tokenizer_of(texts, "bpe")
    model = model_for(tokenizer)
    measured = measure_loss(model, passages_of(texts, tokenizer), Windows("sliding", 32, stride))
    for text, item in zip(texts, measured.items, strict=True):
        ids = [tokenizer.eot_id or 0, *tokenizer.encode(text.text)]
        total, start = 0.0, 1
        while start < len(ids):
            stop = min(len(ids), start + (32 if start == 1 else stride))
            total += nats_of(model, ids[max(0, stop - 1 - 32) : start], ids[start:stop])
            start = stop
        assert (item["id"], item["tokens"]) == (text.id, len(ids) - 1)
        assert item["nats"] == pytest.approx(total, rel=1e-5)


def test_errors_are_between_documents_and_their_interval_is_students() -> None:
    texts = documents(FEWEST_DOCUMENTS + 2)
    tokenizer = tokenizer_of(texts, "bpe")
    score = measure_loss(model_for(tokenizer), passages_of(texts, tokenizer), Windows("sliding", 32, 16)).score(
        "nats_per_token"
    )
    measured = measure_loss(model_for(tokenizer), passages_of(texts, tokenizer), Windows("sliding", 32, 16))
    nats = np.array([item["nats"] for item in measured.items])
    tokens = np.array([item["tokens"] for item in measured.items])
    n = len(texts)
    residual = nats - nats.sum() / tokens.sum() * tokens
    error = math.sqrt(n / (n - 1) * (residual**2).sum()) / tokens.sum()
    assert (score.n, score.unit) == (n, "documents")
    assert score.standard_error == pytest.approx(error)
    t_11 = 2.200985  # Student's 97.5 % point with 11 degrees of freedom
    assert score.high - score.value == pytest.approx(t_11 * error, rel=1e-6)


def test_few_documents_are_told_apart_by_passages_and_it_says_so() -> None:
    texts = [Document("long", " ".join(one.text for one in documents(150)), "made up")]
    tokenizer = tokenizer_of(texts, "bpe")
    measured = measure_loss(model_for(tokenizer), passages_of(texts, tokenizer), Windows("blocks", 32))
    score = measured.score("nats_per_token")
    assert score.unit == "passages"
    assert score.n == len(measured.items) > 3
    assert measured.facts["documents"] == 1
    assert [item["id"] for item in measured.items] == [f"long#{i}" for i in range(score.n)]


@pytest.mark.parametrize("kind", ["bpe", "char", "word"])
def test_passages_are_the_document_and_the_same_text_for_every_tokenizer(kind: str) -> None:
    texts = [Document("long", " ".join(one.text for one in documents(200)), "made up"), *documents(2, seed=5)]
    tokenizer = tokenizer_of(texts, kind)
    passages = list(passages_of(texts, tokenizer))
    for text in texts:
        own = [passage for passage in passages if passage.document == text.id]
        ids = np.concatenate([passage.ids for passage in own]).tolist()
        assert ids == [tokenizer.eot_id, *tokenizer.encode(text.text)]
        assert sum(passage.text_bytes for passage in own) == len(text.text.encode())
    other = list(passages_of(texts, tokenizer_of(texts, "char")))
    assert [(p.id, p.text_bytes) for p in passages] == [(p.id, p.text_bytes) for p in other]


@pytest.mark.parametrize("block", [7, 100, 5000])
def test_documents_are_found_in_a_stream_wherever_its_pieces_end(block: int) -> None:
    texts = documents(12)
    tokenizer = tokenizer_of(texts, "bpe")
    ids = TextStream(texts, tokenizer).read(0, len(TextStream(texts, tokenizer)))

    class Pieces(IdStream):
        def blocks(self, tokens: int = block) -> object:  # type: ignore[override]
            return super().blocks(block)

    passages = list(passages_of_stream(Pieces(ids), tokenizer.eot_id, 2.0))
    assert np.concatenate([passage.ids for passage in passages]).tolist() == ids.tolist()
    assert [p.document for p in passages if p.opened] == [str(i) for i in range(12)]
    assert all(p.text_bytes == 2.0 * len(p.ids) for p in passages)


def test_a_long_document_of_a_stream_is_cut_into_blocks() -> None:
    ids = np.array([0, *([1] * (3 * BLOCK_TOKENS)), 0, 2, 2])
    passages = list(passages_of_stream(IdStream(ids), 0, 1.0))
    assert [(p.document, p.number, len(p.ids)) for p in passages] == [
        ("0", 0, BLOCK_TOKENS),
        ("0", 1, BLOCK_TOKENS),
        ("0", 2, BLOCK_TOKENS),
        ("0", 3, 1),
        ("1", 0, 3),
    ]


def test_single_tokens_add_up_to_their_document() -> None:
    texts = documents(12)
    tokenizer = tokenizer_of(texts, "char")
    measured = measure_loss(model_for(tokenizer), passages_of(texts, tokenizer), Windows("blocks", 32), per_token=True)
    for text, item in zip(texts, measured.items, strict=True):
        assert len(item["ids"]) == len(item["token_nats"]) == item["tokens"]
        assert sum(item["token_nats"]) == pytest.approx(item["nats"])
        ended = [tokenizer.eot_id] if text is not texts[-1] else []  # the next document's opening is its last target
        assert item["ids"] == [*tokenizer.encode(text.text), *ended]


def test_unknown_words_are_counted_and_spelled_out() -> None:
    texts = [*documents(11), Document("new", "the unheard-of Zyzzyva ran", "made up")]
    tokenizer = tokenizer_of(texts[:-1], "word")
    measured = measure_loss(model_for(tokenizer), passages_of(texts, tokenizer), Windows("sliding", 32, 32))
    new = measured.items[-1]
    assert new["unknown_bytes"] == len("unheardZyzzyva") + len("-")
    assert new["bits_spelled"] == pytest.approx(new["bits"] + 8 * new["unknown_bytes"])
    plain, spelled = measured.score("bits_per_byte"), measured.score("bits_per_byte_spelled")
    assert spelled.value - plain.value == pytest.approx(8 * measured.facts["unknown_bytes"] / measured.facts["bytes"])


def test_nothing_is_unknown_to_bytes() -> None:
    texts = documents(3)
    tokenizer = tokenizer_of(texts, "bpe")
    metrics = [
        s.metric
        for s in measure_loss(model_for(tokenizer), passages_of(texts, tokenizer), Windows("blocks", 32)).scores
    ]
    assert metrics == ["nats_per_token", "perplexity", "bits_per_byte"]


def test_the_first_tokens_are_as_many_as_asked() -> None:
    texts = documents(9)
    tokenizer = tokenizer_of(texts, "bpe")
    whole = list(passages_of(texts, tokenizer))
    total = sum(len(p.ids) for p in whole)
    for tokens in (1, 2, 40, total - 1, total, total + 5):
        kept = list(first_tokens(whole, tokens))
        assert sum(len(p.ids) for p in kept) == min(tokens, total)
        assert all(0 < p.text_bytes <= w.text_bytes for p, w in zip(kept, whole, strict=False))
    assert list(first_tokens(whole, 0)) == whole


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a stride of 33 does not fit a context of 32"):
        Windows("sliding", 32, 33)
    tokenizer = tokenizer_of(documents(3), "bpe")
    with pytest.raises(DataError, match="no tokens to score"):
        measure_loss(model_for(tokenizer), [], Windows("blocks", 32))
