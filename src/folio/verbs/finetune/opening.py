"""A fine-tuning run put together: a base, a method and examples in, a model ready to train out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any, ClassVar

from torch import Tensor

from folio.artifacts import ADAPTER_PART
from folio.errors import ArtifactError
from folio.finetuning.adapters import Base, base_of, read_adapter, save_adapter
from folio.finetuning.batches import SftBatches
from folio.finetuning.config import FinetuneTrain, usual_rows
from folio.finetuning.flops import method_flops
from folio.finetuning.memory import method_memory
from folio.finetuning.preference.batches import PreferenceBatches
from folio.finetuning.trainable import make_trainable, set_dropout
from folio.model.accounting import parameter_counts
from folio.model.config import GPTConfig
from folio.model.folder import end_ids, load_model, read_config
from folio.model.gpt import GPT
from folio.ranks import Ranks
from folio.runtime import Runtime
from folio.tokenizer import Tokenizer
from folio.training.checkpoint import keep_checkpoint
from folio.training.loop import Line, Poll, Probe
from folio.training.plan import sequences_per_rank
from folio.training.saving import Contents, ModelContents
from folio.verbs.action import Terminal
from folio.verbs.adapted import whole_model
from folio.verbs.engine import Needs, open_engine, open_runtime
from folio.verbs.finetune.afterwards import Afterwards
from folio.verbs.finetune.recipe import ADAPTERS, PLACES, FinetuneRecipe, with_usual_rate
from folio.verbs.finetune.tasks import Passes, Task
from folio.verbs.probes import measures_of, probes_of
from folio.verbs.session import Session, changed_training, refuse_changes, refuse_idle_patience
from folio.verbs.sitting import scores_in_words

FIXED = ("batch_tokens", "seed", "dropout", "best_by")
"""Keys of [train] that a run keeps for life."""
FOR_LIFE = ("method", "data", "lora", "dpo")
"""And tables."""


@dataclass(frozen=True)
class OpenedBase:
    """The model that is fine-tuned: as the user named it, where it lies, its shape, and who it is."""

    given: str
    folder: Path
    shape: GPTConfig
    identity: Base

    @classmethod
    def at(cls, given: str) -> OpenedBase:
        folder = whole_model(given)
        return cls(given, folder, read_config(folder), base_of(folder, _name(given, folder)))

    def facts(self) -> dict[str, Any]:
        return {"given": self.given, "folder": self.identity.name, "weights_sha256": self.identity.weights}


def _name(given: str, folder: Path) -> str:
    """What PEFT is to call the base: the hub's id, or the folder as it is reached from here."""
    return folder.as_posix() if Path(given).exists() else given


@dataclass(frozen=True)
class AdapterContents:
    """``adapter/`` of a checkpoint: the adapter in PEFT's format, with the tokenizer beside it."""

    base: Base
    tokenizer: Tokenizer
    card: Callable[[Line], str]

    def write(self, model: GPT, checkpoint: Path, facts: Line) -> None:
        save_adapter(
            model,
            checkpoint / ADAPTER_PART,
            base=self.base,
            card=self.card(facts),
            extra=self.tokenizer.save_into,
        )

    def read(self, checkpoint: Path, model: GPT) -> Iterable[tuple[str, Tensor]]:
        return read_adapter(checkpoint / ADAPTER_PART, model.config)[1].items()


@dataclass(kw_only=True)
class Finetuning(Session):
    """A base made trainable by one method, and examples."""

    verb: ClassVar[str] = "finetune"
    recipe: FinetuneRecipe
    source: SftBatches | PreferenceBatches
    job: FinetuneJob

    @property
    def base(self) -> OpenedBase:
        return self.job.base

    @property
    def task(self) -> Task:
        return self.job.task

    @property
    def config(self) -> FinetuneTrain:
        return self.recipe.train

    @property
    def trainable(self) -> int:
        """How many weights are trained."""
        return sum(parameter.numel() for _, parameter in self.state.trained())

    def resolved(self) -> dict[str, Any]:
        statistics = self.task.statistics
        model = self.state.model
        return {
            "parameters": parameter_counts(model.config).total,
            "trainable": self.trainable,
            "method": self.recipe.method,
            "vocab_size": model.config.vocab_size,
            **self.facts(),
            "memory": asdict(method_memory(self.base.shape, self.recipe.method, self.recipe.lora)),
            "data": {
                "format": statistics.format,
                "header": statistics.header(),
                "rows": statistics.rows(),
                "sides": statistics.facts(),
            },
            "rows_per_epoch": self.source.rows_per_epoch,
            "epochs": self.source.epochs(self.config.steps),
        }

    def identity(self) -> dict[str, Any]:
        return self.job.identity()

    def refuse_another(self, run: Path, saved: Mapping[str, Any]) -> None:
        self.job.refuse_another(run, saved)

    def contents(self) -> Contents:
        if self.recipe.method in ADAPTERS:
            return AdapterContents(self.base.identity, self.tokenizer, self.card)
        return ModelContents(self.tokenizer.eot_id, self.tokenizer.save_into, self.card, end_ids(self.base.folder))

    def probes(self, run: Path) -> list[Probe]:
        every = self.config.validate_every or self.source.steps_an_epoch
        validation = [Probe(every, self.validation)] if self.task.sets.validation else []
        return [*validation, *probes_of(self, run)]

    def before_training(self) -> Callable[[int, Poll], Line] | None:
        return self.validation if self.task.sets.validation else None

    def validation(self, step: int, poll: Poll) -> Line:
        """The loss on what was held out, and on as much of what is learned."""
        passes = Passes(self.runtime.autocast(), self.runtime.ranks, poll)
        return {
            "kind": "validation",
            **self.task.validation(self.state.model, passes),
            "epoch": self.source.epochs(step),
        }

    def after_training(self, run: Path, terminal: Terminal) -> dict[str, Any]:
        return self.job.afterwards.make(run, terminal, self.state.objective.unit)

    def following(self, run: Path) -> tuple[str, ...]:
        return self.job.following(run)

    def begun(self, run: Path, terminal: Terminal) -> None:
        if (trouble := keep_checkpoint(self.base.folder, str(run))) is not None:
            terminal.print(trouble, style="yellow")

    def trained_in_words(self) -> str:
        if self.recipe.method in ADAPTERS:
            return f", and {self.trainable:,} of adapters, which are trained ({self.recipe.method})"
        return f", {self.trainable:,} of them trained ({self.recipe.method})" if self.recipe.method != "full" else ""

    def card(self, facts: Line) -> str:
        """What the model card says of the run."""
        epochs = self.source.epochs(facts["step"]) if "step" in facts else 0.0
        lines = [f"Fine-tuned by Folio ({self.recipe.method}) from {self.base.given}, {epochs:.4g} epochs."]
        if "nats_per_token" in facts:
            lines.append(f"Loss on {facts['tokens']:,} held-out tokens: {facts['nats_per_token']:.4f} nats/token.")
        if "nats_per_pair" in facts:
            lines.append(f"On {facts['pairs']:,} held-out pairs {facts['accuracy']:.1%} are in order.")
        return "\n\n".join([*lines, *scores_in_words(facts)])


def open_finetuning(
    job: FinetuneJob, ranks: Ranks, begun: Mapping[str, Any] | None = None, runtime: Runtime | None = None
) -> Finetuning:
    """Base, method, optimizer and batches, from a recipe in which nothing is left open."""
    recipe, base, task = job.recipe, job.base, job.task
    refuse_idle_patience(recipe)
    runtime = runtime or open_runtime(recipe.train, ranks)
    per_rank = sequences_per_rank(recipe.train.batch_tokens, task.block_size, ranks.world_size)
    measures = ranks.first_on_each_machine(lambda: measures_of(recipe, task.tokenizer, runtime))
    model = load_model(base.folder, device="cpu")
    if recipe.method == "qlora" and ranks.world_size == 1:
        model.to(runtime.device)  # which rounds faster than a CPU
    set_dropout(model, recipe.train.dropout)
    make_trainable(model, recipe.method, recipe.lora)
    objective = task.objective(model.config)
    flops = method_flops(model.config, recipe.method, task.block_size if recipe.data.attend_across else task.attended)
    needs = Needs(task.row_tokens, method_memory(base.shape, recipe.method, recipe.lora).total_bytes)
    engine = open_engine(model, recipe.train, runtime, task.block_size, flops, begun, objective, needs)
    passes = Passes(runtime.autocast(), ranks, lambda: None)
    with engine.state.shipping_weights() as start:
        source = task.source(per_rank * ranks.world_size, start, passes)
    return Finetuning(
        **vars(engine),
        recipe=recipe,
        source=source,
        tokenizer=task.tokenizer,
        measures=measures,
        job=job,
    )


def _lasting(table: Any) -> Any:
    """A table of a recipe without what may change while its run stays the same."""
    return {key: value for key, value in table.items() if key not in PLACES} if isinstance(table, dict) else table


@dataclass(frozen=True)
class FinetuneJob:
    """A base, and a recipe in which nothing is left open, with its examples."""

    recipe: FinetuneRecipe
    base: OpenedBase
    task: Task
    afterwards: Afterwards
    found: Mapping[str, Any] | None = None
    """What a search before the run found, and why the run goes by it."""
    preset: str = "finetune"

    @property
    def steps(self) -> int:
        return self.recipe.train.steps

    @property
    def patience(self) -> int:
        return self.recipe.train.patience

    def open(self, ranks: Ranks, begun: Mapping[str, Any] | None = None) -> Finetuning:
        return open_finetuning(self, ranks, begun)

    def following(self, run: Path) -> tuple[str, ...]:
        name = quote(str(run))
        generate, report = (f"folio {verb} {name}" for verb in ("generate", "report"))
        merge = [f"folio finetune merge {name} --out {name}-merged"] if self.recipe.method in ADAPTERS else []
        return (generate, *merge, report)

    def identity(self) -> dict[str, Any]:
        """Where model and examples come from, and what a search found."""
        parent = self.base.identity.parent
        known = {
            "base": self.base.facts(),
            "examples": self.task.fingerprint,
            "tokenizer": self.task.tokenizer.fingerprint,
            "parents": [] if parent is None else [parent.model_dump()],
        }
        return known if self.found is None else {**known, "search": dict(self.found)}

    def refuse_another(self, run: Path, saved: Mapping[str, Any]) -> None:
        """Check that ``run`` was begun with the same base, examples and method, as its ``saved`` config.json says."""
        begun, asked = saved["recipe"], self.recipe.model_dump(mode="json")
        if "resolved" in saved:
            tables = [key for key in FOR_LIFE if _lasting(asked[key]) != _lasting(begun[key])]
            named = [f"[{key}]" if isinstance(asked[key], dict) else key for key in tables]
            refuse_changes(run, named + changed_training(begun, asked, FIXED))
        now = self.identity()
        weights = (saved["base"]["weights_sha256"], now["base"]["weights_sha256"])
        for name, (before, here) in {
            "base": weights,
            **{key: (saved[key], now[key]) for key in ("tokenizer", "examples")},
        }.items():
            if before != here:
                raise ArtifactError(
                    f"'{run}' was begun with other {name} than there are now", "Restore them, or start a new run."
                )


def settled(recipe: FinetuneRecipe, task: Task, world_size: int = 1) -> FinetuneRecipe:
    """``recipe`` with what it leaves open worked out: the rate, the rows' length, the batch, the steps."""
    recipe = with_usual_rate(recipe)
    rows = -(-usual_rows(task.rows(1).rows_per_epoch) // world_size) * world_size
    batch_tokens = recipe.train.batch_tokens or rows * task.block_size
    sequences = sequences_per_rank(batch_tokens, task.block_size, world_size) * world_size
    steps = recipe.train.steps or task.rows(sequences).steps_for(recipe.train.epochs)
    train = recipe.train.model_copy(update={"batch_tokens": batch_tokens, "steps": steps})
    data = recipe.data.model_copy(update={"block_size": task.block_size})
    return recipe.model_copy(update={"train": train, "data": data})
