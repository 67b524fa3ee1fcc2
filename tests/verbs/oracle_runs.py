"""Runs of a few steps on a made-up play, and models of random weights, to be judged and to judge."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

import folio
from folio.model.config import GPTConfig
from folio.model.folder import save_model
from folio.model.gpt import GPT
from folio.tokenizer import TokenizerConfig, train_tokenizer

VOCABULARY: dict[str, dict[str, int]] = {"bpe": {"vocab_size": 300}, "word": {"min_count": 2}, "char": {}}


def made_up_play(seed: int, passages: int) -> str:
    """Speeches in which a word says much about the next."""
    draw = random.Random(seed)
    follows = {"the": ["king", "crown", "night"], "king": ["is", "was"], "crown": ["is", "was"], "night": ["is", "was"]}
    follows |= {"is": ["gone", "here"], "was": ["gone", "here"], "gone": [".", ","], "here": [".", ","], ",": ["the"]}
    speeches = []
    for number in range(passages):
        words = ["the"]
        while words[-1] != "." or len(words) < 5:
            words.append(draw.choice(follows.get(words[-1], ["the"])))
        line = " ".join(words).replace(" .", ".").replace(" ,", ",")
        speeches.append(f"{draw.choice(['ANNA', 'BRUTUS', 'CATO'])}:\nGood {number % 7 + 2}, {line}")
    return "\n\n".join(speeches) + "\n"


def train(out: Path, text: Path, kind: str, steps: int, **shape: Any) -> Path:
    return folio.train(
        {
            "corpus": {"path": str(text)},
            "tokenizer": {"kind": kind, **VOCABULARY[kind]},
            "model": {"block_size": 96, "n_layer": 1, "n_head": 2, "n_embd": 32, **shape},
            "train": {
                "steps": steps,
                "batch_tokens": 768,
                "validate_every": steps,
                "validation_tokens": 192,
                "checkpoint_every": steps,
                "sample_every": steps,
                "device": "cpu",
                "optimizer": {"learning_rate": 1e-2},
                "schedule": {"warmup_steps": 2},
            },
            "generation": {"max_new_tokens": 4},
        },
        out=out,
    )


def save_random(folder: Path, text: str, block_size: int = 96, silent: bool = False) -> Path:
    """A char model of random weights; a silent one writes end-of-text at once, whatever the prompt."""
    tokenizer = train_tokenizer([text], TokenizerConfig(kind="char"))
    shape = GPTConfig(vocab_size=tokenizer.vocab_size, block_size=block_size, n_layer=1, n_head=1, n_embd=8)
    gpt = GPT(shape).initialize(0)
    if silent:
        with torch.no_grad():
            for parameter in gpt.parameters():
                parameter.zero_()
            gpt.norm.bias[0] = 1.0
            gpt.embed.weight[tokenizer.eot_id, 0] = 100.0
    folder.mkdir()
    save_model(gpt, folder, eos_id=tokenizer.eot_id, tokenizer_files=tokenizer.save_into)
    return folder
