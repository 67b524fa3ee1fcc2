"""What is learned from the examples: their answers, or which of two answers is preferred."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from folio.errors import ConfigError
from folio.finetuning.advice import cut_short, few_steps
from folio.finetuning.batches import SftBatches
from folio.finetuning.example_sets import ExampleSets, example_sets
from folio.finetuning.examples import Example
from folio.finetuning.flops import attended
from folio.finetuning.formats import format_of
from folio.finetuning.measure import Held, first_tokens, loss_of_examples
from folio.finetuning.objective import PackedTokens
from folio.finetuning.order import ShuffledEpochs
from folio.finetuning.preference.batches import PreferenceBatches
from folio.finetuning.preference.measure import measure_preferences
from folio.finetuning.preference.objective import Preference
from folio.finetuning.preference.pair_sets import PairSets, pair_sets
from folio.finetuning.preference.pairs import Pair
from folio.finetuning.preference.reference import Reference, make_reference
from folio.finetuning.splits import Side
from folio.finetuning.statistics import CountsBySide
from folio.finetuning.templates import with_template
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.ranks import Ranks
from folio.tokenizer import Tokenizer
from folio.training.loop import Poll
from folio.training.objective import Objective
from folio.verbs.finetune.recipe import FinetuneRecipe, refuse_idle


@dataclass(frozen=True)
class Passes:
    """How a model is run over examples: in what precision, shared among which ranks, asking when to stop."""

    autocast: AbstractContextManager[object]
    ranks: Ranks
    poll: Poll


class Task(ABC):
    """Examples made ready for one model, and what is learned of them."""

    recipe: FinetuneRecipe
    context: int
    """The most places that the model sees at once."""
    tokenizer: Tokenizer
    """With the template that the examples were rendered with as its own."""

    @property
    @abstractmethod
    def sets(self) -> ExampleSets | PairSets: ...

    @abstractmethod
    def rows(self, sequences: int) -> ShuffledEpochs:
        """The order of rows; what can be known before a model is there."""

    @abstractmethod
    def objective(self, shape: GPTConfig) -> Objective: ...

    @abstractmethod
    def source(self, sequences: int, model: GPT, passes: Passes) -> SftBatches | PreferenceBatches:
        """The batches. ``model`` is the one that training begins with."""

    @abstractmethod
    def validation(self, model: GPT, passes: Passes) -> dict[str, Any]:
        """The facts of a validation line; empty if nothing was held out."""

    @abstractmethod
    def test(self, model: GPT, passes: Passes, start: Callable[[], GPT]) -> dict[str, Any]:
        """The loss on all of the test side, by the names of a validation line; empty if there is none.

        ``start`` opens the model that training began with, which preferences are held against; asked for them alone.
        """

    def warnings(self, sequences: int) -> list[str]:
        """What is likely to disappoint of these examples, learned from by steps of so many rows; a line each."""
        cut = next(side.truncated for side in self.statistics.sides if side.side == "train")
        counted = (cut, len(self.sets.train), self.statistics.counted)
        found = [cut_short(*counted, self.block_size, self.context)]
        if not self.recipe.train.steps:
            found.append(few_steps(self.rows(sequences), self.recipe.train.epochs, self.block_size))
        return [warning for warning in found if warning is not None]

    @property
    def statistics(self) -> CountsBySide:
        return self.sets.statistics

    @property
    def block_size(self) -> int:
        """Places in a row."""
        return self.statistics.block_size

    @property
    def row_tokens(self) -> int:
        """The most tokens in a row."""
        return self.block_size

    @cached_property
    def attended(self) -> int:
        """The length of the example that a token stands in, on average over tokens of training."""
        return attended(next(examples for side, examples in self.sides() if side == "train"))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of every example of every side, and of what is learned of each."""
        digest = hashlib.sha256()
        for side, examples in self.sides():
            digest.update(f"{side}:{len(examples)}".encode())
            for example in examples:
                digest.update(example.identity)
        return digest.hexdigest()

    @abstractmethod
    def sides(self) -> Iterator[tuple[Side, Sequence[Example]]]:
        """All examples, by side."""


class Answers(Task):
    """Supervised fine-tuning: the learned tokens of each example."""

    def __init__(self, recipe: FinetuneRecipe, tokenizer: Tokenizer, context: int) -> None:
        self.recipe, self.data, self.context = recipe, recipe.data, context
        self._sets = example_sets(recipe.data, tokenizer, context)
        self.tokenizer = with_template(tokenizer, self._sets.template) if self._sets.template else tokenizer

    @property
    def sets(self) -> ExampleSets:
        return self._sets

    def rows(self, sequences: int) -> SftBatches:
        return SftBatches(self.sets.train, self.block_size, sequences, self.recipe.train.seed, self.recipe.data.packing)

    def objective(self, shape: GPTConfig) -> PackedTokens:
        return PackedTokens(shape, across=self.data.attend_across)

    def source(self, sequences: int, model: GPT, passes: Passes) -> SftBatches:
        return self.rows(sequences)

    @cached_property
    def held_out(self) -> Held | None:
        """What validation is measured on."""
        return self._held(self.sets.validation, self.recipe.train.validation_tokens)

    @cached_property
    def held_in(self) -> Held | None:
        """Training examples of about as many learned tokens."""
        if self.held_out is None:
            return None
        return self._held(self.sets.train, sum(one.learned_tokens for one in self.held_out.examples))

    def _held(self, examples: Sequence[Example], tokens: int) -> Held | None:
        if not examples:
            return None
        return Held.of(examples, self.tokenizer, self.block_size, self.data.packing, tokens)

    def validation(self, model: GPT, passes: Passes) -> dict[str, Any]:
        if self.held_out is None or self.held_in is None:
            return {}
        out, within = (self._loss(model, held, passes) for held in (self.held_out, self.held_in))
        return {**out, "train_nats_per_token": within["nats_per_token"]}

    def test(self, model: GPT, passes: Passes, start: Callable[[], GPT]) -> dict[str, Any]:
        held = self._held(self.sets.test, 0)
        return {} if held is None else self._loss(model, held, passes)

    def _loss(self, model: GPT, held: Held, passes: Passes) -> dict[str, Any]:
        objective = self.objective(model.config)
        return loss_of_examples(model, held, objective, autocast=passes.autocast, ranks=passes.ranks, poll=passes.poll)

    def sides(self) -> Iterator[tuple[Side, Sequence[Example]]]:
        yield "train", self.sets.train
        yield "validation", self.sets.validation
        yield "test", self.sets.test


class Preferences(Task):
    """Preference tuning: which of two answers to a prompt is the better one, held against the model as it began."""

    def __init__(self, recipe: FinetuneRecipe, tokenizer: Tokenizer, context: int) -> None:
        self.recipe, self.context = recipe, context
        self._sets = pair_sets(recipe.data, tokenizer, context)
        self.tokenizer = with_template(tokenizer, self._sets.template) if self._sets.template else tokenizer
        self._references: dict[str, Reference] = {}

    @property
    def sets(self) -> PairSets:
        return self._sets

    def rows(self, sequences: int) -> ShuffledEpochs:
        return ShuffledEpochs([pair.length for pair in self.sets.train], sequences, self.recipe.train.seed)

    @property
    def row_tokens(self) -> int:
        return 2 * self.block_size

    def objective(self, shape: GPTConfig) -> Preference:
        dpo = self.recipe.dpo
        return Preference(shape, dpo.beta, dpo.label_smoothing, dpo.loss)

    def source(self, sequences: int, model: GPT, passes: Passes) -> PreferenceBatches:
        for side, pairs in (("train", self.sets.train), ("validation", self.held_out)):
            if pairs and side not in self._references:
                self._references[side] = _reference(model, pairs, passes)
        return PreferenceBatches(
            self.sets.train, self._references["train"], self.block_size, sequences, self.recipe.train.seed
        )

    @cached_property
    def held_out(self) -> tuple[Pair, ...]:
        """What validation is measured on."""
        tokens = self.recipe.train.validation_tokens
        return tuple(first_tokens(self.sets.validation, tokens)) if tokens else self.sets.validation

    def validation(self, model: GPT, passes: Passes) -> dict[str, Any]:
        if not self.held_out:
            return {}
        within = self.sets.train[: len(self.held_out)]
        found = self._measured(model, self.held_out, self._references["validation"], passes)
        of_train = self._measured(model, within, self._references["train"].first(len(within)), passes)
        return {**found, "train_nats_per_pair": of_train["nats_per_pair"]}

    def test(self, model: GPT, passes: Passes, start: Callable[[], GPT]) -> dict[str, Any]:
        pairs = self.sets.test
        return self._measured(model, pairs, _reference(start(), pairs, passes), passes) if pairs else {}

    def _measured(self, model: GPT, pairs: Sequence[Pair], reference: Reference, passes: Passes) -> dict[str, Any]:
        return measure_preferences(
            model,
            pairs,
            reference,
            self.objective(model.config),
            autocast=passes.autocast,
            ranks=passes.ranks,
            poll=passes.poll,
        )

    def sides(self) -> Iterator[tuple[Side, Sequence[Example]]]:
        named: tuple[tuple[Side, Sequence[Pair]], ...] = (
            ("train", self.sets.train),
            ("validation", self.sets.validation),
            ("test", self.sets.test),
        )
        for side, pairs in named:
            yield side, [answer for pair in pairs for answer in (pair.chosen, pair.rejected)]


def _reference(model: GPT, pairs: Sequence[Pair], passes: Passes) -> Reference:
    return make_reference(model, pairs, autocast=passes.autocast, ranks=passes.ranks, poll=passes.poll)


def task_of(recipe: FinetuneRecipe, tokenizer: Tokenizer, context: int) -> Task:
    """The task that the examples are made for; :class:`DataError` and :class:`ConfigError` as they are read."""
    preferences = format_of(recipe.data.path, recipe.data) == "preference"
    refuse_idle(recipe, preferences=preferences)
    task = (Preferences if preferences else Answers)(recipe, tokenizer, context)
    if recipe.train.sample_every:
        task.tokenizer.encode(recipe.train.sample_prompt)
    if recipe.train.patience and recipe.train.best_by == "loss" and not task.sets.validation:
        raise ConfigError(
            f"train.patience is {recipe.train.patience}, and no examples are held out whose loss could be waited for",
            "Hold some out (data.validation_fraction, data.validation), or leave it out.",
        )
    return task
