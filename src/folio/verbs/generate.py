"""``folio generate MODEL --prompt "..."``: let a model write, on the terminal as it goes."""

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

from folio.errors import DataError
from folio.generation.config import GenerationConfig
from folio.verbs.action import Action, Outcome, Terminal

if TYPE_CHECKING:
    from folio.generation.engine import Generation


class GenerateOptions(GenerationConfig):
    """Who writes, after what, and how."""

    model: Positional[str]
    """A run, a checkpoint, any Hugging Face-style folder, or a hub id."""
    prompt: tuple[str, ...] = ()
    """What the text goes on from; several make a batch; \\n is a line break. Without any: standard input if piped."""
    prompt_file: tuple[Path, ...] = ()
    """Prompts as files, one each; a last line break is dropped."""
    num_samples: int = Field(default=1, ge=1)
    """Answers to each prompt, each with its own seed."""
    dtype: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """Weights in memory; auto is fp32 on a CPU, bf16 or fp16 on a CUDA GPU. int8 is the fastest there is on a CPU."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""


def generate(options: GenerateOptions, terminal: Terminal) -> Outcome:
    """Write an answer to every prompt; the text streams, rows of a batch one after the other."""
    prompts = [prompt for prompt in read_prompts(options) for _ in range(options.num_samples)]

    from folio.generation.engine import Generation
    from folio.model.packed import pack, packing_helps
    from folio.runtime import make_runtime
    from folio.verbs.library import load

    runtime = make_runtime(options.device)
    on_cpu = runtime.device.type == "cpu"
    automatic: Any = "fp32" if on_cpu or runtime.precision == "tf32" else runtime.precision
    dtype = automatic if options.dtype == "auto" else options.dtype
    model = load(options.model, dtype=dtype, device=runtime.device)
    gpt, tokenizer, model.gpt = model.gpt, model.tokenizer, None  # type: ignore[assignment]
    writer = pack(gpt) if packing_helps(gpt) else gpt
    del gpt
    config = GenerationConfig.model_validate(options.model_dump(include=set(GenerationConfig.model_fields)))
    config = config.model_copy(update={"stop": tuple(map(unescaped, config.stop))})
    writing = Generation(writer, tokenizer, prompts, config)
    start = time.perf_counter()
    show(writing, prompts, terminal)
    seconds = time.perf_counter() - start
    answers = writing.answers
    tokens = sum(answer.tokens_written for answer in answers)
    terminal.print(
        f"\n{tokens:,} tokens in {seconds:.1f} s, {tokens / seconds:.1f} tokens/s "
        f"({dtype} on {runtime.device}, prompts included), seed {writing.seed}",
        style="dim",
    )
    for line in remarks(writing):
        terminal.print(line, style="dim")
    data = {
        "model": options.model,
        "dtype": dtype,
        "device": str(runtime.device),
        "seed": writing.seed,
        "answers": [{"prompt": prompt, **asdict(answer)} for prompt, answer in zip(prompts, answers, strict=True)],
        "new_tokens": tokens,
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
    }
    return Outcome(data, next=(f"folio evaluate {shlex.quote(options.model)}",))


def read_prompts(options: GenerateOptions) -> list[str]:
    """The prompts given as flags, then as files; else standard input if it is piped; else one empty prompt."""
    prompts = [*map(unescaped, options.prompt), *(_read(path) for path in options.prompt_file)]
    if prompts:
        return prompts
    if sys.stdin is not None and not sys.stdin.closed and not sys.stdin.isatty():
        return [_text(sys.stdin.buffer.read(), "standard input")]
    return [""]


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
        "Let a model write.",
        examples=(
            'folio generate runs/demo --prompt "ROMEO:\\n" --max-new-tokens 100',
            "folio generate runs/demo --prompt-file scene.txt --num-samples 3 --top-p 0.95 --seed 1",
        ),
    )
}
