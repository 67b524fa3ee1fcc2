"""``folio generate MODEL --chat`` at a terminal: a person and a model in turns, until Ctrl-D."""

from __future__ import annotations

import contextlib
import shlex
import time
from typing import Any

from folio.errors import ConfigError, DataError
from folio.generation.engine import Generation
from folio.verbs.action import Outcome, Terminal
from folio.verbs.generate import GenerateOptions, answer_of, drawing, opening, remarks, tell_pace, user
from folio.verbs.writers import writers

MARK = "> "


def conversation(options: GenerateOptions, terminal: Terminal) -> Outcome:
    """Answer line by line, with all that was said before; turn i is drawn by the seed + i.

    What cannot be said to the model (a character that its tokenizer lacks, a special token) is told, and forgotten.
    :class:`ConfigError` where there is nobody to talk to.
    """
    if terminal.quiet:
        raise ConfigError("--json cannot hold a conversation", "Give what is said: --prompt TEXT.")
    if len(options.adapter) > 1 or options.num_samples > 1:
        raise ConfigError(
            "a conversation is with one model, and has one answer to each turn",
            "Leave --num-samples and all but one --adapter out, or give --prompt.",
        )
    dtype, device, config = drawing(options)
    ((_, writer),) = writers(options.model, options.adapter, options.base, dtype, device)
    chat = writer.chat(options.model)
    config, end_ids = chat.stopping(config), (*writer.end_ids, *chat.end_ids)
    messages, answers = opening(options), list[dict[str, Any]]()
    tokens, seconds, seed = 0, 0.0, config.seed
    terminal.print("Each line is a turn; Ctrl-D ends.", style="dim")
    while (said := _said()) is not None:
        if not said.strip():
            continue
        try:
            ids = chat.ids([*messages, user(said)])
        except DataError as error:
            terminal.print(str(error), style="yellow")
            continue
        own = config if seed is None else config.model_copy(update={"seed": seed + len(answers)})
        writing = Generation(writer.gpt, writer.tokenizer, [ids], own, end_ids)
        seed = writing.seed if seed is None else seed
        start = time.perf_counter()
        _show(writing, terminal)
        seconds += time.perf_counter() - start
        for line in remarks(writing):
            terminal.print(line, style="dim")
        (answer,) = writing.answers
        tokens += answer.tokens_written
        answers.append({"prompt": said, **answer_of(answer, chat=True)})
        messages += [user(said), {"role": "assistant", "content": answers[-1]["text"]}]
    terminal.print()
    if answers:
        tell_pace(tokens, seconds, f"{dtype} on {device}", seed, terminal)
    data = {"model": options.model, "seed": seed, "messages": messages, "answers": answers}
    return Outcome(data, next=(f"folio evaluate {shlex.quote(options.model)}",))


def _said() -> str | None:
    """The next line that is typed, None at its end."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # so that input() lets a line be edited, and earlier ones be called back
    try:
        return input(MARK)
    except EOFError:
        return None


def _show(writing: Generation, terminal: Terminal) -> None:
    """The answer as it comes, without white space before it."""
    begun = False
    for piece in writing:
        text = piece.text if begun else piece.text.lstrip()
        begun = begun or bool(text)
        terminal.write(text)
    terminal.write("\n")
