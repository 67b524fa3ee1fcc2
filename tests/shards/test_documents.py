"""Documents come back out of shards as they went in, all of them or an even sample."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from folio.corpus.document import Document
from folio.corpus.exploring import explore
from folio.errors import ArtifactError, DataError
from folio.shards import Shards, open_shards, write_shards
from folio.shards import documents as module
from folio.shards.config import ShardsConfig
from folio.shards.documents import shards_material
from folio.shards.format import HEADER_BYTES, Header, header_bytes
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

TEXTS = [f"document {n}: " + "abc \n" * (n * 7 % 40) for n in range(300)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([*TEXTS, "held out"], TokenizerConfig(kind="char"))


@pytest.fixture(scope="module")
def shards(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return write_shards(
        {
            "train": lambda: (Document(str(n), text, "") for n, text in enumerate(TEXTS)),
            "val": lambda: [Document("v", "held out", "")],
        },
        tokenizer,
        tmp_path_factory.mktemp("shards") / "made",
        ShardsConfig(tokens_per_shard=5000, workers=1),
        source={"corpus": "made up", "fingerprint": "x"},
    )


@pytest.mark.parametrize("block", [64, 1000, 1 << 20])
def test_all_documents_come_back_whatever_they_are_read_in(
    shards: Shards, tokenizer: Tokenizer, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    material = shards_material(shards, tokenizer)
    drawn = list(material.walk())
    assert [each.document.text for each in drawn] == [*TEXTS, "held out"]
    assert [each.tokens for each in drawn] == [len(text) for text in [*TEXTS, "held out"]]
    assert (material.look.how, material.look.population) == ("whole", 301)
    assert len({each.document.id for each in drawn}) == 301


def test_one_split_or_the_first_documents(shards: Shards, tokenizer: Tokenizer) -> None:
    assert [each.document.text for each in shards_material(shards, tokenizer, ("val",)).walk()] == ["held out"]
    first = shards_material(shards, tokenizer, limit=3)
    assert [each.document.text for each in first.walk()] == TEXTS[:3]
    with pytest.raises(DataError, match="has no split 'test'"):
        shards_material(shards, tokenizer, ("test",))


def test_a_sample_is_of_whole_documents_repeatable_and_even(
    shards: Shards, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEP", 32)
    monkeypatch.setattr(module, "STRETCHES", 8)
    met: Counter[str] = Counter()
    for seed in range(400):
        material = shards_material(shards, tokenizer, sample=40, seed=seed)
        drawn = [each.document.text for each in material.walk()]
        assert len(set(drawn)) == len(drawn)
        met.update(drawn)
    assert drawn == [each.document.text for each in shards_material(shards, tokenizer, sample=40, seed=399).walk()]
    assert met.keys() <= {*TEXTS, "held out"}
    assert sum(met[text] for text in TEXTS[:150]) / met.total() == pytest.approx(150 / 301, abs=0.03)
    # a place picked at random would meet the longest twice as often as those of middling length
    order = sorted(TEXTS, key=len)
    short, long = (sum(met[text] for text in part) for part in (order[:100], order[-100:]))
    assert short / met.total() == pytest.approx(100 / 301, abs=0.03)
    assert long / met.total() == pytest.approx(100 / 301, abs=0.03)


def test_a_sample_of_few_stretches_says_so_and_has_the_size_asked(
    shards: Shards, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STRETCHES", 4)
    material = shards_material(shards, tokenizer, sample=30, seed=1)
    assert len(list(material.walk())) == 30
    assert (material.look.places, material.look.unit) == (4, "stretches of ids")
    assert material.look.places_of > 4
    assert shards_material(shards, tokenizer, sample=301).look.how == "whole"
    assert len(list(shards_material(shards, tokenizer, sample=1).walk())) == 1


def test_files_that_others_made_may_begin_in_the_middle_of_a_document(tokenizer: Tokenizer, tmp_path: Path) -> None:
    eot = tokenizer.eot_id
    assert eot is not None
    ids = [*tokenizer.encode("abc"), eot, eot, *tokenizer.encode("a b"), eot, *tokenizer.encode("cab"), eot]
    content = header_bytes(Header(np.dtype(np.uint16), len(ids))) + np.array(ids, dtype="<u2").tobytes()
    assert len(content) == HEADER_BYTES + 2 * len(ids)
    (tmp_path / "x_train_000.bin").write_bytes(content)
    shards = open_shards(tmp_path, tokenizer)
    material = shards_material(shards, tokenizer)
    assert [each.document.text for each in material.walk()] == ["abc", "a b", "cab"]
    assert material.counts.cleaning.empty == 1
    assert material.look.population is None
    sampled = shards_material(shards, tokenizer, sample=2, seed=0)
    assert len(list(sampled.walk())) == 2


def test_the_walk_counts_what_the_manifest_counts(shards: Shards, tokenizer: Tokenizer) -> None:
    found = explore(shards_material(shards, tokenizer, ("train",))).record
    assert found["documents"] == shards.documents("train")
    assert found["bytes"] == shards.text_bytes("train")
    assert found["encoded_tokens"] == shards.tokens("train") - shards.documents("train")


def test_a_tokenizer_without_end_of_text_cannot_tell_documents_apart(shards: Shards, tokenizer: Tokenizer) -> None:
    bare = tokenizer.with_settings(eos_token=None)
    bare.eot_id = None
    with pytest.raises(ArtifactError, match="has no end-of-text id"):
        shards_material(shards, bare)
