"""``folio evaluate contamination``: which items of benchmarks stand in a training text, and what scores are without."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from folio.config import Table
from folio.errors import ConfigError
from folio.verbs.action import Action, Outcome, Terminal
from folio.verbs.evaluate.tasks import files_of

if TYPE_CHECKING:
    from folio.corpus.ngrams import NgramIndex
    from folio.evaluation.contamination.clean_scores import CleanScore
    from folio.evaluation.contamination.search import Findings, SoFar
    from folio.evaluation.results import Evaluation
    from folio.evaluation.tasks import Task, TaskData
    from folio.verbs.evaluate.training_text import TrainingText

SHOWN_ITEMS = 5


class ContaminationOptions(Table):
    """Which benchmarks, in which training text, and what counts as found."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Benchmarks, by name or as a description's .toml file, with spaces or commas between."""
    data: tuple[str, ...] = ()
    """The file of a benchmark, as TASK=FILE, or FILE alone for the only one. Without it: named data, or the hub."""
    shards: Path | None = None
    """The training text: shards."""
    tokenizer: Path | None = None
    """The tokenizer that made the shards: its folder, or a model or run that has it. Empty: GPT-2's, if it was that."""
    corpus: str | None = None
    """The training text: a named corpus."""
    text: str | None = None
    """The training text: a file, folder or glob, all of it."""
    split: Literal["train", "val"] = "train"
    """Which split of shards or of a named corpus; other text is read whole."""
    n: int = Field(default=13, ge=1)
    """Words of a gram."""
    min_words: int = Field(default=8, ge=1)
    """A text of fewer than n words is one gram if it has at least this many; else it is too short to tell."""
    answers: Literal["right", "all", "none"] = "right"
    """What is looked for beside an item's context: its right ending, each ending, or none."""
    scores: tuple[Path, ...] = ()
    """Evaluations of these benchmarks: their scores on clean and on contaminated items."""
    workers: int = Field(default=0, ge=0)
    """Processes; 0 takes every core. What is found is the same for any number."""
    to: Path | None = None
    """Folder for contamination.json and the items. Empty: evaluations/contamination- and the tasks."""


def contamination(options: ContaminationOptions, terminal: Terminal) -> Outcome:
    """Look for every gram of every item; whatever is given is read and checked before the search begins."""
    from folio.artifacts import refuse_occupied
    from folio.evaluation.contamination.clean_scores import clean_scores
    from folio.evaluation.contamination.folder import (
        KIND,
        RULE,
        item_counts,
        item_record,
        score_record,
        write_contamination,
    )
    from folio.evaluation.contamination.search import index_of, question_texts
    from folio.evaluation.results import read_evaluation

    if sum(source is not None for source in (options.shards, options.corpus, options.text)) != 1:
        raise ConfigError("the training text is --shards, --corpus or --text", "Give one of them.")
    if options.text is not None and "split" in options.model_fields_set:
        raise ConfigError("--split is that of shards or of a corpus; --text is read whole", "Leave --split out.")
    tasks = _tasks(options)
    evaluations = [read_evaluation(path) for path in options.scores]
    for evaluation in evaluations:  # one that belongs to other files is refused before the work
        for name, (_, data) in _measured(evaluation, tasks).items():
            clean_scores(evaluation, name, data.sha256, dict.fromkeys((item.id for item in data.items), "clean"))
    to = options.to or Path("evaluations") / f"contamination-{'-'.join(tasks)}"
    refuse_occupied(to, allowed_kind=KIND)
    texts: list[tuple[str, ...]] = []
    spans: dict[str, range] = {}
    for name, (task, data) in tasks.items():
        forms = [task.questions(data.items, convention) for convention in task.conventions]
        first = len(texts)
        texts += [question_texts(form, options.answers) for form in zip(*forms, strict=True)]
        spans[name] = range(first, len(texts))
    index = index_of(texts, options.n, options.min_words)
    training = _training_text(options, index)
    findings, elapsed_s = _searched(training, index, options.workers, terminal)

    overlaps = findings.items()
    about: list[dict[str, Any]] = []
    records: dict[str, list[dict[str, Any]]] = {}
    scores: list[CleanScore] = []
    for name, (_, data) in tasks.items():
        own = [overlaps[at] for at in spans[name]]
        facts = {"task": name, "source": data.source, "sha256": data.sha256}
        about.append({**facts, **item_counts(own), **findings.gram_counts(spans[name])})
        records[name] = [item_record(item.id, overlap) for item, overlap in zip(data.items, own, strict=True)]
        states = {record["id"]: record["state"] for record in records[name]}
        for evaluation in evaluations:
            if name in _measured(evaluation, tasks):
                scores += clean_scores(evaluation, name, data.sha256, states)
    rule = {"n": index.n, "min_words": index.min_words, "answers": options.answers, "rule": RULE}
    counts = {name: getattr(findings, name) for name in ("documents", "documents_hit", "text_bytes")}
    files = {one["task"]: one["sha256"] for one in about}
    summary = {**rule, "text": {**training.facts, **counts}, "tasks": about, "scores": [*map(score_record, scores)]}
    write_contamination(to, summary, records, {**rule, "tasks": files}, training.parents)
    _show(terminal, summary, records, scores, elapsed_s)
    follow = f"folio evaluate MODEL --tasks {','.join(tasks)}"
    wrote = (to / "contamination.json", *(to / "items" / f"{name}.jsonl" for name in tasks))
    return Outcome({**summary, "elapsed_s": elapsed_s}, wrote=wrote, next=() if scores else (follow,))


def _tasks(options: ContaminationOptions) -> dict[str, tuple[Task, TaskData]]:
    """The benchmarks by name, read."""
    from folio.evaluation.tasks import find_task

    listed = (name.strip() for given in options.tasks for name in given.split(","))
    found = [find_task(name) for name in listed if name]
    names = [task.name for task in found]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"--tasks names '{repeated[0]}' twice", "Name each benchmark once.")
    if not found:
        raise ConfigError("--tasks names no benchmark", "Name one, such as hellaswag.")
    files = files_of(options.data, names)
    return {task.name: (task, task.read(files.get(task.name))) for task in found}


def _measured(evaluation: Evaluation, tasks: Mapping[str, tuple[Task, TaskData]]) -> dict[str, tuple[Task, TaskData]]:
    """Those of the tasks that an evaluation has scores of; if none, the first, which it is then refused for."""
    has = {score.task for measurement in evaluation.measurements.values() for score in measurement.scores}
    return {name: task for name, task in tasks.items() if name in has} or dict([next(iter(tasks.items()))])


def _training_text(options: ContaminationOptions, index: NgramIndex) -> TrainingText:
    from folio.verbs.evaluate.training_text import of_corpus, of_shards

    if options.shards is not None:
        return of_shards(options.shards, options.split, options.tokenizer)
    if options.tokenizer is not None:
        raise ConfigError("--tokenizer belongs to --shards; other text is read as it is", "Leave --tokenizer out.")
    return of_corpus(options.corpus, options.text, options.split, index.overlap)


def _searched(training: TrainingText, index: NgramIndex, workers: int, terminal: Terminal) -> tuple[Findings, float]:
    """What is found, and the seconds it took."""
    from folio.evaluation.contamination.search import search
    from folio.shards.pool import cores

    start = time.perf_counter()
    with terminal.progress("search", training.total, training.unit) as bar:

        def show(so_far: SoFar) -> None:
            rate = so_far.text_bytes / 1e6 / (time.perf_counter() - start)
            bar.update(so_far.size, {"items found": f"{so_far.items_found:,}", "MB/s": f"{rate:,.1f}"})

        findings = search(index, training.source, workers or cores(), show)
    return findings, time.perf_counter() - start


def _show(
    terminal: Terminal,
    summary: Mapping[str, Any],
    records: Mapping[str, Sequence[Mapping[str, Any]]],
    scores: Sequence[CleanScore],
    elapsed_s: float,
) -> None:
    columns = ("task", "items", "contaminated", "half_found", "all_found", "too_short", "grams", "grams_found")
    rows = [[one[column] for column in columns] for one in summary["tasks"]]
    terminal.table([column.replace("_", " ") for column in columns], rows)
    text = summary["text"]
    rate = text["text_bytes"] / 1e6 / elapsed_s
    terminal.print(
        f"{summary['n']}-grams in {text['documents']:,} documents, {text['text_bytes'] / 1e6:,.1f} MB of text: "
        f"{text['documents_hit']:,} documents hold any; {elapsed_s:,.1f} s, {rate:,.1f} MB/s"
    )
    for task, lines in records.items():
        found = sorted((line for line in lines if line["found"]), key=lambda line: -line["found"] / line["grams"])
        for line in found[:SHOWN_ITEMS]:
            share = f"{line['found']:,} of {line['grams']:,} grams"
            terminal.print(f"{task} {line['id']}: {share}, first in document {line['document']:,}: {line['gram']!r}")
        if len(found) > SHOWN_ITEMS:
            terminal.print(f"and {len(found) - SHOWN_ITEMS:,} more of {task}, in items/{task}.jsonl")
    if scores:
        header = ("model", "score", "items", "n", "value", "from", "to")
        terminal.table(header, [row for score in scores for row in _score_rows(score)], title="with 95 % intervals")


def _score_rows(score: CleanScore) -> list[tuple[object, ...]]:
    name = f"{score.score.task}, {score.score.convention}: {score.score.metric}"
    parts = (score.all, score.clean, score.contaminated, score.difference)
    rows: list[tuple[object, ...]] = []
    for items, part in zip(("all", "clean", "contaminated", "contaminated - clean"), parts, strict=True):
        numbers = (part.n, part.value, part.low, part.high) if part is not None else (0, None, None, None)
        rows.append((score.model, name, items, *numbers))
    return rows


ACTION = Action(
    ContaminationOptions,
    contamination,
    "Find the items of benchmarks in a training text, word for word, and the scores without them.",
    examples=(
        "folio evaluate contamination --tasks hellaswag --shards data/shards --tokenizer data/bpe",
        "folio evaluate contamination --tasks hellaswag --data hellaswag=val.jsonl --text 'texts/*.jsonl.zst'",
        "folio evaluate contamination --tasks hellaswag --shards data/shards --scores evaluations/mine",
    ),
)
