"""The engine against the plainest possible loop: one full forward pass a token."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from folio.errors import ArtifactError, DataError
from folio.generation.config import GenerationConfig
from folio.generation.engine import Generation, generate
from folio.model.gpt import GPT
from folio.model.packed import pack
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

MakeGPT = Callable[..., GPT]
PROMPTS = ["To be", "Whether 'tis nobler in the mind", "", "t"]


def greedy_without_cache(model: GPT, ids: list[int], new: int, vocab_size: int) -> list[int]:
    """The reference, with the rule of the full window written out."""
    block_size = model.config.block_size
    window, written = ids[-block_size:], []
    for _ in range(new):
        with torch.no_grad():
            logits = model(torch.tensor([window]))
        written.append(int(logits[0, -1, :vocab_size].argmax()))
        window.append(written[-1])
        if len(window) > block_size:
            window = window[-(block_size // 2) :]
    return written


def without_eot(model: GPT, eot_id: int | None) -> GPT:
    """The same model that never writes end-of-text: its row of the head is minus the mean of all."""
    with torch.no_grad():
        model.head_weight[eot_id] = 0
    return model


@pytest.fixture(params=["gpt2", "modern"])
def endless(request: pytest.FixtureRequest, bpe: Tokenizer, make_gpt: MakeGPT) -> GPT:
    return without_eot(make_gpt(bpe.vocab_size, request.param), bpe.eot_id)


def test_greedy_with_cache_equals_greedy_without(endless: GPT, bpe: Tokenizer) -> None:
    config = GenerationConfig(max_new_tokens=70, temperature=0, seed=0)  # more than two contexts
    (answer,) = generate(endless, bpe, ["To be"], config)
    assert answer.ids == greedy_without_cache(endless, bpe.encode("To be"), 70, bpe.vocab_size)
    assert answer.finish == "length"
    assert answer.restarts >= 2
    assert len(set(answer.ids)) > 5


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_is_the_same_alone_and_in_a_batch(endless: GPT, bpe: Tokenizer, temperature: float) -> None:
    config = GenerationConfig(max_new_tokens=60, temperature=temperature, repetition_penalty=1.1, seed=5)
    together = generate(endless, bpe, PROMPTS, config)
    for i, prompt in enumerate(PROMPTS):
        (alone,) = generate(endless, bpe, [prompt], config.model_copy(update={"seed": 5 + i}))
        assert together[i] == alone


def test_packed_weights_write_the_same_text(endless: GPT, bpe: Tokenizer) -> None:
    config = GenerationConfig(max_new_tokens=40, temperature=0, seed=0)
    assert generate(pack(endless), bpe, PROMPTS, config) == generate(endless, bpe, PROMPTS, config)


def test_rows_end_at_end_of_text_while_others_go_on(model: GPT, bpe: Tokenizer) -> None:
    config = GenerationConfig(max_new_tokens=200, temperature=1.5, seed=0)
    answers = generate(model, bpe, ["To be"] * 8, config)
    ended = [answer for answer in answers if answer.finish == "end_of_text"]
    assert ended
    assert len({len(answer.ids) for answer in answers}) > 1
    for answer in ended:
        assert bpe.eot_id not in answer.ids
        assert "<|endoftext|>" not in answer.text


def test_a_row_ends_at_every_id_that_ends(endless: GPT, bpe: Tokenizer) -> None:
    config = GenerationConfig(max_new_tokens=40, temperature=0, seed=0)
    (whole,) = generate(endless, bpe, ["To be"], config)
    for end_id in dict.fromkeys(whole.ids):
        (answer,) = generate(endless, bpe, ["To be"], config, end_ids=[end_id, bpe.vocab_size + 5])
        assert answer.ids == whole.ids[: whole.ids.index(end_id)]
        assert (answer.finish, answer.tokens_written) == ("end_of_text", len(answer.ids) + 1)


def test_streamed_pieces_add_up_to_the_text_of_the_ids(endless: GPT, bpe: Tokenizer) -> None:
    generation = Generation(
        endless, bpe, ["To be", "naïve Ω"], GenerationConfig(max_new_tokens=50, temperature=1.2, seed=1)
    )
    pieces = list(generation)
    for row, answer in enumerate(generation.answers):
        assert "".join(piece.text for piece in pieces if piece.row == row) == answer.text == bpe.decode(answer.ids)
        *before, last = [piece.finish for piece in pieces if piece.row == row]
        assert last == answer.finish is not None
        assert len(before) > 5
        assert not any(before)


def test_a_stop_string_across_tokens_ends_the_row_before_it(endless: GPT, bpe: Tokenizer) -> None:
    config = GenerationConfig(max_new_tokens=40, temperature=0, seed=0)
    (whole,) = generate(endless, bpe, ["To be"], config)
    middle = len(bpe.decode(whole.ids[:10]))
    stop = whole.text[middle - 1 : middle + 2]
    generation = Generation(endless, bpe, ["To be"], config.model_copy(update={"stop": ("@@never@@", stop)}))
    streamed = "".join(piece.text for piece in generation)
    (answer,) = generation.answers
    assert answer.finish == "stop"
    assert answer.text == streamed == whole.text[: whole.text.index(stop)]


def test_a_prompt_longer_than_the_context_keeps_its_end(endless: GPT, bpe: Tokenizer) -> None:
    prompt = "To be, or not to be, that is the question: " * 8
    ids = bpe.encode(prompt)
    (answer,) = generate(endless, bpe, [prompt], GenerationConfig(max_new_tokens=5, temperature=0, seed=0))
    assert answer.prompt_tokens == len(ids) > 32
    assert answer.unread_prompt_tokens == len(ids) - 32
    assert answer.ids == greedy_without_cache(endless, ids, 5, bpe.vocab_size)


def test_an_empty_prompt_begins_with_end_of_text(endless: GPT, bpe: Tokenizer) -> None:
    config = GenerationConfig(max_new_tokens=8, temperature=0, seed=0)
    assert bpe.eot_id is not None
    assert generate(endless, bpe, [""], config) == generate(endless, bpe, [[bpe.eot_id]], config)


def test_padding_rows_of_the_vocabulary_never_come(bpe: Tokenizer, make_gpt: MakeGPT) -> None:
    model = make_gpt(bpe.vocab_size)
    assert model.config.padded_vocab_size > bpe.vocab_size
    with torch.no_grad():  # were they seen, they would win
        model.embed.weight[bpe.vocab_size :] = 50 * model.embed.weight[: bpe.vocab_size].mean(0)
    answers = generate(model, bpe, PROMPTS, GenerationConfig(max_new_tokens=60, temperature=3.0, seed=0))
    assert max(id for answer in answers for id in answer.ids) < bpe.vocab_size


def test_a_seed_repeats_and_no_seed_does_not(endless: GPT, bpe: Tokenizer) -> None:
    config = GenerationConfig(max_new_tokens=30, temperature=1.5, seed=7)
    assert generate(endless, bpe, ["t"], config) == generate(endless, bpe, ["t"], config)
    free = config.model_copy(update={"seed": None})
    first, second = generate(endless, bpe, ["t"], free)[0], generate(endless, bpe, ["t"], free)[0]
    assert first.ids != second.ids
    assert generate(endless, bpe, ["t"], config.model_copy(update={"seed": first.seed}))[0] == first


def test_a_model_in_training_is_asked_without_dropout_and_left_in_training(bpe: Tokenizer, make_gpt: MakeGPT) -> None:
    config = GenerationConfig(max_new_tokens=20, temperature=0, seed=0)
    model = make_gpt(bpe.vocab_size, dropout=0.5)
    expected = generate(model, bpe, ["t"], config)
    assert generate(model.train(), bpe, ["t"], config) == expected
    assert model.training
    assert model.blocks[0].training


def test_words_are_spaced_after_the_prompt(make_gpt: MakeGPT) -> None:
    words = train_tokenizer(["to be or not to be"] * 4, TokenizerConfig(kind="word"))
    model = make_gpt(words.vocab_size)
    (answer,) = generate(model, words, ["to be"], GenerationConfig(max_new_tokens=4, temperature=0, seed=0))
    assert "to be" + answer.text == words.decode(words.encode("to be") + answer.ids)


def test_a_character_the_tokenizer_lacks_is_refused(make_gpt: MakeGPT) -> None:
    characters = train_tokenizer(["abc"], TokenizerConfig(kind="char"))
    with pytest.raises(DataError, match="z"):
        generate(make_gpt(characters.vocab_size), characters, ["az"], GenerationConfig())


def test_a_tokenizer_of_another_model_is_refused(bpe: Tokenizer, make_gpt: MakeGPT) -> None:
    with pytest.raises(ArtifactError, match=f"{bpe.vocab_size} ids"):
        generate(make_gpt(bpe.vocab_size - 1), bpe, ["t"], GenerationConfig())


def test_no_prompts_give_no_answers(model: GPT, bpe: Tokenizer) -> None:
    assert generate(model, bpe, [], GenerationConfig()) == []
