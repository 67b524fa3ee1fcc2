"""TensorBoard and Weights & Biases get what metrics.jsonl gets, if they are installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from folio.errors import MissingExtra
from folio.training.sinks import open_sinks, require_sinks

LINES = (
    {"kind": "train", "step": 1, "nats_per_token": 4.0, "learning_rate": 0.1, "mfu": None},
    {"kind": "sample", "step": 1, "prompt": "To be", "text": " or not"},
    {"kind": "train", "step": 2, "nats_per_token": 3.5, "learning_rate": 0.2},
    {"kind": "validation", "step": 2, "nats_per_token": 3.75, "convention": "disjoint blocks"},
    {"kind": "event", "step": 2, "event": "finished"},
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_every_number_and_the_samples(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with open_sinks(["tensorboard", "tensorboard"], tmp_path) as sinks:
        assert len(sinks) == 1
        for line in LINES:
            sinks[0](line)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = (tmp_path / "tensorboard").iterdir()
    assert "tfevents" in file.name
    events: Any = EventAccumulator(str(file)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/nats_per_token")] == [(1, 4.0), (2, 3.5)]
    assert [(e.step, e.value) for e in events.Scalars("validation/nats_per_token")] == [(2, 3.75)]
    assert set(events.Tags()["scalars"]) == {
        "train/nats_per_token",
        "train/learning_rate",
        "validation/nats_per_token",
    }
    assert b"To be or not" in events.Tensors("sample/text_summary")[0].tensor_proto.string_val[0]


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_sink_that_is_not_installed_is_refused_with_the_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Absent(name), *sys.meta_path])
    with pytest.raises(MissingExtra, match=name) as missing:
        require_sinks([name])
    remedy = "Install it with: pip install 'folio-lm[track]'; in a checkout: pip install -c constraints.txt '.[track]'"
    assert missing.value.remedy == remedy
    with pytest.raises(MissingExtra, match=name), open_sinks([name], tmp_path):
        pass


class Absent:
    """An importer that knows for sure that one package is not there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def test_wandb_gets_every_number_at_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []
    tracker = SimpleNamespace(
        log=lambda values, step: logged.append((step, values)), finish=lambda: logged.append("finished")
    )
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **settings: tracker))
    with open_sinks(["wandb"], tmp_path) as (send,):
        send(dict(LINES[0]))
    assert logged == [(1, {"train/nats_per_token": 4.0, "train/learning_rate": 0.1}), "finished"]
