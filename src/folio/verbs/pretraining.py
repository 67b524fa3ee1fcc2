"""Pretraining put together: a recipe and prepared data in, a model ready to train out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Any, ClassVar

from folio.artifacts import Parent
from folio.errors import ArtifactError, DataError
from folio.evaluation.likelihood import bits_spelled
from folio.evaluation.loss import loss_on
from folio.evaluation.material import scored_text
from folio.model.accounting import parameter_counts, training_flops
from folio.model.gpt import GPT
from folio.ranks import ALONE, Ranks
from folio.runtime import Runtime
from folio.shards import Batches
from folio.training.attending import Attendant, Wait
from folio.training.config import TrainConfig
from folio.training.config_embeddings import FIRST_ROWS
from folio.training.embeddings import FirstRows
from folio.training.feed import AttendedStream, Feed
from folio.training.loop import Line, Poll, Probe
from folio.training.objective import BatchSource
from folio.training.plan import sequences_per_rank
from folio.training.saving import Contents, ModelContents
from folio.verbs.action import Terminal
from folio.verbs.embeddings import (
    begin_embeddings,
    changed_embeddings,
    embedding_facts,
    embeddings_in_words,
    frozen_weights,
    spared_flops,
)
from folio.verbs.engine import open_engine, open_runtime
from folio.verbs.evaluate.oracle_probe import oracle_measure
from folio.verbs.prepare import Prepared, prepare
from folio.verbs.probes import Measure, measures_of, probes_of
from folio.verbs.recipe import Recipe, model_for_vocabulary
from folio.verbs.session import (
    Session,
    changed_reading,
    changed_training,
    refuse_changes,
    refuse_idle_patience,
)
from folio.verbs.sitting import scores_in_words

FIXED = ("batch_tokens", "seed", "init", "best_by")
"""Keys of [train] that a run keeps for life: on them depend the position in the data, the first weights, and which
checkpoint is best."""


@dataclass(kw_only=True)
class Pretraining(Session):
    """A model with first weights, and shards."""

    verb: ClassVar[str] = "train"
    recipe: Recipe
    source: Batches
    prepared: Prepared
    first_rows: FirstRows | None = None
    """What the token embedding began with, where that is not random."""
    _validating: Attendant | None = field(default=None, init=False)
    """Who reads what the loss is measured on while it trains."""

    @property
    def config(self) -> TrainConfig:
        return self.recipe.train

    def resolved(self) -> dict[str, Any]:
        shape, tokens = self.state.model.config, len(self.source.stream)
        return {
            "parameters": parameter_counts(shape).total,
            "vocab_size": shape.vocab_size,
            **self.facts(),
            **embedding_facts(self.recipe.embeddings, shape, self.first_rows),
            "shards": self.prepared.shards.manifest.id,
            "shards_access": self.source.stream.access,
            "train_tokens": tokens,
            "validation_tokens": self.prepared.shards.tokens("val"),
            "epochs": self.config.steps * self.plan.tokens / tokens,
        }

    def trained_in_words(self) -> str:
        frozen = frozen_weights(self.recipe.embeddings, self.state.model.config)
        return f", of which the {frozen:,} of the token embedding are frozen" if frozen else ""

    def begun(self, run: Path, terminal: Terminal) -> None:
        if self.first_rows is not None:
            self.first_rows.vectors.save(run / FIRST_ROWS)

    def identity(self) -> dict[str, Any]:
        return {"parents": [Parent(kind="shards", id=self.prepared.shards.manifest.id).model_dump()]}

    def refuse_another(self, run: Path, saved: Mapping[str, Any]) -> None:
        now = self.description(saved["preset"])
        begun, asked = saved["recipe"], now["recipe"]
        changed = [f"model.{key}" for key in asked["model"] if asked["model"][key] != begun["model"].get(key)]
        refuse_changes(run, changed + changed_training(begun, asked, FIXED) + changed_reading(begun, asked))
        refuse_changes(run, changed_embeddings(begun, asked))
        for name, what in (("tokenizer", "tokenizer"), ("parents", "shards")):
            if saved[name] != now[name]:
                raise ArtifactError(
                    f"'{run}' was begun with other {what} than its recipe gives now",
                    "Restore the text it was made from, or start a new run.",
                )

    def contents(self) -> Contents:
        return ModelContents(self.tokenizer.eot_id, self.tokenizer.save_into, self.card)

    @contextmanager
    def feeding(self, tell: Callable[[Wait], None]) -> Iterator[BatchSource]:
        """Batches that a thread reads ahead; what another reads of the validation split is waited for likewise."""
        config, ranks, streams = self.recipe.shards, self.runtime.ranks, self.prepared.shards
        training = Attendant("training data", config.patience_s, ranks, tell)
        validating = Attendant("validation data", config.patience_s, ranks, tell)
        with (
            self.source.stream.watched_by(training.watch),
            streams.split("val").watched_by(validating.watch),
            training,
            validating,
        ):
            self._validating = validating
            try:
                yield Feed(self.source, self.plan, training, ahead=config.prefetch, last=self.config.steps)
            finally:
                self._validating = None

    def probes(self, run: Path) -> list[Probe]:
        return [Probe(self.config.validate_every, self.validation), *probes_of(self, run)]

    def validation(self, step: int, poll: Poll) -> Line:
        """The loss on the validation split."""
        stream, (bytes_per_token, unknown_share) = self.prepared.shards.split("val"), self._validation_text
        score = loss_on(
            self.state.model,
            AttendedStream(stream, self._validating, poll) if self._validating else stream,
            bytes_per_token=bytes_per_token,
            max_tokens=self.config.validation_tokens,
            autocast=self.runtime.autocast(),
            ranks=self.runtime.ranks,
            poll=poll,
        )
        line: Line = {"kind": "validation", **score.as_dict()}
        if unknown_share is not None:
            line["bits_per_byte_spelled"] = bits_spelled(score.bits_per_byte, unknown_share)
        return line

    @cached_property
    def _validation_text(self) -> tuple[float, float | None]:
        """Of the validation text that is scored: bytes for each token, and the part of them in words without an id.

        Where the text itself is not there to be looked at, the bytes are those of a token of the whole split, and of
        words the part is None: of ids alone it cannot be known.
        """
        shards, corpus, words = self.prepared.shards, self.prepared.corpus, self.tokenizer.kind == "word"
        limit, T = self.config.validation_tokens, self.state.model.config.block_size
        if corpus is None or not (limit or words):
            return shards.bytes_per_token("val"), None if words else 0.0
        tokens = max(1, limit // T) * T + 1 if limit else 0  # whole blocks, and the first id, which is no target
        text = scored_text(corpus.documents("val"), self.tokenizer, tokens)
        return text.bytes_per_token if limit else shards.bytes_per_token("val"), text.unknown_share

    def following(self, run: Path) -> tuple[str, ...]:
        return following(run)

    @property
    def bits_per_nat(self) -> float:
        return 1 / math.log(2) / self.prepared.shards.bytes_per_token("train")

    def card(self, facts: Line) -> str:
        """What the model card says of the run."""
        source: dict[str, Any] = self.prepared.shards.manifest.config.get("source") or {}
        corpus = source.get("corpus") or "shards of unnamed text"
        lines = [f"Trained by Folio on {corpus} for {facts['tokens_seen']:,} tokens."]
        if "nats_per_token" in facts:
            scored = f"the first {facts['tokens']:,} tokens" if self.config.validation_tokens else "all"
            lines.append(
                f"Held-out loss {facts['nats_per_token']:.4f} nats/token, {facts['bits_per_byte']:.4f} bits/byte "
                f"(disjoint blocks, {scored} of the validation split)."
            )
        return "\n\n".join([*lines, *embeddings_in_words(self.recipe.embeddings), *scores_in_words(facts)])


def open_session(
    recipe: Recipe,
    prepared: Prepared,
    ranks: Ranks = ALONE,
    *,
    begun: Mapping[str, Any] | None = None,
    terminal: Terminal | None = None,
) -> Pretraining:
    """Build runtime, model, optimizer and data order. What cannot be fails here, before anything is written.

    ``terminal`` hears of vectors of words that are trained first. ``begun``: see :meth:`folio.verbs.session.Job.open`.
    """
    config, reading = recipe.train, recipe.shards
    prepared = replace(prepared, shards=prepared.shards.read_by(reading.access))
    refuse_idle_patience(recipe)
    runtime = open_runtime(config, ranks)
    shape = model_for_vocabulary(recipe.model, prepared.tokenizer.vocab_size)
    recipe = recipe.model_copy(update={"model": shape})
    sequences = sequences_per_rank(config.batch_tokens, shape.block_size, ranks.world_size) * ranks.world_size
    stream = prepared.shards.split("train")
    source = Batches(stream, shape.block_size, sequences, config.seed, reading.order, reading.order_bytes)
    _refuse_small_validation(prepared, shape.block_size)
    if config.sample_every:
        prepared.tokenizer.encode(config.sample_prompt)
    measures = ranks.first_on_each_machine(lambda: _measures(recipe, prepared, runtime))
    model = GPT(shape).initialize(config.seed, config.init)
    tokenizer, shards = prepared.tokenizer, prepared.shards
    first_rows = begin_embeddings(model, recipe.embeddings, tokenizer, shards, ranks, terminal or Terminal(quiet=True))
    flops = training_flops(shape) - spared_flops(recipe.embeddings, shape)
    engine = open_engine(model, config, runtime, shape.block_size, flops, begun)
    return Pretraining(
        **vars(engine),
        recipe=recipe,
        source=source,
        tokenizer=prepared.tokenizer,
        measures=measures,
        prepared=prepared,
        first_rows=first_rows,
    )


def _measures(recipe: Recipe, prepared: Prepared, runtime: Runtime) -> list[Measure]:
    oracle = None
    if recipe.evaluation.oracle is not None:
        oracle = oracle_measure(recipe, prepared.tokenizer, runtime)
    return measures_of(recipe, prepared.tokenizer, runtime, oracle)


def _refuse_small_validation(prepared: Prepared, block_size: int) -> None:
    tokens = prepared.shards.tokens("val")
    if tokens < block_size + 1:
        raise DataError(
            f"the validation split holds {tokens:,} tokens; "
            f"one window of block_size {block_size} needs {block_size + 1}",
            "Give more text, a larger --corpus.validation-fraction, or a smaller --model.block-size.",
        )


def following(run: Path) -> tuple[str, ...]:
    """What a user would want to do with a finished run."""
    return tuple(f"folio {verb} {quote(str(run))}" for verb in ("generate", "evaluate", "report"))


@dataclass(frozen=True)
class PretrainingJob:
    """A recipe to be trained by, on ``prepared`` data if they are at hand already."""

    recipe: Recipe
    preset: str
    terminal: Terminal
    prepared: Prepared | None = None

    @property
    def steps(self) -> int:
        return self.recipe.train.steps

    @property
    def patience(self) -> int:
        return self.recipe.train.patience

    def following(self, run: Path) -> tuple[str, ...]:
        return following(run)

    def open(self, ranks: Ranks, begun: Mapping[str, Any] | None = None) -> Pretraining:
        return open_session(
            self.recipe, self.prepared or self._prepare(ranks, begun), ranks, begun=begun, terminal=self.terminal
        )

    def _prepare(self, ranks: Ranks, begun: Mapping[str, Any] | None) -> Prepared:
        """Data for every rank: made, and compared byte by byte, by the first on each machine."""
        recipe, terminal = self.recipe, self.terminal
        before, verify = (begun or {}).get("shards"), ranks.launch.local_rank == 0
        return ranks.first_on_each_machine(lambda: prepare(recipe, terminal, verify=verify, made_before=before))
