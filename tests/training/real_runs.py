"""Real ``folio train`` processes on a small text, some of which are made to die at a chosen moment.

Run as a program: ``python real_runs.py MOMENT STEP -- ARGUMENTS``; without a moment it is what ``folio`` is.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLIO = [sys.executable, "-W", "error", "-m", "folio"]
DYING = [sys.executable, "-W", "error", str(Path(__file__))]

RECIPE = """
[corpus]
path = "TEXT"
[tokenizer]
kind = "char"
[model]
block_size = 32
n_layer = 2
n_head = 2
n_embd = 32
dropout = 0.1
[train]
steps = 24
batch_tokens = 512
micro_batch = 8
validate_every = 6
validation_tokens = 640
checkpoint_every = 4
sample_every = 12
[train.optimizer]
kind = "muon"
learning_rate = 3e-3
[train.schedule]
warmup_steps = 4
[generation]
max_new_tokens = 8
"""


def write_recipe(folder: Path) -> Path:
    """A text of made-up words and a recipe for it, ``tiny.toml``."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=draw.randint(2, 6))) for _ in range(60)]
    (folder / "text.txt").write_text("".join(draw.choice(words) + draw.choice("     \n") for _ in range(3000)))
    path = folder / "tiny.toml"
    path.write_text(RECIPE.replace("TEXT", (folder / "text.txt").as_posix()))
    return path


def folio(*arguments: object, dying: tuple[str, int] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``folio`` to its end, or with ``dying`` until step so-and-so's moment."""
    command = FOLIO if dying is None else [*DYING, dying[0], str(dying[1]), "--"]
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def weights_sha256(output: str) -> str:
    """What a finished run printed of its weights."""
    (found,) = re.findall(r"weights +sha256 ([0-9a-f]{64})", output)
    return str(found)


TIMES = ("step_time_s", "data_wait_s", "tokens_per_s", "mfu", "elapsed_s", "peak_bytes")


def curve(run: Path) -> list[dict[str, Any]]:
    """The lines of a run that count, without clocks and without what tells of stops and resumes."""
    from folio.training.metrics import read_metrics

    lines = [{key: value for key, value in line.items() if key not in TIMES} for line in read_metrics(run)]
    return [line for line in lines if line.get("event") not in ("resumed", "stopped")]


def die_at(moment: str, step: int) -> None:
    """Patch the process so that it is ended at ``moment`` of ``step``."""
    from folio import artifacts
    from folio.training import checkpoint, state, state_files

    def end(number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(os.getpid(), number)

    train_step, save_file, swap_in = state.TrainingState.train_step, state_files.write_tensors, artifacts._swap_in
    rmtree = checkpoint.shutil.rmtree
    at = {"step": 0}

    def watched_step(self: Any, *arguments: Any) -> Any:
        at["step"] = self.step + 1
        result = train_step(self, *arguments)
        if at["step"] == step and moment in ("SIGKILL", "SIGTERM", "SIGINT"):
            end(signal.Signals[moment])
        return result

    def half_file(tensors: Any, path: Path) -> None:
        save_file(tensors, path)
        if at["step"] == step and moment == "half-written":
            path.write_bytes(path.read_bytes()[:1000])
            end()

    def watched_swap(temporary: Path, path: Path) -> None:
        mine = path.name.startswith("step-") and at["step"] == step
        if mine and moment == "before-rename":
            end()
        swap_in(temporary, path)
        if mine and moment == "after-rename":
            end()

    def half_removed(path: Path, **options: Any) -> None:
        if at["step"] == step and moment == "half-removed" and "step-" in path.name:
            next(path.rglob("model.safetensors")).unlink()
            end()
        rmtree(path, **options)

    state.TrainingState.train_step = watched_step  # type: ignore[method-assign]
    state_files.write_tensors = half_file
    artifacts._swap_in = watched_swap
    checkpoint.shutil.rmtree = half_removed  # type: ignore[assignment]


def main() -> int:
    moment, step, _, *arguments = sys.argv[1:]
    die_at(moment, int(step))
    from folio.cli import main as command_line

    return command_line(arguments)


if __name__ == "__main__":
    sys.exit(main())
