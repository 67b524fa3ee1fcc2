"""Run tasks of lm-evaluation-harness and keep what it reports, with a line for every document.

A number that the items do not give again (F1, BLEU, a group whose tasks weigh the same whatever their size) is no
:class:`Score`: it is told among the facts, as ``aggregates``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from folio.errors import DataError, UserError, require
from folio.evaluation.harness.scores import columns, plain, reported, score
from folio.evaluation.harness.tasks import Tasks
from folio.evaluation.results import Item, Measurement, Score

SUFFIX = "lm-eval"
RESAMPLES = 1000
"""Bootstrap resamples, for the standard errors that the harness finds that way; its own 100,000 take minutes."""
FEW_SHOT_SEED = 1234
"""The harness's own."""


def convention(shots: int) -> str:
    """The name of this harness's scores: its version and how many examples stand before each item."""
    return f"lm-evaluation-harness {version('lm_eval')}, {shots}-shot"


def measure_harness(
    lm: Any, tasks: Tasks, *, num_fewshot: int | None = None, limit: int | None = None
) -> list[Measurement]:
    """Evaluate ``lm`` on loaded tasks: a measurement for each task, and one for each group that has a number.

    ``num_fewshot`` counts where a task does not insist on 0; ``limit`` takes the first documents of each task. Called
    within :func:`folio.evaluation.harness.quiet.quietly`. :class:`DataError` for documents that the task cannot read.
    """
    for task in tasks["tasks"].values():
        own = task.get_config("num_fewshot")
        if own is None or (num_fewshot is not None and own != 0):
            task.set_config(key="num_fewshot", value=num_fewshot or 0)
        task.set_fewshot_seed(seed=FEW_SHOT_SEED)
        _guard(task)
    try:
        evaluate = require("lm_eval.evaluator", "eval").evaluate
        report = evaluate(lm, tasks, limit=limit, bootstrap_iters=RESAMPLES, log_samples=True)
    except UserError:
        raise
    except Exception as error:  # a task's templates and functions may raise anything
        if _raised_by_folio(error):
            raise
        raise DataError(
            f"lm-evaluation-harness fails on {', '.join(tasks['tasks'])}: {type(error).__name__}: {error}",
            "Mend the task file or its data: a document that lacks a field, say, or too few documents for the shots.",
        ) from error
    found = {name: _measurement(name, task, report, lm) for name, task in tasks["tasks"].items()}
    groups = (_group(name, group, found, report) for name, group in tasks["groups"].items())
    return [*found.values(), *(group for group in groups if group is not None)]


def perplexity(log_likelihoods: Sequence[float]) -> float:
    """exp of the mean nats, which the harness has too, until it overflows; of a poor model on long texts it does."""
    return math.exp(min(-sum(log_likelihoods) / len(log_likelihoods), 700.0))


def weighted_perplexity(items: Sequence[tuple[float, float]]) -> float:
    """The same per word or byte, of pairs of log-likelihood and length."""
    log_likelihoods, weights = zip(*items, strict=True)
    return math.exp(min(-sum(log_likelihoods) / sum(weights), 700.0))


def _guard(task: Any) -> None:
    """Let nothing overflow; the harness also leaves the standard errors of these to us, in place of its bootstrap's."""
    own = getattr(task, "_aggregation_list", {})  # tasks that are classes may have none
    guarded = {function.__name__: function for function in (perplexity, weighted_perplexity)}
    for metric, function in own.items():
        own[metric] = guarded.get(getattr(function, "__name__", ""), function)


def _raised_by_folio(error: BaseException) -> bool:
    """Whether it comes from Folio's own code or below, when the harness called it: a bug, whose traceback is wanted."""
    frame = error.__traceback__.tb_next if error.__traceback__ is not None else None  # the first is our own call
    while frame is not None:
        if str(frame.tb_frame.f_globals.get("__name__", "")).startswith("folio."):
            return True
        frame = frame.tb_next
    return False


def _measurement(name: str, task: Any, report: Mapping[str, Any], lm: Any) -> Measurement:
    shots, samples, aggregations = report["n-shot"][name], report["samples"][name], task.aggregation()
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))

    def aggregation(metric: str) -> str:  # the harness takes the mean where a task does not say
        return str(getattr(aggregations[metric], "__name__", "")) if metric in aggregations else "mean"

    lines: dict[Any, Item] = {}
    for sample in samples:
        line = lines.setdefault(sample["doc_id"], _line(sample, task))
        suffix = "" if len(filters) <= 1 else f".{sample['filter']}"
        if task.OUTPUT_TYPE == "generate_until":
            line[f"answer{suffix}"] = plain(sample["filtered_resps"])
        for metric in sample["metrics"]:
            line |= columns(f"{metric}{suffix}", sample[metric], aggregation(metric))
    items = list(lines.values())
    scores: list[Score] = []
    aggregates: dict[str, Any] = {}
    for number in reported(report["results"][name]):
        found = score(
            items,
            number,
            number.name(len(filters)),
            aggregation(number.metric),
            task=name,
            convention=convention(shots),
            unit="documents" if task.OUTPUT_TYPE == "loglikelihood_rolling" else "items",
            better="lower" if report["higher_is_better"][name].get(number.metric) is False else "higher",
        )
        if found is None:
            aggregates[number.name(len(filters))] = number.as_dict()
        else:
            scores.append(found)
    config = report["configs"][name]
    facts = {
        "harness": version("lm_eval"),
        "task_version": plain(report["versions"].get(name)),
        "output_type": task.OUTPUT_TYPE,
        "num_fewshot": shots,
        "documents": plain(report["n-samples"][name]),
        "data": _source(config),
        "cut": len(lm.cut[name]),
        "aggregates": aggregates,
    }
    return Measurement(_file_name(name), tuple(scores), items, facts)


def _source(config: Mapping[str, Any]) -> dict[str, Any]:
    """Where a task's documents come from; of local files the names alone, since others keep them elsewhere."""
    files = (config.get("dataset_kwargs") or {}).get("data_files") or {}
    by_split = files if isinstance(files, Mapping) else {"": files}
    named = {split: [Path(str(file)).name for file in np.atleast_1d(given)] for split, given in by_split.items()}
    return {"path": config.get("dataset_path"), "name": config.get("dataset_name"), "files": named}


def _line(sample: Mapping[str, Any], task: Any) -> Item:
    """What is told of a document whatever its metrics."""
    line: Item = {"id": sample["doc_id"], "doc_hash": sample["doc_hash"]}
    if task.OUTPUT_TYPE == "loglikelihood_rolling":  # the target is the whole text
        return line | {"log_likelihood": plain(sample["filtered_resps"][0])}
    line["label"] = plain(sample["target"])
    if task.OUTPUT_TYPE == "loglikelihood":
        line |= {"log_likelihood": sample["filtered_resps"][0][0], "greedy": sample["filtered_resps"][0][1]}
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = task.doc_to_choice(sample["doc"])
        likelihoods = [response[0] for response in sample["filtered_resps"]][: len(choices)]
        characters = np.array([max(1, len(choice)) for choice in choices])
        line |= {
            "prediction": int(np.argmax(likelihoods)),
            "prediction_norm": int(np.argmax(likelihoods / characters)),
            "log_likelihoods": plain(likelihoods),
        }
    return line


def _group(name: str, group: Any, found: Mapping[str, Measurement], report: Mapping[str, Any]) -> Measurement | None:
    """A group's numbers over the items of all its tasks."""
    numbers = list(reported(report["results"].get(name, {})))
    if not numbers:
        return None
    names = [task.task_name for task in group.get_all_tasks()]
    filters = len({number.filter for number in numbers})
    items: dict[str, Item] = {}
    scores: list[Score] = []
    aggregates: dict[str, Any] = {}
    for number in numbers:
        metric = number.name(filters)
        parts = [(task, part) for task in names for part in found[task].scores if part.metric == metric]
        lines = [
            {"id": f"{task}:{item['id']}", metric: item[metric]}
            for task, part in parts
            if part.numerator == metric
            for item in found[task].items
        ]
        told = None
        if lines:
            conventions = sorted({part.convention for _, part in parts})
            better = parts[0][1].better
            told = score(
                lines, number, metric, "mean", task=name, convention="; ".join(conventions), unit="items", better=better
            )
        if told is None:
            aggregates[metric] = number.as_dict()
            continue
        scores.append(told)
        for line in lines:
            items.setdefault(line["id"], {}).update(line)
    facts = {"harness": version("lm_eval"), "tasks": names, "aggregates": aggregates}
    return Measurement(_file_name(name), tuple(scores), list(items.values()), facts)


def _file_name(task: str) -> str:
    return f"{task}.{SUFFIX}".replace("/", "_")
