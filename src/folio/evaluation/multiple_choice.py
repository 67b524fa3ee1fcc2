"""A model on a benchmark: log-likelihoods of endings, what they choose, and how often that is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np

from folio.errors import DataError
from folio.evaluation.engine import Likelihood, Query, log_likelihoods
from folio.evaluation.estimates import Estimate, exponential, mean, proportion
from folio.evaluation.results import Item, Measurement, Score
from folio.evaluation.tasks import Convention, Question, Task
from folio.model.gpt import GPT
from folio.ranks import ALONE, Ranks
from folio.tokenizer import Tokenizer

QUESTIONS_AT_ONCE = 256
Running = Callable[[int, dict[str, Estimate]], None]
"""Told after every so many questions: how many are done, and each metric so far."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question in ids: one query for all endings, or one for each."""

    question: Question
    queries: tuple[Query, ...]


def measure_task(
    model: GPT,
    tokenizer: Tokenizer,
    task: Task,
    convention: Convention,
    questions: Sequence[Question],
    *,
    num_fewshot: int = 0,
    note: str = "",
    autocast: AbstractContextManager[object] | None = None,
    ranks: Ranks = ALONE,
    poll: Callable[[], None] = lambda: None,
    running: Running = lambda done, metrics: None,
    at_once: int = QUESTIONS_AT_ONCE,
) -> Measurement:
    """The measurement "TASK.CONVENTION" of ``model`` on ``questions``, a line for each.

    ``acc``: the likeliest ending is the right one, or each id of the last word the likeliest. ``acc_norm``: the same by
    log-likelihood per token or character, as the convention has it. A question in which something cannot be encoded is
    left out and counted; what is longer than the model's context loses the start of its own (see
    :func:`folio.evaluation.engine.log_likelihoods`) and is counted. On several ``ranks`` each, holding the whole model,
    takes its share, and calls ``poll`` as often as the others: before every ``at_once`` questions.
    :class:`DataError` if no question is left.
    """
    asked = [_encoded(question, convention, tokenizer) for question in questions]
    left = [question for question in asked if question is not None]
    if not left:
        raise DataError(
            f"none of the {len(questions):,} items of '{task.name}' can be written in this model's vocabulary",
            "Use a model with a byte-level tokenizer, or another task.",
        )
    own = left[ranks.rank :: ranks.world_size]
    items: list[Item] = []
    for start in range(0, -(-len(left) // ranks.world_size), at_once):  # the same turns on every rank
        poll()
        together = own[start : start + at_once]
        queries = [query for asked in together for query in asked.queries]
        answers = iter(log_likelihoods(model, queries, autocast=autocast))
        for asked_one in together:
            found = [one for _ in asked_one.queries for one in next(answers)]
            items.append(_item(asked_one.question, found, task.kind, convention))
        if items:
            running(len(items), _metrics(items))
    items = [item for turn in zip_longest(*ranks.gather(items)) for item in turn if item is not None]
    name = f"{task.name}.{convention.name}" + (f".{num_fewshot}-shot" if num_fewshot else "")
    described = f"{convention.name}, {num_fewshot}-shot" + (f" ({note})" if note else "")
    facts = {
        "num_fewshot": num_fewshot,
        "items": len(questions),
        "left_out": len(questions) - len(left),
        "cut": sum(item["cut"] > 0 for item in items),
        "normalize": convention.normalize,
    }
    return Measurement(name, _scores(task, described, items), items, facts)


def _encoded(question: Question, convention: Convention, tokenizer: Tokenizer) -> _Asked | None:
    """None for a question of which something cannot be encoded, or is nothing once it is."""
    encode = lru_cache(maxsize=8)(tokenizer.encode)
    contexts = question.contexts if len(question.contexts) > 1 else question.contexts * len(question.endings)
    endings = question.endings if len(question.endings) > 1 else question.endings * len(contexts)
    try:
        pairs = [
            encode_pair(encode, context, ending, convention.encoding)
            for context, ending in zip(contexts, endings, strict=True)
        ]
    except DataError:
        return None
    pairs = [(_opened(context, tokenizer, convention.encoding), ending) for context, ending in pairs]
    if not all(context and ending for context, ending in pairs):
        return None
    return _Asked(question, grouped(pairs))


def _opened(context: list[int], tokenizer: Tokenizer, encoding: str) -> list[int]:
    """A context that is not empty and, under "pair", begins with what transformers puts before every text, if anything.

    That is how lm-evaluation-harness reads it; GPT-2 has nothing there, Llama 3 one id. Nothing to read is end-of-text.
    """
    first = tokenizer.eot_id
    if encoding == "pair":
        before = tokenizer.backend.encode("").ids
        context = context if context[: len(before)] == before else before + context
        first = tokenizer.bos_id if tokenizer.bos_id is not None else first
    return context or ([] if first is None else [first])


def encode_pair(
    encode: Callable[[str], list[int]], context: str, ending: str, encoding: str
) -> tuple[list[int], list[int]]:
    """The ids of a context and of what is scored after it.

    "apart" encodes each by itself. "pair" is lm-evaluation-harness's way: both as one text, cut after as many ids as
    the context has by itself; white space at the context's end goes to the ending first.
    """
    if encoding == "apart" or not context:
        return encode(context), encode(ending)
    bare = context.rstrip()
    both = encode(context + ending)
    length = len(encode(bare))
    return both[:length], both[length:]


def grouped(pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[Query, ...]:
    """Pairs of context and ending as queries, in order: neighbours with equal contexts share one."""
    queries: list[Query] = []
    for context, ending in pairs:
        if queries and queries[-1].context == context:
            queries[-1] = Query(context, (*queries[-1].continuations, ending))
        else:
            queries.append(Query(context, (ending,)))
    return tuple(queries)


def _item(question: Question, found: Sequence[Likelihood], kind: str, convention: Convention) -> Item:
    log_p = np.array([one.log_likelihood for one in found])
    item: Item = {"id": question.id, "label": question.label}
    if kind == "last-word":
        item |= {"acc": int(found[0].greedy), "nats": -found[0].log_likelihood}
    else:
        item["prediction"] = int(log_p.argmax())
        item["acc"] = int(item["prediction"] == question.label)
        if convention.normalize is not None:
            tokens = [one.tokens for one in found]
            lengths = np.array(tokens if convention.normalize == "tokens" else question.lengths)
            item["prediction_norm"] = int((log_p / lengths).argmax())
            item["acc_norm"] = int(item["prediction_norm"] == question.label)
    item["log_likelihoods"] = log_p.tolist()
    item["tokens"] = [one.tokens for one in found]
    item["cut"] = max(one.cut for one in found)
    return item


def metrics_of(task: Task, convention: Convention) -> tuple[str, ...]:
    """The metrics that a measurement of ``task`` has."""
    if task.kind == "last-word":
        return ("acc", "perplexity")
    return ("acc", "acc_norm") if convention.normalize else ("acc",)


def _metrics(items: Sequence[Item]) -> dict[str, Estimate]:
    """Every metric that the items have: accuracies, and perplexity for a last word."""
    found: dict[str, Estimate] = {}
    for key in ("acc", "acc_norm"):
        if key in items[0]:
            found[key] = proportion([item[key] for item in items])
    if "nats" in items[0]:
        found["perplexity"] = exponential(mean([item["nats"] for item in items]))
    return found


def _scores(task: Task, convention: str, items: Sequence[Item]) -> tuple[Score, ...]:
    shared: dict[str, Any] = {"task": task.name, "convention": convention, "unit": "items"}
    return tuple(
        Score.of(estimate, **shared, metric=key, better="lower", numerator="nats", transform="exp")
        if key == "perplexity"
        else Score.of(estimate, **shared, metric=key, better="higher", numerator=key)
        for key, estimate in _metrics(items).items()
    )
