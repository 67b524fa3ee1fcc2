"""Jobs that save, load and stop: the bits of a state on its way through checkpoints, and what each rank hears."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path
from threading import Event
from typing import Any

import torch
from rank_work import GPT2, QWEN3, STEPS, Counting, make_state, relative, trained, weights, whole
from safetensors.torch import load_file

from folio.errors import Interrupted, UserError
from folio.model.config import GPTConfig
from folio.model.folder import load_model
from folio.ranks import Ranks
from folio.training.checkpoint import Checkpoint, list_checkpoints
from folio.training.loop import Hooks, Line, Pace, Poll, Probe, fit
from folio.training.parallel import local
from folio.training.saving import ModelContents, Saver, load_checkpoint
from folio.training.state import TrainingState

STATES: dict[str, tuple[GPTConfig, dict[str, Any]]] = {
    "gpt2, adamw": (GPT2, {}),
    "qwen3, muon and ema": (QWEN3, {"optimizer": {"kind": "muon"}, "ema_decay": 0.9}),
}


def digests(state: TrainingState) -> dict[str, str]:
    """The bits of every tensor that ranks share, put together where it is spread; collective."""
    tensors = {name: whole(t) for name, t in state.tensors().items() if not name.startswith("rng/")}
    tensors |= {f"model/{name}": tensor for name, tensor in weights(state).items()}
    if state.ema is not None:
        with state.shipping_weights():
            tensors |= {f"average/{name}": tensor for name, tensor in weights(state).items()}
    return {name: hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest() for name, t in tensors.items()}


def save(run: Path, state: TrainingState, *, beside: bool = False) -> Checkpoint:
    run.mkdir(exist_ok=True, parents=True)
    (run / "config.json").touch()
    with Saver(run, state.runtime.ranks, ModelContents(), keep_last=99, beside=beside) as saver:
        saver.save(state, {})
        saver.finish()
    assert saver.newest is not None
    return saver.newest


def handed_on(number: int, way: str, ranks: Ranks, folder: Path) -> Any:
    """Link ``number`` of a chain: load what the link before saved, and save it anew; the first trains a little."""
    answer = {}
    for name, (shape, train) in STATES.items():
        state, plan = make_state(shape, ranks, way, **train)
        chain = folder / name
        if number == 0:
            trained(state, plan, steps=3)
        else:
            (before,) = list_checkpoints(chain / str(number - 1))
            load_checkpoint(before, state)
        seen = digests(state)
        after = save(chain / str(number), state)
        if ranks.first:
            read = load_model(after.model, device="cpu")
            loaded = {name: parameter.detach() for name, parameter in read.named_parameters()}
            shipped = hashlib.sha256((after.model / "model.safetensors").read_bytes()).hexdigest()
            answer[name] = {"step": state.step, "seen": seen, "model": shipped, "opened": len(loaded)}
        ranks.wait()
    return answer


def goes_on(number: int, way: str, ranks: Ranks, folder: Path) -> Any:
    """After link ``number``: how far the losses that follow are from those of one rank that was never saved."""
    answer = {}
    for name, (shape, train) in STATES.items():
        state, plan = make_state(shape, ranks, way, **train)
        load_checkpoint(list_checkpoints(folder / name / str(number))[0], state)
        ours = trained(state, plan, steps=4)["losses"]
        alone, its_plan = make_state(shape, **train)
        theirs = trained(alone, its_plan, steps=7)["losses"][3:]
        answer[name] = relative(ours, theirs)
    return answer


def written_beside(way: str, ranks: Ranks, folder: Path) -> Any:
    """Tensors that differ between a checkpoint written at once and one written while training went on."""
    shape, train = STATES["qwen3, muon and ema"]
    state, plan = make_state(shape, ranks, way, **train)
    trained(state, plan, steps=3)
    at_once = save(folder / f"at once, {way}", state)
    run = folder / f"beside, {way}"
    run.mkdir(exist_ok=True)
    (run / "config.json").touch()
    go, write = Event(), Saver.write
    Saver.write = lambda self, snapshot: (go.wait(30), write(self, snapshot))[1]  # type: ignore[method-assign]
    try:
        with Saver(run, ranks, ModelContents(), beside=True) as saver:
            saver.save(state, {})
            trained(state, plan, steps=2)
            unwritten = not list_checkpoints(run)
            go.set()
            trained(state, plan, steps=2)  # both talk at the same time, each over its own group
    finally:
        Saver.write = write  # type: ignore[method-assign]
    (beside,) = list_checkpoints(run)
    files = [sorted(p.relative_to(c.path).as_posix() for p in c.path.rglob("*.safetensors")) for c in (at_once, beside)]
    differ = []
    for file in files[0]:
        ours, theirs = load_file(at_once.path / file), load_file(beside.path / file)
        differ += [name for name in ours.keys() | theirs.keys() if not torch.equal(ours[name], theirs[name])]
    return {"unwritten": unwritten, "files": files, "differ": differ}


def faulty_memory(ranks: Ranks, folder: Path) -> Any:
    """What each rank hears at the next save when a bit of the last one's weights has flipped."""
    state, plan = make_state(GPT2, ranks, "ddp")
    trained(state, plan, steps=1)
    sound = save(folder / "faulty", state).step
    trained(state, plan, steps=1)
    if ranks.rank == ranks.world_size - 1:
        with torch.no_grad():
            state.model.blocks[1].mlp.up.weight[3, 4].view(torch.int32).bitwise_xor_(1)  # type: ignore[union-attr,index]
    heard = ""
    try:
        save(folder / "faulty", state)
    except UserError as error:
        heard = error.problem
    return {"sound": sound, "heard": ranks.gather(heard), "left": [c.step for c in list_checkpoints(folder / "faulty")]}


class Signalling(Counting):
    """One rank asks to be stopped amid a step."""

    def __init__(self, shape: Any, ranks: Ranks, step: int) -> None:
        super().__init__(shape)
        self.step = step if ranks.rank == ranks.world_size - 1 else -1

    def batch(self, step: int, rows: slice = slice(None)) -> Any:
        if step == self.step:
            self.step = -1
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(step, rows)


def fitted(state: TrainingState, source: Counting, plan: Any, run: Path, *probes: Probe) -> tuple[str, list[Line]]:
    """Train to the end, or until stopped: what stopped it, and the lines."""
    lines: list[Line] = []
    run.mkdir(exist_ok=True)
    (run / "config.json").touch()
    with Saver(run, state.runtime.ranks, ModelContents(), keep_last=99) as saver:
        try:
            fit(state, source, plan, Hooks(lines.append, saver.save, probes), Pace(1.0, 1.0))
        except Interrupted as stopped:
            return str(stopped), lines
    return "", lines


def stopped(way: str, ranks: Ranks, folder: Path) -> Any:
    """The last rank alone is signalled amid step 5. Dropout shows whether random numbers are put back."""
    shape = GPT2.model_copy(update={"dropout": 0.2})
    calm, plan = make_state(shape, ranks, way)
    trained(calm, plan)
    state, plan = make_state(shape, ranks, way)
    run = folder / f"stopped, {way}"
    told, lines = fitted(state, Signalling(shape, ranks, 4), plan, run)
    answer = {"told": ranks.gather(told), "steps": ranks.gather([state.step, len(lines)])}
    calls = iter((False, ranks.rank > 0))  # after the first of two micro-batches
    assert state.train_step(Counting(shape), plan, lambda: next(calls)) is None
    trained(state, plan, steps=STEPS - state.step)
    again, plan = make_state(shape, ranks, way)
    (kept,) = list_checkpoints(run)
    load_checkpoint(kept, again)
    trained(again, plan, steps=STEPS - again.step)
    return {**answer, "kept": kept.step, "here": differing(state, calm), "resumed": differing(again, calm)}


def differing(ours: TrainingState, theirs: TrainingState) -> list[str]:
    """Names of tensors that are not the same bits on some rank."""
    a, b = (state.tensors() | dict(state.model.named_parameters()) for state in (ours, theirs))
    assert a.keys() == b.keys()
    mine = [name for name in a if not name.startswith("rng/") and not torch.equal(local(a[name]), local(b[name]))]
    return sorted({name for names in ours.runtime.ranks.gather(mine) for name in names})


def stopped_in_probe(ranks: Ranks, folder: Path) -> Any:
    """The last rank alone is signalled while validation runs."""

    def probe(step: int, poll: Poll) -> Line:
        if step == 4:
            if ranks.rank == ranks.world_size - 1:
                os.kill(os.getpid(), signal.SIGUSR1)
            for _ in range(50):
                poll()
            raise AssertionError("the probe went on")
        return {"kind": "validation", "nats_per_token": 1.0}

    state, plan = make_state(GPT2, ranks)
    run = folder / "stopped in probe"
    told, _ = fitted(state, Counting(GPT2), plan, run, Probe(2, probe))
    newest = list_checkpoints(run)[-1]
    return {"told": ranks.gather(told), "kept": newest.step, "unprobed": newest.unprobed}
