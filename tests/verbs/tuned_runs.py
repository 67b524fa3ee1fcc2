"""A base trained for seconds, and runs with models made from it, as fine-tuning leaves them."""

from __future__ import annotations

from pathlib import Path

import torch

import folio
from folio.artifacts import write_manifest
from folio.checksums import sealed_json
from folio.finetuning.adapters import base_of, save_adapter
from folio.finetuning.config_lora import LoraConfig
from folio.finetuning.lora import add_lora
from folio.training.metrics import MetricsLog

TEXT = "the cook stirs the egg in the pan. a man skis down the hill, and the snow is blue.\n"
OTHER = "zz qq xx zz qq xx vv jj zz qq xx. "


def train_base(home: Path) -> Path:
    """A run on text of one kind, with enough of it held out to pair."""
    (home / "text.txt").write_text("0123456789 A C fjqvxyz\n" + TEXT * 400)
    recipe = {
        "corpus": {"path": str(home / "text.txt")},
        "tokenizer": {"kind": "char"},
        "model": {"block_size": 32, "n_layer": 1, "n_head": 2, "n_embd": 32},
        "train": {
            "steps": 80, "batch_tokens": 512, "validation_tokens": 64, "device": "cpu", "sample_every": 0,
            "optimizer": {"kind": "adamw", "learning_rate": 1e-2},
        },
    }  # fmt: skip
    return Path(folio.train(recipe, out=home / "base"))


def tuned_run(base: Path, run: Path, text: str, steps: int, rank: int = 0) -> Path:
    """A finished run whose model is that of ``base`` after ``steps`` on ``text``: as it was after none.

    With a ``rank`` the run keeps an adapter of that rank, else a whole model.
    """
    model = folio.load(base)
    ids = torch.tensor(model.tokenizer.encode(text))
    trained = add_lora(model.gpt, LoraConfig(rank=rank)) if rank else list(model.gpt.parameters())
    optimizer = torch.optim.AdamW(trained, lr=3e-2 if rank else 3e-3)
    for step in range(steps):
        start = step * 7 % (len(ids) - 33)
        window = ids[start : start + 33]
        nats, count = model.gpt(window[None, :-1], window[None, 1:])
        optimizer.zero_grad()
        (nats / count).backward()
        optimizer.step()
    checkpoint = run / "checkpoints" / f"step-{steps:08}"
    checkpoint.mkdir(parents=True)
    if rank:
        save_adapter(model.gpt, checkpoint / "adapter", base=base_of(model.folder, str(model.folder)))
    else:
        model.save(checkpoint / "model")
    write_manifest(checkpoint, "checkpoint", {"step": steps, "judged": 1.0})
    config = {
        "verb": "finetune",
        "preset": "finetune",
        "recipe": {"model": str(base), "data": {"path": "examples.jsonl"}, "lora": {"rank": rank}},
        "base": {"given": str(base), "folder": str(base)},
        "resolved": {"method": "lora" if rank else "full", "parameters": 1, "trainable": 1},
    }
    (run / "config.json").write_text(sealed_json(config))
    with MetricsLog(run / "metrics.jsonl") as log:
        log.log(kind="event", step=steps, event="finished")
    return run
