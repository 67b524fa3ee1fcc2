"""``folio generate MODEL --prompt "..."``: let a model write or, with ``--chat``, talk, on the terminal as it goes."""

from __future__ import annotations

import re
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from tyro.conf import Positional

from folio.errors import ConfigError, DataError
from folio.generation.config import GenerationConfig
from folio.verbs.action import Action, Outcome, Terminal
from folio.verbs.writers import writers

if TYPE_CHECKING:
    import torch

    from folio.generation.answer import Answer
    from folio.generation.engine import Generation
    from folio.verbs.library import Dtype


class GenerateOptions(GenerationConfig):
    """Who writes, after what, and how."""

    model: Positional[str]
    """A run, a checkpoint, any Hugging Face-style folder, an adapter (which is opened on its base), or a hub id."""
    adapter: tuple[str, ...] = ()
    """Adapters on MODEL, each a path or NAME=PATH; none is MODEL alone. Of several each answers every prompt."""
    base: str | None = None
    """The base of MODEL, where that is an adapter: instead of the one that it names itself."""
    prompt: tuple[str, ...] = ()
    """What the text goes on from; several make a batch; \\n is a line break. Without any: standard input if piped."""
    prompt_file: tuple[Path, ...] = ()
    """Prompts as files, one each; a last line break is dropped."""
    chat: bool = False
    """Talk: a prompt is what a user says, in the model's own chat template. Without any at a terminal: in turns."""
    system: str | None = None
    """What the system says before a conversation; \\n is a line break."""
    num_samples: int = Field(default=1, ge=1)
    """Answers to each prompt, each with its own seed."""
    dtype: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """Weights in memory; auto is fp32 on a CPU, bf16 or fp16 on a CUDA GPU. int8 is the fastest there is on a CPU."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""


def generate(options: GenerateOptions, terminal: Terminal) -> Outcome:
    """Write an answer to every prompt; the text streams, rows of a batch one after the other, adapter by adapter."""
    if options.system is not None and not options.chat:
        raise ConfigError("--system is said before a conversation", "Add --chat, or leave it out.")
    if options.chat and not prompted(options) and at_terminal():
        from folio.verbs.conversation import conversation

        return conversation(options, terminal)
    said = [prompt for prompt in read_prompts(options) for _ in range(options.num_samples)]
    if options.chat and not all(map(str.strip, said)):
        raise ConfigError("--chat answers what is said, and nothing was", "Give --prompt TEXT.")

    from folio.generation.engine import Generation, Prompt

    dtype, device, config = drawing(options)
    answers: list[dict[str, Any]] = []
    told: dict[str, None] = {}
    tokens, seconds = 0, 0.0
    for name, writer in writers(options.model, options.adapter, options.base, dtype, device):
        chat = writer.chat(options.model if name is None else name) if options.chat else None
        prompts: list[Prompt] = [*said] if chat is None else [chat.ids([*opening(options), user(one)]) for one in said]
        asked = config if chat is None else chat.stopping(config)
        end_ids = writer.end_ids if chat is None else (*writer.end_ids, *chat.end_ids)
        writing = Generation(writer.gpt, writer.tokenizer, prompts, asked, end_ids)
        config = config.model_copy(update={"seed": writing.seed})  # one seed for all, also where none was given
        if name is not None:
            terminal.print(f"{chr(10) if answers else ''}=== {name}", style="bold")
        start = time.perf_counter()
        show(writing, said if chat is None else [f"{one}\n\n" for one in said], terminal)
        seconds += time.perf_counter() - start
        tokens += sum(answer.tokens_written for answer in writing.answers)
        by = {} if name is None else {"adapter": name}
        answers += [
            {**by, "prompt": prompt, **answer_of(answer, options.chat)}
            for prompt, answer in zip(said, writing.answers, strict=True)
        ]
        told |= dict.fromkeys(f"{name}: {line}" if name is not None else line for line in remarks(writing))
        del writer, writing
    terminal.print()
    tell_pace(tokens, seconds, f"{dtype} on {device}", config.seed, terminal)
    for line in told:
        terminal.print(line, style="dim")
    data = {
        "model": options.model,
        "dtype": dtype,
        "device": str(device),
        "seed": config.seed,
        **({"system": options.system} if options.chat else {}),
        "answers": answers,
        "new_tokens": tokens,
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
    }
    return Outcome(data, next=(f"folio evaluate {shlex.quote(options.model)}",))


def drawing(options: GenerateOptions) -> tuple[Dtype, torch.device, GenerationConfig]:
    """The dtype and place of the weights, and how text is drawn."""
    from folio.runtime import make_runtime

    runtime = make_runtime(options.device)
    on_cpu = runtime.device.type == "cpu"
    automatic: Any = "fp32" if on_cpu or runtime.precision == "tf32" else runtime.precision
    config = GenerationConfig.model_validate(options.model_dump(include=set(GenerationConfig.model_fields)))
    config = config.model_copy(update={"stop": tuple(map(unescaped, config.stop))})
    return automatic if options.dtype == "auto" else options.dtype, runtime.device, config


def opening(options: GenerateOptions) -> list[dict[str, str]]:
    """What a conversation begins with: the system's message, if there is one."""
    return [] if options.system is None else [{"role": "system", "content": unescaped(options.system)}]


def user(said: str) -> dict[str, str]:
    return {"role": "user", "content": said}


def answer_of(answer: Answer, chat: bool) -> dict[str, Any]:
    """For ``--json``; of a conversation without the white space that the template may put around an answer."""
    return {**asdict(answer), "text": answer.text.strip() if chat else answer.text}


def tell_pace(tokens: int, seconds: float, how: str, seed: int | None, terminal: Terminal) -> None:
    pace = f"{tokens:,} tokens in {seconds:.1f} s, {tokens / seconds:.1f} tokens/s"
    terminal.print(f"{pace} ({how}, prompts included), seed {seed}", style="dim")


def read_prompts(options: GenerateOptions) -> list[str]:
    """The prompts given as flags, then as files; else standard input if it is piped; else one empty prompt."""
    if prompted(options):
        return [*map(unescaped, options.prompt), *(_read(path) for path in options.prompt_file)]
    if sys.stdin is not None and not sys.stdin.closed and not at_terminal():
        return [_text(sys.stdin.buffer.read(), "standard input")]
    return [""]


def prompted(options: GenerateOptions) -> bool:
    return bool(options.prompt or options.prompt_file)


def at_terminal() -> bool:
    """Whether a person can type."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def unescaped(text: str) -> str:
    r"""``text`` of a flag with ``\n``, ``\t`` and ``\\`` as line break, tab and backslash."""
    return re.sub(r"\\([nt\\])", lambda match: {"n": "\n", "t": "\t"}.get(match[1], "\\"), text)


def _read(path: Path) -> str:
    try:
        return _text(path.read_bytes(), f"'{path}'")
    except OSError as error:
        raise DataError(f"cannot read prompt file '{path}': {error.strerror}", "Check the path.") from None


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 text (byte {error.start:,})", "Save it as UTF-8.") from None


def show(writing: Generation, prompts: list[str], terminal: Terminal) -> None:
    """Stream the first row that is not done; the rows after it wait until their turn, with what they have so far."""
    waiting = [""] * len(prompts)
    done = [False] * len(prompts)
    current = -1

    def turn_to(row: int) -> None:
        if len(prompts) > 1:
            terminal.print(f"{'' if row == 0 else chr(10) * 2}--- {row + 1} of {len(prompts)}", style="dim")
        terminal.write(prompts[row] + waiting[row])

    for piece in writing:
        if current < 0:
            current = 0
            turn_to(current)
        waiting[piece.row] += piece.text
        done[piece.row] = piece.finish is not None
        if piece.row == current:
            terminal.write(piece.text)
        while done[current] and current + 1 < len(prompts):
            current += 1
            turn_to(current)
    terminal.write("\n")


def remarks(writing: Generation) -> list[str]:
    """What a reader should know of prompts and texts that are longer than the context."""
    unread = sum(answer.unread_prompt_tokens for answer in writing.answers)
    restarts = sum(answer.restarts for answer in writing.answers)
    size = writing.model.config.block_size
    found = []
    if unread:
        found.append(f"the context holds {size:,} tokens: the first {unread:,} tokens of the prompts were not read")
    if restarts:
        found.append(f"the context of {size:,} tokens was full {restarts} times; its last half was kept each time")
    return found


ACTIONS = {
    "": Action(
        GenerateOptions,
        generate,
        "Let a model write, or talk with it.",
        examples=(
            'folio generate runs/demo --prompt "ROMEO:\\n" --max-new-tokens 100',
            "folio generate runs/demo --prompt-file scene.txt --num-samples 3 --top-p 0.95 --seed 1",
            'folio generate runs/base --adapter runs/lora-a b=my/adapter none --prompt "ROMEO:\\n"',
            'folio generate runs/chats --chat --system "Answer in verse."',
        ),
    )
}
