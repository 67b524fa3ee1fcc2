"""``folio generate MODEL --prompt "..."``: let a model write, on the terminal as it goes."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from tyro.conf import Positional

from folio.errors import ConfigError, DataError
from folio.generation.config import GenerationConfig
from folio.verbs.action import Action, Outcome, Terminal

if TYPE_CHECKING:
    import torch

    from folio.generation.engine import Generation
    from folio.model.gpt import GPT
    from folio.tokenizer import Tokenizer
    from folio.verbs.library import Dtype, Model

ALONE = "none"
"""How --adapter calls the base without an adapter."""


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
    num_samples: int = Field(default=1, ge=1)
    """Answers to each prompt, each with its own seed."""
    dtype: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """Weights in memory; auto is fp32 on a CPU, bf16 or fp16 on a CUDA GPU. int8 is the fastest there is on a CPU."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""


def generate(options: GenerateOptions, terminal: Terminal) -> Outcome:
    """Write an answer to every prompt; the text streams, rows of a batch one after the other, adapter by adapter."""
    prompts = [prompt for prompt in read_prompts(options) for _ in range(options.num_samples)]

    from folio.generation.engine import Generation
    from folio.model.packed import pack, packing_helps
    from folio.runtime import make_runtime

    runtime = make_runtime(options.device)
    on_cpu = runtime.device.type == "cpu"
    automatic: Any = "fp32" if on_cpu or runtime.precision == "tf32" else runtime.precision
    dtype = automatic if options.dtype == "auto" else options.dtype
    config = GenerationConfig.model_validate(options.model_dump(include=set(GenerationConfig.model_fields)))
    config = config.model_copy(update={"stop": tuple(map(unescaped, config.stop))})
    answers: list[dict[str, Any]] = []
    told: dict[str, None] = {}
    tokens, seconds = 0, 0.0
    for name, gpt, tokenizer in _writers(options, dtype, runtime.device):
        writer = pack(gpt) if packing_helps(gpt) else gpt
        del gpt
        writing = Generation(writer, tokenizer, prompts, config)
        config = config.model_copy(update={"seed": writing.seed})  # one seed for all, also where none was given
        if name is not None:
            terminal.print(f"{chr(10) if answers else ''}=== {name}", style="bold")
        start = time.perf_counter()
        show(writing, prompts, terminal)
        seconds += time.perf_counter() - start
        tokens += sum(answer.tokens_written for answer in writing.answers)
        by = {} if name is None else {"adapter": name}
        answers += [
            {**by, "prompt": prompt, **asdict(answer)} for prompt, answer in zip(prompts, writing.answers, strict=True)
        ]
        told |= dict.fromkeys(f"{name}: {line}" if name is not None else line for line in remarks(writing))
        del writer, writing
    terminal.print(
        f"\n{tokens:,} tokens in {seconds:.1f} s, {tokens / seconds:.1f} tokens/s "
        f"({dtype} on {runtime.device}, prompts included), seed {config.seed}",
        style="dim",
    )
    for line in told:
        terminal.print(line, style="dim")
    data = {
        "model": options.model,
        "dtype": dtype,
        "device": str(runtime.device),
        "seed": config.seed,
        "answers": answers,
        "new_tokens": tokens,
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
    }
    return Outcome(data, next=(f"folio evaluate {shlex.quote(options.model)}",))


def _writers(
    options: GenerateOptions, dtype: Dtype, device: torch.device
) -> Iterator[tuple[str | None, GPT, Tokenizer]]:
    """Who writes, one after the other: a label where there are several, the model, its tokenizer.

    A model belongs to whoever takes it: of several only the base is kept here. All adapters are opened before the first
    model is given out.
    """
    from folio.verbs.adapted import whole_model
    from folio.verbs.library import load

    given, base, named = options.model, options.base, named_adapters(options.adapter)
    if named:
        if base is not None:
            raise ConfigError("--base is the base of MODEL, and with --adapter MODEL is the base", "Leave --base out.")
        base = str(whole_model(options.model))
    if len(named) < 2:
        path = next(iter(named.values()), None)
        model = load(path or given, dtype=dtype, device=device, base=None if named and path is None else base)
        yield None, _taken(model), model.tokenizer
        return
    model = load(given, dtype=dtype, device=device)
    for name, path in named.items():
        if path is not None:
            model.add_adapter(path, name)
    for name, path in named.items():
        model.set_adapter(None if path is None else name)
        yield name, _taken(model), model.tokenizer


def _taken(model: Model) -> GPT:
    """The module of ``model``, which keeps none."""
    gpt, model.gpt = model.gpt, None  # type: ignore[assignment]
    return gpt


def named_adapters(given: tuple[str, ...]) -> dict[str, str | None]:
    """Path by name of adapters given as PATH or NAME=PATH; None is the base alone.

    A path without a name is called by its last part, a run's checkpoint by both. :class:`ConfigError` for a name that
    is given twice.
    """
    from folio.verbs.evaluate.text import short_name

    found: dict[str, str | None] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            name, path = re.sub(r"[^A-Za-z0-9_-]+", "-", short_name(text)), text
        if name in found:
            raise ConfigError(f"two adapters are called '{name}'", "Give them names: --adapter a=PATH b=PATH")
        found[name] = None if path == ALONE else path
    return found


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
            'folio generate runs/base --adapter runs/lora-a b=my/adapter none --prompt "ROMEO:\\n"',
        ),
    )
}
