"""Small bases of random weights, adapters on them, runs whose checkpoints hold adapters; and what they compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from model_shapes import SHAPES, random_ids, random_model
from safetensors.torch import save_file

import folio
from folio.artifacts import write_manifest
from folio.errors import UserError
from folio.finetuning.adapters import base_of, save_adapter
from folio.finetuning.config_lora import LoraConfig
from folio.finetuning.lora import add_lora
from folio.model.config import GPTConfig
from folio.model.folder import load_model, save_model
from folio.model.gpt import GPT
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from folio.verbs.library import Model

LETTERS = "abcdefgh \n"


def letters(text: str = LETTERS) -> Tokenizer:
    return train_tokenizer([text], TokenizerConfig(kind="char"))


def shape_of(kind: str) -> GPTConfig:
    return SHAPES[kind].model_copy(update={"vocab_size": letters().vocab_size})


def make_base(folder: Path, kind: str = "gpt2", seed: int = 0, **changes: Any) -> Path:
    """A model folder with a tokenizer and a manifest."""
    folder.mkdir(parents=True)
    tokenizer, shape = letters(), shape_of(kind).model_copy(update=changes)
    model = random_model(shape, seed)
    save_model(model, folder, eos_id=tokenizer.eot_id, tokenizer_files=tokenizer.save_into)
    write_manifest(folder, "model", shape.model_dump(mode="json"))
    return folder


def make_adapter(
    folder: Path, base: Path, seed: int = 1, called: str | None = None, tokenizer: Tokenizer | None = None, **lora: Any
) -> Path:
    """A random adapter for the model in ``base``, which it calls by that name."""
    model = load_model(base)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in add_lora(model, LoraConfig.model_validate({"rank": 4, "alpha": 6, **lora})):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    extra = None if tokenizer is None else tokenizer.save_into
    save_adapter(model, folder, base=base_of(base, called or str(base)), extra=extra)
    return folder


def make_checkpoint(run: Path, step: int, base: Path, loss: float | None = None, **settings: Any) -> Path:
    """A checkpoint ``step-...`` with ``adapter/`` and ``state/``, as a run of adapters leaves it."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text("{}")
    folder = run / "checkpoints" / f"step-{step:08d}"
    (folder / "state").mkdir(parents=True)
    make_adapter(folder / "adapter", base, seed=step, tokenizer=letters(), **settings)
    save_file({"step": torch.tensor([step])}, folder / "state" / "rank-0.safetensors")
    write_manifest(folder, "checkpoint", {"step": step, "nats_per_token": loss})
    return folder


def logits(model: Model | GPT) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(random_ids(model.config))
    return found


def opened(path: Path | str, dtype: str | None = None, base: Path | None = None) -> torch.Tensor:
    return logits(folio.load(path, dtype=dtype, device="cpu", base=base))  # type: ignore[arg-type]


def told(path: Path | str, base: Path | str | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        folio.load(path, device="cpu", base=base)
    assert "\n" not in caught.value.problem
    assert caught.value.remedy
    return caught.value


def peft_logits(base: Path, adapter: Path) -> torch.Tensor:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    model = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    with torch.no_grad():
        found: torch.Tensor = model(random_ids(load_model(base).config)).logits
    return found
