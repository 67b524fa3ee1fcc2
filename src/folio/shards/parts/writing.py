"""One writing of shards from a source: all that its bytes depend on, where its work lies, and its steps in order.

A step is done once, or with every part; each can be done by any process of any machine that sees the folder, is
never done twice, and needs the steps before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from folio.artifacts import write_file
from folio.corpus.sources import FirstTokens, Plan, Sides
from folio.errors import ArtifactError, ConfigError, DataError
from folio.shards.config import ShardsConfig
from folio.shards.format import dtype_for
from folio.shards.journal import Workplace, partial_folder, read_journal, workplace
from folio.shards.parts import duplicates
from folio.shards.parts.allotment import Allotment
from folio.shards.parts.encode import EncodeParts
from folio.shards.parts.job import PartJob
from folio.shards.parts.journal import SIDES, is_there, processes_in, records_in
from folio.shards.parts.refining import Refining
from folio.shards.worker import Encoding
from folio.shards.write import job_of

if TYPE_CHECKING:
    from folio.tokenizer import Tokenizer

PLAN = "plan.json"
NAMES = {"sides": "what is held out", "tokens": "the budget", "corpus": "the name", "fingerprint": "the source"}
"""What a user would call some of the settings of a job."""


@dataclass(frozen=True)
class Step:
    """Either a ``job`` for every part, with those of some numbers that are ``undone``, or something to do ``once``,
    that leaves the file ``leaves``."""

    name: str
    job: PartJob[Any] | None = None
    undone: Callable[[Iterable[int]], list[int]] = list
    once: Callable[[], object] | None = None
    leaves: Path | None = None


@dataclass(frozen=True)
class Writing:
    """Made by :func:`plan_writing`; it can be sent to other processes, which then do their share of its steps."""

    refining: Refining
    sides: Sides
    budget: int | None
    encoding: Encoding
    to: Path
    job: dict[str, Any]

    @property
    def parts(self) -> int:
        return len(self.refining.source.plan)

    @cached_property
    def folder(self) -> Path:
        """Where finished parts wait to be merged, and what else is left on the way."""
        digest = hashlib.sha256(json.dumps(self.job, sort_keys=True).encode()).hexdigest()[:16]
        return partial_folder(self.to) / f"parts-{digest}"

    @property
    def allotment(self) -> Allotment:
        return Allotment.of(self.sides, self.budget)

    @contextmanager
    def workplace(self) -> Iterator[Workplace]:
        """The folder for unfinished work, locked against a second writer; see :func:`folio.shards.journal.workplace`.

        :class:`folio.corpus.sources.SourceChanged` if what lies there is of another plan of the source.
        """
        self._refuse_changed()
        self._refuse_another()
        with workplace(self.to, self.job) as place:
            write_file(partial_folder(self.to) / PLAN, self.refining.source.plan.model_dump_json())
            self.folder.mkdir(exist_ok=True)
            place.holds_work |= any(self.folder.iterdir())
            yield place

    def before_encoding(self) -> list[Step]:
        """What is to be known of all documents before any is encoded."""
        quality = self.refining.quality
        if not self.refining.seeks_duplicates:
            return []
        survey, shingles = duplicates.SURVEY, duplicates.SHINGLES
        steps = [Step(survey, duplicates.SurveyParts(self.refining, self.folder), partial(self._undone, survey))]
        if duplicates.compares_exactly(quality):
            find = partial(duplicates.find_candidates, self.folder, self.parts)
            compare = duplicates.ShingleParts(self.refining, self.folder)
            left = self.folder / duplicates.CANDIDATES
            steps += [
                Step("candidates", once=find, leaves=left),
                Step(shingles, compare, partial(self._undone, shingles)),
            ]
        decide = partial(duplicates.decide, self.folder, self.parts, quality)
        return [*steps, Step("decide", once=decide, leaves=self.folder / duplicates.DECIDED)]

    def encoding_step(self) -> Step:
        """The last step for every part; what is left is to merge them, as :func:`folio.shards.parts.write_parts`
        does."""
        refining = self.refining
        if refining.seeks_duplicates:
            refining = refining.with_duplicates(self.folder / duplicates.DECIDED)
        job = EncodeParts(refining, self.sides, self.encoding, self.folder, self.allotment.needs_layouts)
        return Step("encode", job, self._unencoded)

    def steps(self) -> list[Step]:
        """All of them."""
        return [*self.before_encoding(), self.encoding_step()]

    @property
    def merged(self) -> int:
        """So many of the first parts are in the shards."""
        journal = read_journal(self.to)
        return journal.splits[SIDES[0]].chunks if journal is not None and journal.splits else 0

    @property
    def between(self) -> str:
        """What else was done to the documents; see :meth:`with_between`."""
        return str(self.job["source"].get("between", ""))

    def with_between(self, name: str) -> Writing:
        """The same, but for what someone else does to the documents before they are encoded. ``name`` tells that from
        all else that might be done, is part of what the shards are made from, and stands in their manifest."""
        return replace(self, job={**self.job, "source": {**self.job["source"], "between": name}})

    def _undone(self, step: str, numbers: Iterable[int]) -> list[int]:
        return duplicates.undone(self.folder, step, numbers)

    def _unencoded(self, numbers: Iterable[int]) -> list[int]:
        merged, dtype = self.merged, self.encoding.dtype
        waiting = [number for number in numbers if number >= merged]
        known = records_in(self.folder, frozenset(waiting))
        return [each for each in waiting if each not in known or not is_there(self.folder, known[each], dtype)]

    def _refuse_changed(self) -> None:
        if (stored := known_plan(self.to)) is not None:
            try:
                self.refining.source.plan.check(stored)
            except DataError as error:
                remedy = f"Restore it to go on, or remove '{partial_folder(self.to)}' to begin anew."
                raise type(error)(error.problem, remedy) from None

    def _refuse_another(self) -> None:
        """Work of other settings is not thrown away, least of all while other machines are at it."""
        partial = partial_folder(self.to)
        others = [each for each in partial.glob("parts-*") if each != self.folder]
        if any(map(processes_in, others)):
            raise ArtifactError(
                f"'{partial}' is where a writing with other settings is under way on other machines",
                "Wait for it, choose another folder, or remove this one if nothing works there any more.",
            )
        journal = read_journal(self.to)
        if journal is not None and (any(map(records_in, others)) or any(s.tokens for s in journal.splits.values())):
            changed = _differences(journal.job, self.job)
            if changed:
                raise ArtifactError(
                    f"'{partial}' holds unfinished work with other settings: {changed}",
                    "Give those to go on with it, choose another folder, or remove this one to begin anew.",
                )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which settings two jobs differ in, in words; empty if in none."""
    flat_before, flat_now = ({**job, **job["source"], "source": None} for job in (before, now))
    keys = sorted(key for key in flat_before.keys() | flat_now.keys() if flat_before.get(key) != flat_now.get(key))
    return ", ".join(
        f"{NAMES.get(key, key)} was {_short(flat_before.get(key))}, is {_short(flat_now.get(key))}" for key in keys
    )


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_short(each)}" for key, each in value.items() if key != "fingerprint")
    return "not set" if value is None else str(value)[:60]


def known_plan(to: Path) -> Plan | None:
    """The plan of the source by which an unfinished writing to ``to`` began."""
    with suppress(OSError, ValidationError):
        return Plan.model_validate_json((partial_folder(to) / PLAN).read_bytes())
    return None


def plan_writing(
    refining: Refining, tokenizer: Tokenizer, to: Path, config: ShardsConfig, sides: Sides, budget: int | None
) -> Writing:
    """Everything that decides the bytes, put together; nothing is written.

    :class:`folio.errors.ConfigError` for a budget that the held out documents would use up.
    """
    if budget is not None and isinstance(sides, FirstTokens) and budget <= sides.tokens:
        raise ConfigError(
            f"of {budget:,} tokens the first {sides.tokens:,}, a shard, are held out, which leaves nothing to train on",
            "Ask for more, hold out by hash, or make shards smaller: tokens_per_shard.",
        )
    source = refining.source
    about = {
        "corpus": source.name,
        "fingerprint": source.fingerprint,
        "files": len(source.plan.files),
        "parts": len(source.plan),
        "sides": {"kind": type(sides).__name__, **asdict(sides)},
        **({} if budget is None else {"tokens": budget}),
        **refining.described(),
    }
    job = job_of(dict.fromkeys(SIDES), tokenizer, config, about)
    encoding = Encoding(tokenizer, job["tokenizer"]["eot_id"], dtype_for(tokenizer.vocab_size))
    return Writing(refining, sides, budget, encoding, to, job)
