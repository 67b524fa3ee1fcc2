"""The command line: ``folio VERB [ACTION] ...``. A verb is imported only when it is called.

Exit codes: 0 done, 1 a bug (with its traceback), 2 the user's to mend, 3 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from folio import __version__
from folio.errors import REFUSALS, BrokenPromise, Interrupted, RankLost, UserError, nearest
from folio.launch import NO_LAUNCHER, Launch, another_told, finish_speaking, launched

if TYPE_CHECKING:
    from folio.config import Table
    from folio.verbs.action import Action, Outcome

VERBS = {
    "demo": ("folio.verbs.demo", "the whole way on Shakespeare: corpus, tokenizer, shards, training, evaluation, text"),
    "corpus": ("folio.verbs.corpus", "fetch a named corpus, or explore any text"),
    "tokenizer": ("folio.verbs.tokenizer", "train, fetch or inspect a tokenizer"),
    "shards": ("folio.verbs.shards", "turn text into shards of ids; inspect and verify them"),
    "train": ("folio.verbs.train", "train a model from a preset or a TOML file"),
    "lr": ("folio.verbs.lr", "find the learning rate of a recipe: a range test, and trainings around it"),
    "verify-resume": ("folio.verbs.verify_resume", "prove that a run killed at random moments ends with the same bits"),
    "evaluate": ("folio.verbs.evaluate", "measure a model"),
    "compare": ("folio.verbs.compare", "compare models item by item: better, worse, or cannot tell"),
    "synthesize": ("folio.verbs.synthesize", "collect examples for fine-tuning from an OpenAI-compatible endpoint"),
    "finetune": ("folio.verbs.finetune", "teach a model examples: all of it, its head, or adapters on it"),
    "generate": ("folio.verbs.generate", "let a model write"),
    "ladder": ("folio.verbs.ladder", "from the slowest GPT-2 to the fastest: every speed-up measured, rung by rung"),
    "study": ("folio.verbs.study", "a grid of runs: trained, resumed, extended; tables, figures and a page of it"),
    "report": ("folio.verbs.report", "one self-contained page about one or more runs"),
    "bench": ("folio.verbs.bench", "measure this machine: training, generation, encoding, evaluation"),
    "check": ("folio.verbs.check", "parameters, FLOPs and memory of a recipe, without touching data"),
}
"""Every verb: the module that holds its ACTIONS, and one line about it."""

DONE, BUG, MEND, STOPPED = 0, 1, 2, 3
LEFT_TO_RANK_0_S, LOST_TO_RANK_0_S = 3.0, 1.0
MANY_RANKS = ("train", "finetune")
"""Verbs that a launcher may start on several ranks."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in args
    args = [arg for arg in args if arg != "--json"]
    try:
        with terminated_as_interrupt():
            code, answer = run(args, quiet=as_json)
        if as_json and answer is not None and here().first:
            print(json.dumps(answer, ensure_ascii=False, allow_nan=False))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code


def run(args: Sequence[str], quiet: bool) -> tuple[int, Mapping[str, Any] | None]:
    """The exit code of a command, and what it answers under ``--json``; everything that goes wrong ends here."""
    try:
        return DONE, dispatch(list(args), quiet or not here().first)
    except BrokenPipeError:
        raise
    except UserError as error:
        return MEND, complain(error)
    except Interrupted as error:
        say(str(error))
        return STOPPED, {"interrupted": str(error)}
    except BrokenPromise as error:
        print(f"folio: {error}", file=sys.stderr)
        return BUG, {"error": str(error), **error.data}
    except KeyboardInterrupt:
        say("interrupted; unfinished work was not saved")
        return STOPPED, {"interrupted": "unfinished work was not saved"}
    except Exception as error:
        if (trouble := system_trouble(error)) is not None:
            return MEND, complain(trouble)
        traceback.print_exc()
        print(f"folio: {who_speaks()}this is a bug in folio; the lines above say where", file=sys.stderr)
        tell_launcher(error)
        return BUG, {"error": f"bug: {type(error).__name__}: {error}"}


def dispatch(args: list[str], quiet: bool) -> Mapping[str, Any] | None:
    """Find the verb and its action, read its options, run it."""
    if not args or args[0] in ("-h", "--help"):
        print(overview())
        return None
    if args[0] in ("-V", "--version"):
        print(f"folio {__version__}")
        return None
    verb, *rest = args
    if launched().world_size > 1 and verb in VERBS and verb not in MANY_RANKS:
        raise UserError(f"folio {verb} runs in one process", f"Start it without torchrun: folio {verb} ...")
    actions = actions_of(verb)
    name = rest.pop(0) if rest and rest[0] in actions else ""
    prog = f"folio {verb} {name}".rstrip()
    if name not in actions:
        if rest and rest[0] in ("-h", "--help"):
            print(verb_overview(verb, actions))
            return None
        raise no_such("action", f"{verb} {rest[0]}" if rest else verb, rest[0] if rest else "", actions)
    flags = rest[: rest.index("--")] if "--" in rest else rest
    if "-h" in flags or "--help" in flags:
        others = {other: action for other, action in actions.items() if other and not name}
        explain(actions[name], prog, [arg for arg in flags if arg not in ("-h", "--help")], others)
        return None
    return perform(actions[name], rest, quiet)


def explain(action: Action, prog: str, args: Sequence[str], others: Mapping[str, Action]) -> None:
    """Print an action's help page, and under it the other actions of the same verb."""
    from folio.verbs.options import print_help

    print_help(action.options, prog, action.summary, action.examples, start_of(action, args))
    for index, (name, other) in enumerate(others.items()):
        line = f"  {prog} {name}  {other.summary}"
        print(line if index else f"also:\n{line}")


def actions_of(verb: str) -> dict[str, Action]:
    """The actions of a verb by name, "" for the verb itself; :class:`UserError` with the nearest if there is none."""
    if verb not in VERBS:
        raise no_such("verb", verb, verb, VERBS)
    actions: dict[str, Action] = importlib.import_module(VERBS[verb][0]).ACTIONS
    return actions


def perform(action: Action, args: list[str], quiet: bool) -> Mapping[str, Any]:
    """Run an action and print what it wrote and what one may do next; the answer is the same for ``--json``."""
    from folio.verbs.action import Terminal
    from folio.verbs.options import parse

    options = parse(action.options, args, default=start_of(action, args))
    terminal = Terminal(quiet=quiet)
    with contextlib.redirect_stdout(sys.stderr) if quiet else contextlib.nullcontext():
        outcome = action.run(options, terminal)
    if not quiet:
        print_ending(outcome)
    return outcome.answer()


def start_of(action: Action, args: Sequence[str]) -> Table | None:
    """The values that flags start from, where the arguments choose any."""
    return action.default(args) if action.default is not None else None


def print_ending(outcome: Outcome) -> None:
    for path in outcome.wrote:
        print(f"wrote {path}")
    for index, command in enumerate(outcome.next):
        print(f"  {command}" if index else f"\nnext:\n  {command}")


def overview() -> str:
    """The text of ``folio --help``."""
    lines = [
        "usage: folio VERB [ACTION] [OPTIONS]",
        "",
        "Train, measure and ship GPT-2-class language models.",
        "",
        "verbs:",
    ]
    lines += [f"  {verb:<13} {summary}" for verb, (_, summary) in VERBS.items()]
    lines += [
        "",
        "  folio VERB --help  what a verb takes",
        "  --json             print one JSON object on stdout instead of text",
        "  --version          print the version",
        "",
        "Start with: folio demo",
    ]
    return "\n".join(lines)


def verb_overview(verb: str, actions: Mapping[str, Action]) -> str:
    """The text of ``folio VERB --help`` for a verb that is nothing without an action."""
    width = max(map(len, actions))
    lines = [
        f"usage: folio {verb} ACTION [OPTIONS]",
        "",
        f"{VERBS[verb][1][:1].upper()}{VERBS[verb][1][1:]}.",
        "",
        "actions:",
    ]
    lines += [f"  {name:<{width}}  {action.summary}" for name, action in actions.items()]
    return "\n".join([*lines, "", f"  folio {verb} ACTION --help  what an action takes"])


def no_such(what: str, shown: str, given: str, known: Mapping[str, Any]) -> UserError:
    """The error for a verb or an action that does not exist, with the nearest that does."""
    names = ", ".join(known)
    if not given:
        return UserError(f"'{shown}' needs an {what}", f"One of: {names}.")
    guess = nearest(given, known)
    return UserError(f"there is no {what} '{shown}'", f"Did you mean {guess}?" if guess else f"There are: {names}.")


def complain(error: UserError) -> dict[str, Any]:
    """Tell the user what to mend. What all ranks would say, rank 0 says, or the lowest left where one was lost."""
    answer = {"error": error.problem, "remedy": error.remedy}
    lost = isinstance(error, RankLost)
    if lost:
        finish_speaking()
    with contextlib.suppress(KeyboardInterrupt):  # the launcher ends the others once rank 0 has spoken
        if not here().first:
            time.sleep((LOST_TO_RANK_0_S if lost else LEFT_TO_RANK_0_S) + 0.2 * here().local_rank)
        if here().first or not (lost and another_told()):
            say(str(error), quietly=False)
            tell_launcher(error)
    return answer


def say(text: str, *, quietly: bool = True) -> None:
    """Tell the user, on stderr; ranks other than the first say who they are, and what all would say not at all."""
    if here().first or not quietly:
        named = text.startswith(f"rank {here().rank} ")
        print(f"folio: {'' if named else who_speaks()}{text}", file=sys.stderr)


def who_speaks() -> str:
    return "" if here().first else f"rank {here().rank}: "


def here() -> Launch:
    """This process's place in its job; alone where the environment is in no order, which :func:`dispatch` tells."""
    with contextlib.suppress(UserError):
        return launched()
    return NO_LAUNCHER


def tell_launcher(error: Exception) -> None:
    """Leave the reason of a failure where torchrun looks for it, so that its report names rank and cause."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        with contextlib.suppress(OSError), open(path, "w", encoding="utf-8") as file:
            cause = {"py_callstack": str(error), "timestamp": str(int(time.time()))}
            json.dump({"message": {"message": f"{type(error).__name__}: {error}", "extraInfo": cause}}, file)


def system_trouble(error: Exception) -> UserError | None:
    """What the system refused, if that is what went wrong: no space, no permission. Native code says it in its text."""
    number = error.errno if isinstance(error, OSError) else None
    name = error.filename if isinstance(error, OSError) and error.filename else None
    where = f" at '{os.fsdecode(name)}'" if isinstance(name, str | bytes) else ""
    if f"(os error {errno.ENOSPC})" in str(error):
        number = errno.ENOSPC
    if number == errno.EROFS:
        return UserError(f"{REFUSALS[number]}{where}", "Choose another place, or mount it for writing.")
    if number in REFUSALS:
        return UserError(
            f"{REFUSALS[number]}{where}", "Free some space, or write elsewhere. What was complete before is kept."
        )
    if isinstance(error, PermissionError) or f"(os error {errno.EACCES})" in str(error):
        return UserError(f"no permission{where}", "Choose another place, or change its permissions.")
    allocator = "DefaultCPUAllocator" in str(error)  # how torch words it on a CPU
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or allocator:
        return UserError("out of memory", "Use a smaller --train.micro-batch, --train.recompute, or a smaller model.")
    return None


@contextlib.contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a verb as Ctrl-C does, so that temporary folders go; a verb that saves sets its own handler."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
