"""Prompts continued by a model: each continuation with a length and a seed of its own, many in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from folio.errors import ArtifactError, DataError
from folio.evaluation.oracle.judge import Continuation
from folio.evaluation.oracle.prompts import Prompt, sample_seed
from folio.finetuning.adapters import read_adapter
from folio.generation.answer import Row
from folio.generation.config import GenerationConfig
from folio.generation.engine import Generation
from folio.model.config import GPTConfig
from folio.model.folder import read_config
from folio.model.gpt import GPT
from folio.model.stored import weight_files
from folio.tokenizer import Tokenizer, load_tokenizer
from folio.tokenizer.words import WordTokenizer
from folio.verbs.adapted import place_of
from folio.verbs.hub import model_folder

if TYPE_CHECKING:
    from folio.verbs.library import Dtype

ROWS = 32
"""Continuations written at once."""


@dataclass(frozen=True)
class Writer:
    """A model under test as far as it is known without its weights. ``name`` is what the user called it."""

    name: str
    folder: Path
    tokenizer: Tokenizer
    config: GPTConfig
    end_ids: tuple[int, ...] = ()

    def refusal(self, text: str) -> str | None:
        """Why ``text`` cannot be a prompt of this model, or None."""
        try:
            ids = self.tokenizer.encode(text)
        except DataError:
            return f"that '{shown(self.name)}' cannot encode"
        if not ids:
            return f"without a token of '{shown(self.name)}'"
        size = self.config.block_size
        return f"longer than the context of '{shown(self.name)}' ({size:,} tokens)" if len(ids) > size else None

    def unknown(self, ids: Sequence[int]) -> int:
        """How many of ``ids`` are a word tokenizer's ``<unk>``."""
        return list(ids).count(self.tokenizer.unk_id) if isinstance(self.tokenizer, WordTokenizer) else 0


def shown(name: str) -> str:
    """``name`` as it may stand in what is kept: of a path that begins at this machine's root, the last part."""
    return Path(name).name if Path(name).is_absolute() else name


def open_writer(name: str) -> Writer:
    """The model called ``name``; :class:`folio.errors.ArtifactError` without a tokenizer or shape that Folio reads."""
    folder = model_folder(name)
    tokenizer, config = tokenizer_and_shape(folder)
    return Writer(name, folder, tokenizer, config, place_of(folder).end_ids(tokenizer))


def tokenizer_and_shape(folder: Path) -> tuple[Tokenizer, GPTConfig]:
    """What is known of the model in ``folder`` without its weights; they must be there, and the two must agree.

    It may be that of an adapter, whose base must be there too.
    """
    place = place_of(folder)
    config, tokenizer = read_config(place.home), load_tokenizer(place.tokenizer)
    weight_files(place.home)
    if place.adapter is not None:
        read_adapter(place.adapter, config)
    if tokenizer.vocab_size > config.vocab_size:
        raise ArtifactError(
            f"the tokenizer in '{folder}' has {tokenizer.vocab_size:,} ids, the model {config.vocab_size:,}",
            "Use the tokenizer that the model was trained with.",
        )
    return tokenizer, config


@dataclass(frozen=True)
class _Task:
    prompt_ids: list[int]
    limit: int
    seed: int


class _Batch(Generation):
    """A generation in which every row has its own limit and seed; ``config`` is the rows' in all else."""

    def __init__(self, model: GPT, writer: Writer, tasks: Sequence[_Task], config: GenerationConfig) -> None:
        tokenizer = writer.tokenizer
        longest = _limited(config, max(task.limit for task in tasks)).model_copy(update={"seed": 0})
        super().__init__(model, tokenizer, [task.prompt_ids for task in tasks], longest)
        self.rows = [
            Row(i, task.prompt_ids, tokenizer, _limited(config, task.limit), task.seed, writer.end_ids)
            for i, task in enumerate(tasks)
        ]


def _limited(config: GenerationConfig, tokens: int) -> GenerationConfig:
    return config.model_copy(update={"max_new_tokens": tokens})


def continued(
    writer: Writer,
    prompts: Sequence[Prompt],
    config: GenerationConfig,
    *,
    ratio: float,
    samples: int,
    seed: int,
    dtype: Dtype,
    device: str,
    on_progress: Callable[[int, int], None],
) -> list[list[Continuation]]:
    """What the model of ``writer`` writes after each prompt, its weights held only meanwhile: :func:`continued_by`."""
    from folio.verbs.library import load

    model = load(writer.folder, dtype=dtype, device=device)
    gpt, model.gpt = model.gpt, None  # type: ignore[assignment]
    return continued_by(gpt, writer, prompts, config, ratio=ratio, samples=samples, seed=seed, on_progress=on_progress)


def continued_by(
    model: GPT,
    writer: Writer,
    prompts: Sequence[Prompt],
    config: GenerationConfig,
    *,
    ratio: float,
    samples: int,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda texts, tokens: None,
) -> list[list[Continuation]]:
    """``samples`` continuations of each prompt, of ``ratio`` times its length in the model's own tokens (at least one).

    A continuation is drawn by :func:`sample_seed`; together in a batch are prompts of like length. Neither depends on
    any other model. ``on_progress`` is told how many continuations and tokens are written.
    """
    from folio.model.packed import pack, packing_helps

    writing = pack(model) if packing_helps(model) else model
    tasks = []
    for prompt in prompts:
        ids = writer.tokenizer.encode(prompt.text)
        limit = max(1, round(ratio * len(ids)))
        tasks += [_Task(ids, limit, sample_seed(seed, prompt.id, sample)) for sample in range(samples)]
    found: dict[int, Continuation] = {}
    written = 0
    order = sorted(range(len(tasks)), key=lambda i: (-tasks[i].limit, i))
    for start in range(0, len(order), ROWS):
        chosen = order[start : start + ROWS]
        batch = _Batch(writing, writer, [tasks[i] for i in chosen], config)
        done = 0
        for piece in batch:
            written += 1
            if piece.finish is not None:
                done += 1
                on_progress(start + done, written)
        for i, answer in zip(chosen, batch.answers, strict=True):
            facts = {
                "tokens": answer.tokens_written,
                "finish": answer.finish,
                "unknown": writer.unknown(answer.ids),
                "restarts": answer.restarts,
            }
            found[i] = Continuation(answer.text, answer.seed, facts)
    return [[found[i] for i in range(p * samples, (p + 1) * samples)] for p in range(len(prompts))]
