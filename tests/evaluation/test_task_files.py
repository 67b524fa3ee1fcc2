"""Every form in which users have a benchmark gives the same items; what cannot be read is named by file and line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from folio.checksums import sha256_of
from folio.errors import DataError, UserError
from folio.evaluation.tasks import find_task
from folio.evaluation.tasks.fields import cut_after_last_sentence

ROOF: dict[str, Any] = {
    "ind": 24,
    "activity_label": "Roof shingle removal",
    "ctx_a": "A man is sitting on a roof.",
    "ctx_b": "he",
    "ctx": "A man is sitting on a roof. he",
    "split": "val",
    "split_type": "indomain",
    "label": 3,
    "endings": ["wraps a pair of skis.", "rips tiles off.", "holds a cube.", "pulls up roofing."],
    "source_id": "activitynet~v_-JhWjGDPHMY",
}


def jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


# Conventions, by hand


def test_completion_is_the_raw_context_and_a_space_before_each_ending(tmp_path: Path) -> None:
    task = find_task("hellaswag")
    wikihow = ROOF | {"ctx": "[header] How to roof [title] Climb. [step] Take a ladder.", "ctx_b": "", "ind": 25}
    data = task.read(jsonl(tmp_path / "val.jsonl", ROOF, wikihow))
    roof, how = task.questions(data.items, "completion")
    assert roof.contexts == ("A man is sitting on a roof. he",)
    assert roof.endings == (" wraps a pair of skis.", " rips tiles off.", " holds a cube.", " pulls up roofing.")
    assert roof.label == 3
    assert roof.id == "24"
    assert how.contexts == ("[header] How to roof [title] Climb. [step] Take a ladder.",)
    assert (task.conventions["completion"].encoding, task.conventions["completion"].normalize) == ("apart", "tokens")


def test_completion_has_no_few_shot_examples(tmp_path: Path) -> None:
    task = find_task("hellaswag")
    items = task.read(jsonl(tmp_path / "val.jsonl", ROOF)).items
    with pytest.raises(UserError, match="'completion' has no few-shot examples"):
        task.questions(items, "completion", 1, items)


def test_harness_puts_the_activity_in_front_and_counts_characters(tmp_path: Path) -> None:
    task = find_task("hellaswag")
    (question,) = task.questions(task.read(jsonl(tmp_path / "val.jsonl", ROOF)).items, "harness")
    assert question.contexts == ("Roof shingle removal: A man is sitting on a roof. He",)
    assert question.lengths == (21, 15, 13, 17)


# Forms


def test_all_forms_of_hellaswag_give_the_same_questions(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    task = find_task("hellaswag")
    hub = ROOF | {"label": "3"}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([hub]), tmp_path / "hub.parquet")
    with gzip.open(tmp_path / "packed.jsonl.gz", "wt", encoding="utf-8") as packed:
        packed.write(json.dumps(ROOF) + "\n")
    files = [
        jsonl(tmp_path / "original.jsonl", ROOF),
        jsonl(tmp_path / "hub.jsonl", hub),
        jsonl(tmp_path / "simplified.jsonl", without(ROOF, "ctx_a", "ctx_b", "source_id", "split", "split_type")),
        tmp_path / "hub.parquet",
        tmp_path / "packed.jsonl.gz",
    ]
    for convention in task.conventions:
        asked = [task.questions(task.read(file).items, convention) for file in files]
        assert asked == [asked[0]] * len(files)


def test_what_was_recovered_is_stated_and_nothing_else_is(tmp_path: Path) -> None:
    task = find_task("hellaswag")
    simplified = jsonl(tmp_path / "simple.jsonl", without(ROOF, "ctx_a", "ctx_b"))
    data = task.read(simplified)
    assert data.facts["recovered"] == {"items": 1, "fields": ["ctx_a", "ctx_b"], "from": "ctx"}
    assert (data.source, data.sha256, data.facts["origin"]) == ("simple.jsonl", sha256_of(simplified), "given")
    assert "recovered" not in task.read(jsonl(tmp_path / "val.jsonl", ROOF)).facts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("He sits. He waits. the man", ("He sits. He waits.", "the man")),
        ('She says "go!" then she', ('She says "go!"', "then she")),
        ("How to roof. Take a ladder.", ("How to roof. Take a ladder.", "")),
        ("He sits. Then he", ("He sits. Then he", "")),
        ("the man and his dog", ("the man and his dog", "")),
        ("It was 3.5 miles. they", ("It was 3.5 miles.", "they")),
    ],
)
def test_a_lost_beginning_is_what_follows_the_last_sentence_in_lower_case(text: str, parts: tuple[str, str]) -> None:
    assert cut_after_last_sentence(text) == parts


def test_real_hellaswag_is_read_whole(shared_data: Callable[[str], Path]) -> None:
    task = find_task("hellaswag")
    data = task.read(shared_data("hellaswag_val_0-4999.jsonl"))
    assert len({item.id for item in data.items}) == 5000
    assert task.read(shared_data("hellaswag_val_0-4999.jsonl"), limit=7).items == data.items[:7]
    harness = task.questions(data.items, "harness")
    assert not any("[" in question.contexts[0] for question in harness)


def test_both_forms_of_arc_and_openbookqa_give_the_same_questions(tmp_path: Path) -> None:
    texts, names = ["wood", "iron", "air"], ["A", "B", "C"]
    original = {
        "id": "M1",
        "question": {
            "stem": "What burns?",
            "choices": [{"text": t, "label": n} for t, n in zip(texts, names, strict=True)],
        },
        "answerKey": "C",
    }
    hub = {"id": "M1", "question": "What burns?", "choices": {"text": texts, "label": names}, "answerKey": "C"}
    task = find_task("arc-easy")
    asked = [task.questions(task.read(jsonl(tmp_path / "a.jsonl", form)).items, "harness") for form in (original, hub)]
    assert asked[0] == asked[1]
    assert asked[0][0].contexts == ("Question: What burns?\nAnswer:",)
    assert (asked[0][0].endings, asked[0][0].label) == ((" wood", " iron", " air"), 2)
    original["question"]["choices"].append({"text": "tin", "label": "D"})  # type: ignore[index]
    hub = {"id": "M1", "question_stem": "What burns?", "choices": {"text": [*texts, "tin"], "label": list("ABCD")}}
    hub["answerKey"] = "C"
    task = find_task("openbookqa")
    asked = [task.questions(task.read(jsonl(tmp_path / "o.jsonl", form)).items, "harness") for form in (original, hub)]
    assert asked[0] == asked[1]
    assert asked[0][0].contexts == ("What burns?",)


def test_labels_are_taken_from_the_file_beside(tmp_path: Path) -> None:
    records = [{"goal": f"goal {n}", "sol1": "a", "sol2": "b"} for n in range(3)]
    (tmp_path / "valid-labels.lst").write_text("1\n0\n1\n")
    data = find_task("piqa").read(jsonl(tmp_path / "valid.jsonl", *records))
    assert [item.label for item in data.items] == [1, 0, 1]
    assert data.facts["labels_source"] == "valid-labels.lst"
    (tmp_path / "valid-labels.lst").write_text("1\n0\n")
    with pytest.raises(DataError, match=r"valid\.jsonl', line 3: 'valid-labels\.lst' ends before this record"):
        find_task("piqa").read(tmp_path / "valid.jsonl")
    (tmp_path / "valid-labels.lst").write_text("1\n0\n1\n0\n")
    with pytest.raises(DataError, match="4 labels for 3 records"):
        find_task("piqa").read(tmp_path / "valid.jsonl")


def test_winogrande_has_a_context_for_each_name(tmp_path: Path) -> None:
    record = {
        "qID": "q-1",
        "sentence": "Ann met Bea when _ fell ill.",
        "option1": "Ann",
        "option2": "Bea",
        "answer": "2",
    }
    task = find_task("winogrande")
    (question,) = task.questions(task.read(jsonl(tmp_path / "dev.jsonl", record)).items, "harness")
    assert question.contexts == ("Ann met Bea when Ann", "Ann met Bea when Bea")
    assert question.endings == (" fell ill.", " fell ill.")
    assert (question.id, question.label) == ("q-1", 1)
    assert task.conventions["harness"].normalize is None


def test_lambada_is_read_from_jsonl_and_from_plain_lines(tmp_path: Path) -> None:
    passages = ["he opened the old door", "she had lost her key"]
    (tmp_path / "lambada.txt").write_text("\n".join(passages) + "\n")
    task = find_task("lambada")
    plain = task.read(tmp_path / "lambada.txt")
    lines = task.read(jsonl(tmp_path / "lambada.jsonl", *({"text": passage} for passage in passages)))
    asked = task.questions(plain.items, "harness")
    assert asked == task.questions(lines.items, "harness")
    assert asked[1].contexts == ("she had lost her",)
    assert asked[1].endings == (" key",)


# Bad input


def edited(**changes: object) -> dict[str, Any]:
    return without(ROOF | changes, *(key for key, value in changes.items() if value is None))


BAD = {
    "label of four": (edited(label=4), "label '4' is out of range: there are 4 endings, from 0"),
    "label below": (edited(label=-1), "label '-1' is out of range"),
    "label as text": (edited(label="C"), "label 'C' is out of range"),
    "no label": (edited(label=None), r"no label in 'label' \(None\)"),
    "empty label": (edited(label=""), r"no label in 'label' \(''\)"),
    "label as a fraction": (edited(label=1.0), r"no label in 'label' \(1\.0\)"),
    "three endings": (edited(endings=["a", "b", "c"]), "3 endings, not 4"),
    "empty ending": (edited(endings=["a", " ", "c", "d"]), r"ending 1 \(from 0\) is empty"),
    "ending of a number": (edited(endings=["a", 2, "c", "d"]), "an ending is int, not text"),
    "endings as text": (edited(endings="abcd"), "'endings' is str, not a list"),
    "context as a list": (edited(ctx=["a"]), "ctx is list, not text"),
    "half a surrogate": (edited(ctx="\ud83d"), "ctx holds half a surrogate pair"),
    "no context": (edited(ctx=None), "there is no 'ctx'"),
    "a list": ([1, 2], "holds list, not an object"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_named_by_file_and_line(name: str, tmp_path: Path) -> None:
    record, problem = BAD[name]
    path = jsonl(tmp_path / "val.jsonl", ROOF, record)
    with pytest.raises(DataError, match=rf"^'{path}', line 2:? {problem}"):
        find_task("hellaswag").read(path)


def test_a_malformed_line_is_named_with_blank_lines_counted(tmp_path: Path) -> None:
    path = tmp_path / "val.jsonl"
    path.write_text(json.dumps(ROOF) + '\n\n{"ind": 2,\n')
    with pytest.raises(DataError, match=r"line 3 is not JSON: .* \(column \d+\)"):
        find_task("hellaswag").read(path)
    path.write_bytes(json.dumps(ROOF).encode() + b'\n{"ctx": "\xff"}\n')
    with pytest.raises(DataError, match="line 2 is not UTF-8: byte 9 of the line is 0xff"):
        find_task("hellaswag").read(path)


def test_a_label_that_is_no_ending_is_refused(tmp_path: Path) -> None:
    record = {"id": "1", "question": "?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "E"}
    with pytest.raises(DataError, match=r"line 1: label 'E' is none of the endings' names \(A, B\)"):
        find_task("arc-easy").read(jsonl(tmp_path / "arc.jsonl", record))


@pytest.mark.parametrize(
    ("record", "owner"),
    [
        ({"goal": "g", "sol1": "a", "sol2": "b", "label": 0}, "piqa"),
        ({"sentence": "A _ b", "option1": "a", "option2": "b", "answer": "1"}, "winogrande"),
        ({"text": "a b"}, "lambada"),
        ({"question": "?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}, "arc-challenge"),
    ],
)
def test_a_file_of_another_task_is_recognised(record: dict[str, Any], owner: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        find_task("hellaswag").read(jsonl(tmp_path / "x.jsonl", record))
    assert "line 1: there is no 'activity_label'" in raised.value.problem
    assert f"looks like a record of '{owner}'" in raised.value.remedy


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    task = find_task("hellaswag")
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "a.txt").write_text("a line")
    (tmp_path / "a.csv").write_text("a,b")
    (tmp_path / "bad.parquet").write_text("PAR1 no")
    for name, problem in {
        "empty.jsonl": "holds no items",
        "a.txt": "is not read from .txt",
        "a.csv": "is no kind of text",
        "bad.parquet": "is damaged after row 0",
        "none.jsonl": "given for 'hellaswag', does not exist",
        ".": "is a folder",
    }.items():
        with pytest.raises(DataError, match=problem):
            task.read(tmp_path / name)


def test_what_has_nothing_to_score_is_refused_with_its_place(tmp_path: Path) -> None:
    task = find_task("hellaswag")
    items = task.read(jsonl(tmp_path / "val.jsonl", edited(endings=["a", "[step]", "c", "d"]))).items
    with pytest.raises(DataError, match=r"^val\.jsonl:1: ending 1 \(from 0\) is empty under 'harness'"):
        task.questions(items, "harness")
    task = find_task("lambada")
    items = task.read(jsonl(tmp_path / "l.jsonl", {"text": "ends in a space "})).items
    with pytest.raises(DataError, match=r"^l\.jsonl:1: the last word is empty"):
        task.questions(items, "harness")
    task = find_task("winogrande")
    record = {"sentence": "No blank.", "option1": "a", "option2": "b", "answer": "1"}
    with pytest.raises(DataError, match=r"^w\.jsonl:1: 'sentence' has no blank"):
        task.questions(task.read(jsonl(tmp_path / "w.jsonl", record)).items, "harness")


def test_records_with_one_id_are_told_apart(tmp_path: Path) -> None:
    data = find_task("hellaswag").read(jsonl(tmp_path / "val.jsonl", ROOF, ROOF, without(ROOF, "ind")))
    assert [item.id for item in data.items] == ["24", "24#1", "2"]
