"""``folio check``: what a recipe would build and what it would take, without touching data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tyro

from folio.training.rental import Assumptions
from folio.verbs.action import Action, Outcome, Terminal
from folio.verbs.options import over_recipe
from folio.verbs.recipe import Recipe, expected_vocabulary
from folio.verbs.rented import rented, show_rented

if TYPE_CHECKING:
    from folio.runtime import Runtime
    from folio.training.micro_batch import Fit
    from folio.training.plan import BatchPlan

GIB = 2**30


class CheckOptions(Recipe, Assumptions):
    """A recipe, with flags over it, and what its time and cost on rented GPUs are reckoned with."""

    recipe: tyro.conf.Positional[str]
    """A preset's name or a TOML file."""


def check(options: CheckOptions, terminal: Terminal) -> Outcome:
    """Count parameters, operations and memory of the recipe's model, and say what it would run on."""
    from folio.runtime import make_runtime
    from folio.training.plan import sequences_per_rank, solve_batch

    config = options.train
    vocab_size, vocabulary = expected_vocabulary(options)
    options = options.model_copy(update={"model": options.model.model_copy(update={"vocab_size": vocab_size})})
    runtime = make_runtime(config.device, config.precision, seed=config.seed)
    micro_batch, fit = config.micro_batch, None
    if isinstance(micro_batch, str):
        fit = _what_fits(options, runtime, sequences_per_rank(config.batch_tokens, options.model.block_size))
        micro_batch = fit.micro_batch
    plan = solve_batch(config.batch_tokens, options.model.block_size, micro_batch, device=runtime.device.type)
    data = {
        "recipe": options.recipe,
        "vocabulary": vocabulary,
        "shape": options.model.model_dump(mode="json"),
        "saved_as": _architecture(options),
        "counts": _counts(options, plan),
        "micro_batch_fit": None if fit is None else fit.how,
        "training_memory": _training_memory(options, runtime, plan),
        "inference_memory": _inference_memory(options),
        "rented": rented(options.model, options.train, options),
        "environment": _environment(runtime),
    }
    _show(data, terminal)
    return Outcome(data, next=(f"folio train {options.recipe}",))


def _architecture(options: CheckOptions) -> str:
    from folio.model.families import ARCHITECTURES, family_of

    return ARCHITECTURES[family_of(options.model)]


def _what_fits(options: CheckOptions, runtime: Runtime, sequences: int) -> Fit:
    """The micro-batch of "auto" by estimate: training tries it for real."""
    from folio.training.micro_batch import fit_by_estimate

    return fit_by_estimate(options.model, runtime, options.train, sequences)


def _counts(options: CheckOptions, plan: BatchPlan) -> dict[str, Any]:
    from folio.model.accounting import forward_flops, parameter_counts, training_flops

    counts, config = parameter_counts(options.model), options.train
    return {
        "parameters": counts.total,
        "embedding_parameters": counts.embedding,
        "non_embedding_parameters": counts.non_embedding,
        "forward_flops_per_token": forward_flops(options.model),
        "training_flops_per_token": training_flops(options.model),
        "training_flops_per_token_palm": training_flops(options.model, causal=False),
        "steps": config.steps,
        "tokens_per_step": plan.tokens,
        "sequences_per_step": plan.sequences,
        "micro_batch": plan.micro_batch,
        "accumulation": plan.accumulation,
        "tokens_trained_on": plan.tokens * config.steps,
        "flops_of_the_run": training_flops(options.model) * plan.tokens * config.steps,
    }


def _training_memory(options: CheckOptions, runtime: Runtime, plan: BatchPlan) -> dict[str, int]:
    from folio.model.memory import training_memory

    return training_memory(
        options.model,
        plan.micro_batch,
        dtype=runtime.precision,
        optimizer=options.train.optimizer.kind,
        recompute=options.train.recompute,
        accumulates=plan.accumulation > 1,
        ema=options.train.ema_decay > 0,
        device=runtime.device.type,
    ).as_dict()


def _inference_memory(options: CheckOptions) -> dict[str, dict[str, int]]:
    from folio.model.memory import inference_memory

    return {dtype: inference_memory(options.model, dtype=dtype).as_dict() for dtype in ("fp32", "bf16")}


def _environment(runtime: Runtime) -> dict[str, Any]:
    import torch

    from folio.artifacts import environment

    return {
        **environment(),
        "device": str(runtime.device),
        "precision": runtime.precision,
        "precision_reason": runtime.reason,
        "threads": torch.get_num_threads(),
    }


def _show(data: dict[str, Any], terminal: Terminal) -> None:
    shape, counts, here = data["shape"], data["counts"], data["environment"]
    rows: list[tuple[str, object]] = [(name, value) for name, value in shape.items() if value is not None]
    rows[0] = ("vocabulary", data["vocabulary"])
    rows.append(("saved as", data["saved_as"]))
    terminal.table(("model", ""), [(name, _plain(value)) for name, value in rows])
    terminal.table(("counts", ""), [(name.replace("_", " "), _count(value)) for name, value in counts.items()])
    memory = [(f"training: {_part(name)}", _gib(value)) for name, value in data["training_memory"].items() if value]
    for dtype, parts in data["inference_memory"].items():
        memory += [(f"inference, {dtype}: {_part(name)}", _gib(value)) for name, value in parts.items()]
    if data["micro_batch_fit"] is not None:
        memory.insert(0, ("micro-batch (training tries it)", data["micro_batch_fit"]))
    terminal.table(("memory (estimate)", ""), memory)
    show_rented(data["rented"], terminal)
    terminal.table(("environment", ""), [(name.replace("_", " "), _plain(value)) for name, value in here.items()])


def _plain(value: object) -> str:
    return "none" if value is None else "yes" if value is True else "no" if value is False else str(value)


def _count(value: int) -> str:
    return f"{value:,}" if value < 10**12 else f"{value:.3e}"


def _part(name: str) -> str:
    return name.removesuffix("_bytes").replace("_", " ")


def _gib(value: int) -> str:
    return f"{value / GIB:.3f} GiB"


ACTIONS = {
    "": Action(
        CheckOptions,
        check,
        "Parameters, FLOPs, memory, time and cost on rented GPUs, and environment of a recipe, without touching data.",
        examples=(
            "folio check gpt2",
            "folio check modern-124m --train.micro-batch 4 --train.recompute",
            "folio check modern-350m --mfu 0.35 --usd-per-hour.h100 2.2",
        ),
        default=over_recipe(CheckOptions),
    )
}
