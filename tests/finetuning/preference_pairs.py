"""A tiny model and its reference, made without random numbers, and preferences in text for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from folio.finetuning.config_data import DataConfig
from folio.finetuning.preference.pair_sets import PairSets, pair_sets
from folio.finetuning.preference.pairs import Pair
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

RECORDS = [
    {"prompt": "Who is it?", "chosen": " Romeo.", "rejected": " Nobody at all, sir."},
    {"prompt": "Speak, sir", "chosen": ": a rose by any name", "rejected": "!"},
    {"prompt": "a", "chosen": "men", "rejected": "ble"},
    {"prompt": "Is she the rose?", "chosen": " She is the sun", "rejected": " She is the moon, sir"},
]
"""Answers longer and shorter than the other, alike at the beginning, and of one token more than it."""


def char_tokenizer(more: str = "") -> Tokenizer:
    text = more + "".join(value for record in RECORDS for value in record.values())
    return train_tokenizer([text], TokenizerConfig(kind="char"))


def shape(tokenizer: Tokenizer, **options: Any) -> GPTConfig:
    return GPTConfig(vocab_size=tokenizer.vocab_size, block_size=48, n_layer=2, n_head=2, n_embd=16, **options)


def even_model(config: GPTConfig, phase: float = 0.0) -> GPT:
    """A model whose weights are a sine of their place: the same on any machine; ``phase`` makes one a little other."""
    model = GPT(config)
    with torch.no_grad():
        for number, (name, weight) in enumerate(model.named_parameters()):
            place = torch.arange(weight.numel(), dtype=torch.float64)
            centre = 1.0 if name.endswith("norm.weight") else 0.0
            value = centre + 0.3 * torch.sin(place * (1.7 + 0.1 * number) + phase)
            weight.copy_(value.view(weight.shape))
    model._clear_padding()
    return model.eval()


def write(path: Path, records: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def sets_of(path: Path, records: Sequence[Any], tokenizer: Tokenizer, context: int = 48, **options: Any) -> PairSets:
    """The sets of ``records``, all of them in training unless ``options`` say otherwise."""
    options = {"validation_fraction": 0.0, **options}
    config = DataConfig(path=str(write(path / "pairs.jsonl", records)), **options)
    return pair_sets(config, tokenizer, context)


def pairs_of(path: Path, records: Sequence[Any] = RECORDS, tokenizer: Tokenizer | None = None) -> tuple[Pair, ...]:
    return sets_of(path, records, tokenizer or char_tokenizer()).train
