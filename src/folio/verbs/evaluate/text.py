"""The text that a loss is measured on, and the names of what was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folio.artifacts import MODEL_PART, Parent, read_manifest
from folio.config import build
from folio.errors import ArtifactError, UserError
from folio.verbs.action import Terminal

if TYPE_CHECKING:
    from folio.corpus import Corpus
    from folio.evaluation.likelihood import Windows
    from folio.evaluation.material import Passage
    from folio.evaluation.results import Measurement
    from folio.runtime import Runtime
    from folio.shards import Shards
    from folio.tokenizer import Tokenizer
    from folio.verbs.evaluate import EvaluateOptions
    from folio.verbs.library import Model
    from folio.verbs.recipe import Recipe


def score_text(given: str, model: Model, options: EvaluateOptions, runtime: Runtime, terminal: Terminal) -> Measurement:
    """The loss of ``model``, which was ``given`` by that name, on the text that ``options`` name."""
    from folio.evaluation.likelihood import measure_loss
    from folio.evaluation.material import BLOCK_TOKENS, first_tokens

    passages, facts, from_ids = _material(given, model, options)
    if options.max_tokens:
        passages, facts = first_tokens(passages, options.max_tokens), {**facts, "max_tokens": options.max_tokens}
    with terminal.progress(f"loss on {facts['source']}", None, "token") as bar:
        measured = measure_loss(
            model.gpt,
            passages,
            windows_of(options, model.config.block_size),
            block_unit=f"blocks of {BLOCK_TOKENS:,} tokens" if from_ids else "passages",
            per_token=options.per_token,
            autocast=runtime.autocast(),
            progress=lambda tokens, nats: bar.update(tokens, {"nats/token": f"{nats:.4f}"}),
        )
    return replace(measured, facts={**facts, "tokenizer": model.tokenizer.fingerprint, **measured.facts})


def _material(given: str, model: Model, options: EvaluateOptions) -> tuple[Iterator[Passage], dict[str, Any], bool]:
    """The passages to score, what they are, and whether they come as ids that only this tokenizer knows."""
    from folio.evaluation.material import passages_of

    if (corpus := shared_corpus(options)) is not None:
        split = None if options.text is not None else options.split
        facts = {"source": corpus.name + (f" ({split})" if split else ""), "sha256": corpus.fingerprint, "split": split}
        return passages_of(corpus.documents(split), model.tokenizer), facts, False
    shards = shards_for(given, model.tokenizer, options)
    named = options.shards
    name = "its own text" if named is None else named.name if named.is_absolute() else str(named)
    return *_split(shards, options.split, model, name), True


def windows_of(options: EvaluateOptions, block_size: int) -> Windows:
    """How text is read by a model of that context; :class:`ConfigError` for a stride that does not fit it."""
    from folio.evaluation.likelihood import Windows

    stride = (options.stride or max(1, block_size // 2)) if options.window == "sliding" else 0
    return Windows(options.window, block_size, stride)


def shared_corpus(options: EvaluateOptions) -> Corpus | None:
    """The text that all models share; None if none is named."""
    from folio.corpus import CorpusConfig, open_corpus

    if options.text is None and options.corpus is None:
        return None
    asked = {"path": options.text} if options.text is not None else {"name": options.corpus}
    return open_corpus(build(CorpusConfig, asked))


def shards_for(given: str, tokenizer: Tokenizer, options: EvaluateOptions, *, verify: bool = True) -> Shards:
    """The shards that are named, or those that the run of ``given`` is trained on, refused if of another tokenizer.

    ``verify=False`` does not read them whole.
    """
    from folio.shards import open_shards

    if options.shards is not None:
        return open_shards(options.shards, tokenizer, verify=verify)
    return _own_shards(given, tokenizer, verify=verify)


def _split(shards: Shards, split: str, model: Model, name: str) -> tuple[Iterator[Passage], dict[str, Any]]:
    from folio.evaluation.material import passages_of_stream

    facts = {"source": f"{name} ({split})", "sha256": shards.manifest.id, "split": split}
    return passages_of_stream(shards.split(split), model.tokenizer.eot_id, shards.bytes_per_token(split)), facts


def _own_shards(given: str, tokenizer: Tokenizer, *, verify: bool) -> Shards:
    from folio.verbs.prepare import prepare

    run = run_of(Path(given))
    recipe = None if run is None else recipe_of(run)
    if recipe is None:
        what = "is not in a run" if run is None else "was fine-tuned on examples"
        raise UserError(
            f"'{given}' {what}, so there is no held-out text that goes with it",
            "Say what to score: --text FILE, --corpus NAME or --shards FOLDER.",
        )
    prepared = prepare(recipe, Terminal(quiet=True), verify=verify)
    if prepared.tokenizer.fingerprint != tokenizer.fingerprint:
        raise ArtifactError(
            f"the corpus of '{given}' now yields another tokenizer than the model's",
            "Say what to score: --text or --corpus.",
        )
    return prepared.shards


def recipe_of(run: Path) -> Recipe | None:
    """The recipe that ``run`` was trained by from text; None for one that fine-tuned another model on examples."""
    from folio.checksums import read_sealed_json
    from folio.verbs.recipe import Recipe
    from folio.verbs.train import saved_recipe

    if "base" in read_sealed_json(run / "config.json"):
        return None
    return build(Recipe, saved_recipe(run), source=f"'{run / 'config.json'}'")


def run_of(model: Path) -> Path | None:
    """The run that ``model`` is, or lies in; None if there is none, or nothing of that name on this machine."""
    if not model.exists():
        return None
    place = model.resolve()
    for folder in (place, *place.parents):
        if (folder / "metrics.jsonl").is_file() and (folder / "config.json").is_file():
            return folder
    return None


def short_name(given: str) -> str:
    """A name for files: a run's, that of a checkpoint with its run's before it, a hub id's last part."""
    path = Path(given)
    run = run_of(path)
    if run is not None:
        steps = [part for part in path.resolve().relative_to(run).parts if part.startswith("step-")]
        return "-".join([run.name, *steps])
    return re.sub(r"[^\w.-]+", "-", path.resolve().name if path.exists() else path.name)


def distinct_short_names(models: Sequence[str]) -> list[str]:
    """The :func:`short_name` of each; where several share one, each of them with the next number that is free."""
    short = [short_name(model) for model in models]
    taken = {name for name in short if short.count(name) == 1}
    names = []
    for name in short:
        free = (numbered for number in count(1) if (numbered := f"{name}-{number}") not in taken)
        names.append(name if short.count(name) == 1 else next(free))
        taken.add(names[-1])
    return names


def training_of(given: str) -> dict[str, Any] | None:
    """The recipe of the run that a model is or lies in, and which checkpoint of it; None for a model without a run."""
    from folio.verbs import finetune, train

    run = run_of(Path(given))
    if run is None:
        return None
    recipe = finetune.saved_recipe(run) if recipe_of(run) is None else train.saved_recipe(run)
    return {"recipe": recipe, "checkpoint": Path(given).resolve().relative_to(run).as_posix()}


def source_of(folder: Path) -> tuple[Parent, ...]:
    """The artefact that the model in ``folder`` is or, in a checkpoint, is part of; nothing if it is none of ours."""
    for place in (folder, *([folder.parent] if folder.name == MODEL_PART else [])):
        with suppress(ArtifactError):
            manifest = read_manifest(place)
            return (Parent(kind=manifest.kind, id=manifest.id),)
    return ()
