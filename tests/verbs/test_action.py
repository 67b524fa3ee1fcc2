"""What a verb prints: tables, progress by line and as a bar, nothing when quiet."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from folio.verbs.action import Outcome, Terminal
from folio.verbs.progress import _Plain, live, rate_text, seconds_text


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(quiet=True)
    terminal.print("a")
    terminal.write("b")
    terminal.table(["c"], [[1]])
    with terminal.progress("work", 10, "step") as bar:
        bar.update(10, {"loss": "1.0"})
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    line = "[bold]no markup[/bold] :smile: " + "long " * 60
    Terminal().print(line)
    assert capsys.readouterr().out == line + "\n"


def test_table_cells(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().table(["name", "count", "share"], [["a", 12345, 0.123456], ["b", 7, None]], title="Words")
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == ["Words"]
    assert lines[1] == ["name", "count", "share"]
    assert lines[3:] == [["a", "12,345", "0.1235"], ["b", "7"]]


def test_progress_without_a_terminal_is_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal().progress("train", 4, "step") as bar:
        for step in range(1, 5):
            bar.update(step, {"bits/byte": f"{step}.5"}, loss="2.0")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "train: 4/4 step, bits/byte 4.5, loss 2.0, 0 s gone\n"


def test_lines_come_ten_seconds_and_a_tenth_apart() -> None:
    now = [0.0]
    out = io.StringIO()
    bar = _Plain(out, "train", 100, "step", clock=lambda: now[0])
    for step in range(101):
        now[0] = step * 0.4
        bar.update(step)
    steps = [int(line.split()[1].split("/")[0]) for line in out.getvalue().splitlines()]
    assert steps == [25, 50, 75, 100]
    assert "10 s gone, 30 s left" in out.getvalue().splitlines()[0]


def test_live_bar_shows_rate_and_fields() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=140)
    with live(console, "train", 200, "step") as bar:
        bar.update(50, {"loss": "3.21", "bits/byte": "1.93"})
        bar.update(200, loss="2.5")
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "200/200" in shown
    assert "loss 2.5  bits/byte 1.93" in shown


def test_live_bar_draws_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    terminal = Terminal()
    assert terminal.interactive
    with terminal.progress("work", None) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("rate", "text"), [(None, ""), (12.34, "12.3 step/s"), (0.5, "2.0 s/step"), (1234567.0, "1,234,567.0 step/s")]
)
def test_rates_have_units(rate: float | None, text: str) -> None:
    assert rate_text(rate, "step") == text


@pytest.mark.parametrize(("seconds", "text"), [(45.4, "45 s"), (185, "3:05"), (7385, "2:03:05")])
def test_times_are_readable(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_an_answer_is_json() -> None:
    data = {"path": Path("a"), "array": np.array([1, 2]), "scalar": np.float32(0.5), "inf": float("inf"), "some": {1}}
    expected = {"path": "a", "array": [1, 2], "scalar": 0.5, "inf": None, "some": [1], "wrote": ["r"], "next": []}
    assert Outcome(data, wrote=(Path("r"),)).answer() == expected
