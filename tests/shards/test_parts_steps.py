"""What is done to a source on its way to shards: held out, cut at a budget, filtered, freed of duplicates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from letters import ByteTokenizer, words

from folio.artifacts import read_manifest, verify
from folio.corpus.document import Document
from folio.corpus.quality import NearConfig, QualityConfig, QualityReport, QualitySteps
from folio.corpus.sources import ByHash, FirstTokens, open_source
from folio.errors import DataError, Interrupted
from folio.shards import ShardsConfig, open_shards, verify_shards
from folio.shards.parts.merge import PartsProgress
from folio.shards.parts.refining import Refining
from folio.shards.parts.write import PartsWritten, write_parts

DOCUMENTS = 120


def altered(text: str, every: int) -> str:
    """``text`` with some words replaced: alike, but not equal."""
    parts = text.split(" ")
    parts[every // 2 :: every] = ["other"] * len(parts[every // 2 :: every])
    return " ".join(parts)


def texts() -> list[str]:
    """Of 120 documents 80 are original; 20 are copies of others, 20 nearly so, all in other parts than these."""
    originals = [words(1500, seed) for seed in range(80)]
    copies = [originals[number] for number in range(20)]
    near = [altered(originals[number], 100) for number in range(20, 40)]
    mixed = originals[:40] + copies[:10] + near[:10] + originals[40:] + near[10:] + copies[10:]
    assert len(mixed) == DOCUMENTS
    return mixed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of twelve row groups of ten documents."""
    root = tmp_path_factory.mktemp("source") / "texts"
    root.mkdir()
    all_texts = texts()
    pq.write_table(pa.table({"text": all_texts[:70]}), root / "a.parquet", row_group_size=10)
    pq.write_table(pa.table({"text": all_texts[70:]}), root / "b.parquet", row_group_size=10)
    return root


def write(folder: Path, to: Path, workers: int = 1, quality: QualityConfig | None = None, **more: Any) -> PartsWritten:
    refining = Refining(open_source(str(folder)), quality or QualityConfig())
    config = ShardsConfig(tokens_per_shard=more.pop("per_shard", 20_011), workers=workers)
    return write_parts(refining, ByteTokenizer(), to, config, **{"sides": ByHash(0.2), **more})


def documents(to: Path, side: str) -> list[str]:
    """Read back from the ids, which of this tokenizer are the bytes."""
    shards = open_shards(to, ByteTokenizer())
    ids = shards.split(side).read(0, shards.tokens(side))
    starts = np.flatnonzero(ids == ByteTokenizer().eot_id)
    return [bytes(part[1:].astype(np.uint8)).decode() for part in np.split(ids, starts)[1:]]


def both(to: Path) -> list[str]:
    return documents(to, "train") + documents(to, "val")


def test_the_first_documents_that_fill_a_shard_are_held_out(folder: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        done = write(folder, tmp_path / str(workers), workers, sides=FirstTokens(20_011))
        held_out = documents(tmp_path / str(workers), "val")
        assert held_out + documents(tmp_path / str(workers), "train") == texts()
        tokens = done.shards.tokens("val")
        assert tokens >= 20_011 > tokens - len(held_out[-1]) - 1
        assert done.shards.documents("val") == len(held_out)
        assert done.shards.text_bytes("val") == tokens - len(held_out)
    assert read_manifest(tmp_path / "1").id == read_manifest(tmp_path / "3").id


@pytest.mark.parametrize("sides", [ByHash(0.2), FirstTokens(20_011)])
def test_a_budget_ends_with_the_document_that_reaches_it(folder: Path, tmp_path: Path, sides: Any) -> None:
    seen: list[PartsProgress] = []
    for workers in (1, 2):
        write(folder, tmp_path / str(workers), workers, sides=sides, tokens=400_000, on_progress=seen.append)
    assert read_manifest(tmp_path / "1").id == read_manifest(tmp_path / "2").id
    count = next(n for n in range(DOCUMENTS) if sum(len(text) + 1 for text in texts()[:n]) >= 400_000)
    assert sorted(both(tmp_path / "1")) == sorted(texts()[:count])
    whole = read_manifest(tmp_path / "1").config["source"]
    assert whole["tokens"] == 400_000
    assert max(progress.parts for progress in seen) < 12


def test_a_budget_larger_than_the_source_takes_all_of_it(folder: Path, tmp_path: Path) -> None:
    write(folder, tmp_path / "s", tokens=10**9)
    assert sorted(both(tmp_path / "s")) == sorted(texts())


def test_a_stop_within_a_budget_changes_nothing(folder: Path, tmp_path: Path) -> None:
    def stop(progress: PartsProgress) -> None:
        if progress.parts >= 2:
            raise KeyboardInterrupt

    more = {"tokens": 400_000, "sides": FirstTokens(20_011)}
    with pytest.raises(Interrupted):
        write(folder, tmp_path / "s", on_progress=stop, **more)
    write(folder, tmp_path / "s", **more)
    write(folder, tmp_path / "whole", **more)
    assert read_manifest(tmp_path / "s").id == read_manifest(tmp_path / "whole").id


@pytest.mark.parametrize("similarity", [0.8, None])
def test_planted_duplicates_go_and_nothing_else_does(folder: Path, tmp_path: Path, similarity: float | None) -> None:
    quality = QualityConfig(duplicates="near", near=NearConfig(similarity=similarity))
    for workers in (1, 2):
        done = write(folder, tmp_path / str(workers), workers, quality)
        kept = both(tmp_path / str(workers))
        assert len(kept) == len(set(kept)) == 80
        assert done.report.documents == DOCUMENTS
        assert {key[1]: tally.documents for key, tally in done.report.dropped.items()} == {
            "duplicate": 20,
            "near-duplicate": 20,
        }
    assert read_manifest(tmp_path / "1").id == read_manifest(tmp_path / "2").id


def test_copies_alone_go_where_near_ones_are_not_sought(folder: Path, tmp_path: Path) -> None:
    done = write(folder, tmp_path / "s", 2, QualityConfig(duplicates="exact"))
    assert sorted(both(tmp_path / "s")) == sorted(set(texts()))
    assert done.report.dropped["duplicates", "duplicate"].documents == 20


def test_the_parts_have_the_outcome_of_one_walk(folder: Path, tmp_path: Path) -> None:
    quality = QualityConfig(duplicates="near", min_words=200, scrub_emails=True, gopher_repetition=True)
    done = write(folder, tmp_path / "s", 2, quality)
    report = QualityReport()
    walk = QualitySteps(quality).walk(lambda: [Document(str(n), text, "") for n, text in enumerate(texts())], report)
    assert len(list(walk)) == 80
    assert sorted(both(tmp_path / "s")) == sorted(words(1500, seed) for seed in range(80))  # the first of each stays
    assert [row[:3] for row in done.report.rows()] == [row[:3] for row in report.rows()]
    kept = json.loads((tmp_path / "s" / "documents.json").read_text())
    assert QualityReport.from_record(kept["quality"]) == done.report
    verify(tmp_path / "s", "shards")
    verify_shards(open_shards(tmp_path / "s"))


def test_a_survey_that_was_stopped_goes_on_and_a_damaged_part_of_it_is_made_anew(folder: Path, tmp_path: Path) -> None:
    quality = QualityConfig(duplicates="near")

    def stop(progress: PartsProgress) -> None:
        if progress.step == "shingles" and progress.parts >= 5:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        write(folder, tmp_path / "s", 1, quality, on_progress=stop)
    (work,) = (tmp_path / "s.partial").glob("parts-*")
    surveyed = sorted(work.glob("*.survey.npz"))
    assert len(surveyed) == 12
    surveyed[3].write_bytes(surveyed[3].read_bytes()[:100])
    seen: list[PartsProgress] = []
    write(folder, tmp_path / "s", 1, quality, on_progress=seen.append)
    assert [progress.parts for progress in seen if progress.step == "survey"] == [12]
    write(folder, tmp_path / "whole", 1, quality)
    assert read_manifest(tmp_path / "s").id == read_manifest(tmp_path / "whole").id


def test_what_a_budget_leaves_out_drops_nothing_before_it(tmp_path: Path) -> None:
    """The second half repeats the first, longer."""
    first = [words(800, seed) for seed in range(40)]
    pq.write_table(pa.table({"text": first}), tmp_path / "a.parquet", row_group_size=10)
    second = [*first[:20], *(f"{text} and a few words more" for text in first[20:])]
    pq.write_table(pa.table({"text": second}), tmp_path / "b.parquet", row_group_size=10)
    budget = sum(len(text) + 1 for text in first)
    done = write(tmp_path, tmp_path / "s", 2, QualityConfig(duplicates="near"), tokens=budget)
    assert not done.report.dropped
    assert sorted(both(tmp_path / "s")) == sorted(first)
    whole = write(tmp_path, tmp_path / "whole", 2, QualityConfig(duplicates="near"))
    assert sum(tally.documents for tally in whole.report.dropped.values()) == 40
    assert sorted(both(tmp_path / "whole")) == sorted(first)


def test_a_survey_stopped_by_the_user_is_kept(folder: Path, tmp_path: Path) -> None:
    def stop(progress: PartsProgress) -> None:
        if progress.step == "survey" and progress.parts >= 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        write(folder, tmp_path / "s", 1, QualityConfig(duplicates="exact"), on_progress=stop)
    assert len(list((tmp_path / "s.partial").glob("parts-*/*.survey.npz"))) >= 3


def test_documents_alike_in_everything_are_told_apart(tmp_path: Path) -> None:
    """Same text, same id, same file, in parts that different processes read."""
    text = words(500, 1)
    others = [words(500, seed) for seed in range(2, 8)]
    table = pa.table({"id": ["same"] * 8, "text": [text, others[0], others[1], text, *others[2:5], text]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    for workers in (1, 4):
        to = tmp_path / str(workers)
        write(tmp_path / "a.parquet", to, workers, QualityConfig(duplicates="exact"), sides=FirstTokens(400))
        assert sorted(both(to)) == sorted([text, *others[:5]])
    assert read_manifest(tmp_path / "1").id == read_manifest(tmp_path / "4").id


def test_filters_that_leave_nothing_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the split 'train' has no documents"):
        write(folder, tmp_path / "s", 1, QualityConfig(min_words=10_000))
    assert not (tmp_path / "s.partial").exists()
