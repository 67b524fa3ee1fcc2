"""Real items of a benchmark in real books."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from letters import documents

from folio.corpus.ngrams import words_of
from folio.evaluation.contamination import processes
from folio.evaluation.contamination.passages import ShardText
from folio.evaluation.contamination.search import index_of, question_texts, search
from folio.evaluation.tasks import find_task
from folio.shards import ShardsConfig, write_shards
from folio.tokenizer import TokenizerConfig, train_tokenizer


def grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def test_real_items_planted_in_real_novels(
    shared_data: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tenth of 500 HellaSwag items, in capitals and with other white space, inside two novels: those alone."""
    monkeypatch.setattr(processes, "TASKS_BEFORE_PROCESSES", 1)
    task = find_task("hellaswag")
    items = task.read(shared_data("hellaswag_val_0-4999.jsonl"), limit=500).items
    forms = zip(*(task.questions(items, convention) for convention in task.conventions), strict=True)
    texts = [question_texts(form, "right") for form in forms]
    with tarfile.open(shared_data("novels.tar.xz")) as archive:
        novels = []
        for member in archive:
            if member.name.endswith(".txt") and (file := archive.extractfile(member)):
                novels.append(file.read().decode()[:300_000])
            if len(novels) == 2:
                break
    tokenizer = train_tokenizer([novels[0][:20_000]], TokenizerConfig(kind="bpe", vocab_size=400))
    planted = range(0, 500, 10)
    words = novels[0].split(" ")
    for place, item in enumerate(planted):
        words.insert(997 * (place + 1), texts[item][0].upper().replace(" ", "\n "))
    own = [{gram for text in item for gram in grams(words_of(text), 13)} for item in texts]
    inserted = {gram for item in planted for gram in grams(words_of(texts[item][0]), 13)}
    sharing = {number for number, item in enumerate(own) if item & inserted}  # some items have one context
    assert set(planted) < sharing
    assert len(sharing) < 100
    index = index_of(texts, 13, 8)
    for name, first in (("clean", novels[0]), ("planted", " ".join(words))):
        written = write_shards(
            {"train": documents(first, novels[1])},
            tokenizer,
            tmp_path / name,
            ShardsConfig(tokens_per_shard=50_000, workers=1),
            source={},
        )
        source = ShardText(written.split("train").paths, tokenizer, portion_ids=30_000)
        states = [item.state for item in search(index, source, 2).items()]
        wanted = sharing if name == "planted" else set()
        assert {number for number, state in enumerate(states) if state == "contaminated"} == wanted
        assert states.count("too short") == 0
