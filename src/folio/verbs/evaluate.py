"""``folio evaluate``: the loss of a model on held-out text, in units that compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from pydantic import Field

from folio.config import Table, build
from folio.errors import ArtifactError, ConfigError, UserError
from folio.verbs.action import Action, Outcome, Terminal

if TYPE_CHECKING:
    from folio.shards import TokenStream
    from folio.tokenizer import Tokenizer


class EvaluateOptions(Table):
    """What to measure, on what."""

    model: tyro.conf.Positional[str]
    """A run, a checkpoint, any Hugging Face-style folder, or a hub id."""
    tasks: tuple[Literal["loss"], ...] = Field(default=("loss",), min_length=1)
    """What to measure."""
    text: str | None = None
    """Own text to score: a file, folder or glob, all of it. Empty: the held-out split of the run's own corpus."""
    corpus: str | None = None
    """A named corpus, whose held-out split is scored."""
    shards: Path | None = None
    """Shards made with the model's tokenizer, to be scored."""
    split: Literal["train", "val"] = "val"
    """Which split of a corpus or of shards."""
    max_tokens: int = Field(default=0, ge=0)
    """Score only the first this many tokens, in whole blocks; 0 scores all."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Dtype of matrix products."""


def evaluate(options: EvaluateOptions, terminal: Terminal) -> Outcome:
    """Score a model and print nats/token, perplexity and bits/byte with their standard error."""
    from folio.evaluation.loss import loss_on
    from folio.runtime import make_runtime
    from folio.verbs.library import load

    if sum(source is not None for source in (options.text, options.corpus, options.shards)) > 1:
        raise ConfigError("--text, --corpus and --shards are three ways to say one thing", "Give one of them.")
    runtime = make_runtime(options.device, options.precision)
    model = load(options.model, device=str(runtime.device))
    stream, bytes_per_token, name = _material(options, model.tokenizer)
    score = loss_on(
        model.gpt,
        stream,
        bytes_per_token=bytes_per_token,
        max_tokens=options.max_tokens,
        autocast=runtime.autocast(),
    )
    bits_error = score.standard_error_nats / score.nats_per_token * score.bits_per_byte
    terminal.table(
        ("measure", "value", "standard error"),
        [
            ("nats/token", score.nats_per_token, score.standard_error_nats),
            ("perplexity", score.perplexity, score.perplexity * score.standard_error_nats),
            ("bits/byte", score.bits_per_byte, bits_error),
        ],
        title=f"{options.model} on {name}",
    )
    terminal.print(
        f"n = {score.tokens:,} tokens in {score.blocks:,} {score.convention} of {score.block_size}; "
        f"{runtime.precision} on {runtime.device}"
    )
    data = {"model": options.model, "text": name, "precision": runtime.precision, "loss": score.as_dict()}
    return Outcome(data, next=(f"folio generate {options.model}",))


def _material(options: EvaluateOptions, tokenizer: Tokenizer) -> tuple[TokenStream, float, str]:
    """The ids to score, the bytes of text behind each, and a name for them."""
    from folio.corpus import CorpusConfig, open_corpus
    from folio.evaluation.text import TextStream
    from folio.shards import open_shards
    from folio.verbs.prepare import prepare

    if options.shards is not None:
        shards = open_shards(options.shards, tokenizer)
        return shards.split(options.split), shards.bytes_per_token(options.split), f"{options.shards} ({options.split})"
    if options.text is not None or options.corpus is not None:
        asked = {"path": options.text} if options.text is not None else {"name": options.corpus}
        corpus = open_corpus(build(CorpusConfig, asked))
        split = None if options.text is not None else options.split
        stream = TextStream(corpus.documents(split), tokenizer)
        return stream, stream.text_bytes / len(stream), f"{corpus.name}" + (f" ({split})" if split else "")
    prepared = prepare(_recipe_of_run(Path(options.model)), Terminal(quiet=True))
    if prepared.tokenizer.fingerprint != tokenizer.fingerprint:
        raise ArtifactError(
            "the run's corpus now yields another tokenizer than the model's", "Say what to score: --text or --corpus."
        )
    shards = prepared.shards
    return shards.split(options.split), shards.bytes_per_token(options.split), f"its own {options.split} split"


def _recipe_of_run(model: Path) -> Any:
    """The recipe of the run that ``model`` is, or lies in."""
    from folio.verbs.recipe import Recipe
    from folio.verbs.train import saved_recipe

    for folder in (model, *model.parents):
        path = folder / "config.json"
        if (folder / "metrics.jsonl").is_file() and path.is_file():
            return build(Recipe, saved_recipe(folder), source=f"'{path}'")
    raise UserError(
        f"'{model}' is not in a run, so there is no held-out text that goes with it",
        "Say what to score: --text FILE, --corpus NAME or --shards FOLDER.",
    )


ACTIONS = {
    "": Action(
        EvaluateOptions,
        evaluate,
        "Measure the loss of a model on held-out text.",
        examples=("folio evaluate runs/shakespeare", "folio evaluate MODEL --text my.txt --json"),
    )
}
