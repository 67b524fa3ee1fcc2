"""HellaSwag items/s: Folio's engine beside lm-evaluation-harness's ``hf`` model and the way of build-nanogpt, in turns.

    python benchmarks/measure_evaluation.py ITEMS.jsonl [--items 32] [--rounds 5] [--threads 2] [--model FOLDER]

GPT-2 124M with random weights, or any model folder. Everyone gets the same items, spread over the file
(``activity_label``, ``ctx``, ``endings``, ``label``), in the harness's format, 0-shot, and answers with a
log-likelihood for each ending:

- ``harness hf, batch N``: ``HFLM.loglikelihood`` in fp32, for each batch size asked for; its best is what counts.
- ``4 padded rows``: an item is one batch of four rows, filled up on the right, through ``transformers`` in fp32 with
  all its logits, as build-nanogpt's hellaswag.py and llm.c do.
- ``folio fp32``, ``folio bf16``: as ``folio evaluate`` does, encoding included; ``adapter``: asked by the harness.

The first two run in a process that has torch's own settings, Folio in another that is set up as its command line does;
they take turns, so one works while the other waits. A round asks everyone once. Printed are medians, the median of the
ratios within a round, the largest difference of a log-likelihood from the padded rows, and how many choices agree.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

PLAIN = "4 padded rows"


@dataclass(frozen=True)
class Work:
    """What both processes are told."""

    folder: str
    items: list[dict[str, Any]]
    batch_sizes: tuple[int, ...]
    threads: int
    device: str


def requests_of(items: Sequence[dict[str, Any]]) -> list[Any]:
    """The harness's requests for the items, one an ending."""
    from lm_eval.api.instance import Instance

    return [
        Instance("loglikelihood", item, (f"{item['activity_label']}: {item['ctx']}", f" {ending}"), i, ("swag", n, 1))
        for n, item in enumerate(items)
        for i, ending in enumerate(item["endings"])
    ]


def their_contestants(work: Work) -> dict[str, Callable[[Sequence[dict[str, Any]]], list[float]]]:
    """``hf`` at each batch size, and the padded rows, on one copy of the weights."""
    import torch
    import torch.nn.functional as F
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(work.threads)
    lm = HFLM(pretrained=work.folder, device=work.device, dtype="float32", batch_size=1)

    def harness(batch_size: int, items: Sequence[dict[str, Any]]) -> list[float]:
        lm.batch_size_per_gpu = batch_size
        return [answer[0] for answer in lm.loglikelihood(requests_of(items), disable_tqdm=True)]

    @torch.no_grad()
    def padded(items: Sequence[dict[str, Any]]) -> list[float]:
        found: list[float] = []
        for item in items:
            pairs = [lm._encode_pair(*request.args) for request in requests_of([item])]
            T = max(len(context) + len(ending) for context, ending in pairs)
            ids_BT = torch.zeros(len(pairs), T, dtype=torch.int64)
            asked_BT = torch.zeros(len(pairs), T)
            for row, (context, ending) in enumerate(pairs):
                ids_BT[row, : len(context) + len(ending)] = torch.tensor(context + ending)
                asked_BT[row, len(context) : len(context) + len(ending)] = 1
            ids_BT, asked_BT = ids_BT.to(work.device), asked_BT.to(work.device)
            logits_BTV = lm.model(ids_BT).logits
            nats = F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), ids_BT[:, 1:].flatten(), reduction="none")
            found += (-(nats.view(len(pairs), -1) * asked_BT[:, 1:]).sum(1)).tolist()
        return found

    sizes = {f"harness hf, batch {n}": (lambda items, n=n: harness(n, items)) for n in work.batch_sizes}
    return {**sizes, PLAIN: padded}


def our_contestants(work: Work) -> dict[str, Callable[[Sequence[dict[str, Any]]], list[float]]]:
    """Folio in both precisions."""
    import torch

    import folio
    from folio.evaluation.engine import log_likelihoods
    from folio.evaluation.harness.adapter import harness_model
    from folio.evaluation.multiple_choice import encode_pair, grouped
    from folio.runtime import make_runtime

    torch.set_num_threads(work.threads)
    model = folio.load(work.folder, device=work.device)
    runtimes = {precision: make_runtime(work.device, precision) for precision in ("fp32", "bf16")}

    def score(precision: str, items: Sequence[dict[str, Any]]) -> list[float]:
        runtime = runtimes[precision]
        runtime.select_fp32_products()
        texts = [[request.args for request in requests_of([item])] for item in items]
        queries = [
            query
            for pairs in texts
            for query in grouped([encode_pair(model.tokenizer.encode, *pair, "pair") for pair in pairs])
        ]
        answers = log_likelihoods(model.gpt, queries, autocast=runtime.autocast())
        return [one.log_likelihood for answer in answers for one in answer]

    def by_the_harness(items: Sequence[dict[str, Any]]) -> list[float]:
        runtime = runtimes["fp32"]
        runtime.select_fp32_products()
        lm = harness_model(model.gpt, model.tokenizer, lambda prompts, settings: [], autocast=runtime.autocast)
        return [answer[0] for answer in lm.loglikelihood(requests_of(items))]

    own = {f"folio {name}": (lambda items, name=name: score(name, items)) for name in runtimes}
    return {**own, "folio fp32, adapter": by_the_harness}


def serve(connection: Connection, ours: bool, work: Work) -> None:
    """Run contestants by name as asked, each warmed up; answer with seconds and log-likelihoods."""
    contestants = (our_contestants if ours else their_contestants)(work)
    for run in contestants.values():
        run(work.items[: 24 if ours else 2])  # enough for weights to be laid out anew
    connection.send(list(contestants))
    while (name := connection.recv()) is not None:
        start = time.perf_counter()
        found = contestants[name](work.items)
        connection.send((time.perf_counter() - start, found))


def random_folder(folder: Path) -> None:
    """GPT-2 124M as initialized, with GPT-2's vocabulary."""
    from folio.model.config import GPTConfig
    from folio.model.gpt import GPT
    from folio.tokenizer import gpt2_tokenizer
    from folio.verbs.library import Model

    Model(GPT(GPTConfig()).initialize(0).eval(), folder, gpt2_tokenizer()).save(folder)


def choices(found: Sequence[float], items: Sequence[dict[str, Any]], normed: bool) -> list[int]:
    """The likeliest ending of each item, per character if ``normed``."""
    chosen, start = [], 0
    for item in items:
        scores = [found[start + i] / (len(end) if normed else 1) for i, end in enumerate(item["endings"])]
        chosen.append(scores.index(max(scores)))
        start += len(scores)
    return chosen


def measure(work: Work, rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of every round, and the log-likelihoods, by contestant."""
    context = multiprocessing.get_context("spawn")
    where: dict[str, Connection] = {}
    processes = []
    for ours in (False, True):
        here, there = context.Pipe()
        processes.append((context.Process(target=serve, args=(there, ours, work)), here))
        processes[-1][0].start()
        where |= dict.fromkeys(here.recv(), here)
    seconds: dict[str, list[float]] = {name: [] for name in where}
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, connection in where.items():
            connection.send(name)
            taken, found[name] = connection.recv()
            seconds[name].append(taken)
    for process, connection in processes:
        connection.send(None)
        process.join()
    return seconds, found


def report(work: Work, seconds: dict[str, list[float]], found: dict[str, list[float]]) -> dict[str, Any]:
    """Print the table; the same as JSON values."""
    labels = [int(item["label"]) for item in work.items]
    best = min((name for name in seconds if name.startswith("harness")), key=lambda name: median(seconds[name]))
    first = next(name for name in seconds if name.startswith("harness"))
    print(f"{'':22} {'items/s':>8} {'least':>7} {'most':>7}  ", end="")
    print(f"{'x first hf':>10} {'x best hf':>9} {'x rows':>7}  ", end="")
    print(f"{'max nats off':>12} {'acc':>6} {'same':>5} {'acc_norm':>8} {'same':>5}")
    result: dict[str, Any] = {"best_harness": best}
    for name, taken in seconds.items():
        rates = [len(work.items) / one for one in taken]
        ratios = {
            peer: median(theirs / own for own, theirs in zip(taken, seconds[peer], strict=True))
            for peer in (first, best, PLAIN)
        }
        off = max(abs(a - b) for a, b in zip(found[name], found[PLAIN], strict=True))
        line: dict[str, Any] = {
            "items_per_s": median(rates),
            "least_items_per_s": min(rates),
            "most_items_per_s": max(rates),
            "times_first_harness": ratios[first],
            "times_best_harness": ratios[best],
            "times_padded_rows": ratios[PLAIN],
            "max_difference_nats": off,
        }
        for metric, normed in (("acc", False), ("acc_norm", True)):
            chosen, plain = choices(found[name], work.items, normed), choices(found[PLAIN], work.items, normed)
            line[metric] = sum(a == b for a, b in zip(chosen, labels, strict=True)) / len(labels)
            line[f"{metric}_same_choices"] = sum(a == b for a, b in zip(chosen, plain, strict=True))
        result[name] = line
        print(f"{name:22} {median(rates):8.2f} {min(rates):7.2f} {max(rates):7.2f}  ", end="")
        print(f"{ratios[first]:10.2f} {ratios[best]:9.2f} {ratios[PLAIN]:7.2f}  {off:12.2e} ", end="")
        print(
            f"{line['acc']:6.1%} {line['acc_same_choices']:5} {line['acc_norm']:8.1%} {line['acc_norm_same_choices']:5}"
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with options.file.open(encoding="utf-8") as lines:
        every = [json.loads(line) for line in lines]
    items = every[:: max(1, len(every) // options.items)][: options.items]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model or Path(scratch) / "gpt2-124m-random"
        if options.model is None:
            random_folder(folder)
        work = Work(str(folder), items, tuple(options.batch_sizes), options.threads, options.device)
        seconds, found = measure(work, options.rounds)
    from importlib.metadata import version

    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "lm_eval"))
    print(f"{packages}, {platform.processor()}, {options.device}, {options.threads} threads")
    print(f"{len(items)} items, {options.rounds} rounds, {options.model or 'GPT-2 124M, random weights'}")
    print(json.dumps(report(work, seconds, found)))


if __name__ == "__main__":
    main()
