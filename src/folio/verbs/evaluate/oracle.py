"""``folio evaluate oracle MODEL ...``: a judge model scores what the models under test write."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from tyro.conf import Positional

from folio.config import Table
from folio.errors import ConfigError
from folio.verbs.action import Action, Outcome, Terminal

if TYPE_CHECKING:
    from folio.evaluation.oracle.judge import Continuation
    from folio.evaluation.oracle.prompts import Drawn
    from folio.verbs.evaluate.oracle_scores import JudgedModel

REFERENCE = "reference"
"""The name under which the text that really follows is scored."""


class OracleOptions(Table):
    """Who is judged, by whom, on which prompts."""

    models: Positional[tuple[str, ...]] = Field(min_length=1)
    """The models under test: runs, checkpoints, Hugging Face-style folders, or hub ids."""
    oracle: str = "openai-community/gpt2-xl"
    """The judge: a model as above, or one of any other kind that transformers opens (safetensors only)."""
    corpus: str | None = None
    """A named corpus, whose validation split gives the prompts. Without it or --text: what the runs held out."""
    text: str | None = None
    """Own text that gives the prompts: a file, folder or glob, all of it."""
    tail: float | None = Field(default=None, gt=0, lt=1)
    """Only this last part of the lines of --text; 0.1 is the rule of Efficient Shakespeare."""
    prompts: int = Field(default=50, ge=1)
    """Prompts: passages between blank lines, drawn by --seed without replacement, the same for all models."""
    min_words: int = Field(default=1, ge=1)
    """Leave out passages of fewer words."""
    max_words: int | None = Field(default=None, ge=1)
    """Leave out passages of more words; in any case those that the context of a model under test does not hold."""
    ratio: float = Field(default=3.0, gt=0)
    """Length of a continuation over that of its prompt, in tokens of the model that writes it."""
    samples: int = Field(default=3, ge=1)
    """Continuations of each prompt, each with its own seed."""
    reference: bool = False
    """Score too the text that really follows each prompt, --ratio times its words."""
    temperature: float = Field(default=1.0, ge=0.0)
    """Divide the logits by this; 0 takes the likeliest token every time."""
    top_k: int | None = Field(default=None, ge=1)
    """Keep only the k likeliest tokens."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    """Keep the likeliest tokens that together reach this probability."""
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    """Keep tokens at least this fraction as likely as the likeliest."""
    repetition_penalty: float = Field(default=1.0, gt=0.0)
    """Above 1, tokens already in the text become less likely."""
    seed: int = Field(default=0, ge=0)
    """Decides which prompts are drawn, and the seed of every continuation."""
    to: Path | None = None
    """The folder of the prompts and of one evaluation for each model. Empty: a new evaluations/oracle-NAME."""
    dtype: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    """Weights of the models under test."""
    oracle_dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Weights of the oracle."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""


@dataclass(frozen=True)
class OracleVerdict:
    """What an oracle made of each model, and what is to be written of it: where, and by which oracle."""

    results: Sequence[JudgedModel]
    drawn: Drawn
    facts: Mapping[str, Any]
    home: Path
    folders: Mapping[str, Path]
    oracle: Path
    device: str

    def write(self) -> tuple[Path, ...]:
        """Write prompts, z-scores, and an evaluation of each model that has a score. The paths, the prompts' first."""
        from folio.verbs.evaluate.oracle_scores import write

        return write(self.results, self.drawn, self.facts, self.home, self.folders, self.oracle, self.device)


def oracle(options: OracleOptions, terminal: Terminal) -> Outcome:
    """Judge, show and write; :class:`folio.errors.DataError` if no model at all has a score."""
    from folio.verbs.evaluate.oracle_scores import show

    verdict = judge_models(options, terminal)
    data = show(verdict.results, verdict.facts, terminal)
    wrote = verdict.write()
    scored = [shlex.quote(str(path)) for path in wrote[1:]]
    following = f"compare {' '.join(scored)}" if len(scored) > 1 else f"generate {shlex.quote(options.models[0])}"
    return Outcome(data, wrote=wrote, next=(f"folio {following}",))


def judge_models(options: OracleOptions, terminal: Terminal) -> OracleVerdict:
    """Draw prompts, let each model continue them, let the oracle judge.

    What can be known without reading weights is checked before any model writes, and then that the oracle's can be
    read. What a model wrote is kept as soon as it is done, and not written again by the same command into the same
    folder.
    """
    from folio.evaluation.oracle.prompts import RULE, draw
    from folio.generation.config import GenerationConfig
    from folio.runtime import make_runtime
    from folio.verbs.evaluate.continuing import continued, open_writer, shown
    from folio.verbs.evaluate.held_out import held_out
    from folio.verbs.evaluate.judging import judge_all, model_fingerprint, open_judge, oracle_refusal, reference
    from folio.verbs.evaluate.kept_continuations import FOLDER, Kept
    from folio.verbs.evaluate.oracle_scores import judged_model, places
    from folio.verbs.evaluate.text import short_name
    from folio.verbs.hub import model_folder
    from folio.verbs.run_folder import fresh_folder

    if repeated := [name for name in options.models if options.models.count(name) > 1]:
        raise ConfigError(f"'{repeated[0]}' is named twice", "Name each model once.")
    if options.reference and REFERENCE in options.models:
        raise ConfigError(f"'{REFERENCE}' is how --reference calls the text that really follows", "Rename the model.")
    runtime = make_runtime(options.device, "fp32")
    by_name = {name: open_writer(name) for name in options.models}
    writers = list(by_name.values())
    oracle_folder = model_folder(options.oracle)
    judge = open_judge(oracle_folder, runtime, options.oracle_dtype)
    home = options.to or fresh_folder(Path("evaluations") / f"oracle-{short_name(options.oracle)}")
    names = [*options.models, *([REFERENCE] if options.reference else [])]
    folders = places(home, names)
    source = held_out(options.models, options.corpus, options.text, options.tail)

    def refusal(text: str) -> str | None:
        reasons = (writer.refusal(text) for writer in writers)
        return next(filter(None, reasons), None) or oracle_refusal(judge, text)

    drawn = draw(
        source.passages(),
        options.prompts,
        options.seed,
        min_words=options.min_words,
        max_words=options.max_words,
        refusal=refusal,
    )
    terminal.print(f"prompts  {len(drawn.prompts):,} of {drawn.candidates:,} passages of {source.description}")
    for reason, number in drawn.left_out.items():
        terminal.print(f"         left out: {number:,} {reason}")
    sampling = GenerationConfig.model_validate(
        options.model_dump(include=set(GenerationConfig.model_fields) & set(OracleOptions.model_fields))
    )
    judge.check_weights()
    settings = {
        **options.model_dump(include={"ratio", "samples", "seed", "dtype"}),
        "generation": sampling.model_dump(mode="json", exclude={"max_new_tokens", "seed", "stop"}),
    }
    written: dict[str, list[list[Continuation]]] = {}
    for writer in writers:
        by = {**settings, "model_sha256": model_fingerprint(writer.folder), "device": runtime.device.type}
        kept = Kept(home / FOLDER / f"{folders[writer.name].name}.jsonl", by)
        if (before := kept.read(drawn.prompts)) is not None:
            terminal.print(f"write {writer.name}: done before, in {kept.file}")
            written[writer.name] = before
            continue
        total = len(drawn.prompts) * options.samples
        with terminal.progress(f"write {writer.name}", total, "text") as bar:
            written[writer.name] = continued(
                writer,
                drawn.prompts,
                sampling,
                ratio=options.ratio,
                samples=options.samples,
                seed=options.seed,
                dtype=options.dtype,
                device=str(runtime.device),
                on_progress=lambda texts, tokens, bar=bar: bar.update(texts, tokens=f"{tokens:,}"),  # type: ignore[misc]
            )
        kept.write(drawn.prompts, written[writer.name])
    if options.reference:
        written[REFERENCE] = reference(drawn, options.ratio)
    judgements = judge_all(judge, drawn, written, terminal)
    judge_facts = {
        "oracle": shown(options.oracle),
        "oracle_sha256": model_fingerprint(oracle_folder),
        "oracle_dtype": options.oracle_dtype,
    }
    alike = {
        **judge_facts,
        "prompt_rule": {"rule": RULE, "seed": options.seed, "corpus_fingerprint": source.corpus.fingerprint},
        **options.model_dump(include={"ratio", "samples"}),
        "generation": settings["generation"],
    }
    results = [
        judged_model(name, by_name.get(name), drawn, texts, judgements[name], alike) for name, texts in written.items()
    ]
    facts = {
        **judge_facts,
        "prompts": {
            "rule": RULE,
            **source.facts(),
            **options.model_dump(include={"seed", "min_words", "max_words"}),
            "drawn": len(drawn.prompts),
            "candidates": drawn.candidates,
            "left_out": dict(drawn.left_out),
        },
        **options.model_dump(include={"ratio", "samples", "dtype"}),
        "generation": settings["generation"],
    }
    return OracleVerdict(results, drawn, facts, home, folders, oracle_folder, str(runtime.device))


ACTION = Action(
    OracleOptions,
    oracle,
    "Let a judge model score the text that models write after prompts from held-out text.",
    examples=(
        "folio evaluate oracle runs/a runs/b --oracle openai-community/gpt2-xl",
        "folio evaluate oracle runs/a runs/b --text input.txt --tail 0.1 --samples 1 --reference",
    ),
)
