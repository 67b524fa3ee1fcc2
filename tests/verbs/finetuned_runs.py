"""A base trained for a second, examples for it, and the verb run in this process, some of it stopped on its way."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import folio
from folio.cli import main
from folio.finetuning.four_bit import FourBitLinear
from folio.model.folder import load_model
from folio.training.checkpoint import list_checkpoints
from folio.training.metrics import read_metrics
from folio.training.state import StepResult, TrainingState
from folio.verbs.adapted import whole_model

TEXT = "the cook stirs the egg in the pan. a man skis down the hill, and the snow is blue.\n"
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
ANSWERS = ("a man.", "the egg.", "blue snow.", "a pan.")
METHODS = ("full", "lora", "qlora", "head")
BARE = ("--samples.count", "0", "--forgetting.no-measure", "--train.device", "cpu", "--train.precision", "fp32")
"""The run alone, without what is made of it afterwards."""
SHORT = ("--train.batch-tokens", "128", "--train.steps", "6", "--train.validate-every", "3")


def make_home(home: Path) -> Path:
    """``base``, a run; ``train.jsonl`` and ``held.jsonl``, prompts and answers; chats; preferences.

    ``contrary.jsonl`` has other answers to the prompts of ``train.jsonl``.
    """
    (home / "text.txt").write_text(TEXT * 20)
    write(home / "documents.jsonl", [{"text": f"{number} A C fjqvxyz: {TEXT}"} for number in range(80)])
    train = {"steps": 120, "batch_tokens": 512, "validation_tokens": 64, "device": "cpu", "precision": "fp32"}
    shape = {"block_size": 64, "n_layer": 2, "n_head": 2, "n_embd": 32}
    tables = {"corpus": {"path": str(home / "documents.jsonl")}, "tokenizer": {"kind": "char"}, "model": shape}
    folio.train({**tables, "train": {**train, "optimizer": {"learning_rate": 1e-2}}}, out=home / "base")
    write(home / "train.jsonl", [completion(word, number) for number, word in enumerate(WORDS)])
    write(home / "held.jsonl", [completion(f"not {word}", number) for number, word in enumerate(WORDS[:4])])
    write(home / "contrary.jsonl", [completion(word, number + 1) for number, word in enumerate(WORDS)])
    write(home / "chats.jsonl", [chat(word, number) for number, word in enumerate(WORDS)])
    write(home / "pairs.jsonl", [pair(word, number) for number, word in enumerate(WORDS)])
    write(home / "held_pairs.jsonl", [pair(f"not {word}", number) for number, word in enumerate(WORDS[:4])])
    return home


def completion(word: str, number: int) -> dict[str, Any]:
    return {"prompt": f"{word}: ", "completion": ANSWERS[number % 4]}


def chat(word: str, number: int) -> dict[str, Any]:
    turns = (("user", word), ("assistant", ANSWERS[number % 4]))
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def pair(word: str, number: int) -> dict[str, Any]:
    return {"prompt": f"{word}: ", "chosen": ANSWERS[number % 4], "rejected": f"fjq {ANSWERS[number % 4]}"}


def write(path: Path, records: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def data_of(home: Path) -> tuple[object, ...]:
    return (home / "base", "--data", home / "train.jsonl", "--data.validation", home / "held.jsonl")


def command(*arguments: object) -> tuple[int, str, str]:
    """Run a command in this process: exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def finetune(*arguments: object) -> dict[str, Any]:
    """What ``folio finetune`` answers under ``--json``; it must end well."""
    code, out, err = command("finetune", *arguments, "--json")
    assert code == 0, err + out
    answer: dict[str, Any] = json.loads(out)
    return answer


def tune(home: Path, run: Path, method: str, *more: object) -> dict[str, Any]:
    """A short run of one method on the examples of ``home``."""
    return finetune(*data_of(home), "--method", method, "--out", run, *BARE, *SHORT, *more)


def base_model(home: Path) -> Path:
    return list_checkpoints(home / "base")[-1].path / "model"


def part_of(run: Path) -> Path:
    """``model/`` or ``adapter/`` of its last checkpoint."""
    (part,) = (path for path in list_checkpoints(run)[-1].path.iterdir() if path.name in ("model", "adapter"))
    return part


def lines_of(run: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics(run) if line["kind"] == kind]


def files_of(folder: Path) -> dict[str, str]:
    """The sha256 of each file by its path, but for marks of what is kept; of none if the folder is not there."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "kept.json" not in path.name
    }


def weights_of(model: Path) -> dict[str, Tensor]:
    """The weights of a whole model, by name."""
    return {name: p.detach() for name, p in load_model(whole_model(str(model)), device="cpu").named_parameters()}


def refused(run: Path, *more: object) -> str:
    """The one complaint of a resume that must leave the run as it was."""
    before = files_of(run)
    code, _out, err = command("finetune", "--resume", run, *more)
    assert (code, "Traceback" in err) == (2, False), err
    assert files_of(run) == before
    assert err.startswith("folio: ")
    return err


class Killed(BaseException):
    """As abrupt as a kill can be within a process: nothing of Folio catches it."""


@contextlib.contextmanager
def ending_at(step: int, how: signal.Signals | type[Killed]) -> Iterator[None]:
    """Send this process a signal within step ``step``, or tear it out of it."""
    train_step = TrainingState.train_step

    def watched(self: TrainingState, *arguments: Any) -> StepResult | None:
        if self.step + 1 == step and how is Killed:
            raise Killed
        result = train_step(self, *arguments)
        if self.step == step and how is not Killed:
            os.kill(os.getpid(), how)  # type: ignore[arg-type]
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "train_step", watched)
        yield


@contextlib.contextmanager
def states_seen() -> Iterator[list[TrainingState]]:
    """The states of training that are made meanwhile, for a look at the models that were trained."""
    made: list[TrainingState] = []
    begin = TrainingState.__init__

    def watched(self: TrainingState, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "__init__", watched)
        yield made


def four_bit_layers(model: torch.nn.Module) -> list[FourBitLinear]:
    return [module for module in model.modules() if isinstance(module, FourBitLinear)]
