"""What is learned is known in ids: prompts as generation reads them, no drift at boundaries, an end to everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from play import PLAY

from folio.errors import DataError, Unreachable
from folio.finetuning.config_data import DataConfig
from folio.finetuning.example_sets import example_sets
from folio.finetuning.examples import Encoder, Example, fitted
from folio.finetuning.formats import Format, Record
from folio.finetuning.templates import load_template
from folio.generation.engine import prompt_ids
from folio.tokenizer import Tokenizer, TokenizerConfig, gpt2_tokenizer, train_tokenizer

TEXT = st.text(alphabet=st.sampled_from("We know't, Romeo! \n  é🙂12"), max_size=30)


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_tokenizer([PLAY] * 3, TokenizerConfig(kind="bpe", vocab_size=340))


@pytest.fixture(scope="module")
def char() -> Tokenizer:
    return train_tokenizer([PLAY + "#"], TokenizerConfig(kind="char"))


def record(format: Format, **fields: str) -> Record:
    return Record("r", "'a.jsonl', line 3", format, fields)


def example_of(encoder: Encoder, record: Record) -> Example:
    example = encoder.encode(record).example
    assert example is not None
    return example


def completion_of(prompt: str, completion: str) -> Record:
    return record("completion", prompt=prompt, completion=completion)


@settings(max_examples=150, deadline=None)
@given(prompt=TEXT, completion=TEXT.filter(str.strip))
def test_a_completion_is_learned_with_its_end_and_its_prompt_is_not(
    bpe: Tokenizer, prompt: str, completion: str
) -> None:
    example = example_of(Encoder(bpe), completion_of(prompt, completion))
    before, after = example.ids[~example.learned].tolist(), example.ids[example.learned].tolist()
    assert example.ids.tolist() == before + after
    assert before == prompt_ids(bpe, prompt)
    assert bpe.decode(after[:-1]) == completion
    assert after[-1] == bpe.eot_id
    assert bpe.decode(example.ids[:-1]).removeprefix("" if prompt else "<|endoftext|>") == prompt + completion


def test_text_is_learned_whole_after_an_end_of_text_as_in_shards(bpe: Tokenizer) -> None:
    example = example_of(Encoder(bpe), record("text", text="We know't"))
    assert example.ids.tolist() == [bpe.eot_id, *bpe.encode("We know't"), bpe.eot_id]
    assert example.learned.tolist() == [False, *[True] * (len(example.ids) - 1)]
    assert example.length == len(bpe.encode("We know't")) + 1


def test_everything_means_the_prompt_too(bpe: Tokenizer) -> None:
    example = example_of(Encoder(bpe, learn="everything"), completion_of("Who?", " He."))
    assert example.ids.tolist() == [bpe.eot_id, *bpe.encode("Who?"), *bpe.encode(" He."), bpe.eot_id]
    assert example.learned[1:].all()


def test_special_tokens_in_texts_are_text(bpe: Tokenizer) -> None:
    example = example_of(Encoder(bpe), record("text", text="a<|endoftext|>b"))
    assert example.ids[1:-1].tolist().count(bpe.eot_id) == 0


def test_a_boundary_inside_a_token_is_counted(bpe: Tokenizer) -> None:
    assert " know" in [bpe.decode([id]) for id in bpe.encode("We know")]
    assert Encoder(bpe).encode(completion_of("We ", "know")).cuts_a_token
    assert not Encoder(bpe).encode(completion_of("We", " know")).cuts_a_token


def test_alpaca_records_follow_their_format(bpe: Tokenizer) -> None:
    alpaca = record("alpaca", instruction="Add.", input="1 2", output="3")
    text = bpe.decode(example_of(Encoder(bpe, load_template("alpaca", bpe)), alpaca).ids)
    assert text == "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n3<|endoftext|>"
    plain = record("alpaca", instruction="Add.", input="", output="3")
    text = bpe.decode(example_of(Encoder(bpe, load_template("plain", bpe)), plain).ids)
    assert text == "User: Add.\nAssistant: 3<|endoftext|>"


@pytest.mark.parametrize(
    "empty",
    [
        record("text", text=" \n"),
        completion_of("x", " "),
        Record("r", "w", "chat", {"messages": ({"role": "user", "content": "x"},)}),
        Record(
            "r", "w", "chat", {"messages": ({"role": "user", "content": "x"}, {"role": "assistant", "content": ""})}
        ),
        record("alpaca", instruction="x", input="", output=""),
    ],
)
def test_without_an_answer_there_is_no_example(bpe: Tokenizer, empty: Record) -> None:
    assert Encoder(bpe, load_template("plain", bpe)).encode(empty).example is None


def test_characters_that_a_char_tokenizer_lacks_are_refused_or_left_out_and_counted(char: Tokenizer) -> None:
    unknown = completion_of("Wé", " kn€ow€")
    with pytest.raises(DataError, match=r"'a.jsonl', line 3: this char tokenizer has no 'é'") as caught:
        Encoder(char).encode(unknown)
    assert "unknown_characters" in caught.value.remedy
    dropped = Encoder(char, unknown_characters="drop").encode(unknown)
    assert dropped.unknown_characters == 3
    assert dropped.example is not None
    assert char.decode(dropped.example.ids) == "W know<|endoftext|>"


def test_dropping_characters_leaves_the_marks_of_a_template(char: Tokenizer) -> None:
    encoder = Encoder(char, load_template("alpaca", char), unknown_characters="drop")
    found = encoder.encode(record("alpaca", instruction="Tell", input="", output="no€"))
    assert found.example is not None
    assert char.decode(found.example.ids).endswith("no<|endoftext|>")
    assert found.example.ids.tolist().count(char.eot_id) == 1


def test_unknown_words_are_counted_in_characters() -> None:
    word = train_tokenizer([PLAY], TokenizerConfig(kind="word"))
    assert Encoder(word).encode(record("text", text="We know Falstaff well")).unknown_characters == len("Falstaff")


def test_a_tokenizer_without_end_of_text_is_refused(bpe: Tokenizer) -> None:
    with pytest.raises(DataError, match="has no end-of-text"):
        Encoder(bpe.with_settings(eos_token="<none>"))


def test_a_truncated_example_keeps_its_beginning_and_learns_no_end(bpe: Tokenizer) -> None:
    example = example_of(Encoder(bpe), record("text", text=PLAY))
    assert fitted(example, example.length, "drop") is example
    cut = fitted(example, 20, "truncate")
    assert cut is not None
    assert cut.length == 20
    assert np.array_equal(cut.ids, example.ids[:21])
    assert bpe.eot_id not in cut.ids[1:]
    assert fitted(example, 20, "drop") is None


def test_a_prompt_that_fills_the_context_leaves_nothing_to_learn(bpe: Tokenizer) -> None:
    example = example_of(Encoder(bpe), completion_of(PLAY, " yes"))
    prompt = len(bpe.encode(PLAY))
    assert fitted(example, prompt - 1, "truncate") is None
    shortest = fitted(example, prompt, "truncate")
    assert shortest is not None
    assert shortest.learned_tokens == 1


def sets(path: Path, tokenizer: Tokenizer, block_size: int = 16, **options: Any) -> Any:
    return example_sets(DataConfig(path=str(path), **options), tokenizer, block_size)


@pytest.mark.parametrize(
    ("line", "chosen"),
    [
        ('{"messages": [{"role": "user", "content": "W"}, {"role": "assistant", "content": "No"}]}', "plain"),
        ('{"instruction": "W", "output": "No"}', "alpaca"),
        ('{"prompt": "W", "completion": "No"}', None),
    ],
)
def test_the_template_that_is_used_is_stated(bpe: Tokenizer, tmp_path: Path, line: str, chosen: str | None) -> None:
    (tmp_path / "a.jsonl").write_text(line)
    found = sets(tmp_path / "a.jsonl", bpe, 64, validation_fraction=0)
    assert found.statistics.template == (found.template.name if found.template else None) == chosen
    assert bpe.decode(found.train[0].ids).endswith("No<|endoftext|>")
    if chosen:
        own = bpe.with_settings(chat_template="{% for m in messages %}[{{ m.content }}]{% endfor %}")
        found = sets(tmp_path / "a.jsonl", own, 64, validation_fraction=0)
        assert found.statistics.template == "the tokenizer's own"
        assert bpe.decode(found.train[0].ids) == "[W][No]<|endoftext|>"


def test_a_template_for_what_is_no_conversation_is_refused(bpe: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n' * 2)
    with pytest.raises(DataError, match="text records are not conversations"):
        sets(tmp_path / "a.jsonl", bpe, template="chatml", validation_fraction=0)


def test_a_side_of_which_nothing_is_left_is_refused(bpe: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"prompt": "We know", "completion": ""}\n{"prompt": "W", "completion": "No no no"}\n'
    )
    with pytest.raises(
        DataError, match="nothing is left to learn for train: of 2 documents 1 have no answer and 1 do not"
    ):
        sets(tmp_path / "a.jsonl", bpe, 3, too_long="drop", validation_fraction=0)


def test_the_fantasy_locations_are_359_thousand_tokens(shared_data: Callable[[str], Path]) -> None:
    """With one end-of-text a description, and the same in sum whatever the split."""
    path = shared_data("fantasy_locations.txt")
    try:
        gpt2 = gpt2_tokenizer()
    except Unreachable as error:
        pytest.skip(f"GPT-2's vocabulary cannot be fetched here: {error.problem}")
    found = sets(path, gpt2, 1024, test_fraction=0.05)
    assert sum(side.tokens for side in found.statistics.sides) == 358_726
    assert sum(side.learned_tokens for side in found.statistics.sides) == 358_726
    assert sum(side.examples for side in found.statistics.sides) == 1000
