"""What safety costs in time: checkpoints at once and beside training, an answer to SIGTERM, a restart after SIGKILL.

    python benchmarks/measure_checkpoints.py stall [--rounds 5] [--steps 12]
    torchrun --nproc_per_node 2 benchmarks/measure_checkpoints.py stall --parallel fsdp --sequences 2
    python benchmarks/measure_checkpoints.py stop [--times 8] [--micro-batch 1]
    python benchmarks/measure_checkpoints.py restart [--kills 8]

All train GPT-2's 124M shape with AdamW; a checkpoint is 0.5 GB of weights and 1.0 GB of optimizer state.

stall    no checkpoint, one at once, one beside take turns in one process: a save, then some steps. ``added`` is the
         turn against the same steps without a save in the same round, so that slower steps count too.
stop     ``folio train gpt2`` with 65,536 tokens a step gets SIGTERM at random moments within a step, and is resumed.
restart  one of two ranks under ``torchrun --max-restarts`` gets SIGKILL at random moments.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

Line = dict[str, Any]
TEMPO = 0.01
"""Seconds between looks at a run's folder."""


def stall(options: argparse.Namespace) -> None:
    """Checkpoints at once and beside, on as many ranks as there are."""
    import numpy as np
    import numpy.typing as npt

    from folio.model.config import GPTConfig
    from folio.model.gpt import GPT
    from folio.ranks import joined
    from folio.runtime import make_runtime
    from folio.training.checkpoint import Checkpoint
    from folio.training.config import TrainConfig
    from folio.training.plan import BatchPlan
    from folio.training.saving import ModelContents, Saver, Snapshot
    from folio.training.state import TrainingState

    class RandomIds:
        def batch(self, step: int, rows: slice = slice(None)) -> npt.NDArray[np.int64]:
            shape = (rows.stop - rows.start, options.block_size + 1)
            return np.random.default_rng((step, rows.start)).integers(0, 50257, shape)

    class Timed(Saver):
        written_at = 0.0

        def write(self, snapshot: Snapshot) -> Checkpoint:
            written = super().write(snapshot)
            self.written_at = time.perf_counter()
            return written

    def turn(saver: Timed | None) -> Line:
        state.runtime.ranks.wait()
        start = time.perf_counter()
        if saver is not None:
            saver.save(state, {})
        marks = [time.perf_counter()]
        for _ in range(options.steps):
            state.train_step(source, plan)
            state.runtime.synchronize()
            marks.append(time.perf_counter())
        if saver is not None:
            saver.finish()
        return {
            "stands still": marks[0] - start,
            "slowest step": max(b - a for a, b in pairwise(marks)),
            "waits at the end": time.perf_counter() - marks[-1],
            "whole turn": time.perf_counter() - start,
            "on the disk after": saver.written_at - start if saver is not None else 0.0,
        }

    with ExitStack() as stack:
        ranks = stack.enter_context(joined(options.device))
        runtime = make_runtime(options.device, "auto", ranks=ranks)
        state = TrainingState(GPT(GPTConfig()).initialize(0), TrainConfig(steps=10**6), runtime, options.parallel)
        state.compile()
        plan, source = BatchPlan(options.block_size, options.sequences, 1, ranks.world_size), RandomIds()
        own = stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)) if ranks.first else ""
        run = Path(ranks.share(own))
        (run / "config.json").touch()
        at_once, beside = Timed(run, ranks, ModelContents()), Timed(run, ranks, ModelContents(), beside=True)
        stack.enter_context(at_once)
        stack.enter_context(beside)
        savers = {"none": None, "at once": at_once, "beside": beside}
        for saver in savers.values():
            turn(saver)
        turns: dict[str, list[Line]] = {name: [] for name in savers}
        for number in range(options.rounds):
            for name in list(savers)[:: 1 if number % 2 == 0 else -1]:
                turns[name].append(turn(savers[name]))
        if not ranks.first:
            return
        for lines in turns.values():
            for line, without in zip(lines, turns["none"], strict=True):
                line["added"] = line["whole turn"] - without["whole turn"]
        checkpoints = sum(f.stat().st_size for f in (run / "checkpoints").rglob("*") if f.is_file())
        print(
            f"\n{runtime.describe()}, {ranks.world_size} ranks ({state.parallel.kind}), {options.sequences} x "
            f"{options.block_size} tokens a rank and step; a checkpoint of {checkpoints / 1e9:.2f} GB, then "
            f"{options.steps} steps; {options.rounds} rounds; seconds, median (least to most)\n"
        )
        columns = [name for name in turns["none"][0] if name != "whole turn"]
        row("checkpoint", "whole turn", *columns)
        row(*["---"] * (2 + len(columns)))
        for name, lines in turns.items():
            row(name, *(spread([line[column] for line in lines]) for column in ("whole turn", *columns)))


def stop(options: argparse.Namespace) -> None:
    """From SIGTERM to the exit of ``folio train``, everything saved."""
    from folio.training.checkpoint import newest_sound_checkpoint

    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        run, seconds = Path(folder) / "run", []
        recipe = ["gpt2", "--out", str(run), "--train.batch-tokens", str(options.batch_tokens)]
        recipe += ["--train.micro-batch", str(options.micro_batch), "--train.device", options.device]
        for number in range(options.times + 1):
            again = run.exists()
            with started(
                [sys.executable, "-m", "folio", "train", *(["--resume", str(run)] if again else recipe)]
            ) as job:
                follow = Follower(run, job)
                if not again:  # one whole step, for its length and so that the optimizer has a state
                    step_s: float = follow.until(lambda line: line["kind"] == "train")["step_time_s"]
                    micro_s = step_s * options.micro_batch * 1024 / options.batch_tokens
                    print(f"a step {step_s:.1f} s, a micro-batch {micro_s:.2f} s", flush=True)
                else:
                    follow.until(lambda line: line.get("event") == "resumed")
                time.sleep(draw.uniform(1.0, 1.0 + min(step_s / 2, options.within)))
                start = time.perf_counter()
                job.send_signal(signal.SIGTERM)
                code = job.wait()
                if number:
                    seconds.append(time.perf_counter() - start)
                    print(f"stop {number}: {seconds[-1]:.2f} s", flush=True)
            kept, damaged = newest_sound_checkpoint(run)
            last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
            if code != 3 or damaged or last.get("event") != "stopped" or kept.step != last["step"]:
                raise SystemExit(f"it was not saved: exit code {code}, {last}, {kept}, {damaged}")
    print(
        f"\n{options.batch_tokens:,} tokens a step, micro-batches of {options.micro_batch} x 1024: from SIGTERM to "
        f"exit {spread(seconds)} s over {options.times} stops; a micro-batch takes {micro_s:.2f} s"
    )


def restart(options: argparse.Namespace) -> None:
    """From the SIGKILL of one of two ranks until the restarted job has done a step."""
    from folio.verbs.victim import descendants

    draw = random.Random(options.seed)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(options.ranks)]
    torchrun += ["--max-restarts", str(options.kills)]
    recipe = ["gpt2", "--train.batch-tokens", str(512 * options.ranks), "--train.micro-batch", "2"]
    recipe += ["--model.block-size", "256", "--train.parallel", options.parallel, "--train.device", options.device]
    recipe += ["--train.checkpoint-every", str(options.checkpoint_every), "--train.validate-every", "0"]
    times: dict[str, list[float]] = {"started again": [], "resumed": [], "next step": [], "steps done again": []}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        run = Path(folder) / "run"
        with started([sys.executable, *torchrun, "-m", "folio", "train", *recipe, "--out", str(run)]) as job:
            follow = Follower(run, job)
            for _ in range(options.kills):
                for _ in range(options.checkpoint_every + draw.randrange(options.checkpoint_every)):
                    step = follow.until(lambda line: line["kind"] == "train")["step"]
                time.sleep(draw.random())
                before = descendants(job.pid)
                ranks = [pid for pid in before if _is_rank(pid)]
                start = time.perf_counter()
                os.kill(draw.choice(ranks), signal.SIGKILL)
                while len(set(filter(_is_rank, descendants(job.pid))) - set(before)) < options.ranks:
                    time.sleep(TEMPO)
                times["started again"].append(time.perf_counter() - start)
                resumed = follow.until(lambda line: line.get("event") == "resumed")
                times["resumed"].append(time.perf_counter() - start)
                follow.until(lambda line: line["kind"] == "train")
                times["next step"].append(time.perf_counter() - start)
                times["steps done again"].append(step - resumed["step"])
                print(", ".join(f"{name} {values[-1]:.1f}" for name, values in times.items()), flush=True)
    print(
        f"\n{options.ranks} ranks ({options.parallel}), a checkpoint every {options.checkpoint_every} steps, "
        f"{options.kills} kills; seconds since SIGKILL, median (least to most)\n"
    )
    row(*times)
    row(*["---"] * len(times))
    row(*map(spread, times.values()))


def _is_rank(pid: int) -> bool:
    try:
        return b"LOCAL_RANK=" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with all its descendants when the block is left; what it says goes to a log."""
    from folio.verbs.victim import descendants

    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        process.log = log  # type: ignore[attr-defined]
        try:
            yield process
        finally:
            if process.poll() is None:
                for pid in [*descendants(process.pid), process.pid]:
                    os.kill(pid, signal.SIGKILL)
                process.wait()


class Follower:
    """The lines that a process adds to a run's metrics, as they come."""

    def __init__(self, run: Path, job: subprocess.Popen[bytes]) -> None:
        self.path, self.job = run / "metrics.jsonl", job
        self.read = self.path.stat().st_size if self.path.exists() else 0

    def until(self, wanted: Callable[[Line], bool]) -> Line:
        """The next line that is ``wanted``; ends the program with the job's last words if the job ends before."""
        while True:
            for line in self._lines():
                if wanted(line):
                    return line
            if self.job.poll() is not None:
                log = self.job.log  # type: ignore[attr-defined]
                log.seek(0)
                raise SystemExit(f"the job ended with {self.job.returncode}:\n{log.read().decode()[-3000:]}")
            time.sleep(TEMPO)

    def _lines(self) -> Iterator[Line]:
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(self.read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.read += len(line)
                yield json.loads(line)


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parsers = parser.add_subparsers(dest="what", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--folder", help="where runs are written: the disk that is measured; a temporary place if empty"
    )
    common.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    common.add_argument("--parallel", default="ddp", choices=("ddp", "fsdp"), help="on several ranks")
    common.add_argument("--seed", type=int, default=0, help="draws the moments")
    some = parsers.add_parser("stall", parents=[common])
    some.add_argument("--rounds", type=int, default=5)
    some.add_argument("--steps", type=int, default=12, help="after a save; enough for one beside to get to the disk")
    some.add_argument("--sequences", type=int, default=4)
    some.add_argument("--block-size", type=int, default=256)
    some = parsers.add_parser("stop", parents=[common])
    some.add_argument("--times", type=int, default=8)
    some.add_argument("--batch-tokens", type=int, default=65536)
    some.add_argument("--micro-batch", type=int, default=8, help="sequences of 1024 tokens")
    some.add_argument("--within", type=float, default=30.0, help="SIGTERM comes within so many seconds")
    some = parsers.add_parser("restart", parents=[common])
    some.add_argument("--kills", type=int, default=8)
    some.add_argument("--ranks", type=int, default=2)
    some.add_argument("--checkpoint-every", type=int, default=5)
    options = parser.parse_args()
    if options.what != "stall":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not before the processes that were started have ended
    {"stall": stall, "stop": stop, "restart": restart}[options.what](options)


if __name__ == "__main__":
    main()
