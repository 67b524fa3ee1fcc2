"""Processes that are killed (``kill -9``) or interrupted while they spend: nothing is lost, doubled or overspent."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from faulty_endpoint import FaultyEndpoint, by_chance, serving, spec_text, text_of
from synthesis_processes import records, spent, started, summary

CONCURRENCY = 8
FAULTS = {
    "429": 0.05, "500": 0.04, "503": 0.03, "cut": 0.03, "malformed": 0.02, "nothing": 0.02, "empty": 0.02,
    "length": 0.02, "no usage": 0.05, "error inside": 0.02,
}  # fmt: skip


def wait_until(process: subprocess.Popen[str], world: FaultyEndpoint, requests: int) -> None:
    """Return once the endpoint has met so many requests; the process must be at work then."""
    until = time.monotonic() + 60
    while len(world.requests) < requests:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)
    assert process.poll() is None


def kill_after(process: subprocess.Popen[str], world: FaultyEndpoint, requests: int, number: int) -> None:
    wait_until(process, world, requests)
    process.send_signal(number)


def run(folder: Path, world: FaultyEndpoint, *flags: str) -> str:
    with started(folder, world, *flags) as process:
        out, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    return out


def killed(folder: Path, world: FaultyEndpoint, requests: int, *flags: str) -> list[str]:
    """Kill a run; gives the whole lines that it had written."""
    with started(folder, world, *flags) as process:
        kill_after(process, world, requests, signal.SIGKILL)
        process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    return (folder / "out" / "examples.jsonl").read_text().splitlines()


@pytest.mark.parametrize("stream", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["whole", "streamed"])
def test_two_hundred_examples_after_two_kills_with_nothing_lost_doubled_or_overspent(
    stream: bool, tmp_path: Path
) -> None:
    (tmp_path / "spec.toml").write_text(spec_text(200))
    budget = 24_000
    flags = ["--budget.tokens", str(budget), *(["--request.stream"] if stream else [])]
    with serving(FaultyEndpoint(choose=by_chance(FAULTS, seed=1), delay_s=0.03)) as world:
        before = [killed(tmp_path, world, 70, *flags), killed(tmp_path, world, 160, *flags)]
        told = run(tmp_path, world, *flags)
    out = tmp_path / "out"
    lines = (out / "examples.jsonl").read_text().splitlines()
    for earlier in before:
        assert earlier, "the kill came while examples were being kept"
        assert lines[: len(earlier)] == earlier, "nothing that was kept before a kill is lost or changed"
    kept, filtered = records(out), records(out, "filtered.jsonl")
    assert len(kept) == 200
    assert "200 of 200 examples" in told
    assert len({record["id"] for record in [*kept, *filtered]}) == len(kept) + len(filtered)
    assert len({tuple(record["attributes"].items()) for record in kept}) == 200
    prompts = [f"Write of {a} and {b} at {c}." for a, b, c in (record["attributes"].values() for record in kept)]
    assert [record["text"] for record in kept] == [text_of(prompt) for prompt in prompts]
    doubled = Counter({prompt: times - 1 for prompt, times in world.answered.items()})
    assert doubled.total() <= 2 * CONCURRENCY, "only what was on its way at a kill is asked for again"
    assert world.served_tokens <= spent(out) <= budget
    counts = summary(out)
    assert 0 < counts["failed_requests"]["unfinished"] <= 2 * CONCURRENCY
    assert 0 <= counts["requests"] - len(world.requests) <= 2 * CONCURRENCY, "written down before they are sent"
    assert sum(counts["failed_requests"].values()) + len(kept) + len(filtered) == counts["requests"]


@pytest.mark.slow
def test_a_tight_budget_holds_over_kills(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(spec_text(500))
    flags = ["--budget.tokens", "9000"]
    with serving(FaultyEndpoint(choose=by_chance(FAULTS, seed=2), delay_s=0.03)) as world:
        for requests in (15, 35, 55):
            killed(tmp_path, world, requests, *flags)
            assert world.served_tokens <= 9000
        told = run(tmp_path, world, *flags)
    assert "the budget ends here" in told
    assert world.served_tokens <= spent(tmp_path / "out") <= 9000
    assert spent(tmp_path / "out") > 9000 - 150


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupt_lets_what_is_on_its_way_come_in_and_ends_with_3(number: int, tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(spec_text(200))
    with serving(FaultyEndpoint(delay_s=0.2)) as world:
        with started(tmp_path, world, "--limits.timeout-s", "60") as process:
            kill_after(process, world, 20, number)
            _, told = process.communicate(timeout=60)
        assert process.returncode == 3, told
        out = tmp_path / "out"
        assert "go on with: folio synthesize spec.toml --out out" in told
        assert len(records(out)) == len(world.requests) >= 20, "all that was paid for is kept"
        assert spent(out) == world.served_tokens
        assert "unfinished" not in summary(out)["failed_requests"]
        world.delay_s = 0.0
        run(tmp_path, world, "--amount.count", "60", "--limits.timeout-s", "60")
    assert len(records(out)) == 60 == len(world.requests)


def test_a_second_interrupt_ends_at_once_and_counts_what_was_on_its_way(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(spec_text(50))
    with (
        serving(FaultyEndpoint(delay_s=20.0)) as world,
        started(tmp_path, world, "--limits.timeout-s", "60") as process,
    ):
        kill_after(process, world, CONCURRENCY, signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=15)
    assert process.returncode == 3, told
    assert "stopped; what was on its way counts in full" in told
    assert summary(tmp_path / "out")["failed_requests"] == {"unfinished": CONCURRENCY}
    assert spent(tmp_path / "out") >= world.served_tokens > 0


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(spec_text(20))
    with serving(FaultyEndpoint(delay_s=20.0)) as world:
        with started(tmp_path, world, "--limits.timeout-s", "120") as first:
            wait_until(first, world, CONCURRENCY)
            with started(tmp_path, world) as second:
                _, told = second.communicate(timeout=60)
            assert first.poll() is None
        assert (second.returncode, "another process is writing to 'out'" in told) == (2, True), told
        assert len(world.requests) == CONCURRENCY
