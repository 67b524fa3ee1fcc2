"""Fine-tuning steps on the same examples: Folio's methods and ways of batching, and transformers with peft, in turns.

    python benchmarks/measure_finetuning.py EXAMPLES.txt [--examples 8] [--block-size 1024] [--rounds 5] [--threads 2]

GPT-2 124M with random weights, bf16 products, AdamW. EXAMPLES are what ``folio finetune --data`` reads. Every
contestant makes whole optimizer steps (forward, backward, clipping, update) on the same examples; tokens are real ones,
so that padding helps nobody.

- ``full``, ``lora``, ``qlora``, ``head``: rank 16 on all linear layers; packed rows, each example alone.
- ``lora, across``: the same rows, attention through the whole row. ``lora, one a row``: no packing.
- ``transformers full``, ``transformers + peft lora``: the examples padded to the longest, as data collators do.

Also printed is what each method keeps for weights, gradients and optimizer, measured between backward and step, beside
what ``folio.finetuning.memory`` counts beforehand.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from folio.finetuning.batches import SftBatches
from folio.finetuning.config_data import DataConfig
from folio.finetuning.config_lora import LoraConfig, Method
from folio.finetuning.example_sets import example_sets
from folio.finetuning.examples import Example
from folio.finetuning.memory import measured_memory, method_memory
from folio.finetuning.objective import PackedTokens
from folio.finetuning.trainable import make_trainable
from folio.model.config import GPTConfig
from folio.model.folder import load_model, save_model
from folio.model.gpt import GPT
from folio.runtime import make_runtime
from folio.tokenizer import gpt2_tokenizer
from folio.training.config import TrainConfig
from folio.training.plan import BatchPlan
from folio.training.state import TrainingState
from folio.verbs.interleaving import interleaved

METHODS: tuple[Method, ...] = ("full", "lora", "qlora", "head")
LORA = LoraConfig(rank=16, alpha=32)
MIB = 2**20


class Ours:
    """One method of Folio's, stepping on the same batch again and again."""

    def __init__(self, folder: Path, method: Method, source: SftBatches, across: bool, precision: str) -> None:
        runtime = make_runtime("auto", precision)
        model = load_model(folder, device=runtime.device).train()
        make_trainable(model, method, LORA)
        config = TrainConfig(steps=10**6, compile="off")
        objective = PackedTokens(model.config, across)
        self.state = TrainingState(model, config, runtime, objective=objective)
        self.source = source
        self.plan = BatchPlan(source.block_size, source.sequences, 1)

    def __call__(self) -> None:
        self.state.step = 0  # the same rows every time
        self.state.train_step(self.source, self.plan)
        self.state.runtime.synchronize()

    def held(self, method: Method) -> Any:
        """What is held at the moment of the update."""
        found: list[Any] = []
        optimizers, step = self.state.optimizers, self.state.optimizers.step

        def measured() -> None:
            found.append(measured_memory(self.state.model, method, optimizers.state_tensors()))
            step()

        optimizers.step = measured  # type: ignore[method-assign]
        self()
        optimizers.step = step  # type: ignore[method-assign]
        return found[0]


def theirs(folder: Path, examples: Sequence[Example], lora: bool, precision: str) -> Callable[[], None]:
    """A step of transformers, with peft's adapters if ``lora``, on the examples as one padded batch."""
    import transformers

    device = make_runtime("auto", precision).device
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    for key in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        setattr(model.config, key, 0.0)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if lora:
        import peft

        wanted = ["c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
        config = peft.LoraConfig(r=LORA.rank, lora_alpha=int(LORA.alpha), target_modules=wanted, fan_in_fan_out=True)
        model = peft.get_peft_model(model, config)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=6e-4, fused=True)
    longest = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.int64)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, example in enumerate(examples):
        count = len(example.ids)
        ids[row, :count] = torch.from_numpy(example.ids.astype("int64"))
        labels[row, :count] = torch.where(torch.from_numpy(example.learned), ids[row, :count], -100)
        mask[row, :count] = 1
    ids, labels, mask = ids.to(device), labels.to(device), mask.to(device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("examples_file", type=Path)
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--block-size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--to", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = gpt2_tokenizer()
    sets = example_sets(DataConfig(path=str(options.examples_file)), tokenizer, options.block_size)
    examples = list(sets.train[: options.examples])
    tokens = sum(example.length for example in examples)
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    print(f"{len(examples)} examples of {tokens:,} tokens a step, rows of {options.block_size}, {options.precision}\n")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        save_model(GPT(GPTConfig()).initialize(0), home, eos_id=tokenizer.eot_id)
        rows = SftBatches(examples, options.block_size, 1, 0)
        packed = SftBatches(examples, options.block_size, rows.rows_per_epoch, 0)
        alone = SftBatches(examples, options.block_size, len(examples), 0, packing=False)
        ours: dict[str, Ours] = {
            **{method: Ours(home, method, packed, False, options.precision) for method in METHODS},
            "lora, across": Ours(home, "lora", packed, True, options.precision),
            "lora, one a row": Ours(home, "lora", alone, False, options.precision),
        }
        contestants: dict[str, Callable[[], None]] = {
            **ours,
            "transformers full": theirs(home, examples, False, options.precision),
            "transformers + peft lora": theirs(home, examples, True, options.precision),
        }
        times = dict(zip(contestants, interleaved(list(contestants.values()), options.rounds), strict=True))
        held = {method: ours[method].held(method) for method in METHODS}
    result: dict[str, Any] = {"tokens": tokens, "rows": rows.rows_per_epoch, "speed": {}, "memory": {}}
    print(f"{'':26} {'tokens/s':>9} {'least':>7} {'most':>7}   x lora")
    for name, taken in times.items():
        ratio = median(lora / own for lora, own in zip(times["lora"], taken, strict=True))
        rates = [tokens / one for one in taken]
        result["speed"][name] = {"tokens_per_s": rates, "times_lora": ratio}
        print(f"{name:26} {median(rates):9,.0f} {min(rates):7,.0f} {max(rates):7,.0f}   {ratio:6.2f}")
    for ours_name, theirs_name in (("full", "transformers full"), ("lora", "transformers + peft lora")):
        ratio = median(b / a for a, b in zip(times[ours_name], times[theirs_name], strict=True))
        result["speed"][ours_name]["times_peer"] = ratio
        print(f"{ours_name} beside {theirs_name}: {ratio:.2f} times as fast")
    print(
        f"\n{'MiB':8} {'trained':>12} {'base':>8} {'adapters':>8} {'gradients':>9} {'optimizer':>9} "
        f"{'all':>8} {'counted':>8}"
    )
    for method, one in held.items():
        counted = method_memory(GPTConfig(), method, LORA)
        sizes = [one.base_bytes, one.adapter_bytes, one.gradient_bytes, one.optimizer_bytes]
        base, adapters, gradients, optimizer = (size / MIB for size in sizes)
        result["memory"][method] = {"measured": sum(sizes), "counted": counted.total_bytes, "trained": one.trainable}
        print(
            f"{method:8} {one.trainable:12,} {base:8.1f} {adapters:8.1f} {gradients:9.1f} {optimizer:9.1f} "
            f"{sum(sizes) / MIB:8.1f} {counted.total_bytes / MIB:8.1f}"
        )
    if options.to:
        options.to.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
