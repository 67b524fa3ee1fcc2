"""A judge model reads what other models wrote, each continuation after its prompt, known in token ids end to end.

The judge encodes prompt and continuation apart and reads the ids joined. Nothing is cut by its length in characters,
and nothing is encoded again as one string.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

from folio.errors import DataError
from folio.evaluation.engine import Likelihood, Query, log_likelihoods
from folio.model.gpt import GPT
from folio.tokenizer import Tokenizer

PROMPTS_AT_ONCE = 8
Unscored = Literal["", "empty", "unreadable"]
"""Why a continuation has no score: it holds no text (or none that is a token), or the judge cannot encode it."""


class Judge(Protocol):
    """A model that scores text. ``opening_ids`` are what it reads before every prompt, often nothing."""

    opening_ids: list[int]

    def encode(self, text: str) -> list[int]: ...

    def check_weights(self) -> None:
        """Read the weights and let them go again: what is missing, damaged or too large shows now."""

    def log_likelihoods(self, queries: Sequence[Query]) -> list[tuple[Likelihood, ...]]: ...


class FolioJudge:
    """A judge that Folio builds itself; ``load`` gives the weights when something is first scored."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        load: Callable[[], GPT],
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.opening_ids: list[int] = tokenizer.backend.encode("").ids  # such as Llama's begin-of-text; GPT-2 has none
        self._tokenizer, self._load, self._autocast = tokenizer, load, autocast

    @cached_property
    def _gpt(self) -> GPT:
        return self._load()

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)

    def check_weights(self) -> None:
        self._load()

    def log_likelihoods(self, queries: Sequence[Query]) -> list[tuple[Likelihood, ...]]:
        return log_likelihoods(self._gpt, queries, autocast=self._autocast())


@dataclass(frozen=True)
class Continuation:
    """What one model wrote after one prompt, with the seed it was drawn by; ``facts`` go into its line as they are."""

    text: str
    seed: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """The judge's view of a continuation: summed nats over its ``tokens`` tokens; or why there is none."""

    log_likelihood: float = 0.0
    tokens: int = 0
    cut: int = 0
    unscored: Unscored = ""

    @property
    def log_probability(self) -> float | None:
        """The mean per token."""
        return None if self.unscored else self.log_likelihood / self.tokens


def judged(
    judge: Judge,
    prompts: Sequence[str],
    continuations: Sequence[Sequence[str]],
    *,
    on_progress: Callable[[int], None] = lambda prompts: None,
) -> list[list[Judgement]]:
    """A :class:`Judgement` for every continuation of every prompt, in the order given.

    Continuations of one prompt, whoever wrote them, share the reading of it. A continuation without a token has no
    score. ``on_progress`` is told how many prompts are done. :class:`DataError` for a prompt that cannot be encoded.
    """
    answers: list[list[Judgement]] = []
    for start in range(0, len(prompts), PROMPTS_AT_ONCE):
        part = slice(start, start + PROMPTS_AT_ONCE)
        encoded = [[_encoded(judge, text) for text in texts] for texts in continuations[part]]
        contexts = [[*judge.opening_ids, *judge.encode(prompt)] for prompt in prompts[part]]
        spans = [tuple(ids for ids in row if isinstance(ids, list)) for row in encoded]
        queries = [Query(context, ids) for context, ids in zip(contexts, spans, strict=True) if ids]
        rows = judge.log_likelihoods(queries) if queries else []
        scored = iter([likelihood for row in rows for likelihood in row])
        for row in encoded:
            answers.append([_judgement(ids, scored) for ids in row])
        on_progress(min(len(prompts), start + PROMPTS_AT_ONCE))
    return answers


def _encoded(judge: Judge, text: str) -> list[int] | Unscored:
    try:
        return judge.encode(text) or "empty"
    except DataError:
        return "unreadable"


def _judgement(ids: list[int] | Unscored, scored: Iterator[Likelihood]) -> Judgement:
    if not isinstance(ids, list):
        return Judgement(unscored=ids)
    likelihood = next(scored)
    assert likelihood.tokens == len(ids)
    return Judgement(likelihood.log_likelihood, likelihood.tokens, likelihood.cut)
