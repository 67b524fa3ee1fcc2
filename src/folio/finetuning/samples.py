"""What a fine-tuned model writes: samples at several temperatures, and how many of them end by themselves."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from folio.config import Table
from folio.errors import ArtifactError, DataError
from folio.evaluation.estimates import Estimate, proportion
from folio.finetuning.chat import asked_ids
from folio.finetuning.config_data import DataConfig
from folio.finetuning.example_sets import ExampleSets
from folio.finetuning.examples import Encoder, fitted
from folio.finetuning.formats import Record
from folio.finetuning.preference.pair_sets import PairSets
from folio.finetuning.templates import ChatTemplate
from folio.generation.config import GenerationConfig
from folio.tokenizer import Tokenizer

if TYPE_CHECKING:
    from folio.model.gpt import GPT

FILE = "samples.jsonl"
"""In a run's folder: a line for each sample of the finished run."""
ROWS = 32
"""Samples written at once."""
ENDS = {"end_of_text": "ended by itself", "stop": "ended by itself, at a stop string", "length": "cut off"}


class SamplesConfig(Table):
    """What a finished run writes for a look. How it is drawn, temperature aside, is as [generation] says."""

    temperatures: tuple[float, ...] = (0.7, 1.0)
    """Temperatures to write at; 0 takes the likeliest token every time, and writes once after each prompt."""
    count: int = Field(default=5, ge=0)
    """Samples at each temperature; 0 writes none."""
    prompts: tuple[str, ...] = ()
    """What to begin from, in turns: a text's beginning, a prompt, or what a user says. Empty: the prompts of the first
    validation examples; of plain text nothing."""

    @model_validator(mode="after")
    def _all_are_used(self) -> Self:
        if any(not (math.isfinite(one) and one >= 0) for one in self.temperatures):
            raise ValueError("a temperature is a number from 0 on")
        if len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError("temperatures names one of them twice")
        if len(self.prompts) > self.count > 0:
            raise ValueError(f"prompts holds {len(self.prompts)} texts, and count asks for {self.count} samples")
        return self


@dataclass(frozen=True, slots=True)
class SamplePrompt:
    """What a sample begins from: the ids, and their text without the end-of-text that opens a document."""

    ids: tuple[int, ...]
    text: str

    @classmethod
    def of(cls, ids: Sequence[int], tokenizer: Tokenizer) -> Self:
        return cls(tuple(ids), tokenizer.decode(ids[1:] if ids[0] == tokenizer.eot_id else ids))


@dataclass(frozen=True, slots=True)
class Sample:
    """One text of the finished run, written after ``prompt`` by the model of ``step``."""

    step: int
    temperature: float
    prompt: str
    text: str
    finish: str
    """end_of_text, stop (a stop string) or length (max_new_tokens were written)."""
    tokens: int
    """Tokens written, the end-of-text among them."""
    seed: int

    @property
    def ended(self) -> bool:
        """Whether the model ended it, rather than the limit."""
        return self.finish != "length"

    @property
    def marked(self) -> str:
        """How it ended, in words."""
        return f"{ENDS[self.finish]} after {self.tokens:,} token{'s' * (self.tokens != 1)}"


def sample_prompts(
    config: SamplesConfig, tokenizer: Tokenizer, data: DataConfig, sets: ExampleSets | PairSets, block_size: int
) -> list[SamplePrompt]:
    """What ``config.count`` samples begin from, in ids, as training encodes them.

    Of plain text that is an end-of-text and the prompt that is given, if any. Of other records it is a prompt as given,
    in the template and with the opening of an answer, or what stands before the first answer of the first records held
    out for validation (or else of the first there are). :class:`DataError` for a prompt that cannot be encoded, and
    where no record has one that fits.
    """
    records = sets.records["validation"] or sets.records["test"] or sets.records["train"]
    format = records[0].format
    if config.prompts or format == "text":
        try:
            ids = [_given_ids(prompt, tokenizer, format, sets.template) for prompt in config.prompts or ("",)]
        except DataError as error:
            raise DataError(f"samples.prompts: {error.problem}", error.remedy) from None
    elif isinstance(sets, PairSets):
        pairs = sets.validation or sets.test or sets.train
        ids = [pair.prompt_ids.tolist() for pair in pairs[: config.count]]
    else:
        ids = list(islice(_first_prompts(records, tokenizer, data, sets.template, block_size), config.count))
    if not ids and config.count:
        raise DataError("no example has a prompt to write samples after", "Give samples.prompts, or set count to 0.")
    if format == "completion" and data.learn == "everything":
        ids = [_opened(one, tokenizer) for one in ids]
    prompts = [SamplePrompt.of(one, tokenizer) for one in ids]
    return [prompts[number % len(prompts)] for number in range(config.count)]


def _given_ids(prompt: str, tokenizer: Tokenizer, format: str, template: ChatTemplate | None) -> list[int]:
    if format == "text":
        return _opened(tokenizer.encode(prompt), tokenizer)
    if template is None:
        return tokenizer.encode(prompt) or _opened([], tokenizer)
    return asked_ids([{"role": "user", "content": prompt}], template, tokenizer)


def _opened(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    """``ids`` after the end-of-text that comes before whatever is learned from its first token on."""
    assert tokenizer.eot_id is not None  # examples of a tokenizer without one are refused
    return ids if ids[:1] == [tokenizer.eot_id] else [tokenizer.eot_id, *ids]


def _first_prompts(
    records: Sequence[Record], tokenizer: Tokenizer, data: DataConfig, template: ChatTemplate | None, block_size: int
) -> Iterator[list[int]]:
    """What stands before the first answer of each example that can be learned from."""
    learn = "answers" if data.learn == "everything" else data.learn
    encoder = Encoder(tokenizer, template, learn, data.unknown_characters)
    for record in records:
        whole = encoder.encode(record).example
        example = None if whole is None else fitted(whole, block_size, data.too_long)
        if example is not None:
            yield example.ids[: int(example.learned.argmax())].tolist()


def draw_samples(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[SamplePrompt],
    temperatures: Sequence[float],
    drawing: GenerationConfig,
    *,
    step: int,
    on_progress: Callable[[int], None] = lambda samples: None,
) -> list[Sample]:
    """A sample after each of ``prompts`` at each temperature, in batches; sample i is drawn by ``drawing.seed`` + i.

    ``drawing`` says all but the temperature. At temperature 0 equal prompts give one sample. ``on_progress`` is told
    how many are finished.
    """
    from folio.generation.engine import Generation

    assert drawing.seed is not None
    samples: list[Sample] = []
    for temperature in temperatures:
        asked = list(prompts) if temperature else list(dict.fromkeys(prompts))
        for start in range(0, len(asked), ROWS):
            together = asked[start : start + ROWS]
            config = drawing.model_copy(update={"temperature": temperature, "seed": drawing.seed + start})
            batch = Generation(model, tokenizer, [prompt.ids for prompt in together], config)
            done = len(samples)
            for piece in batch:
                done += piece.finish is not None
                if piece.finish is not None:
                    on_progress(done)
            for prompt, answer in zip(together, batch.answers, strict=True):
                assert answer.finish is not None
                samples.append(
                    Sample(
                        step,
                        temperature,
                        prompt.text,
                        answer.text,
                        answer.finish,
                        answer.tokens_written,
                        answer.seed,
                    )
                )
    return samples


def by_temperature(samples: Sequence[Sample]) -> list[tuple[float, list[Sample]]]:
    """The samples of each temperature, in the order in which they were written."""
    return [(temperature, list(group)) for temperature, group in groupby(samples, lambda one: one.temperature)]


def ended_shares(samples: Sequence[Sample]) -> list[tuple[str, Estimate]]:
    """The share that ended by themselves, with Wilson's interval: at each temperature, and over all if of several."""
    groups = [(f"{temperature:g}", group) for temperature, group in by_temperature(samples)]
    groups += [("all", list(samples))] if len(groups) > 1 else []
    return [(name, proportion([one.ended for one in group])) for name, group in groups]


def sections(samples: Sequence[Sample]) -> str:
    """The samples as Markdown: a section for each temperature, each marked by how it ended, and the shares."""
    if not samples:
        return ""
    parts = []
    for temperature, group in by_temperature(samples):
        parts.append(f"## Temperature {temperature:g}, after step {group[0].step:,}\n")
        for number, one in enumerate(group, 1):
            parts.append(f"### {number}: {one.marked} (seed {one.seed})\n")
            parts += [f"After the prompt\n\n{_fenced(one.prompt)}"] if one.prompt else []
            parts.append(_fenced(one.text))
    parts.append("## Ended by themselves\n")
    rows = [
        f"| {name} | {round(share.value * share.n)} of {share.n} | {share.value:.0%} | "
        f"{share.low:.0%} to {share.high:.0%} |\n"
        for name, share in ended_shares(samples)
    ]
    table = "| temperature | ended by themselves | share | 95 % interval |\n|---|---|---|---|\n" + "".join(rows)
    return "\n".join([*parts, table])


def _fenced(text: str) -> str:
    """``text`` as a block of code, within a fence that is longer than any in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}\n"


def as_lines(samples: Sequence[Sample]) -> str:
    """The content of :data:`FILE`."""
    return "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in samples)


def read_samples(run: Path) -> list[Sample]:
    """The samples of a finished run, none if it has none; :class:`ArtifactError` if their file is damaged."""
    path = run / FILE
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # text may hold other ends of lines
        samples = [Sample(**json.loads(line)) for line in lines if line]
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"'{path}' is damaged: {error}", "Remove it, or write it anew.") from None
    return samples
