"""A document is on one side only, the same one wherever it stands; duplicates are found, counted, left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from play import PLAY

from folio.errors import DataError
from folio.finetuning.config_data import DataConfig
from folio.finetuning.example_sets import ExampleSets, example_sets
from folio.finetuning.formats import Record
from folio.finetuning.splits import SIDES, Splits, content_key, place_of, split_records
from folio.tokenizer import TokenizerConfig, train_tokenizer


def write(path: Path, texts: Sequence[str], **fields: Any) -> Path:
    path.write_text("".join(json.dumps({"text": text, **fields}) + "\n" for text in texts))
    return path


def split(path: Path, **options: Any) -> Splits:
    return split_records(DataConfig(path=str(path), **options))


def texts(found: Splits, side: str) -> list[str]:
    return [record.fields["text"] for record in found.records[side]]  # type: ignore[index]


MANY = [f"text number {n}" for n in range(2000)]


def test_every_document_is_on_one_side_and_fractions_are_kept(tmp_path: Path) -> None:
    found = split(write(tmp_path / "a.jsonl", MANY), validation_fraction=0.2, test_fraction=0.1)
    sides = [texts(found, side) for side in SIDES]
    assert sorted(text for side in sides for text in side) == sorted(MANY)
    assert len(sides[1]) == pytest.approx(400, abs=60)
    assert len(sides[2]) == pytest.approx(200, abs=45)
    assert sides[0] == sorted(sides[0], key=MANY.index)


def test_a_document_stays_on_its_side_when_others_come_and_order_changes(tmp_path: Path) -> None:
    few = split(write(tmp_path / "a.jsonl", MANY[:200]))
    more = split(write(tmp_path / "b.jsonl", MANY[::-1]))
    for side in ("train", "validation"):
        assert set(texts(few, side)) == set(texts(more, side)) & set(MANY[:200])


def test_another_seed_holds_out_others(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", MANY)
    first, second = (set(texts(split(path, split_seed=seed), "validation")) for seed in (0, 1))
    assert len(first & second) < 0.3 * len(first)


def record(text: str) -> Record:
    return Record("x", "y", "text", {"text": text})


def test_golden_places() -> None:
    """A change of the hash would move documents between training and validation of runs already made."""
    assert [round(place_of(record(text), 3), 6) for text in ("a", "b", "c")] == [0.737586, 0.554403, 0.556281]


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=20), seed=st.integers(0, 5))
def test_white_space_does_not_move_a_document(text: str, seed: int) -> None:
    spaced = record("\n " + "  ".join(text.split()) + "\t")
    assert content_key(spaced) == content_key(record(text))
    assert 0 <= place_of(spaced, seed) == place_of(record(text), seed) < 1


def test_duplicates_fall_on_one_side_and_the_later_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [*MANY[:100], *(f"  {text}\n" for text in MANY[:50])])
    found = split(path, validation_fraction=0.3)
    assert sum(found.duplicates.values()) == 50
    assert found.across == ()
    assert {texts(found, "train")[0], *texts(found, "train"), *texts(found, "validation")} == set(MANY[:100])
    kept = split(path, validation_fraction=0.3, deduplicate=False)
    assert kept.duplicates == found.duplicates
    assert sum(map(len, kept.records.values())) == 150


def test_a_duplicate_across_files_leaves_training(tmp_path: Path) -> None:
    main = write(tmp_path / "main.jsonl", MANY[:10])
    held = write(tmp_path / "held.jsonl", [*MANY[8:12], " " + MANY[8]])
    found = split(main, validation=str(held))
    assert found.across == (("main.jsonl:9", "held.jsonl:1"), ("main.jsonl:10", "held.jsonl:2"))
    assert found.duplicates == {"train": 0, "validation": 1, "test": 0}
    assert texts(found, "train") == MANY[:8]
    assert texts(found, "validation") == MANY[8:12]
    assert texts(split(main, validation=str(held), deduplicate=False), "train") == MANY[:10]


def test_a_file_given_apart_sets_its_fraction_aside(tmp_path: Path) -> None:
    main, held = write(tmp_path / "a.jsonl", MANY[:100]), write(tmp_path / "b.jsonl", MANY[500:510])
    found = split(main, test=str(held), validation_fraction=0.0, test_fraction=0.5)
    assert texts(found, "train") == MANY[:100]
    assert texts(found, "test") == MANY[500:510]
    assert found.records["validation"] == ()


def test_an_empty_side_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no document falls to validation: .* holds 1 document, of which 0.1 go to"):
        split(write(tmp_path / "a.jsonl", ["text number 0"]))
    same = write(tmp_path / "b.jsonl", ["x"])
    with pytest.raises(DataError, match=r"every training example .* is also held out"):
        split(same, validation=str(same))


def test_sides_of_different_formats_are_refused(tmp_path: Path) -> None:
    main = write(tmp_path / "a.jsonl", ["x", "y"])
    (tmp_path / "b.jsonl").write_text('{"prompt": "p", "completion": "c"}\n')
    with pytest.raises(DataError, match="holds completion records"):
        split(main, validation=str(tmp_path / "b.jsonl"))


def sets(path: Path, block_size: int, **options: Any) -> ExampleSets:
    tokenizer = train_tokenizer([PLAY, "abcdefghijklm0123456789"], TokenizerConfig(kind="char"))
    return example_sets(DataConfig(path=str(path), **options), tokenizer, block_size)


def test_statistics_are_those_of_the_examples(tmp_path: Path) -> None:
    """Each number counted by hand: a character is a token, and each text has an end-of-text."""
    lengths = [3, 3, 4, 9, 14, 0]
    lines = [{"prompt": "ab", "completion": "c" * length + str(n) * (length > 0)} for n, length in enumerate(lengths)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[0]]))
    statistics = sets(path, 12, validation_fraction=0).statistics
    (train,) = statistics.sides
    # prompt 2, completion length + 1, end 1, less the last id: 6, 6, 7, 12, 17 places
    assert (train.documents, train.examples, train.duplicates, train.nothing_to_learn) == (6, 5, 1, 1)
    assert (train.truncated, train.dropped) == (1, 0)
    assert (train.median_length, train.p95_length, train.longest) == (7, 16, 17)
    assert train.tokens == 6 + 6 + 7 + 12 + 12
    assert train.cut_off_tokens == 17 - 12
    assert train.learned_tokens == 5 + 5 + 6 + 11 + 11
    assert (train.rows_packed, train.rows_unpacked) == (4, 5)
    assert train.padding_share_packed == pytest.approx(1 - 43 / 48)
    assert train.padding_share_unpacked == pytest.approx(1 - 43 / 60)
    assert statistics.format == "completion, as the first record has prompt and completion"
    dropped = sets(path, 12, validation_fraction=0, too_long="drop").statistics.sides[0]
    assert (dropped.truncated, dropped.dropped, dropped.tokens, dropped.longest) == (0, 1, 31, 17)
    assert dropped.cut_off_tokens == 0


def test_the_table_has_a_column_a_side_and_every_count(tmp_path: Path) -> None:
    path, held = write(tmp_path / "a.jsonl", ["We know"] * 3 + ["Romeo"]), write(tmp_path / "b.jsonl", ["Romeo"])
    statistics = sets(path, 12, validation=str(held)).statistics
    table = {title: cells for title, *cells in statistics.rows()}
    assert statistics.header() == ["examples", "train", "validation"]
    assert all(len(cells) == 2 for cells in table.values())
    assert table["documents"] == ["1", "1"]
    assert table["duplicates, left out"] == ["2", "0"]
    assert table["duplicates across the split, left out"] == ["1", ""]
    assert table["tokens, after cutting"] == ["8", "6"]
    assert table["tokens cut off"] == ["0", "0"]
    assert table["padding, packed"] == ["33.3%", "50.0%"]


def test_programs_get_the_counts_as_numbers(tmp_path: Path) -> None:
    statistics = sets(write(tmp_path / "a.jsonl", ["We know", "Romeo", "Who"]), 12, validation_fraction=0).statistics
    (train,) = json.loads(json.dumps(statistics.facts()))
    assert (train["side"], train["documents"], train["median_length"]) == ("train", 3, 6.0)
    assert all(isinstance(value, int | float) for name, value in train.items() if name != "side")
    assert {name for _, name, _ in statistics.quantities()} <= train.keys()


def test_no_fantasy_location_is_on_both_sides(shared_data: Callable[[str], Path]) -> None:
    found = split(shared_data("fantasy_locations.txt"), test_fraction=0.05)
    assert [len(found.records[side]) for side in SIDES] == [836, 113, 51]
    assert len({content_key(one) for side in SIDES for one in found.records[side]}) == 1000
