"""A Folio model as lm-evaluation-harness sees one: the harness asks, :mod:`folio.evaluation.engine` answers.

What becomes of a request's text follows the harness's own ``hf`` model, so that the numbers are those that ``hf`` gives
on the same folder: how context and continuation part, what stands before an empty context, what is cut where the
model's context is too short, how a long text is rolled over, where an answer ends.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from folio.errors import ArtifactError, ConfigError, DataError, require
from folio.evaluation.engine import PASS_TOKENS, Likelihood, Query, log_likelihoods
from folio.evaluation.harness.answers import answer_settings, answer_text
from folio.model.gpt import GPT
from folio.tokenizer import Tokenizer

Ids = tuple[int, ...]
Write = Callable[[Sequence[Sequence[int]], Mapping[str, Any]], list[list[int]]]
"""Prompts as ids, and settings by the names of ``GenerationConfig``, to the new ids of each, end-of-text left out."""

PASSES_AT_ONCE = 16
"""Forward passes of the engine between two signs of progress."""
WRITTEN_TOKENS = 8192
"""Tokens, prompts included, of one batch of answers."""
SEED = 1234
"""The harness's own; answer i is drawn with SEED + i."""


class Bar(Protocol):
    """Something that is told how many are done."""

    def update(self, done: int) -> None: ...


class _NoBar:
    def update(self, done: int) -> None:
        pass


Progress = Callable[[str, int, str], AbstractContextManager[Bar]]
"""What is done, how many, and of what, to a bar that is shown meanwhile."""


def harness_model(
    gpt: GPT,
    tokenizer: Tokenizer,
    write: Write | None = None,
    *,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    progress: Progress = lambda *_: nullcontext(_NoBar()),
    poll: Callable[[], None] = lambda: None,
) -> Any:
    """An ``lm_eval.api.model.LM`` on ``gpt``, to be given to ``lm_eval.evaluate`` or ``simple_evaluate`` as it is.

    ``write`` writes answers, since this room generates none; without it, tasks that ask for some are refused.
    :class:`MissingExtra` without lm_eval; :class:`ArtifactError` for a tokenizer with more ids than the model.
    """
    base = require("lm_eval.api.model", "eval").TemplateLM
    if tokenizer.vocab_size > gpt.config.vocab_size:
        raise ArtifactError(
            f"the tokenizer has {tokenizer.vocab_size:,} ids, the model {gpt.config.vocab_size:,}",
            "Use the tokenizer that the model was trained with.",
        )
    return type("FolioLM", (HarnessModel, base), {})(gpt, tokenizer, write, autocast, progress, poll)


class HarnessModel:
    """All but the base class, which is there only where lm_eval is; see :func:`harness_model`.

    ``cut`` holds, by task, the documents of which a context did not fit into the model's.
    """

    _encode_pair: Callable[[str, str], tuple[list[int], list[int]]]  # the base's: spaces at the end of a context move

    def __init__(
        self,
        gpt: GPT,
        tokenizer: Tokenizer,
        write: Write,
        autocast: Callable[[], AbstractContextManager[object]],
        progress: Progress,
        poll: Callable[[], None],
    ) -> None:
        super().__init__()
        self.gpt, self.ids_of, self.write = gpt, tokenizer, write
        self.autocast, self.progress, self.poll = autocast, progress, poll
        self.cut: defaultdict[str, set[Any]] = defaultdict(set)
        self._opening: list[int] = tokenizer.backend.encode("").ids  # what transformers puts before every text

    @property
    def max_length(self) -> int:
        """Ids that the model sees at once."""
        return self.gpt.config.block_size

    @property
    def eot_token_id(self) -> int | None:
        """The id that ends a text."""
        return self.ids_of.eot_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that nothing stands before."""
        first = self.ids_of.bos_id if self.ids_of.bos_id is not None else self.ids_of.eot_id
        if first is None:
            raise DataError(
                "a context is empty, and this tokenizer has no end-of-text to begin from",
                "Use a model with such a token, or a task whose contexts are not empty.",
            )
        return first

    @property
    def tokenizer_name(self) -> str:
        """What the harness tells tokenizers apart by."""
        return self.ids_of.fingerprint

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
        """There is none: :class:`ConfigError`."""
        raise ConfigError(
            "Folio's models have no chat template", "Evaluate without one; the task's plain text is used."
        )

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """The ids of a text, special tokens written in it being themselves, as ``transformers`` has it."""
        ids = self.ids_of.encode(string, allowed_special=True)
        opened = self._opening and ids[:1] == self._opening[:1]
        return ids if add_special_tokens is False or opened else self._opening + ids

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """(log-likelihood, whether each id was the likeliest) of the second text after the first, for each request."""
        likelihoods = self._score([self._pair(request) for request in requests])
        for request, likelihood in zip(requests, likelihoods, strict=True):
            if likelihood.cut:
                self.cut[request.task_name].add(request.doc_id)
        return [(likelihood.log_likelihood, likelihood.greedy) for likelihood in likelihoods]

    def _pair(self, request: Any) -> tuple[Ids, Ids]:
        context, continuation = request.args
        if context.strip():
            before, scored = self._encode_pair(context, continuation)
        else:
            before, scored = [], self.tok_encode(context + continuation, add_special_tokens=False)
        if not before:
            before = [self.prefix_token_id]
            if len(scored) > 1 and scored[0] == before[0]:
                scored = scored[1:]
        if not scored:
            raise DataError(
                f"item {request.doc_id} of task '{request.task_name}' has nothing to score after its context",
                f"Mend the item: its continuation is {continuation!r}.",
            )
        return tuple(before), tuple(scored)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, Sequence[int], Sequence[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        likelihoods = self._score([(tuple(before), tuple(scored)) for _, before, scored in requests])
        return [(likelihood.log_likelihood, likelihood.greedy) for likelihood in likelihoods]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:
        """The log-likelihood of each whole text, in the harness's windows: the last has a full context, as it can."""
        utils = require("lm_eval.utils", "eval")
        pairs: list[tuple[Ids, Ids]] = []
        owners: list[int] = []
        for owner, request in enumerate(requests):
            (text,) = request.args
            windows = utils.get_rolling_token_windows(self.tok_encode(text), self.prefix_token_id, self.max_length, 1)
            for before, scored in map(utils.make_disjoint_window, windows):
                pairs.append((tuple(before), tuple(scored)))
                owners.append(owner)
        totals = [0.0] * len(requests)
        for owner, likelihood in zip(owners, self._score(pairs), strict=True):
            totals[owner] += likelihood.log_likelihood
        return totals

    def _score(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[Likelihood]:
        """Each continuation after its context; one context is computed once, and the same pair once."""
        continuations: dict[Ids, dict[Ids, None]] = {}
        for before, scored in pairs:
            continuations.setdefault(before, {})[scored] = None
        queries = [Query(before, tuple(scored)) for before, scored in continuations.items()]
        queries.sort(key=lambda query: -_tokens(query))
        found: dict[tuple[Ids, Ids], Likelihood] = {}
        with self.progress("likelihood", sum(map(len, continuations.values())), "request") as bar:
            for some in _chunks(queries, PASSES_AT_ONCE * PASS_TOKENS[self.gpt.embed.weight.device.type]):
                answers = log_likelihoods(self.gpt, some, autocast=self.autocast(), poll=self.poll)
                for query, answer in zip(some, answers, strict=True):
                    for ids, likelihood in zip(query.continuations, answer, strict=True):
                        found[tuple(query.context), tuple(ids)] = likelihood
                bar.update(len(found))
        return [found[pair] for pair in pairs]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        """An answer to each prompt, up to the first of the task's stop strings, which is not part of it."""
        if self.write is None:
            raise ConfigError("this model was given nothing to write with", "Give harness_model a function to write.")
        by_settings: dict[str, list[tuple[list[int], int]]] = {}
        for number, request in enumerate(requests):
            settings = answer_settings(request, self.ids_of)
            room = self.max_length - settings["max_new_tokens"]
            limit = (
                room if room > 0 else max(1, self.max_length // 2)
            )  # where the harness gives up, the window moves on
            prompt = self.tok_encode(request.args[0]) or [self.prefix_token_id]
            if len(prompt) > limit:
                self.cut[request.task_name].add(request.doc_id)
            by_settings.setdefault(json.dumps(settings), []).append((prompt[-limit:], number))
        texts = [""] * len(requests)
        done = 0
        with self.progress("write", len(requests), "answer") as bar:
            for key, prompts in by_settings.items():
                settings = json.loads(key)
                prompts.sort(key=lambda prompt: -len(prompt[0]))
                while prompts:
                    self.poll()
                    longest = min(self.max_length, len(prompts[0][0]) + settings["max_new_tokens"])
                    size = max(1, WRITTEN_TOKENS // longest)
                    some, prompts = prompts[:size], prompts[size:]
                    answers = self.write([ids for ids, _ in some], {**settings, "seed": SEED + done})
                    for (_, number), ids in zip(some, answers, strict=True):
                        texts[number] = answer_text(ids, settings["stop"], self.ids_of)
                    done += len(some)
                    bar.update(done)
        return texts


def _tokens(query: Query) -> int:
    return len(query.context) + sum(map(len, query.continuations))


def _chunks(queries: Iterable[Query], tokens: int) -> Iterator[list[Query]]:
    """Runs of ``queries`` of about that many tokens each."""
    some: list[Query] = []
    total = 0
    for query in queries:
        some.append(query)
        total += _tokens(query)
        if total >= tokens:
            yield some
            some, total = [], 0
    if some:
        yield some
