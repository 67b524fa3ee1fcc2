"""Asking for examples until there are enough, the budget ends, no combination is left, or someone asks to stop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

from folio.errors import Unreachable, UserError
from folio.finetuning.synthesis.answer import Answer
from folio.finetuning.synthesis.budget import Bound, Usage, counted_usage, most_prompt_tokens
from folio.finetuning.synthesis.cells import Cell, cells
from folio.finetuning.synthesis.client import Endpoint, Failure
from folio.finetuning.synthesis.filters import REFUSED, Filters
from folio.finetuning.synthesis.folder import SynthesisFolder
from folio.finetuning.synthesis.pace import Pace, backoff
from folio.finetuning.synthesis.spec import Spec

Ending = Literal["count", "asked", "budget", "combinations", "stopped"]
POLL_S = 0.05
FAILED_IN_A_ROW = 3
"""So many prompts that fail for good, with no answer between them, and the endpoint is taken to be down."""
FIRST_RETRIES = 2
"""Retries of a connection before the first answer: an address where nobody listens is mostly a wrong one."""


class Listener(Protocol):
    """What the run tells while it goes."""

    def answered(self, record: dict[str, Any]) -> None:
        """An answer is on the disk; ``filtered`` in it says why it was set aside."""

    def failed(self, told: str, retry_in_s: float | None) -> None:
        """A request failed; it is sent again in so many seconds, or given up (None)."""


def bound_of(spec: Spec, folder: SynthesisFolder, cell: Cell) -> Bound:
    """The worst case of asking for ``cell``."""
    return folder.budget.bound(most_prompt_tokens(len(cell.messages), cell.prompt_bytes), spec.request.max_tokens)


def open_cells(spec: Spec, folder: SynthesisFolder) -> Iterator[Cell]:
    """The cells that have no answer yet, in order."""
    return (cell for cell in cells(spec) if cell.id not in folder.done)


class Synthesis:
    """One sitting. Files are written from one thread, in between requests."""

    def __init__(
        self, spec: Spec, folder: SynthesisFolder, endpoint: Endpoint, listener: Listener, stop: Callable[[], bool]
    ) -> None:
        self.spec, self.folder, self.endpoint, self.listener = spec, folder, endpoint, listener
        self._asked_to_stop = stop
        self._filters = Filters(spec.filters, spec.output, folder.texts)
        self._pace = Pace(spec.limits)
        self._draw = random.Random()
        self._cells = open_cells(spec, folder)
        self._answers = self._failed_in_a_row = 0
        self._fatal: UserError | None = None
        self._budget_ended = False

    async def run(self, requests: int | None = None) -> Ending:
        """Ask until the spec's count is kept, or ``requests`` cells were asked for; what is on its way comes in first.

        :class:`Unreachable` if the endpoint is down, :class:`UserError` if it refuses (key, model, a bad request): what
        came before is kept.
        """
        started = 0
        ending: Ending | None = None
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                while ending is None and self._going and len(tasks) < self.spec.limits.concurrency:
                    if self.folder.kept + len(tasks) >= self.spec.amount.count:
                        break
                    if requests is not None and started >= requests:
                        ending = "asked"
                    elif (cell := next(self._cells, None)) is None:
                        ending = "combinations"
                    else:
                        started += 1
                        tasks.add(asyncio.create_task(self._fill(cell)))
                if not tasks:
                    break
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._fatal is not None:
            raise self._fatal
        if self.folder.kept >= self.spec.amount.count:
            return "count"
        if self._asked_to_stop():
            return "stopped"
        return "budget" if self._budget_ended else ending or "combinations"

    @property
    def _going(self) -> bool:
        return not (self._asked_to_stop() or self._fatal or self._budget_ended)

    async def _fill(self, cell: Cell) -> None:
        """Ask for one cell, again if that fails in a way that may pass."""
        for retry in range(self.spec.limits.retries + 1):
            bound = bound_of(self.spec, self.folder, cell)
            if not await self._reserved(bound):
                return
            if not await self._turn(bound):
                self.folder.budget.settle(bound, Usage())
                return
            attempt = self.folder.send(cell, bound)
            try:
                answer = await self.endpoint.ask(cell.messages)
            except Failure as failure:
                if failure.reason == REFUSED:
                    self._keep(cell, attempt, bound, Answer("", "content_filter", "", Usage()))
                    return
                used = bound.usage if failure.may_cost else Usage()
                self.folder.fail(attempt, used, failure.reason)
                self._pace.give_back(bound.usage.total - used.total)
                if not await self._again(failure, retry):
                    return
            else:
                self._keep(cell, attempt, bound, answer)
                return

    async def _reserved(self, bound: Bound) -> bool:
        """Reserve a request as soon as the budget has room; False if it never will, or the run ends first."""
        budget = self.folder.budget
        while self._going:
            if budget.fits(bound):
                budget.reserve(bound)
                return True
            if not budget.possible(bound):
                self._budget_ended = True
            await asyncio.sleep(POLL_S)
        return False

    async def _turn(self, bound: Bound) -> bool:
        """Wait until a request may be sent, and once more if the endpoint asked for a pause meanwhile."""
        while await self._wait(self._pace.turn(bound.usage.total)):
            if not self._pace.closed_s:
                return True
            self._pace.give_back(bound.usage.total)
        self._pace.give_back(bound.usage.total)
        return False

    async def _again(self, failure: Failure, retry: int) -> bool:
        """Wait for the next try of a request that failed, or decide that there is none."""
        limits = self.spec.limits
        wait_s = max(failure.wait_s, backoff(limits, retry, self._draw))
        alone = failure.reason == "no connection" and not self._answers and retry >= FIRST_RETRIES
        if failure.then != "retry":
            self._refused(failure)
        elif wait_s > limits.longest_wait_s:
            self._fatal = self._down(failure, f"and asks to wait {wait_s:,.0f} s")
        elif alone or retry >= limits.retries:
            self._failed_in_a_row += 1
            if alone or self._failed_in_a_row >= FAILED_IN_A_ROW:
                self._fatal = self._down(failure, f"after {retry} retries")
        elif self._going:
            if failure.wait_s:
                self._pace.close_for(failure.wait_s)
            self.listener.failed(str(failure), wait_s)
            return await self._wait(wait_s)
        self.listener.failed(str(failure), None)
        return False

    def _refused(self, failure: Failure) -> None:
        """A refusal of one prompt is passed over; of several in a row, or of the very first, it is taken for all."""
        self._failed_in_a_row += 1
        if failure.then == "stop" or self._failed_in_a_row >= FAILED_IN_A_ROW or not self.folder.answers:
            self._fatal = UserError(
                f"the endpoint {self.endpoint.place} refuses: {failure}",
                "Mend the key, the model or the request; what came before is kept, and the same command goes on.",
            )

    def _down(self, failure: Failure, more: str) -> Unreachable:
        return Unreachable(
            f"the endpoint {self.endpoint.place} does not answer {more}: {failure}",
            "Check that it runs and OPENAI_BASE_URL; what came before is kept, and the same command goes on.",
        )

    async def _wait(self, seconds: float) -> bool:
        """Sleep; False if the run ended meanwhile."""
        until = time.monotonic() + seconds
        while self._going and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, POLL_S))
        return self._going

    def _keep(self, cell: Cell, attempt: int, bound: Bound, answer: Answer) -> None:
        text = self._filters.cleaned(answer.text)
        reason = self._filters.reason(text, answer.finish)
        reported = answer.usage is not None
        used = answer.usage or counted_usage(answer.text + answer.hidden, bound.usage)
        record = self.folder.answer(
            cell,
            attempt,
            used,
            reason,
            text=text,
            model=answer.model or self.endpoint.model,
            finish=answer.finish,
            usage_from="endpoint" if reported else "counted",
        )
        if reason is None:
            self._filters.add(text)
        self._pace.give_back(bound.usage.total - used.total)
        self._answers += 1
        self._failed_in_a_row = 0
        self.listener.answered(record)
