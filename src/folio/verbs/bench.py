"""``folio bench``: how fast this machine trains, writes, encodes and scores."""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import tyro
from pydantic import Field

from folio.config import Table
from folio.errors import ConfigError
from folio.verbs.action import Action, Outcome, Terminal
from folio.verbs.bench_evaluate import ACTION as EVALUATE
from folio.verbs.interleaving import interleaved

if TYPE_CHECKING:
    from folio.training.state import TrainingState


PROMPT_TOKENS = 32
"""What generation is measured after."""


class TrainBench(Table):
    """Steps of training on random ids."""

    recipe: tyro.conf.Positional[str] = "gpt2"
    """A preset's name or a TOML file: its model and optimizer."""
    sequences: int = Field(default=4, ge=1)
    """Sequences a step, in one micro-batch."""
    block_size: int = Field(default=256, ge=1)
    """Tokens of a sequence."""
    precisions: tuple[Literal["fp32", "tf32", "bf16", "fp16"], ...] = ()
    """What to measure, taken in turn. Empty: fp32 and this machine's best."""
    rounds: int = Field(default=5, ge=1)
    """Measured steps of each, after two to warm up; medians are shown."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile."""
    device: str = "auto"
    """auto, cpu, cuda, mps."""


def bench_train(options: TrainBench, terminal: Terminal) -> Outcome:
    """Milliseconds a step, tokens/s and MFU of training, precisions interleaved."""
    import numpy as np

    from folio.hardware import measured_matmul_peak
    from folio.model.accounting import training_flops
    from folio.model.gpt import GPT
    from folio.runtime import make_runtime
    from folio.training.plan import BatchPlan
    from folio.training.state import TrainingState
    from folio.verbs.recipe import load_recipe, load_shape

    recipe, shape = load_recipe(options.recipe), load_shape(options.recipe)
    if options.block_size > shape.block_size and shape.position == "learned":
        raise ConfigError(
            f"--block-size {options.block_size} is more than the model's {shape.block_size}", "Use a smaller one."
        )
    if options.block_size > shape.block_size:
        shape = shape.model_copy(update={"block_size": options.block_size})
    best = make_runtime(options.device).precision
    plan = BatchPlan(options.block_size, options.sequences, 1)

    class RandomIds:
        def batch(self, step: int, rows: slice = slice(None)) -> Any:
            generator = np.random.default_rng(step)
            return generator.integers(0, shape.vocab_size, (plan.sequences, plan.block_size + 1))[rows]

        def tokens_before(self, step: int) -> int:
            return step * plan.tokens

    runtimes = [make_runtime(options.device, p) for p in options.precisions or dict.fromkeys(("fp32", best))]
    model = GPT(shape).initialize(0)
    config = recipe.train.model_copy(update={"steps": 10_000, "compile": options.compile})
    states = [TrainingState(model, config, runtime) for runtime in runtimes]
    for state in states:
        state.compile()

    def step(state: TrainingState) -> None:
        state.runtime.select_fp32_products()
        state.train_step(RandomIds(), plan)
        state.runtime.synchronize()

    times = interleaved([partial(step, state) for state in states], options.rounds, warmup=2)
    flops = training_flops(shape, plan.block_size) * plan.tokens
    rows: list[dict[str, Any]] = []
    for state, seconds in zip(states, times, strict=True):
        state.runtime.select_fp32_products()
        peak = measured_matmul_peak(state.runtime.device, state.runtime.dtype, seconds=1.0)
        middle = median(seconds)
        rows.append(
            {
                "precision": state.runtime.precision,
                "ms_per_step": 1000 * middle,
                "tokens_per_s": plan.tokens / middle,
                "flops_per_s": flops / middle,
                "matmul_peak_flops_per_s": peak,
                "mfu": flops / middle / peak,
            }
        )
    terminal.table(
        ("precision", "ms/step", "tokens/s", "GFLOP/s", "matmul peak", "MFU"),
        [
            (
                r["precision"],
                r["ms_per_step"],
                r["tokens_per_s"],
                r["flops_per_s"] / 1e9,
                r["matmul_peak_flops_per_s"] / 1e9,
                f"{r['mfu']:.0%}",
            )
            for r in rows
        ],
        title=f"training {options.recipe}, {options.sequences} x {options.block_size} tokens on {runtimes[0].device}",
    )
    return Outcome({"recipe": options.recipe, "tokens_per_step": plan.tokens, "results": rows})


class GenerateBench(Table):
    """Tokens written one at a time by a model of random weights."""

    recipe: tyro.conf.Positional[str] = "gpt2"
    """A preset's name or a TOML file: its model."""
    dtypes: tuple[Literal["fp32", "bf16", "int8"], ...] = ("fp32", "bf16", "int8")
    """Weights in memory, taken in turn."""
    new_tokens: int = Field(default=64, ge=1)
    """Tokens written in a round."""
    rounds: int = Field(default=3, ge=1)
    """Measured rounds of each; medians are shown."""


def bench_generate(options: GenerateBench, terminal: Terminal) -> Outcome:
    """Tokens/s of generation on a CPU, batch 1, by dtype of the weights."""
    import torch

    from folio.generation.engine import cache_dtype
    from folio.model.cache import KVCache
    from folio.model.gpt import GPT
    from folio.runtime import make_runtime
    from folio.verbs.library import as_dtype
    from folio.verbs.recipe import load_shape

    make_runtime("cpu")
    shape = load_shape(options.recipe)
    most = shape.block_size - PROMPT_TOKENS
    if options.new_tokens > most:
        raise ConfigError(
            f"--new-tokens {options.new_tokens} after {PROMPT_TOKENS} are more than the model's {shape.block_size}",
            f"Use at most {most}.",
        )
    base = GPT(shape).initialize(0).eval()
    models = {dtype: as_dtype(base, dtype) for dtype in options.dtypes}
    prompt = torch.arange(PROMPT_TOKENS)[None] % shape.vocab_size

    @torch.inference_mode()
    def write(model: GPT) -> None:
        cache = KVCache(shape, 1, PROMPT_TOKENS + options.new_tokens, dtype=cache_dtype(model))
        ids = prompt
        for _ in range(options.new_tokens):
            ids = model(ids, cache=cache)[:, -1:].argmax(-1)

    times = interleaved([partial(write, model) for model in models.values()], options.rounds, warmup=1)
    rows = [
        {"dtype": dtype, "tokens_per_s": options.new_tokens / median(seconds)}
        for dtype, seconds in zip(models, times, strict=True)
    ]
    terminal.table(
        ("weights", "tokens/s"),
        [(r["dtype"], r["tokens_per_s"]) for r in rows],
        title=f"generating with {options.recipe}, batch 1 on cpu, {options.new_tokens} tokens after {PROMPT_TOKENS}",
    )
    return Outcome({"recipe": options.recipe, "results": rows})


class EncodeBench(Table):
    """GPT-2 BPE over a text."""

    text: tyro.conf.Positional[str]
    """A file, folder or glob."""
    megabytes: float = Field(default=20.0, gt=0)
    """How much of it to encode."""
    rounds: int = Field(default=3, ge=1)
    """Measured rounds; medians are shown."""


def bench_encode(options: EncodeBench, terminal: Terminal) -> Outcome:
    """MB/s of GPT-2 encoding in one thread, beside tiktoken called directly."""
    from folio.corpus import CorpusConfig, open_corpus
    from folio.tokenizer import gpt2_tokenizer

    tokenizer = gpt2_tokenizer()
    raw = tokenizer.tiktoken_encoding
    assert raw is not None
    texts: list[str] = []
    size = 0
    for document in open_corpus(CorpusConfig(path=options.text)).documents():
        texts.append(document.text)
        size += len(document.text.encode())
        if size >= 1e6 * options.megabytes:
            break
    ours, theirs = interleaved(
        [
            lambda: [tokenizer.encode_array(text) for text in texts],
            lambda: [raw.encode_ordinary(text) for text in texts],
        ],
        options.rounds,
    )
    rows = [
        {"encoder": name, "mb_per_s": size / 1e6 / median(seconds)}
        for name, seconds in (("folio", ours), ("tiktoken encode_ordinary", theirs))
    ]
    terminal.table(
        ("encoder", "MB/s"),
        [(r["encoder"], r["mb_per_s"]) for r in rows],
        title=f"encoding {size / 1e6:.1f} MB, GPT-2 vocabulary, one thread",
    )
    return Outcome({"bytes": size, "results": rows})


ACTIONS = {
    "train": Action(TrainBench, bench_train, "Training steps: tokens/s and MFU.", examples=("folio bench train gpt2",)),
    "generate": Action(GenerateBench, bench_generate, "Writing one token at a time on a CPU, by dtype of the weights."),
    "encode": Action(EncodeBench, bench_encode, "GPT-2 encoding, beside tiktoken called directly."),
    "evaluate": EVALUATE,
}
