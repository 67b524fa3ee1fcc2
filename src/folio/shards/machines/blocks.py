"""The steps of a writing as blocks of datatrove's, so that any executor of its own can carry them.

A rank does the parts whose number leaves its rank when divided by the number of ranks. Every block leaves whole files
in the folder of the writing, and looks at these for what is still to be done: never at datatrove's own marks. This
module loads datatrove, so it is imported only where a pipeline is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from folio.artifacts import Parent
from folio.corpus.document import Document
from folio.corpus.quality import QualityReport
from folio.corpus.sources import PartCounts
from folio.errors import ConfigError, DataError
from folio.shards.machines.block import AtWork, Block
from folio.shards.parts.encode import EncodeParts, PartWriter
from folio.shards.parts.job import Told
from folio.shards.parts.journal import Journals, PartRecord, PartsJournal
from folio.shards.parts.write import finish_writing
from folio.shards.parts.writing import Writing

if TYPE_CHECKING:
    from datatrove.data import Document as PipelineDocument

    Documents = Iterable[PipelineDocument] | None

ENCODE, MERGE = "encode", "merge"


def pipeline(writing: Writing, step: str, between: Iterable[Any] = ()) -> list[Any]:
    """The blocks of one of the writing's steps, by its name.

    ``between``: blocks that documents go through after they are read and before they are encoded. They keep the order
    of documents; what they do is told by the name that the writing was given for it (:meth:`Writing.with_between`).
    """
    between = list(between)
    if step == ENCODE:
        if bool(between) != bool(writing.between):
            raise ConfigError(
                f"{len(between)} blocks between reading and encoding, and '{writing.between}' is the name for them",
                "Name what they do: writing.with_between('...'), or leave both out.",
            )
        read = PartsRead()
        return [PartsReader(writing, read), *between, PartsEncoder(writing, read)]
    found = {each.name: each for each in writing.before_encoding()}[step]
    return [PartsStep(writing, step) if found.job is not None else OnceStep(writing, step)]


class PartsRead:
    """What the reader and the encoder of one pipeline share: the parts that were read, in order, and what became of
    their rows, known once a part is read to its end."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.found: dict[int, tuple[PartCounts, QualityReport]] = {}

    def __repr__(self) -> str:
        return f"{len(self.numbers)} parts read"


class PartsReader(Block):
    """Yields the documents of this rank's parts that are not encoded yet, after Folio's own quality steps, with the
    metadata ``part`` and ``source``. With a budget it begins no part that will not be needed, as far as is known."""

    name = "read parts"

    def __init__(self, writing: Writing, read: PartsRead) -> None:
        super().__init__(writing)
        self._read = read

    def run(self, data: Documents = None, rank: int = 0, world_size: int = 1) -> Iterator[PipelineDocument]:
        assert not data, "a pipeline begins with the reader of parts"
        from datatrove.data import Document as PipelineDocument

        writing, read = self.writing, self._read
        read.numbers, read.found = [], {}
        step, plan, journals = writing.encoding_step(), writing.refining.source.plan, Journals(writing.folder)
        assert isinstance(step.job, EncodeParts)
        for number in step.undone(range(rank, len(plan), world_size)):
            if writing.budget is not None and number >= writing.allotment.parts_wanted(journals.look(), len(plan)):
                return
            counts, report = PartCounts(), QualityReport()
            read.numbers.append(number)
            tell = lambda note: self._tell(Told(note=note))  # noqa: E731
            for document in step.job.refining.documents(plan.part(number), counts, report, tell):
                about = {"part": number, "source": document.source}
                yield PipelineDocument(text=document.text, id=document.id, metadata=about)
            read.found[number] = counts, report
            self._count("part", parts=1, documents=counts.cleaning.kept, source_bytes=plan.part(number).bytes)


class PartsEncoder(Block):
    """Encodes what the reader of the same pipeline yields, and leaves the files of each part and its line in the rank's
    own journal. Documents are handed on."""

    name = "encode parts"

    def __init__(self, writing: Writing, read: PartsRead) -> None:
        super().__init__(writing)
        self._read = read

    def run(self, data: Documents = None, rank: int = 0, world_size: int = 1) -> Iterator[PipelineDocument]:
        with AtWork(self.writing, rank):
            journal = PartsJournal(self.writing.folder / f"journal-{rank:05d}.jsonl")
            try:
                yield from self._encoded(data or (), journal)
            finally:
                journal.close()

    def _encoded(self, data: Iterable[PipelineDocument], journal: PartsJournal) -> Iterator[PipelineDocument]:
        job, plan, done = self._step(ENCODE).job, self.writing.refining.source.plan, 0
        assert isinstance(job, EncodeParts)

        def write(number: int, documents: Iterable[PipelineDocument]) -> Iterator[PipelineDocument]:
            with PartWriter(job, plan.part(number), self._tell) as writer:
                for each in documents:
                    with self.track_time():
                        writer.add(Document(each.id, each.text, each.metadata["source"]))
                    yield each
                if number not in self._read.found:
                    raise DataError(f"'{plan.part(number).id}' was not read to its end", "Let all documents through.")
                self._keep(journal, writer.finish(*self._read.found[number]))

        for number, documents in groupby(data, key=_part_of):
            if number not in self._read.numbers[done:]:
                raise DataError(
                    f"documents of '{plan.part(number).id}' come apart from each other or out of order",
                    "Between reading and encoding, use blocks that keep the order.",
                )
            while self._read.numbers[done] != number:
                yield from write(self._read.numbers[done], ())
                done += 1
            yield from write(number, documents)
            done += 1
        for number in self._read.numbers[done:]:
            yield from write(number, ())

    def _keep(self, journal: PartsJournal, record: PartRecord) -> None:
        journal.add(record)
        sides = record.sides.values()
        names = ("documents", "tokens", "text_bytes")
        self._count("part", **{name: sum(getattr(side, name) for side in sides) for name in names})


class PartsStep(Block):
    """A step for every part that comes before encoding, with this rank's parts."""

    def __init__(self, writing: Writing, step: str) -> None:
        self.name = step
        super().__init__(writing)

    def run(self, data: Documents = None, rank: int = 0, world_size: int = 1) -> Iterator[PipelineDocument]:
        yield from data or ()
        step, plan = self._step(self.name), self.writing.refining.source.plan
        assert step.job is not None
        with AtWork(self.writing, rank):
            for number in step.undone(range(rank, len(plan), world_size)):
                with self.track_time("part"):
                    step.job.run(plan.part(number), self._tell)
                self._count("part", parts=1, source_bytes=plan.part(number).bytes)


class OnceStep(Block):
    """A step that is done once, by rank 0, when the steps before it are done with every part."""

    def __init__(self, writing: Writing, step: str) -> None:
        self.name = step
        super().__init__(writing)

    def run(self, data: Documents = None, rank: int = 0, world_size: int = 1) -> Iterator[PipelineDocument]:
        yield from data or ()
        step = self._step(self.name)
        assert step.once is not None
        if rank == 0:
            step.once()


class PartsMerger(Block):
    """Rank 0 puts the encoded parts together to the finished shards; parts that are lacking it encodes first."""

    name = MERGE

    def __init__(self, writing: Writing, parents: Iterable[Parent] = (), workers: int = 1) -> None:
        super().__init__(writing)
        self._parents, self._workers = tuple(parents), workers

    def run(self, data: Documents = None, rank: int = 0, world_size: int = 1) -> Iterator[PipelineDocument]:
        yield from data or ()
        if rank == 0:
            tell = lambda progress: self._tell(Told(note=progress.note))  # noqa: E731
            shards = finish_writing(self.writing, self._workers, self._parents, tell, alone=False).shards
            sides = shards.splits
            self._count("task", documents=sum(map(shards.documents, sides)), tokens=sum(map(shards.tokens, sides)))


def _part_of(document: PipelineDocument) -> int:
    number = document.metadata.get("part")
    if not isinstance(number, int):
        raise DataError(f"document '{document.id}' does not say which part it is of", "Begin with the reader of parts.")
    return number
