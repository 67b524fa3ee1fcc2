"""One cell in a process of its own: ``python -m folio.studies.running.child train ...`` is ``folio train`` on a leash.

The study holds the other end of the process's standard input. When it ends, however it ends, the process is told to
stop as by SIGTERM: it saves and leaves, and is not in the way of the study's next sitting.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

SAVED = 3
"""Exit code of a process that was stopped and has saved."""


def main() -> None:
    """Run the command line with the arguments that are left."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()
    runpy.run_module("folio", run_name="__main__", alter_sys=True)


def _wait_for_the_end() -> None:
    """A plain read: one through ``sys.stdin`` would hold a lock that the interpreter wants when it ends."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def command_line(arguments: list[str]) -> list[str]:
    """What starts ``folio`` with ``arguments`` on a leash."""
    return [sys.executable, "-m", "folio.studies.running.child", *arguments]


if __name__ == "__main__":
    main()
