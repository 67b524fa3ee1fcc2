"""``folio bench evaluate``: how fast this machine measures a loss and answers four-way questions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import tyro
from pydantic import Field

from folio.config import Table
from folio.verbs.action import Action, Outcome, Terminal
from folio.verbs.interleaving import interleaved

if TYPE_CHECKING:
    from folio.evaluation.engine import Query
    from folio.model.gpt import GPT
    from folio.runtime import Runtime

CONTEXT, ENDING, ENDINGS = 35, 22, 4
"""Tokens of a question, about as HellaSwag's are; lengths vary by half around them."""


class EvaluateBench(Table):
    """Scoring random ids."""

    recipe: tyro.conf.Positional[str] = "gpt2"
    """A preset's name or a TOML file: its model."""
    tokens: int = Field(default=8192, ge=2)
    """Tokens of text scored in a round."""
    items: int = Field(default=64, ge=1)
    """Questions of four endings answered in a round."""
    rounds: int = Field(default=3, ge=1)
    """Measured rounds of each; medians are shown."""
    device: str = "auto"
    """auto, cpu, cuda, mps."""


def bench_evaluate(options: EvaluateBench, terminal: Terminal) -> Outcome:
    """Tokens/s of a loss, and questions/s beside the plain way (four padded rows, every logit), in turns."""
    import numpy as np

    from folio.evaluation.engine import log_likelihoods
    from folio.evaluation.loss import loss_on
    from folio.evaluation.text import IdStream
    from folio.model.gpt import GPT
    from folio.runtime import make_runtime
    from folio.verbs.recipe import load_shape

    shape = load_shape(options.recipe)
    best = make_runtime(options.device).precision
    runtimes = [make_runtime(options.device, p) for p in dict.fromkeys(("fp32", best))]
    model = GPT(shape).initialize(0).to(runtimes[0].device).eval()
    stream = IdStream(np.random.default_rng(0).integers(0, shape.vocab_size, options.tokens + 1))
    questions = random_questions(options.items, shape.vocab_size, shape.block_size)

    def loss(runtime: Runtime) -> None:
        runtime.select_fp32_products()
        loss_on(model, stream, bytes_per_token=1.0, autocast=runtime.autocast())

    def answer(runtime: Runtime) -> None:
        runtime.select_fp32_products()
        log_likelihoods(model, questions, autocast=runtime.autocast())

    def plainly(runtime: Runtime) -> None:
        runtime.select_fp32_products()
        with runtime.autocast():
            for question in questions:
                padded_rows(model, question)

    works: list[tuple[str, str, int, Callable[[], None]]] = []
    for runtime in runtimes:
        works.append((runtime.precision, "loss, tokens/s", options.tokens, partial(loss, runtime)))
        works.append((runtime.precision, "questions/s", options.items, partial(answer, runtime)))
        works.append((runtime.precision, "questions/s, four padded rows", options.items, partial(plainly, runtime)))
    times = interleaved([work for *_, work in works], options.rounds)
    rows: list[dict[str, Any]] = [
        {"precision": precision, "measured": what, "per_s": count / median(seconds)}
        for (precision, what, count, _), seconds in zip(works, times, strict=True)
    ]
    terminal.table(
        ("precision", "measured", "a second"),
        [(row["precision"], row["measured"], row["per_s"]) for row in rows],
        title=f"scoring with {options.recipe} on {runtimes[0].device}",
    )
    return Outcome({"recipe": options.recipe, "results": rows})


def random_questions(count: int, vocab_size: int, block_size: int) -> list[Query]:
    """Questions of four endings with lengths as HellaSwag's, all within ``block_size``."""
    import numpy as np

    from folio.evaluation.engine import Query

    generator = np.random.default_rng(0)

    def ids(mean: int) -> list[int]:
        length = int(generator.integers(max(1, mean // 2), mean + mean // 2 + 1))
        return [int(id) for id in generator.integers(0, vocab_size, min(length, max(1, block_size // 2)))]

    return [Query(ids(CONTEXT), tuple(ids(ENDING) for _ in range(ENDINGS))) for _ in range(count)]


def padded_rows(model: GPT, question: Query) -> list[float]:
    """The log-likelihoods as build-nanogpt and llm.c compute them: a row an ending, filled up, every logit made."""
    import torch
    import torch.nn.functional as F

    start, device = len(question.context), model.embed.weight.device
    rows = [torch.tensor([*question.context, *ending]) for ending in question.continuations]
    ids_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
    with torch.no_grad():
        logits_BTV = model(ids_BT)
        nats_BT = F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1).float(), ids_BT[:, 1:].flatten(), reduction="none")
    nats_BT = nats_BT.view(len(rows), -1)
    return [-float(nats[start - 1 : len(row) - 1].sum()) for nats, row in zip(nats_BT, rows, strict=True)]


ACTION = Action(EvaluateBench, bench_evaluate, "Measuring a loss and answering questions.")
