"""How nearly runs agree that should be one: a recipe trained in many ways, the loss of every step compared.

    python benchmarks/measure_numerics.py                                     # the table of docs/numerics.md
    python benchmarks/measure_numerics.py --optimizer muon --without compiled
    python benchmarks/measure_numerics.py --size tiny --steps 20 --json numbers.json

The text is made up and nothing is fetched. Ways of one rank run in one process, those of two ranks in one torchrun job.
One thread a rank unless the way says otherwise. tests/training/test_invariance.py runs this and holds the numbers to
what the page promises.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

SEQUENCES = 8
SIZES = {
    "small": {"block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128},  # 0.8 M parameters
    "tiny": {"block_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 32},
}
MODERN = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "qk_norm": True, "bias": False}
RATES = {"small": 1e-3, "tiny": 3e-3}


@dataclass(frozen=True)
class Way:
    """One way to train the recipe: ``changes`` of [train], or from the middle on of another way's run (``goes_on``).

    ``bits_of`` is the way whose bits it is to have; without one it is near the plain way.
    """

    bits_of: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    ranks: int = 1
    threads: int = 1
    goes_on: str = ""


PLAIN, DDP, FSDP = "plain", "2 ranks, ddp", "2 ranks, fsdp"
WAYS = {
    PLAIN: Way(),
    "the same again": Way(PLAIN),
    "recompute": Way(PLAIN, {"recompute": True}),
    "checkpoints every 2 steps, async": Way(PLAIN, {"checkpoint_async": True, "checkpoint_every": 2}),
    "probes every 3 steps": Way(PLAIN, {"validate_every": 3, "sample_every": 3}),
    "resumed in the middle": Way(PLAIN, goes_on=PLAIN),
    "micro-batch 4": Way("", {"micro_batch": 4}),
    "micro-batch 2": Way("", {"micro_batch": 2}),
    "micro-batch 1": Way("", {"micro_batch": 1}),
    "2 threads": Way(threads=2),
    "compiled": Way("", {"compile": "on"}),
    DDP: Way("", {"parallel": "ddp", "micro_batch": 2}, ranks=2),
    f"{DDP}, the same again": Way(DDP, {"parallel": "ddp", "micro_batch": 2}, ranks=2),
    f"{DDP}, resumed in the middle": Way(DDP, {"parallel": "ddp", "micro_batch": 2}, ranks=2, goes_on=DDP),
    FSDP: Way("", {"parallel": "fsdp", "micro_batch": 2}, ranks=2),
    f"{FSDP}, resumed in the middle": Way(FSDP, {"parallel": "fsdp", "micro_batch": 2}, ranks=2, goes_on=FSDP),
    "1 rank, from the middle on 2, fsdp": Way("", {"parallel": "fsdp", "micro_batch": 2}, ranks=2, goes_on=PLAIN),
}


def write_text(path: Path) -> None:
    """Sentences over fifty words, each with a few that follow it: a curve that falls from the first step to the last.

    Over words drawn at random the loss lingers at what single letters tell, and rounding decides when it leaves.
    """
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 7))) for _ in range(50)]
    after = {word: draw.choices(words, k=3) for word in words}
    text, word = [], words[0]
    for _ in range(24000):
        word = draw.choice(after[word])
        text.append(word + draw.choice(("", "", "", ",", ".\n")))
    path.write_text(" ".join(text), encoding="utf-8")


def recipe_of(options: argparse.Namespace, way: Way, precision: str) -> dict[str, Any]:
    shape, rate = SIZES[options.size], RATES[options.size]
    train = {
        "steps": options.steps,
        "batch_tokens": SEQUENCES * shape["block_size"],
        "micro_batch": SEQUENCES,
        "optimizer": {"kind": options.optimizer, "learning_rate": rate, "muon_learning_rate": rate},
        "schedule": {"warmup_steps": options.steps // 10},
        "device": "cpu",
        "precision": precision,
        "compile": "off",
        "validate_every": 0,
        "validation_tokens": 16 * shape["block_size"],
        "checkpoint_every": options.steps // 2,
        "keep_last": 99,
    }
    return {
        "corpus": {"path": str(options.scratch / "text.txt")},
        "tokenizer": {"kind": "char"},
        "model": {**shape, **MODERN},
        "train": {**train, **way.changes},
        "generation": {"max_new_tokens": 8},
    }


def train(options: argparse.Namespace) -> None:
    """In a process of its own, or in each rank of a job: train every way of ``options`` into the scratch folder."""
    import torch

    from folio.ranks import joined
    from folio.verbs.action import Terminal
    from folio.verbs.pretraining import PretrainingJob
    from folio.verbs.recipe import Recipe
    from folio.verbs.run import resume, start

    terminal = Terminal(quiet=True)
    with joined("cpu") as ranks:
        for name, precision in [(name, precision) for name in options.ways for precision in options.precisions]:
            way, run = WAYS[name], options.scratch / precision / name
            torch.set_num_threads(way.threads)
            recipe = Recipe.model_validate(recipe_of(options, way, precision))
            if not way.goes_on:
                start(PretrainingJob(recipe, "numerics", terminal), run, terminal, ranks)
                continue
            if ranks.first:
                cut_in_the_middle(run.with_name(way.goes_on), run, options.steps // 2)
            ranks.wait()
            resume(PretrainingJob(recipe, "numerics", terminal), run, terminal, ranks)


def cut_in_the_middle(whole: Path, run: Path, step: int) -> None:
    """A copy of a run as it would be, had it died some steps after the checkpoint of ``step``."""
    shutil.copytree(whole, run)
    for checkpoint in (run / "checkpoints").iterdir():
        if checkpoint.name > f"step-{step:08d}":
            shutil.rmtree(checkpoint)


def run_all(options: argparse.Namespace) -> None:
    """Train every way, those with the same number of ranks in one job."""
    write_text(options.scratch / "text.txt")
    here = ["--size", options.size, "--steps", str(options.steps), "--optimizer", options.optimizer]
    here += ["--scratch", str(options.scratch), "--precisions", *options.precisions]
    for ranks, names in groupby(options.ways, key=lambda name: WAYS[name].ranks):
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
        command = [sys.executable, *launcher, __file__, *here, "--train", "--ways", *names]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "FOLIO_CACHE": str(options.scratch / "cache")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)


@dataclass(frozen=True)
class End:
    """What a run left: every step's loss and gradient norm, and the weights at the end."""

    losses: list[float]
    norms: list[float]
    weights: dict[str, Any]

    def differences(self, other: End) -> list[float]:
        """The largest relative differences: of a step's loss, of its gradient norm, of a parameter as a whole."""
        losses, norms = (
            max(abs(a / b - 1) for a, b in zip(ours, theirs, strict=True))
            for ours, theirs in ((self.losses, other.losses), (self.norms, other.norms))
        )
        weights = max(float((self.weights[name] - w).norm() / w.norm()) for name, w in other.weights.items())
        return [losses, norms, weights]

    def sha256(self) -> str:
        return sha256(b"".join(self.weights[name].numpy().tobytes() for name in sorted(self.weights))).hexdigest()


def end_of(run: Path, steps: int) -> End:
    from safetensors.torch import load_file

    from folio.training.metrics import read_metrics

    lines = [line for line in read_metrics(run) if line["kind"] == "train"]
    assert [line["step"] for line in lines] == [*range(1, steps + 1)]
    weights = load_file(run / "checkpoints" / f"step-{steps:08d}" / "model" / "model.safetensors")
    return End([line["nats_per_token"] for line in lines], [line["grad_norm"] for line in lines], weights)


Ends = dict[str, dict[str, End]]


def table(ends: Ends) -> str:
    """Markdown: each way beside the one whose bits it should have, or beside the plain one; then bf16 beside fp32."""
    heads = [f"{what}, {precision}" for precision in ends for what in ("loss", "norm", "weights")]
    lines = [f"| way | compared with | {' | '.join(heads)} |", f"|---|---|{'---|' * len(heads)}"]
    first, *others = ends
    for name in list(ends[first])[1:]:
        other = WAYS[name].bits_of or PLAIN
        cells = [d for runs in ends.values() for d in runs[name].differences(runs[other])]
        lines.append(f"| {name} | {other} | {' | '.join(f'{d:.1e}' if d else '0' for d in cells)} |")
    for other in others:
        cells = [f"{d:.1e}" for d in ends[other][PLAIN].differences(ends[first][PLAIN])]
        lines.append(f"\n{other} beside {first}, plain: loss {cells[0]}, norm {cells[1]}, weights {cells[2]}")
    for precision, runs in ends.items():
        last = [sum(run.losses[-5:]) / 5 for run in runs.values()]
        start = runs[PLAIN].losses[0]
        lines.append(
            f"{precision}: loss {start:.4f} at first; mean of the last five {min(last):.6f} to {max(last):.6f}"
        )
    return "\n".join(lines)


def as_json(ends: Ends) -> str:
    def numbers(name: str, run: End) -> dict[str, Any]:
        return {"bits_of": WAYS[name].bits_of, "losses": run.losses, "norms": run.norms, "weights": run.sha256()}

    return json.dumps({p: {name: numbers(name, run) for name, run in runs.items()} for p, runs in ends.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), help="those they are compared with are always among them"
    )
    parser.add_argument("--without", nargs="+", choices=WAYS, default=[], help="ways to leave out")
    parser.add_argument("--json", type=Path, help="also write every loss, norm and fingerprint there")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(options)
        return
    wanted = set(options.ways) - set(options.without)
    wanted |= {PLAIN, *(other for name in wanted for other in (WAYS[name].bits_of, WAYS[name].goes_on) if other)}
    options.ways = [name for name in WAYS if name in wanted]
    with tempfile.TemporaryDirectory() as scratch:
        options.scratch = Path(scratch)
        run_all(options)
        ends = {
            precision: {name: end_of(options.scratch / precision / name, options.steps) for name in options.ways}
            for precision in options.precisions
        }
        if options.json:
            options.json.write_text(as_json(ends))
        print(table(ends))


if __name__ == "__main__":
    main()
