"""Batches that a thread draws ahead are those of the source in its order; what stalls is told, waited for, and left."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tiny_training import GPT2, Counting, assert_same_bits, fit_quietly, make_state, weights

from folio.errors import DataLost, Interrupted
from folio.evaluation.text import IdStream
from folio.launch import Launch
from folio.ranks import Ranks
from folio.training import attending
from folio.training.attending import Attendant, Wait, Worker
from folio.training.feed import AttendedStream, Feed
from folio.training.objective import Rows
from folio.training.plan import solve_batch
from folio.training.stopping import StopNow

THREAD = "test data"


def reading() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Waits are told of at once; and every thread is gone at the end."""
    monkeypatch.setattr(attending, "TOLD_AFTER_S", 0.2)
    assert reading() == []
    yield
    assert reading() == []


class Watched(Counting):
    """Notes which rows of which steps are drawn, and by which thread; at one step it waits for ``back``."""

    def __init__(self, stalls_at: int = -1, fails_at: int = -1) -> None:
        super().__init__()
        self.drawn: list[tuple[int, slice]] = []
        self.threads: set[str] = set()
        self.stalls_at, self.fails_at = stalls_at, fails_at
        self.stalled, self.back = threading.Event(), threading.Event()

    def batch(self, step: int, rows: slice = slice(None)) -> Rows:
        self.drawn.append((step, rows))
        self.threads.add(threading.current_thread().name)
        if step == self.fails_at:
            raise ZeroDivisionError("no such batch")
        if step == self.stalls_at:
            self.stalled.set()
            assert self.back.wait(20)
        return super().batch(step, rows)


@pytest.mark.parametrize("ahead", [0, 1, 3, 99])
def test_batches_drawn_ahead_change_no_bit_and_their_thread_ends(ahead: int) -> None:
    shape = GPT2.model_copy(update={"dropout": 0.2})
    calm, source, plan = make_state(shape, micro_batch=2)
    plain = fit_quietly(calm, source, plan)
    state, _, _ = make_state(shape, micro_batch=2)
    watched = Watched()
    with Attendant(THREAD, 60) as attendant:
        fed = fit_quietly(state, Feed(watched, plan, attendant, ahead=ahead, last=12), plan)
    assert_same_bits(weights(calm), weights(state))
    assert [line.get("nats_per_token") for line in fed] == [line.get("nats_per_token") for line in plain]
    assert watched.drawn == [(step, plan.rows(number)) for step in range(12) for number in range(4)]
    assert watched.threads == {THREAD}


def test_the_next_steps_are_drawn_while_one_is_taken_and_none_past_the_last() -> None:
    watched, (_, _, plan) = Watched(), make_state()
    with Attendant(THREAD, 60) as attendant:
        feed = Feed(watched, plan, attendant, ahead=2, last=4)
        for step, begun in enumerate([2, 3, 3, 3]):
            feed.promised(step).result(5)
            until(lambda begun=begun: watched.drawn[-1][0] == begun)
        time.sleep(0.05)
        assert [step for step, _ in watched.drawn] == [0, 1, 2, 3]
        feed.promised(1).result(5)  # asked for out of order, it is drawn there and then
        assert watched.drawn[4][0] == 1


def test_a_rank_draws_its_own_rows() -> None:
    watched, plan = Watched(), solve_batch(128, 16, 2, world_size=2)
    with Attendant(THREAD, 60, Ranks(Launch(rank=1, world_size=2))) as attendant:
        batches = Feed(watched, plan, attendant, ahead=0, last=1).promised(0).result(5)
    assert watched.drawn == [(0, slice(2, 4)), (0, slice(6, 8))]
    assert [len(batch) for batch in batches] == [2, 2]


def until(happened: Any) -> None:
    end = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_what_the_source_raises_is_raised_where_the_step_is_taken() -> None:
    state, _, plan = make_state()
    with Attendant(THREAD, 60) as attendant, pytest.raises(ZeroDivisionError, match="no such batch"):
        fit_quietly(state, Feed(Watched(fails_at=3), plan, attendant, ahead=2, last=12), plan)
    assert state.step == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_data_are_waited_for_saves_and_leaves_at_once(number: signal.Signals) -> None:
    watched, saved = Watched(stalls_at=5), []
    state, _, plan = make_state()

    def stop() -> None:
        assert watched.stalled.wait(20)
        time.sleep(0.3)
        saved.append(time.monotonic())
        os.kill(os.getpid(), number)

    threading.Thread(target=stop).start()
    attendant = Attendant(THREAD, 60)
    with pytest.raises(Interrupted, match=f"stopped by {number.name} after step 5 of 12; saved"):
        fit_quietly(
            state,
            Feed(watched, plan, attendant, ahead=1, last=12),
            plan,
            save=lambda state, facts: saved.append((state.step, time.monotonic())),
        )
    asked, (step, left) = saved
    assert step == 5
    assert left - asked < 2
    watched.back.set()
    attendant.__exit__()


def test_a_stall_is_told_when_it_begins_and_when_it_is_over_and_changes_no_bit() -> None:
    calm, source, plan = make_state()
    fit_quietly(calm, source, plan)
    told: list[Wait] = []
    state, _, _ = make_state()
    watched = Watched(stalls_at=4)

    def tell(wait: Wait) -> None:
        told.append(wait)
        if len(told) == 3:
            watched.back.set()

    with Attendant(THREAD, 60, tell=tell) as attendant:
        lines = fit_quietly(state, Feed(watched, plan, attendant, ahead=1, last=12), plan)
    assert [wait.stage for wait in told] == ["begun", "on", "on", "over"]
    assert told[0].seconds < told[1].seconds < told[-1].seconds < 10
    waits = {line["step"]: line["data_wait_s"] for line in lines if line["kind"] == "train"}
    assert waits[5] == pytest.approx(told[-1].seconds, abs=0.5)
    assert all(wait < 0.5 * waits[5] for step, wait in waits.items() if step != 5)
    assert_same_bits(weights(calm), weights(state))


def test_when_patience_is_at_an_end_the_last_whole_step_is_saved() -> None:
    state, _, plan = make_state()
    watched, saved, lines = Watched(stalls_at=7), [], []
    attendant = Attendant(THREAD, 0.6)
    with pytest.raises(DataLost, match=r"no data for 1 s: .*; saved after step 7 of 12") as gone:
        fit_quietly(
            state,
            Feed(watched, plan, attendant, ahead=1, last=12),
            plan,
            lines=lines,
            save=lambda state, facts: saved.append(state.step),
        )
    assert "\n" not in gone.value.problem
    assert saved == [7]
    assert lines[-1]["event"] == "data_lost"
    watched.back.set()
    attendant.__exit__()


def test_a_thread_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attending, "LEAVE_S", 0.1)
    worker, back = Worker(THREAD), threading.Event()
    promised = worker.begin(lambda: back.wait(20))
    later = worker.begin(lambda: 7)
    begun = time.monotonic()
    worker.close()
    assert time.monotonic() - begun < 2
    assert all(thread.daemon for thread in reading())
    back.set()
    assert promised.result(5)
    assert later.result(5) == 7
    until(lambda: reading() == [])


class Slow(IdStream):
    """Ids that do not come until ``back``."""

    def __init__(self, ids: np.ndarray, back: threading.Event) -> None:
        super().__init__(ids)
        self.back = back
        self.reads: list[tuple[int, int]] = []

    @property
    def dtype(self) -> Any:
        return self._ids.dtype

    def read(self, start: int, count: int) -> Any:
        self.reads.append((start, count))
        assert self.back.wait(20)
        return super().read(start, count)


def test_an_attended_stream_gives_the_ids_of_the_stream_from_long_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("folio.training.feed.HELD_IDS", 100)
    ids, open_at_once = np.arange(1000, dtype=np.uint16), threading.Event()
    open_at_once.set()
    stream = Slow(ids, open_at_once)
    with Attendant(THREAD, 60) as attendant:
        attended = AttendedStream(stream, attendant, lambda: None)
        assert len(attended) == 1000
        for start, count in ((0, 17), (16, 17), (90, 10), (95, 17), (950, 50), (960, 0), (400, 300), (5, 9)):
            assert np.array_equal(attended.read(start, count), ids[start : start + count])
    assert stream.reads == [(0, 100), (95, 100), (950, 50), (400, 300), (5, 100)]


def test_a_request_to_stop_and_an_end_of_patience_end_a_wait_for_a_stream() -> None:
    back = threading.Event()
    stream = Slow(np.arange(1000, dtype=np.uint16), back)
    begun = time.monotonic()

    def poll() -> None:
        if time.monotonic() - begun > 0.3:
            raise StopNow

    stopped, lost = Attendant(THREAD, 60), Attendant(THREAD, 0.3)
    with pytest.raises(StopNow):
        AttendedStream(stream, stopped, poll).read(0, 10)
    with pytest.raises(DataLost, match="no data for"):
        AttendedStream(stream, lost, lambda: None).read(0, 10)
    back.set()
    for attendant in (stopped, lost):
        attendant.__exit__()
