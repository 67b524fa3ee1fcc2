"""A process of its own for one rung: set up as the rung wants it, it answers every line on stdin with one on stdout.

    python -m folio.studies.ladder.child '{"job": "facts" | "time" | "learn", ...}'

Between its turns it sleeps. It ends when its input does.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from folio.ranks import Ranks
    from folio.studies.ladder.rungs import Settings
    from folio.studies.ladder.shapes import Model
    from folio.studies.ladder.texts import Text

SEED = 1337
FOREVER = 10**6
"""Steps of a training that is only timed: the rate stays at its peak."""
FORWARD_TOKENS = 8192
Answer = dict[str, Any]


class Training(Protocol):
    """A tutorial's steps, or Folio's own."""

    @property
    def tokens(self) -> int: ...
    def step(self) -> float: ...
    def trained(self) -> Any: ...


def prepare(settings: Settings) -> None:
    """Set this process as the rung wants it, before anything is allocated."""
    import torch

    from folio import hardware

    if settings.keep_pages:
        hardware.keep_pages()
    if settings.products == "onednn":
        hardware.speed_up_fp32_products()
    if settings.products == "tf32":
        torch.set_float32_matmul_precision("high")


def open_training(
    model: Model,
    settings: Settings,
    text: Text,
    sequences: int,
    *,
    seed: int = SEED,
    steps: int = FOREVER,
    accumulation: int = 1,
    ranks: Ranks | None = None,
) -> Training:
    """Training of ``model`` under ``settings`` on batches of ``sequences``, which are a function of seed and step."""
    from folio.ranks import ALONE
    from folio.shards.batches import Batches
    from folio.studies.ladder.own import OwnTraining
    from folio.studies.ladder.plain import PlainTraining

    config = model.config(text.vocab_size, settings)
    source = Batches(text.stream("train"), model.block_size, sequences, seed)
    if not settings.own_stack:
        return PlainTraining(config, settings, source, model.learning_rate, seed)
    return OwnTraining(
        config,
        settings,
        source,
        model.learning_rate,
        seed,
        steps=steps,
        accumulation=accumulation,
        ranks=ranks or ALONE,
    )


def held_out_nats(model: Any, windows_BT: Any) -> list[float]:
    """The mean loss of each window, in nats per token, with products in fp32."""
    import torch

    device, T = model.embed.weight.device, windows_BT.shape[1] - 1
    size = max(1, FORWARD_TOKENS // T)
    nats: list[float] = []
    for first in range(0, len(windows_BT), size):
        rows = torch.from_numpy(windows_BT[first : first + size]).to(device)
        nats += model.token_nats(rows[:, :-1], rows[:, 1:]).double().mean(1).tolist()
    return nats


def timing(task: Answer, ranks: Ranks) -> Generator[Answer, Answer, None]:
    """For ``{"steps": n}``: the seconds of a step, its tokens, and the most memory held.

    The first answer warms up: its step allocates what the others find, and the memory held counts anew after it.
    """
    import torch

    from folio import hardware
    from folio.studies.ladder.rungs import Settings
    from folio.studies.ladder.shapes import accumulation_of, shape_of
    from folio.studies.ladder.texts import read_text
    from folio.training.available_memory import forget_peak_on, peak_on

    settings = Settings(**task["settings"])
    prepare(settings)
    model = shape_of(task["shape"], task["device"]).speed
    many = accumulation_of(model, task["sequences"]) if settings.accumulate else 1
    each = -(-many // ranks.world_size)
    sequences, device = task["sequences"] * each * ranks.world_size, torch.device(settings.device)
    text = read_text(Path(task["folder"]), model.vocabulary)
    training = open_training(model, settings, text, sequences, accumulation=each, ranks=ranks)
    command: Answer = yield {"ready": True}
    first = True
    while True:
        start = time.perf_counter()
        for _ in range(command["steps"]):
            training.step()
        hardware.synchronize(device)
        seconds = time.perf_counter() - start
        answer = {"seconds": seconds / command["steps"], "tokens": training.tokens, "peak_bytes": peak_on(device)}
        if first:
            forget_peak_on(device)
        command, first = (yield answer), False


def learning(task: Answer, ranks: Ranks) -> Generator[Answer, Answer, None]:
    """For ``{"settings": ..., "seed": s, "ends": [n, ...]}``: a fresh model's held-out losses after so many steps,
    and a step's seconds.

    Where the rate has a schedule there is a training for each end. Settings of the process are the task's, and the same
    for all that it is asked. Training is not compiled.
    """
    from folio.studies.ladder.rungs import Settings
    from folio.studies.ladder.shapes import shape_of
    from folio.studies.ladder.texts import read_text

    prepare(Settings(**task["settings"]))
    model = shape_of(task["shape"], task["device"]).learning
    text = read_text(Path(task["folder"]), model.vocabulary)
    windows, sequences = text.windows(model.block_size, task["windows"]), model.sequences[0]
    command: Answer = yield {"ready": True}
    while True:
        settings, seed, ends = Settings(**command["settings"]), command["seed"], sorted(set(command["ends"]))
        many = min(model.accumulation, sequences) if settings.accumulate else 1
        losses: dict[str, list[float]] = {}
        seconds: list[float] = []
        for stops in [ends] if settings.schedule == "constant" else [[end] for end in ends]:
            training = open_training(model, settings, text, sequences, seed=seed, steps=stops[-1], accumulation=many)
            for step in range(1, stops[-1] + 1):
                start = time.perf_counter()
                training.step()
                seconds.append(time.perf_counter() - start)
                if step in stops:
                    losses[str(step)] = held_out_nats(training.trained(), windows)
        command = yield {"losses": losses, "seconds": median(seconds)}


def facts(task: Answer, ranks: Ranks) -> Generator[Answer, Answer, None]:
    from folio.studies.ladder.machine import look

    yield look(task["device"]).as_dict()


JOBS: dict[str, Callable[[Answer, Ranks], Generator[Answer, Answer, None]]] = {
    "facts": facts,
    "time": timing,
    "learn": learning,
}


@contextmanager
def asked() -> Iterator[SimpleQueue[Answer]]:
    """What comes in on stdin, read beside the work: when the asker is gone, so is this process, at once."""
    lines: SimpleQueue[Answer] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    yield lines


def main(task: Answer) -> int:
    """Work until nobody asks any more; what goes wrong is an answer too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the asker decides
    answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr

    def say(answer: Answer) -> None:
        odd = {key: None for key, value in answer.items() if isinstance(value, float) and not math.isfinite(value)}
        print(json.dumps({**answer, **odd}), file=answers, flush=True)

    from folio.ranks import joined
    from folio.training.available_memory import is_out_of_memory

    with asked() as lines:
        try:
            with joined(task.get("settings", {}).get("device", "cpu"), timeout_s=48 * 3600.0) as ranks:
                work: Any = JOBS[task["job"]](task, ranks)
                say(next(work))
                while True:
                    say(work.send(lines.get()))
        except StopIteration:
            return 0
        except Exception as error:
            first = str(error).strip().splitlines()[:1]
            memory = is_out_of_memory(error)
            say({"error": "out of memory" if memory else f"{type(error).__name__}: {''.join(first)}"})
            return 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
