"""Talking to a model as it was taught: what it is asked in ids, and where its turn ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from folio.errors import ArtifactError, DataError
from folio.finetuning.templates import ChatTemplate, Messages, load_template, template_source
from folio.finetuning.turns import PROBE, refuse_special_tokens
from folio.generation.config import GenerationConfig
from folio.tokenizer import Tokenizer


def asked_ids(messages: Messages, template: ChatTemplate, tokenizer: Tokenizer) -> list[int]:
    """The conversation so far and the opening of an answer, in ids: what stands before an answer in training.

    :class:`DataError` for a conversation that the template refuses, characters that the tokenizer lacks, and a special
    token that somebody else than the assistant writes.
    """
    refuse_special_tokens([message for message in messages if message["role"] != "assistant"], tokenizer)
    return tokenizer.encode(template.render(messages, add_generation_prompt=True), allowed_special=True)


@dataclass(frozen=True)
class Chat:
    """Conversations in the template of a model's own tokenizer."""

    tokenizer: Tokenizer
    template: ChatTemplate

    @classmethod
    def of(cls, tokenizer: Tokenizer, name: str) -> Self:
        """That of the model called ``name``; :class:`ArtifactError` if its tokenizer has no template."""
        if template_source(tokenizer) is None:
            raise ArtifactError(
                f"the tokenizer of '{name}' has no chat template: the model was not taught to talk",
                "Fine-tune it on chats, or let it go on from a prompt.",
            )
        return cls(tokenizer, load_template(None, tokenizer))

    def ids(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """See :func:`asked_ids`; :class:`DataError` for what is no conversation, too."""
        if not messages or not all(isinstance(one.get(key), str) for one in messages for key in ("role", "content")):
            raise DataError("a conversation is messages, each with role and content, both text", "Give at least one.")
        return asked_ids(messages, self.template, self.tokenizer)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The special token with which the template ends an answer, if it does with one."""
        ids = self.tokenizer.special_ids
        return tuple(ids[token] for token in sorted(ids, key=len) if self._after_an_answer.startswith(token))[-1:]

    def stopping(self, config: GenerationConfig) -> GenerationConfig:
        """``config`` with the template's end of an answer among the stop strings, where that is plain text."""
        if self.end_ids or not self._after_an_answer:
            return config
        return config.model_copy(update={"stop": (*config.stop, self._after_an_answer)})

    @cached_property
    def _after_an_answer(self) -> str:
        """What the template writes between an answer and the white space before the next turn."""
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": PROBE}]
        return self.template.render(turns).partition(PROBE)[2].strip()
