"""The card of an adapter: a header that the hub reads, and code that opens it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from model_shapes import SHAPES, assert_same_logits, random_ids, random_model

from folio.finetuning.adapters import base_of, save_adapter
from folio.finetuning.lora import add_lora
from folio.finetuning.low_rank import LoraConfig
from folio.model.folder import save_model
from folio.model.gpt import GPT

os.environ["HF_HUB_OFFLINE"] = "1"
pytest.importorskip("peft")

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def adapted(kind: str, **settings: object) -> GPT:
    model = random_model(SHAPES[kind])
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in add_lora(model, LoraConfig.model_validate({"rank": 4, "alpha": 6, **settings})):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def test_the_card_has_the_header_of_peft_and_code_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    base = tmp_path / "base"
    base.mkdir()
    save_model(random_model(SHAPES["llama-grouped"]), base)
    model = adapted("llama-grouped", targets=["q_proj", "down_proj"])
    save_adapter(model, tmp_path / "adapter", base=base_of(base, str(base)), card="Trained on nothing.")
    card = hub.ModelCard.load(tmp_path / "adapter" / "README.md")
    assert (card.data.library_name, card.data.base_model) == ("peft", str(base))
    assert card.data.pipeline_tag == "text-generation"
    assert {"lora", f"base_model:adapter:{base}"} <= set(card.data.tags)
    assert "LoRA, rank 4, alpha 6 (scaled by alpha / rank = 1.5)" in card.text
    assert f"| parameters | {3 * 4 * (48 + 48 + 100 + 48):,} |" in card.text
    assert card.text.rstrip().endswith("Trained on nothing.")
    with torch.no_grad():
        expected = model(random_ids(model.config))
    monkeypatch.chdir(tmp_path / "adapter")
    ours, theirs = (block.split("```")[0] for block in card.text.split("```python\n")[1:])
    for code in (ours, theirs):
        exec(code, names := {})
        with torch.no_grad():
            found = names["model"](random_ids(model.config))
        assert_same_logits(getattr(found, "logits", found), expected, 2e-5)


def test_the_card_of_a_shape_without_a_class_offers_folio_alone(tmp_path: Path) -> None:
    save_adapter(adapted("folio", rslora=True), tmp_path / "adapter")
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "library_name: folio" in card
    assert "rsLoRA, rank 4, alpha 6 (scaled by alpha / sqrt(rank) = 3)" in card
    assert "base_model" not in card
    assert "from peft" not in card
