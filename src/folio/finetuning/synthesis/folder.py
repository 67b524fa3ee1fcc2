"""The folder that examples grow in, and what is known of every request that may have been charged for.

``examples.jsonl`` and ``filtered.jsonl`` hold answers; ``journal.jsonl`` holds a line for each request *before* it is
sent, with its worst case, and one for each that ended without an answer. A request without either end was on its way
when the process died: it counts in full. Nothing is ever rewritten, so a kill at any moment costs at most what was on
its way, and the budget still holds.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from folio.artifacts import MANIFEST, write_file, write_manifest
from folio.errors import ArtifactError
from folio.finetuning.synthesis.budget import Bound, Budget, Usage
from folio.finetuning.synthesis.cells import Cell
from folio.finetuning.synthesis.lines import Lines
from folio.finetuning.synthesis.spec import Spec

SPEC, EXAMPLES, FILTERED, JOURNAL = "spec.json", "examples.jsonl", "filtered.jsonl", "journal.jsonl"
SUMMARY, TEXT = "summary.json", "examples.txt"
FIRST = 3
RECORD_KEYS = ("id", "text", "attempt", "usage")


class SynthesisFolder:
    """Examples, filtered answers and the journal of one spec; see ``synthesis.opening``."""

    def __init__(self, path: Path, spec: Spec, budget: Budget) -> None:
        self.path, self.spec, self.budget = path, spec, budget
        self._examples = Lines(path / EXAMPLES, RECORD_KEYS)
        self._filtered = Lines(path / FILTERED, (*RECORD_KEYS, "filtered"))
        self._journal = Lines(path / JOURNAL, ("attempt", "prompt_tokens", "completion_tokens"))
        self.texts = [str(record["text"]) for record in self._examples.read]
        """What is kept, in the order of the file."""
        self.answer_usage = Usage()
        """Tokens of the requests whose answers were kept or filtered."""
        self.answers = 0
        self.filtered: Counter[str] = Counter()
        """Answers that were set aside, by reason."""
        self.failures: Counter[str] = Counter()
        """Requests without an answer, by reason."""
        self._first: list[dict[str, Any]] = []
        self.done: set[str] = set()
        """Ids of the cells that have an answer, kept or filtered."""
        self.attempts = 0
        self._open: dict[int, Bound] = {}
        """Requests that are on their way."""
        self._replay()

    def _replay(self) -> None:
        """Counts and spending from the files; :class:`ArtifactError` where they contradict each other."""
        used: dict[int, Usage] = {}
        for lines in (self._examples, self._filtered):
            for record in lines.read:
                if record["id"] in self.done:
                    raise ArtifactError(f"'{lines.path}' holds the id {record['id']} twice", "Remove one of the lines.")
                self._count(record)
                used[int(record["attempt"])] = _usage(record["usage"])
        sent: dict[int, Bound] = {}
        for line in self._journal.read:
            attempt = int(line["attempt"])
            if "ended" in line:
                self.failures[str(line["ended"])] += 1
                used.setdefault(attempt, _usage(line))
            else:
                sent[attempt] = Bound(_usage(line), _usage(line["margin"]) if "margin" in line else Usage())
        for attempt, bound in sent.items():
            if attempt not in used:
                self.failures["unfinished"] += 1
            self.budget.charge(bound, used.get(attempt, bound.usage))
        for attempt in used.keys() - sent.keys():  # a journal that was removed: what answers used is still known
            self.budget.charge(Bound(used[attempt]), used[attempt])
        self.attempts = 1 + max([*sent, *used], default=-1)

    def _count(self, record: dict[str, Any]) -> None:
        self.done.add(record["id"])
        self.answers += 1
        self._first = sorted([*self._first, record], key=lambda one: int(one["attempt"]))[:FIRST]
        self.answer_usage += _usage(record["usage"])
        if "filtered" in record:
            self.filtered[str(record["filtered"])] += 1

    def send(self, cell: Cell, bound: Bound) -> int:
        """Write a request that is reserved down before it is sent; gives the number of the attempt."""
        margin = {"margin": _tokens(bound.margin)} if bound.margin.total else {}
        attempt = self.attempts
        self.attempts += 1
        self._open[attempt] = bound
        self._journal.append({"attempt": attempt, "id": cell.id, **_tokens(bound.usage), **margin})
        return attempt

    def fail(self, attempt: int, used: Usage, reason: str) -> None:
        """A request ended without an answer, and may have been charged ``used``."""
        self._journal.append({"attempt": attempt, "ended": reason, **_tokens(used)})
        self.failures[reason] += 1
        self.budget.settle(self._open.pop(attempt), used)

    def answer(self, cell: Cell, attempt: int, used: Usage, reason: str | None, **record: Any) -> dict[str, Any]:
        """Keep an answer, or set it aside for ``reason``. ``record`` holds text, model, finish and usage_from."""
        marked = {} if reason is None else {"filtered": reason}
        line = {
            "id": cell.id,
            "text": record.pop("text"),
            **marked,
            "attributes": cell.attributes,
            "repeat": cell.repeat,
            **record,
            "usage": _tokens(used),
            "attempt": attempt,
        }
        (self._examples if reason is None else self._filtered).append(line)
        self.budget.settle(self._open.pop(attempt), used)
        self._count(line)
        if reason is None:
            self.texts.append(line["text"])
        return line

    @property
    def first_records(self) -> list[dict[str, Any]]:
        """The first three answers there were, kept or filtered."""
        return self._first

    @property
    def kept(self) -> int:
        return len(self.texts)

    def summary(self) -> dict[str, Any]:
        """Counts and spending, as :meth:`finish` writes them."""
        spent = self.budget.spent
        priced = self.budget.table.prompt_price is not None
        return {
            "examples": self.kept,
            "filtered": dict(sorted(self.filtered.items())),
            "requests": self.attempts,
            "failed_requests": dict(sorted(self.failures.items())),
            "spent": {**_tokens(spent), "cost": round(self.budget.cost_of(spent), 9) if priced else None},
        }

    def finish(self) -> list[Path]:
        """Write the summary, the text file where the spec has marks, and the manifest; gives what was written.

        Nothing may be on its way any more that could still come in: what has no end counts in full.
        """
        while self._open:
            _, bound = self._open.popitem()
            self.failures["unfinished"] += 1
            self.budget.settle(bound, bound.usage)
        write_file(self.path / SUMMARY, json.dumps(self.summary(), indent=2) + "\n")
        wrote = [self.path / EXAMPLES]
        begin, end = self.spec.output.begin, self.spec.output.end
        if begin:
            text = "\n".join(f"{begin}\n{text}\n{end}\n" for text in self.texts)
            write_file(self.path / TEXT, text)
            wrote.append(self.path / TEXT)
        write_manifest(self.path, "examples", self.spec.model_dump(mode="json"))
        return wrote

    def begin(self) -> None:
        """The folder is about to change: what described it goes."""
        (self.path / MANIFEST).unlink(missing_ok=True)

    def close(self) -> None:
        for lines in (self._examples, self._filtered, self._journal):
            lines.close()


def _usage(line: dict[str, Any]) -> Usage:
    return Usage(int(line["prompt_tokens"]), int(line["completion_tokens"]))


def _tokens(usage: Usage) -> dict[str, int]:
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
