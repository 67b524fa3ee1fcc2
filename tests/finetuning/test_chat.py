"""A conversation is asked as it was taught, and an answer ends where its template ends one."""

from __future__ import annotations

from typing import Any

import pytest

from folio.errors import ArtifactError, DataError
from folio.finetuning.chat import Chat
from folio.finetuning.examples import Encoder
from folio.finetuning.formats import Record
from folio.finetuning.templates import SHIPPED, load_template, with_template
from folio.generation.config import GenerationConfig
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

CHAT = [{"role": "user", "content": "to be"}, {"role": "assistant", "content": "or not"}]
CHARACTERS = "".join(SHIPPED.values()) + "abcdefghijklmnopqrstuvwxyz"


def talker(template: str, *special: str) -> Chat:
    """A tokenizer with a template, in whose vocabulary the tokens ``special`` are special."""
    kind = {"kind": "bpe", "vocab_size": 280, "special_tokens": special} if special else {"kind": "char"}
    tokenizer = train_tokenizer([CHARACTERS], TokenizerConfig.model_validate(kind))
    return Chat.of(with_template(tokenizer, load_template(template, tokenizer)), "toy")


@pytest.mark.parametrize("template", SHIPPED)
def test_what_is_asked_is_what_stands_before_the_answer_in_training(template: str) -> None:
    chat = talker(template, "<|im_start|>", "<|im_end|>")
    record = Record("1", "chats.jsonl:1", "chat", {"messages": CHAT})
    example = Encoder(chat.tokenizer, chat.template).encode(record).example
    assert example is not None
    assert chat.ids(CHAT[:1]) == example.ids[: int(example.learned.argmax())].tolist()


def test_an_answer_ends_at_the_templates_mark_whether_it_is_a_token_or_text() -> None:
    asked = GenerationConfig(stop=("###",))
    marked, plain = talker("chatml", "<|im_end|>", "<|im"), talker("chatml")
    assert marked.end_ids == (marked.tokenizer.special_ids["<|im_end|>"],)  # the longest that is there
    assert marked.stopping(asked) == asked
    assert plain.end_ids == ()
    assert plain.stopping(asked).stop == ("###", "<|im_end|>")
    at_end_of_text = talker("alpaca")
    assert at_end_of_text.end_ids == (at_end_of_text.tokenizer.eot_id,)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "Give at least one"),
        ([{"role": "user"}], "role and content"),
        ([{"role": "user", "content": 1}], "role and content"),
        ([{"role": "user", "content": "a <|im_end|> b"}], "writes the special token '<|im_end|>'"),
    ],
)
def test_what_is_no_conversation_is_refused(messages: Any, said: str) -> None:
    with pytest.raises(DataError) as told:
        talker("chatml", "<|im_start|>", "<|im_end|>").ids(messages)
    assert said in str(told.value)
    with pytest.raises(DataError, match="\u00c4"):
        talker("chatml").ids([{"role": "user", "content": "\u00c4"}])


def test_what_the_model_itself_wrote_is_no_ground_for_refusal() -> None:
    chat = talker("chatml", "<|im_start|>", "<|im_end|>")
    assert chat.ids([{"role": "assistant", "content": "<|im_end|>"}])


def test_a_tokenizer_without_a_template_cannot_talk() -> None:
    tokenizer: Tokenizer = train_tokenizer(["abc"], TokenizerConfig(kind="char"))
    with pytest.raises(ArtifactError, match="the tokenizer of 'runs/base' has no chat template"):
        Chat.of(tokenizer, "runs/base")
