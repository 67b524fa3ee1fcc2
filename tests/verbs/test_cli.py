"""The command line: finding verbs, exit codes, one line for what the user can mend, one object under --json."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import folio
from folio import cli
from folio.config import Table
from folio.errors import DataError, Interrupted
from folio.verbs.action import Action, Outcome, Terminal


class EchoOptions(Table):
    """What the verb of these tests takes."""

    times: int = 1
    """How often."""


def done(options: EchoOptions, terminal: Terminal) -> Outcome:
    terminal.print("hello [not markup]")
    print("a stray line")
    return Outcome(data={"times": options.times, "loss": float("nan")}, wrote=(Path("a/b"),), next=("folio next",))


Verb = Callable[[Callable[[Any, Terminal], Outcome]], None]


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Verb:
    """Makes ``folio echo`` run a function; ``folio echo twice`` is an action that always works."""

    def install(run: Callable[[Any, Terminal], Outcome]) -> None:
        module = ModuleType("echo_verb")
        action = Action(EchoOptions, run, "Say it.", ("folio echo --times 2",))
        module.ACTIONS = {"": action, "twice": Action(EchoOptions, done, "Say it twice.")}  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "echo_verb", module)
        monkeypatch.setitem(cli.VERBS, "echo", ("echo_verb", "say something"))

    return install


def raising(error: BaseException) -> Callable[[Any, Terminal], Outcome]:
    def run(options: EchoOptions, terminal: Terminal) -> Outcome:
        raise error

    return run


def test_overview_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {verb} " in shown and summary in shown for verb, (_, summary) in cli.VERBS.items())
    assert cli.main([]) == 0
    assert capsys.readouterr().out == shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"folio {folio.__version__}\n"


def test_python_dash_m_is_the_command() -> None:
    command = [sys.executable, "-m", "folio", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"folio {folio.__version__}\n"


def test_misspelt_verb_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["genrate"]) == 2
    assert capsys.readouterr().err == "folio: there is no verb 'genrate'\n       Did you mean generate?\n"


def test_a_verb_ends_with_what_it_wrote_and_what_is_next(echo: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    echo(done)
    assert cli.main(["echo", "--times", "3"]) == 0
    shown = capsys.readouterr().out
    assert shown == "hello [not markup]\na stray line\nwrote a/b\n\nnext:\n  folio next\n"


def test_json_is_one_object_and_nothing_else(echo: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    echo(done)
    assert cli.main(["echo", "--json", "--times", "3"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"times": 3, "loss": None, "wrote": ["a/b"], "next": ["folio next"]}


def test_json_on_failure_is_one_object_too(echo: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    echo(raising(DataError("too few words", "Write more.")))
    assert cli.main(["echo", "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"error": "too few words", "remedy": "Write more."}
    assert captured.err == "folio: too few words\n       Write more.\n"


def test_action_by_name_and_help(echo: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    echo(done)
    assert cli.main(["echo", "twice"]) == 0
    capsys.readouterr()
    assert cli.main(["echo", "--help"]) == 0
    shown = capsys.readouterr().out
    for part in ("usage: folio echo", "Say it.", "--times INT", "How often.", "folio echo --times 2", "echo twice"):
        assert part in shown


def test_a_verb_without_its_action(
    echo: Verb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    echo(done)
    monkeypatch.delitem(sys.modules["echo_verb"].ACTIONS, "")
    assert cli.main(["echo"]) == 2
    assert cli.main(["echo", "twise"]) == 2
    error = capsys.readouterr().err
    assert "'echo' needs an action\n       One of: twice." in error
    assert "there is no action 'echo twise'\n       Did you mean twice?" in error
    assert cli.main(["echo", "--help"]) == 0
    assert "  twice  Say it twice." in capsys.readouterr().out


def test_mistakes_in_options_exit_2_without_a_traceback(echo: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    echo(done)
    assert cli.main(["echo", "--tims", "3", "--times", "many"]) == 2
    assert capsys.readouterr().err == (
        "folio: 2 mistakes\n"
        "       unknown key --tims; did you mean --times?\n"
        "       --times 'many': must be a valid integer\n"
    )


def test_interrupted_but_saved_exits_3(echo: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    echo(raising(Interrupted("stopped at step 5; go on with: folio train --resume runs/a")))
    assert cli.main(["echo"]) == 3
    assert capsys.readouterr().err == "folio: stopped at step 5; go on with: folio train --resume runs/a\n"


def test_ctrl_c_exits_3_in_one_line(echo: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    echo(raising(KeyboardInterrupt()))
    assert cli.main(["echo"]) == 3
    assert capsys.readouterr().err == "folio: interrupted; unfinished work was not saved\n"


def test_sigterm_ends_a_verb_as_ctrl_c_does(echo: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    def run(options: EchoOptions, terminal: Terminal) -> Outcome:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal did not arrive")

    before = signal.getsignal(signal.SIGTERM)
    echo(run)
    assert cli.main(["echo"]) == 3
    assert capsys.readouterr().err == "folio: interrupted; unfinished work was not saved\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_bug_exits_1_with_its_traceback(echo: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    echo(raising(ZeroDivisionError("a slip")))
    assert cli.main(["echo"]) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "ZeroDivisionError: a slip" in error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/a"), "folio: the disk is full at 'runs/a'"),
        (RuntimeError("Error while serializing: I/O error: No space left (os error 28)"), "folio: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/a"), "folio: no permission at 'runs/a'"),
        (OSError(errno.EROFS, "Read-only file system", "runs/a"), "folio: the disk is read-only at 'runs/a'"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    echo: Verb, capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    echo(raising(error))
    assert cli.main(["echo"]) == 2
    shown = capsys.readouterr().err
    assert shown.splitlines()[0] == line
    assert "Traceback" not in shown


def test_another_system_error_is_still_a_bug(echo: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    echo(raising(FileNotFoundError(errno.ENOENT, "No such file or directory", "x")))
    assert cli.main(["echo"]) == 1
    assert "FileNotFoundError" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_error() -> None:
    code = (
        "import sys; from folio import cli\n"
        "def run(*_):\n"
        "    while True: print('line')\n"
        "cli.dispatch = run\n"
        "sys.exit(cli.main(['echo']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=30) == 0
