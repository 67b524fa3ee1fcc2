"""What the tests of ``folio evaluate`` measure: runs of a few steps, texts, items and shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folio
from folio.corpus import Document
from folio.shards import ShardsConfig, write_shards
from folio.verbs.action import Terminal

QUIET = Terminal(quiet=True)
TEXT = "the cook stirs the egg in the pan. a man skis down the hill, and the snow is blue.\n"
SCENES = [
    {"ind": i, "activity_label": "Cooking", "ctx": f"A pan is on the stove {i}. the cook", "label": i % 4,
     "endings": ["stirs the egg.", "skis down the hill.", "is blue.", "eats a man in the snow."]}
    for i in range(12)
]  # fmt: skip
RIDDLES = """
name = "riddles"
about = "What a riddle means."
kind = "multiple-choice"
endings = ["endings"]
fields.riddle = ["ctx"]
label.field = ["label"]

[conventions.plain]
about = "The riddle, then each answer."
encoding = "apart"
context = "{riddle}"
ending = " {ending}"
"""


def recipe(text: Path, kind: str, **tables: Any) -> dict[str, Any]:
    sizes = {"bpe": {"vocab_size": 270}, "word": {"min_count": 2}, "char": {}}[kind]
    return {
        "corpus": {"path": str(text)},
        "tokenizer": {"kind": kind, **sizes},
        "model": {"block_size": 32, "n_layer": 1, "n_head": 2, "n_embd": 16},
        "train": {"steps": 4, "batch_tokens": 128, "validation_tokens": 64, "device": "cpu", **tables.pop("train", {})},
        **tables,
    }


def make_home(home: Path) -> Path:
    """Four runs on one text, one of a shorter context; a model without a run; another text, items, tasks, shards."""
    (home / "text.txt").write_text("0123456789 A C fjqvxyz\n" + TEXT * 60)
    (home / "other.txt").write_text("a blue pan is in the snow, and the man stirs it.\nthe zebra eats.\n" * 90)
    (home / "items.jsonl").write_text("".join(json.dumps(scene) + "\n" for scene in SCENES))
    (home / "riddles.toml").write_text(RIDDLES)
    (home / "again.toml").write_text(RIDDLES + "# again")
    for kind in ("bpe", "char", "word"):
        folio.train(recipe(home / "text.txt", kind), out=home / "runs" / kind)
    small = recipe(home / "text.txt", "char")
    folio.train({**small, "model": {**small["model"], "block_size": 16}}, out=home / "runs" / "short")
    folio.load(home / "runs" / "bpe").save(home / "plain")
    documents = {"val": lambda: [Document("0", TEXT * 4, "here")]}
    shards = ShardsConfig(tokens_per_shard=10_000, workers=1)
    write_shards(documents, folio.load(home / "runs" / "bpe").tokenizer, home / "shards", shards, source={})
    return home
