"""One node's share of a writing by datatrove's executors, and its waiting for what the other nodes do.

Nodes know of each other by the folder alone: a step begins when the files of the one before are all there. Node 0 sets
the folder up, does what is done once, and merges; so no two nodes ever do the same, even where files cannot be locked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from folio.artifacts import Parent
from folio.errors import ArtifactError, Interrupted, RankLost
from folio.locks import locked
from folio.shards.journal import partial_folder, read_journal
from folio.shards.machines.config import EngineConfig
from folio.shards.machines.executors import Executors, ExecutorsProcess
from folio.shards.machines.ranks import Failures, forget, lost_ranks, ranks_of, tasks_of
from folio.shards.machines.watching import ENCODE, Patience, Watch
from folio.shards.parts.write import PartsWritten, Tell, finish_writing
from folio.shards.parts.writing import PLAN, Step, Writing
from folio.shards.pool import cores
from folio.shards.write import is_done

POLL_S = 0.5
TOLD_AFTER_S, TOLD_EVERY_S = 3.0, 60.0


def set_up(writing: Writing) -> None:
    """Make the folder in which everybody's finished parts are to lie; :class:`ArtifactError` while someone merges."""
    with writing.workplace() as place:
        place.holds_work = True  # others may put their parts there from now on


def is_set_up(writing: Writing) -> bool:
    journal = read_journal(writing.to)
    known = (partial_folder(writing.to) / PLAN).is_file() and writing.folder.is_dir()
    return known and journal is not None and journal.job == writing.job


class Node:
    """One node of ``engine.nodes``; with Ray it is the only one, and its ranks are all."""

    def __init__(self, writing: Writing, engine: EngineConfig, workers: int, tell: Tell) -> None:
        self.writing, self.engine, self._workers, self._tell = writing, engine, workers, tell
        self.tasks = tasks_of(engine, workers, writing.parts)
        self.ranks = ranks_of(engine.node, engine.nodes, self.tasks)
        self._first = engine.node == 0
        self._patience = Patience(engine.patience_s)
        self._waits_for, self._told_at = "", 0.0
        self._begun = False

    def write(self, parents: Iterable[Parent]) -> PartsWritten:
        """Do this node's share of every step, wait for the others' between them, and open the finished shards."""
        writing = self.writing
        try:
            with ExecutorsProcess(Executors(writing, self.engine, self._workers)) as process:
                process.ask("check")
                self._begin()
                with locked(partial_folder(writing.to) / f"node-{self.engine.node}", wait=False) as held:
                    if not held:
                        raise ArtifactError(
                            f"node {self.engine.node} of '{writing.to}' is already at work",
                            "Give every node a number of its own: --engine.node.",
                        )
                    for step in writing.steps():
                        if step.job is None:
                            self._do_once(step)
                        else:
                            self._do_share(step, process)
                process.ask("end")
            if not self._first:
                self._wait(self._is_done, Watch(writing, ENCODE), "node 0 to put all together")
        except KeyboardInterrupt:
            stopped = f"writing '{writing.to}' was stopped; the same command goes on from where it stopped"
            raise Interrupted(stopped) from None
        return finish_writing(writing, self._workers or cores(), parents, self._tell, alone=False)

    def _begin(self) -> None:
        if self._first:
            set_up(self.writing)
        else:
            journal = read_journal(self.writing.to)
            other = (
                "" if journal is None or journal.job == self.writing.job else ": what lies there is of other settings"
            )
            self._wait(lambda: is_set_up(self.writing), Watch(self.writing, ENCODE), f"node 0 to begin{other}")
        self._begun = True

    def _do_once(self, step: Step) -> None:
        assert step.once is not None
        assert step.leaves is not None
        if self._first:
            step.once()
        else:
            self._wait(step.leaves.exists, Watch(self.writing, step.name), f"node 0 to do '{step.name}'")

    def _do_share(self, step: Step, process: ExecutorsProcess) -> None:
        """Until every part of the step is there: this node's, again if a budget turns out to need more, and others'."""
        watch, failures = Watch(self.writing, step.name), Failures(self.writing.folder)
        logs = partial_folder(self.writing.to) / "logs" / step.name / f"node-{self.engine.node}"
        missing = watch.look()
        mine = [each for each in step.undone(self._own(range(watch.wanted))) if each < watch.wanted]
        while (missing or mine) and not self._is_done():
            if mine:
                forget(self.writing.folder, self.ranks)
                self._run(step, process, watch, failures, logs)
                missing = watch.look()
                if set(mine) <= missing and self.writing.budget is not None:
                    self._patience.heed(watch.seen, "a budget to be filled")  # what it takes was thought to be less
                elif set(mine) <= missing:
                    raise RankLost(
                        f"{len(mine)} parts of the step '{step.name}' were not done by {self.engine.kind}",
                        f"Read '{logs}', then run the same command again: what is done is kept.",
                    )
            else:
                self._wait(lambda: not watch.look(), watch, f"parts of other nodes ({step.name})", failures, once=True)
                missing = watch.look()
            mine = self._own(sorted(missing))

    def _own(self, numbers: Iterable[int]) -> list[int]:
        return [number for number in numbers if number % self.tasks in self.ranks]

    def _run(self, step: Step, process: ExecutorsProcess, watch: Watch, failures: Failures, logs: Path) -> None:
        """This node's share by its executor, and meanwhile tell how far all nodes are."""
        with ThreadPoolExecutor(1) as beside:
            asked = beside.submit(process.ask, "run", step.name, self.tasks, self.ranks, logs)
            try:
                while not asked.done():
                    wait([asked], timeout=POLL_S)
                    watch.look()
                    self._tell(watch.progress())
                    self._patience.heed(watch.seen, "a part to be finished")
                    here = not self.engine.address
                    lost = lost_ranks(self.writing.folder, self.ranks) if here else []
                    if lost and not asked.done():
                        raise RankLost(
                            f"the process of share {lost[0]} of {self.tasks} is gone, perhaps for want of memory",
                            "Run the same command again with fewer workers: what is done is kept.",
                        )
            except BaseException:
                process.stop()
                raise
        if (error := asked.exception()) is not None and not self._is_done():
            raise error
        if self.engine.kind == "ray" and (failed := failures.new()) is not None:
            raise failed

    def _wait(
        self,
        there: Callable[[], bool],
        watch: Watch,
        what: str,
        failures: Failures | None = None,
        *,
        once: bool = False,
    ) -> None:
        """Wait for others, or with ``once`` a moment, and tell for what; their error or silence ends it."""
        while not there() and not self._is_done():
            missing = watch.look()
            if failures is not None and (failed := failures.new()) is not None:
                raise failed
            if self._begun and not partial_folder(self.writing.to).exists() and not self._is_done():
                raise RankLost(f"node 0 gave up writing '{self.writing.to}'", "Its own message says why.")
            lacking = f", {len(missing)} of {watch.wanted} missing" if failures is not None else ""
            self._patience.heed(watch.seen, what)
            if what != self._waits_for:
                self._waits_for, self._told_at = what, time.monotonic() - TOLD_EVERY_S + TOLD_AFTER_S
            note = ""
            if time.monotonic() - self._told_at >= TOLD_EVERY_S:
                note, self._told_at = f"node {self.engine.node} waits for {what}{lacking}", time.monotonic()
            self._tell(watch.progress(note))
            time.sleep(POLL_S)
            if once:
                return

    def _is_done(self) -> bool:
        return is_done(self.writing.to, self.writing.job)
