"""GPT-2's own vocabulary: the ids of tiktoken and of ``tokenizers``, on every real file."""

from __future__ import annotations

import json
import lzma
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from folio.corpus import fetch
from folio.tokenizer import Tokenizer
from folio.tokenizer.merges import is_ranked
from folio.tokenizer.patterns import GPT2_PATTERN

FILES = ["tinyshakespeare.txt", "bts_wikipedia.txt", "fantasy_locations.txt", "hellaswag_val_0-4999.jsonl"]
WITH_TOKENIZERS = 300_000
"""Characters compared with ``tokenizers``, which encodes a megabyte a second."""


@pytest.fixture(scope="module")
def raw_tiktoken(gpt2: Tokenizer) -> tiktoken.Encoding:
    """Built from the published files by tiktoken's own loader, with GPT-2's pattern as published."""
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks

    folder = fetch("gpt2")
    ranks = data_gym_to_mergeable_bpe_ranks(str(folder / "vocab.bpe"), str(folder / "encoder.json"))
    special = {"<|endoftext|>": 50256}
    return tiktoken.Encoding("gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=special)


def test_it_is_gpt2(gpt2: Tokenizer) -> None:
    assert (gpt2.kind, gpt2.vocab_size, gpt2.eot_id) == ("gpt2", 50_257, 50_256)
    assert gpt2.encode("Hello world") == [15496, 995]
    assert len(gpt2.merges) == 50_000


def test_ranks_alone_decide_as_the_published_merges_do(gpt2: Tokenizer) -> None:
    ranks = {gpt2.token_bytes(id): id for id in range(50_256)}
    merges = [(gpt2.token_bytes(gpt2.id_of(left)), gpt2.token_bytes(gpt2.id_of(right))) for left, right in gpt2.merges]
    assert is_ranked(merges, ranks)


@pytest.mark.parametrize("name", FILES)
def test_ids_equal_tiktoken_and_tokenizers_on_real_files(
    gpt2: Tokenizer, raw_tiktoken: tiktoken.Encoding, shared_data: Callable[[str], Path], name: str
) -> None:
    text = shared_data(name).read_text(encoding="utf-8")
    ids = gpt2.encode_array(text).tolist()
    assert ids == raw_tiktoken.encode_ordinary(text)
    assert gpt2.decode(ids) == text
    part = text[:WITH_TOKENIZERS]
    assert gpt2.encode(part) == gpt2.backend.encode(part, add_special_tokens=False).ids


def novels(archive: Path) -> Iterator[str]:
    with lzma.open(archive) as raw, tarfile.open(fileobj=raw) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(".txt"):
                file = tar.extractfile(member)
                assert file is not None
                yield file.read().decode("utf-8")


@pytest.mark.slow
def test_ids_equal_tiktoken_on_the_novels(
    gpt2: Tokenizer, raw_tiktoken: tiktoken.Encoding, shared_data: Callable[[str], Path]
) -> None:
    count = 0
    for text in novels(shared_data("novels.tar.xz")):
        assert gpt2.encode_array(text).tolist() == raw_tiktoken.encode_ordinary(text)
        count += 1
    assert count == 92


def test_tiny_shakespeare_is_338025_tokens(gpt2: Tokenizer, shared_data: Callable[[str], Path]) -> None:
    assert len(gpt2.encode_array(shared_data("tinyshakespeare.txt").read_text(encoding="utf-8"))) == 338_025


def test_fantasy_descriptions_are_about_359_thousand_tokens(
    gpt2: Tokenizer, shared_data: Callable[[str], Path]
) -> None:
    text = shared_data("fantasy_locations.txt").read_text(encoding="utf-8")
    descriptions = re.findall("<LOC>(.*?)</LOC>", text, re.DOTALL)
    assert len(descriptions) == 1000
    assert sum(len(gpt2.encode(description.strip())) + 1 for description in descriptions) == 358_726


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_unicode_is_as_in_tiktoken_and_tokenizers(
    gpt2: Tokenizer, raw_tiktoken: tiktoken.Encoding, text: str
) -> None:
    ids = gpt2.encode(text)
    assert ids == raw_tiktoken.encode_ordinary(text) == gpt2.backend.encode(text, add_special_tokens=False).ids
    assert gpt2.decode(ids) == text


def test_a_saved_one_is_known_as_gpt2(gpt2: Tokenizer, tmp_path: Path) -> None:
    from folio.tokenizer import load_tokenizer

    gpt2.save(tmp_path / "gpt2")
    assert load_tokenizer(tmp_path / "gpt2").kind == "gpt2"
    vocabulary = json.loads((tmp_path / "gpt2" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert vocabulary == json.loads((fetch("gpt2") / "encoder.json").read_text(encoding="utf-8"))
