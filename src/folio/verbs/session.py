"""What one sitting of training needs, whatever is trained: a model ready to step, its data, and its run's folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from folio.artifacts import environment, new_folder, write_file
from folio.checksums import read_sealed_json, sealed_json
from folio.errors import ConfigError
from folio.evaluation.config import EvaluationConfig
from folio.generation.config import GenerationConfig
from folio.ranks import Ranks
from folio.shards import ReadingConfig
from folio.tokenizer import Tokenizer
from folio.training.attending import Wait
from folio.training.config import LoopConfig
from folio.training.loop import Line, Poll, Probe
from folio.training.objective import BatchSource
from folio.training.saving import Contents
from folio.verbs.action import Terminal
from folio.verbs.engine import Engine
from folio.verbs.probes import Measure


class SessionRecipe(Protocol):
    """The tables of a recipe that every kind of training has."""

    @property
    def train(self) -> LoopConfig: ...
    @property
    def evaluation(self) -> EvaluationConfig: ...
    @property
    def generation(self) -> GenerationConfig: ...


@dataclass(kw_only=True)
class Session(Engine, ABC):
    """A model ready to train on data that are ready to be read, and what its run is to hold."""

    verb: ClassVar[str]
    """The command that goes on with such a run."""

    recipe: SessionRecipe
    source: BatchSource
    tokenizer: Tokenizer
    measures: list[Measure] = field(default_factory=list)
    """What is measured while training besides the validation loss."""

    @property
    def config(self) -> LoopConfig:
        return self.recipe.train

    @abstractmethod
    def resolved(self) -> dict[str, Any]:
        """What was worked out from the recipe, for ``config.json`` and the reader."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What ``config.json`` says of where model and data come from."""

    @abstractmethod
    def refuse_another(self, run: Path, saved: Mapping[str, Any]) -> None:
        """Check that ``run`` was begun with the same data and the same model, as its ``saved`` config.json says.

        :class:`ConfigError` for a change after which the position in the data or the weights would mean something else,
        :class:`ArtifactError` for other data or another tokenizer than the run began with.
        """

    @abstractmethod
    def contents(self) -> Contents:
        """What is in a checkpoint for use."""

    @abstractmethod
    def probes(self, run: Path) -> list[Probe]:
        """What is measured on the way; on several ranks all take part in each."""

    @contextmanager
    def feeding(self, tell: Callable[[Wait], None]) -> Iterator[BatchSource]:
        """The source as training reads it for a while; ``tell`` hears, on every rank, of long waits for data.

        As it is where the data are in memory: then there is nothing to wait for.
        """
        yield self.source

    @property
    def bits_per_nat(self) -> float | None:
        """Bits per byte of the text trained on that a nat per token amounts to, None if that says nothing."""
        return None

    def before_training(self) -> Callable[[int, Poll], Line] | None:
        """What is measured of the model before the first step, None if that says nothing."""
        return None

    def begun(self, run: Path, terminal: Terminal) -> None:
        """The first rank's, once the run's folder is there."""

    def trained_in_words(self) -> str:
        """Which of the parameters are trained, if not all."""
        return ""

    @abstractmethod
    def following(self, run: Path) -> tuple[str, ...]:
        """The commands that a user would want next."""

    def after_training(self, run: Path, terminal: Terminal) -> dict[str, Any]:
        """What is made of a finished run before its report is written, by the first rank; for ``--json``."""
        return {}

    def description(self, preset: str) -> dict[str, Any]:
        """The content of ``config.json``."""
        return {
            "verb": self.verb,
            "preset": preset,
            "recipe": self.recipe.model_dump(mode="json"),  # type: ignore[attr-defined]
            "resolved": self.resolved(),
            **self.identity(),
            "tokenizer": self.tokenizer.fingerprint,
            "job": self.runtime.ranks.launch.job,
            "environment": {**environment(), "device": self.runtime.describe()},
        }


class Job(Protocol):
    """A run to be started or gone on with: what opens its session."""

    @property
    def preset(self) -> str:
        """What the recipe was made from."""
        ...

    @property
    def steps(self) -> int:
        """The last step."""
        ...

    @property
    def patience(self) -> int: ...

    def following(self, run: Path) -> tuple[str, ...]:
        """The commands that a user would want once it is finished."""
        ...

    def open(self, ranks: Ranks, begun: Mapping[str, Any] | None = None) -> Session:
        """Everything that can be refused is refused here, before anything is written.

        ``begun`` is what was resolved when the run began: what "auto" found then is kept, where it still applies, since
        another choice would be within rounding, but not the same bits.
        """
        ...


def refuse_idle_patience(recipe: SessionRecipe) -> None:
    """:class:`ConfigError` for patience with what is measured at the end alone."""
    train, every = recipe.train, recipe.evaluation.every
    if train.patience and train.best_by != "loss" and not 0 < every < train.steps:
        raise ConfigError(
            f"train.patience waits for {train.best_by}, which is measured at the end alone",
            "Give evaluation.every, or leave patience out.",
        )


def create_run(run: Path, description: Mapping[str, Any]) -> None:
    """A new run folder with its ``config.json``; an occupied one is refused."""
    with new_folder(run) as folder:
        write_file(folder / "config.json", sealed_json(description))


def resolved_of(run: Path) -> dict[str, Any]:
    """What was worked out from the recipe when ``run`` was last begun."""
    resolved: dict[str, Any] = read_sealed_json(run / "config.json")["resolved"]
    return resolved


def refuse_changes(run: Path, changed: list[str]) -> None:
    """:class:`ConfigError` if keys were ``changed`` that a run keeps for life."""
    if changed:
        raise ConfigError(
            f"'{run}' was begun with another {' and '.join(changed)}", "Leave the flag out, or start a new run."
        )


def changed_training(saved: Mapping[str, Any], now: Mapping[str, Any], fixed: tuple[str, ...]) -> list[str]:
    """Keys of [train], among those that are ``fixed``, and of what decides which checkpoint is best, that differ."""
    usual = {key: LoopConfig.model_fields[key].default for key in fixed if key in LoopConfig.model_fields}
    begun, asked = saved["train"], now["train"]
    changed = [f"train.{key}" for key in fixed if asked[key] != begun.get(key, usual.get(key))]
    if asked["best_by"] != "loss":  # what it means must stay the same
        before = {**EvaluationConfig().model_dump(mode="json"), **saved.get("evaluation", {})}
        changed += [f"evaluation.{key}" for key in before if key != "every" and before[key] != now["evaluation"][key]]
    return changed


def changed_reading(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Keys of [shards] that decide which windows stand in the batch of a step, and differ."""
    usual = ReadingConfig().model_dump(mode="json")
    begun, asked = ({**usual, **recipe.get("shards", {})} for recipe in (saved, now))
    keys = ["order"] if begun["order"] == "shuffled" else ["order", "order_bytes"]
    return [f"shards.{key}" for key in keys if asked[key] != begun[key]]


def continue_run(run: Path, session: Session) -> None:
    """Write what flags changed (more steps, other probes) into the ``config.json`` of ``run``."""
    saved = read_sealed_json(run / "config.json")
    write_file(run / "config.json", sealed_json(session.description(saved["preset"])))
