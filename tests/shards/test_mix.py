"""A mixture holds whole documents, in the shares and order that were asked for, the same however it was made."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from letters import ByteTokenizer, documents, words

from folio.artifacts import read_manifest
from folio.errors import ArtifactError, ConfigError, DataError, Interrupted
from folio.shards import Shards, ShardsConfig, open_shards, verify_shards, write_shards
from folio.shards.files import SplitWriter
from folio.shards.format import UINT16
from folio.shards.journal import partial_folder
from folio.shards.mixing.mix import MixProgress, mix_shards
from folio.shards.mixing.plan import MixConfig, plan_mixture
from folio.shards.mixing.runs import Runs
from folio.shards.stream import Ids, TokenStream

EOT = 256
SMALL = MixConfig(run_tokens=200, tokens_per_shard=5000)


def source(folder: Path, mark: str, count: int, val: int = 3) -> Shards:
    """Documents ``mark``0, ``mark``1, ..., each of 10 to 140 characters."""
    texts = [f"{mark}{number} {words(2 + number * 7 % 20, number)}" for number in range(count + val)]
    splits = {"train": documents(*texts[val:]), "val": documents(*texts[:val])} if val else {"train": documents(*texts)}
    return write_shards(splits, ByteTokenizer(), folder, ShardsConfig(workers=1), source={"corpus": mark})


@pytest.fixture
def two(tmp_path: Path) -> dict[str, Shards]:
    return {"web": source(tmp_path / "web", "w", 300), "books": source(tmp_path / "books", "b", 60)}


def texts(shards: Shards, split: str = "train") -> list[str]:
    """The documents, each of which opens with end-of-text."""
    ids = shards.split(split).read(0, shards.tokens(split))
    assert ids[0] == EOT
    return cut(ids)


def cut(ids: Ids) -> list[str]:
    bounds = [*np.flatnonzero(ids == EOT).tolist(), len(ids)]
    return [bytes(ids[start + 1 : stop].tolist()).decode() for start, stop in pairwise(bounds)]


def files(shards: Shards) -> dict[str, str]:
    return {name: record.sha256 for name, record in shards.manifest.files.items()}


def test_without_weights_and_budget_every_document_is_there_once(two: dict[str, Shards], tmp_path: Path) -> None:
    mixed = mix_shards(two, tmp_path / "mix", SMALL)
    assert Counter(texts(mixed)) == Counter(texts(two["web"]) + texts(two["books"]))
    assert texts(mixed) != texts(two["web"]) + texts(two["books"])
    for name in ("train", "val"):
        assert mixed.tokens(name) == sum(own.tokens(name) for own in two.values())
        assert mixed.documents(name) == sum(own.documents(name) for own in two.values())
        assert mixed.text_bytes(name) == sum(own.text_bytes(name) for own in two.values())
    verify_shards(open_shards(tmp_path / "mix"))


def test_each_source_gives_its_share_to_the_end_of_a_document(two: dict[str, Shards], tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"weights": (0.4, 0.6), "tokens": 20_000})
    mixed = mix_shards(two, tmp_path / "mix", config)
    held = texts(mixed)
    assert set(held) <= {*texts(two["web"]), *texts(two["books"])}
    recorded = mixed.manifest.config["splits"]["train"]
    for one, weight in zip(recorded["sources"], config.weights, strict=True):
        own = [text for text in held if text[0] == one["name"][0]]
        assert one["documents"] == len(own)
        assert one["tokens"] == sum(len(text) + 1 for text in own)
        assert 0 <= one["tokens"] - weight * 20_000 < 150
        assert one["epochs"] == one["tokens"] / two[one["name"]].tokens("train")
        assert one["weight"] == weight
    assert recorded["tokens"] == mixed.tokens("train") == sum(one["tokens"] for one in recorded["sources"])
    assert recorded["text_bytes"] == pytest.approx(sum(map(len, held)), rel=0.01)


def test_a_repeated_source_is_whole_in_each_epoch_and_in_another_order(tmp_path: Path) -> None:
    one = {"books": source(tmp_path / "books", "b", 60)}
    size = one["books"].tokens("train")
    held = texts(mix_shards(one, tmp_path / "mix", SMALL.model_copy(update={"tokens": 3 * size})))
    epochs = [held[60 * epoch : 60 * (epoch + 1)] for epoch in range(3)]
    assert len(held) == 180
    assert all(sorted(epoch) == sorted(texts(one["books"])) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_every_stretch_holds_the_mixture(two: dict[str, Shards], tmp_path: Path) -> None:
    """Read from the front, no source is ever more than a run and a document ahead or behind."""
    config = SMALL.model_copy(update={"weights": (3.0, 1.0), "tokens": 30_000})
    so_far = {"w": 0, "b": 0}
    for text in texts(mix_shards(two, tmp_path / "mix", config)):
        so_far[text[0]] += len(text) + 1
        assert abs(so_far["b"] - sum(so_far.values()) / 4) < 200 + 150


def test_validation_is_that_of_each_source_in_order(two: dict[str, Shards], tmp_path: Path) -> None:
    bare = source(tmp_path / "bare", "x", 10, val=0)
    mixed = mix_shards({"web": two["web"], "bare": bare, "books": two["books"]}, tmp_path / "mix", SMALL)
    assert texts(mixed, "val") == texts(two["web"], "val") + texts(two["books"], "val")
    counts = [(one["name"], one["tokens"]) for one in mixed.manifest.config["splits"]["val"]["sources"]]
    assert counts == [(name, own.tokens("val")) for name, own in two.items()]
    assert mix_shards({"bare": bare}, tmp_path / "other", SMALL).splits == ("train",)


def test_the_bytes_depend_on_sources_and_settings_alone(two: dict[str, Shards], tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"tokens": 9000})
    mixed = mix_shards(two, tmp_path / "mix", config)
    again = mix_shards(two, tmp_path / "again", config)
    assert again.manifest.id == mixed.manifest.id
    assert [parent.id for parent in mixed.manifest.parents] == [own.manifest.id for own in two.values()]
    for change in ({"seed": 1}, {"tokens": 9200}, {"weights": (1.0, 1.0)}, {"run_tokens": 300}):
        other = mix_shards(two, tmp_path / str(change), config.model_copy(update=change))
        assert files(other) != files(mixed)
    larger = mix_shards(two, tmp_path / "larger", config.model_copy(update={"tokens_per_shard": 100_000}))
    assert texts(larger) == texts(mixed)


SCRIPT = """
import sys, time, pathlib
from folio.shards import open_shards
from folio.shards.mixing.mix import mix_shards
from folio.shards.mixing.plan import MixConfig
base = pathlib.Path(sys.argv[1])
sources = {{name: open_shards(base / name) for name in ("web", "books")}}
mix_shards(sources, base / "mix", MixConfig(run_tokens=200, tokens_per_shard=5000), lambda progress: time.sleep({slow}))
"""


def test_killed_and_begun_again_it_ends_with_the_same_bytes(two: dict[str, Shards], tmp_path: Path) -> None:
    whole = mix_shards(two, tmp_path / "whole", SMALL)
    for tokens in (5_000, 12_000):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(slow=0.01), str(tmp_path)])
        halves, deadline = partial_folder(tmp_path / "mix") / "shards", time.monotonic() + 60
        while sum(file.stat().st_size for file in halves.glob("train*.bin")) < 2 * tokens:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "mix").exists()
    subprocess.run([sys.executable, "-c", SCRIPT.format(slow=0), str(tmp_path)], check=True)
    assert read_manifest(tmp_path / "mix").id == whole.manifest.id
    assert not partial_folder(tmp_path / "mix").exists()
    verify_shards(open_shards(tmp_path / "mix"))


def test_what_is_done_is_not_done_again_and_another_folder_is_left_alone(
    two: dict[str, Shards], tmp_path: Path
) -> None:
    mixed = mix_shards(two, tmp_path / "mix", SMALL)
    told: list[MixProgress] = []
    assert mix_shards(two, tmp_path / "mix", SMALL, told.append).manifest.id == mixed.manifest.id
    assert told == []
    with pytest.raises(ArtifactError, match="already exists"):
        mix_shards(two, tmp_path / "mix", SMALL.model_copy(update={"seed": 1}))


@pytest.mark.parametrize(
    ("error", "expected"), [(OSError(errno.ENOSPC, "No space"), ArtifactError), (KeyboardInterrupt(), Interrupted)]
)
def test_a_writing_that_fails_leaves_nothing(
    two: dict[str, Shards], tmp_path: Path, error: BaseException, expected: type[Exception]
) -> None:
    def fail(progress: MixProgress) -> None:
        if progress.tokens > 3000:
            raise error

    with pytest.raises(expected):
        mix_shards(two, tmp_path / "mix", SMALL, fail)
    assert not (tmp_path / "mix").exists()
    assert not partial_folder(tmp_path / "mix").exists()


def test_progress_ends_at_what_was_told_but_for_the_last_documents(two: dict[str, Shards], tmp_path: Path) -> None:
    told: list[MixProgress] = []
    mix_shards(two, tmp_path / "mix", SMALL, told.append)
    assert told[-1].tokens == told[-1].total == sum(own.tokens(name) for own in two.values() for name in own.splits)


def test_files_of_others_mix_given_their_tokenizer(two: dict[str, Shards], tmp_path: Path) -> None:
    """Ids that belong to a document begun elsewhere are left out; the id of the parent is of its bytes."""
    folder = tmp_path / "others"
    folder.mkdir()
    writer = SplitWriter(folder, "their_train", UINT16, 1000)
    writer.write(np.array([7, 7, *([EOT, *b"their first"]), EOT, *b"their second"], dtype="<u2"))
    writer.finish()
    sources = {"web": two["web"], "others": open_shards(folder, ByteTokenizer())}
    mixed = mix_shards(sources, tmp_path / "mix", SMALL)
    assert Counter(texts(mixed)) == Counter([*texts(two["web"]), "their first", "their second"])
    others = mixed.manifest.config["splits"]["train"]["sources"][1]
    assert (others["available"], others["epochs"]) == (25, 1.0)
    file = folder / "their_train_000000.bin"
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    changed = mix_shards(sources, tmp_path / "changed", SMALL)
    assert changed.manifest.parents[1].id != mixed.manifest.parents[1].id


def test_sources_that_do_not_go_together_are_refused(two: dict[str, Shards], tmp_path: Path) -> None:
    other = write_shards(
        {"train": documents("a")}, ByteTokenizer(vocab_size=300), tmp_path / "other", ShardsConfig(workers=1), source={}
    )
    with pytest.raises(ArtifactError, match=r"'web' \(byte, 257 ids\) and 'other' \(byte, 300 ids\)"):
        mix_shards({**two, "other": other}, tmp_path / "mix")
    with pytest.raises(ConfigError, match="'web' and 'again' are the same shards"):
        mix_shards({**two, "again": two["web"]}, tmp_path / "mix")
    plain = tmp_path / "plain"
    plain.mkdir()
    writer = SplitWriter(plain, "train", UINT16, 1000)
    writer.write(np.arange(50, dtype="<u2"))
    writer.finish()
    with pytest.raises(DataError, match="'plain' has no end-of-text id"):
        mix_shards({"plain": open_shards(plain, ByteTokenizer())}, tmp_path / "mix")
    assert not partial_folder(tmp_path / "mix").exists()


def test_a_plan_adds_up_and_follows_the_scarcest() -> None:
    sizes = {"a": 700, "b": 100, "c": 1000}
    plain = plan_mixture(sizes, MixConfig())
    assert [share.tokens for share in plain] == [700, 100, 1000]
    weighted = plan_mixture(sizes, MixConfig(weights=(0.7, 0.2, 0.1)))
    assert [share.tokens for share in weighted] == [350, 100, 50]  # b gives all it has
    thirds = plan_mixture(sizes, MixConfig(weights=(1, 1, 1), tokens=1000, max_epochs=None))
    assert sum(share.tokens for share in thirds) == 1000
    assert {share.tokens for share in thirds} <= {333, 334}


@given(st.lists(st.tuples(st.integers(1, 10**12), st.floats(0.001, 1000)), min_size=1, max_size=6))
def test_no_source_gives_more_than_it_has_unless_asked(sources: list[tuple[int, float]]) -> None:
    sizes = {str(number): size for number, (size, _) in enumerate(sources)}
    config = MixConfig(weights=tuple(weight for _, weight in sources))
    total = min(size * sum(config.weights) / weight for size, weight in sources)
    if min(config.weights) / sum(config.weights) * total < 2:  # so little that one may give nothing, which is refused
        return
    shares = plan_mixture(sizes, config)
    assert all(1 <= share.tokens <= share.available for share in shares)


def test_too_many_epochs_are_refused_with_what_would_do() -> None:
    sizes = {"web": 10_000, "books": 333}
    with pytest.raises(ConfigError, match=r"'books' would be repeated for 9\.01 epochs") as caught:
        plan_mixture(sizes, MixConfig(weights=(0.7, 0.3), tokens=10_000))
    asked = caught.value.remedy.partition("--tokens ")[2].partition(", ")[0]
    assert asked == "4,440"
    most = MixConfig.model_validate({"tokens": asked}).tokens
    assert most == 4440
    plan_mixture(sizes, MixConfig(weights=(0.7, 0.3), tokens=most))
    with pytest.raises(ConfigError):
        plan_mixture(sizes, MixConfig(weights=(0.7, 0.3), tokens=most + 10))
    plan_mixture(sizes, MixConfig(weights=(0.7, 0.3), tokens=10_000, max_epochs=None))


def test_a_plan_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 weights for 1 sources"):
        plan_mixture({"a": 10}, MixConfig(weights=(1, 1)))
    with pytest.raises(ConfigError, match="'b' would give less than a token"):
        plan_mixture({"a": 10**6, "b": 10}, MixConfig(weights=(1, 1e-6), tokens=100))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 50), st.integers(0, 5))
def test_runs_hold_every_document_once_an_epoch(lengths: list[int], size: int, before: int) -> None:
    """Whatever the lengths of documents and runs: shorter, longer, equal, or with ids before the first."""
    ids = np.ones(before + sum(lengths), dtype="<u2")
    begins = before + np.cumsum([0, *lengths[:-1]])
    ids[begins] = EOT

    class Held(TokenStream):
        def __init__(self) -> None:
            pass

        def __len__(self) -> int:
            return len(ids)

        def read(self, start: int, count: int) -> Ids:
            assert start + count <= len(ids)
            return ids[start : start + count]

    runs = Runs(Held(), EOT, size, "held")
    endless = runs.endless("test", 0)
    for _ in range(2):
        met: list[int] = []
        while len(met) < len(lengths):
            start, stop = next(endless)
            met += (start + np.flatnonzero(ids[start:stop] == EOT)).tolist()
            assert ids[start] == EOT
            assert stop == len(ids) or ids[stop] == EOT
        assert sorted(met) == begins.tolist()


def test_memory_does_not_grow_with_the_sources(tmp_path: Path) -> None:
    """Sixteen times the ids, one document as long as the rest among them, and not a megabyte more."""
    peaks = []
    for factor in (1, 16):
        folder = tmp_path / str(factor)
        folder.mkdir()
        ids = np.random.default_rng(0).integers(0, 250, factor * 1_500_000).astype("<u2")
        ids[: len(ids) // 2 : 700] = EOT
        writer = SplitWriter(folder, "train", UINT16, 100_000_000)
        writer.write(ids)
        writer.finish()
        del ids
        shards = {"made": open_shards(folder, ByteTokenizer())}
        assert shards["made"].text_bytes("train") > 0
        tracemalloc.start()
        mix_shards(shards, tmp_path / f"mix{factor}", MixConfig())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1e6
    assert peaks[1] < 10e6


def test_a_manifest_tells_nothing_of_the_machine(two: dict[str, Shards], tmp_path: Path) -> None:
    mixed = mix_shards(two, tmp_path / "mix", SMALL)
    assert str(tmp_path) not in json.dumps(mixed.manifest.config)
