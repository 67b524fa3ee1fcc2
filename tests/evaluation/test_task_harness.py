"""The harness convention is lm-evaluation-harness's own: the same requests, to the character, from its own YAML."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from folio.evaluation.tasks import Question, find_task
from folio.evaluation.tasks.fields import cut_after_last_sentence

Records = list[dict[str, Any]]
YAML = {
    "hellaswag": "hellaswag/hellaswag.yaml",
    "arc-easy": "arc/arc_easy.yaml",
    "arc-challenge": "arc/arc_challenge.yaml",
    "piqa": "piqa/piqa.yaml",
    "winogrande": "winogrande/default.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "lambada": "lambada/lambada_openai.yaml",
}


@pytest.fixture(autouse=True)
def others_warnings() -> Iterator[None]:
    """lm_eval and datasets warn of their own dependencies; those warnings are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def requests_of_lm_eval(
    name: str, files: dict[str, Path], folder: Path, num_fewshot: int, limit: int | None, seed: int = 1234
) -> list[tuple[list[tuple[str, str]], int, list[int]]]:
    """For each document lm_eval's (context, continuation) pairs, the right number, and what acc_norm divides by."""
    import lm_eval.tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    config = dict(load_yaml(Path(lm_eval.tasks.__file__).parent / YAML[name]))
    config |= {"dataset_path": "json", "dataset_name": None, "num_fewshot": num_fewshot}
    data_files = {split: str(path) for split, path in files.items()}
    config["dataset_kwargs"] = {"data_files": data_files, "cache_dir": str(folder / "datasets")}
    task = ConfigurableTask(config=config)
    task.set_fewshot_seed(seed)
    task.build_all_requests(limit=limit)
    found: dict[int, list[Any]] = {}
    for instance in task.instances:
        found.setdefault(instance.doc_id, []).append(instance)
    answers = []
    for _, instances in sorted(found.items()):
        doc = instances[0].doc
        gold, lengths = 0, []
        if task.OUTPUT_TYPE == "multiple_choice":
            lengths = [len(choice) for choice in task.doc_to_choice(doc)]
            # lm_eval's own scoring says which number is right: make each certain in turn.
            rows = [
                [(0.0 if n == right else -1e9, False) for n in range(len(lengths))] for right in range(len(lengths))
            ]
            gold = [task.process_results(doc, row)["acc"] for row in rows].index(1.0)
        answers.append(([instance.args for instance in instances], gold, lengths))
    return answers


def pairs(question: Question) -> list[tuple[str, str]]:
    contexts = question.contexts * (len(question.endings) // len(question.contexts))
    return list(zip(contexts, question.endings, strict=True))


def write(path: Path, records: Records) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def marked(text: str, rng: random.Random) -> str:
    """The text with WikiHow's marks back in, as the original file has them."""
    parts = text.split(". ")
    marks = [". ", " [title] ", ". [step] ", ". [substeps]  ", ". [header] "]
    return "".join(part + rng.choice(marks) for part in parts[:-1]) + parts[-1]


@pytest.fixture(scope="module")
def original(shared_data: Callable[[str], Path]) -> Records:
    """Real HellaSwag items in the original file's form."""
    rng = random.Random(7)
    records = []
    for line in shared_data("hellaswag_val_0-4999.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        before, after = cut_after_last_sentence(record["ctx"])
        if not after:
            before = "[header] " + marked(before, rng)
            record["endings"] = [marked(ending, rng) for ending in record["endings"]]
        ctx = f"{before} {after}" if after else before
        record |= {"ctx_a": before, "ctx_b": after, "ctx": ctx, "split": "val", "split_type": "indomain"}
        records.append(record | {"source_id": f"x~{record['ind']}"})
    return records


@pytest.mark.parametrize("num_fewshot", [0, 1, 10])
def test_hellaswag_is_asked_as_the_harness_asks_it(original: Records, tmp_path: Path, num_fewshot: int) -> None:
    validation = write(tmp_path / "hellaswag_val.jsonl", original[::12])
    train = write(tmp_path / "hellaswag_train.jsonl", original[::4])
    task = find_task("hellaswag")
    shots = task.read_shots(train).items if num_fewshot else None
    questions = task.questions(task.read(validation).items, "harness", num_fewshot, shots)
    expected = requests_of_lm_eval("hellaswag", {"validation": validation, "train": train}, tmp_path, num_fewshot, None)
    assert len(expected) == 417
    for question, (requests, gold, lengths) in zip(questions, expected, strict=True):
        assert pairs(question) == requests
        assert question.label == gold
        assert list(question.lengths) == lengths


def arc(count: int, names: str = "ABCD") -> Records:
    return [
        {
            "id": f"Mercury_{n}",
            "question": f"Which of {n} things is hot? ",
            "choices": {
                "text": [f"thing {n}-{k}" for k in range(len(names) - n % 2)],
                "label": list(names[: len(names) - n % 2]),
            },
            "answerKey": names[n % 3],
        }
        for n in range(count)
    ]


def openbook(count: int) -> Records:
    return [
        {
            "id": f"7-{n}",
            "question_stem": f"The sun is {n} times",
            "choices": {"text": [f" as hot {k}" if k else f"cold {n}" for k in range(4)], "label": list("ABCD")},
            "answerKey": " " * (n % 2) + "ABCD"[n % 4],
        }
        for n in range(count)
    ]


def piqa(count: int) -> Records:
    return [
        {"goal": f"Boil {n} eggs", "sol1": f"use {n} pots", "sol2": f"use fire, {n}", "label": n % 2}
        for n in range(count)
    ]


def winogrande(count: int) -> Records:
    return [
        {
            "sentence": f"Ann thanked Bea {n} times because _  was kind_ . ",
            "option1": "Ann",
            "option2": f"Bea{n}",
            "answer": "12"[n % 2],
        }
        for n in range(count)
    ]


def lambada(count: int) -> Records:
    return [{"text": f'He said {n} words, and she  gave him\nthe {n}th key"{n}'} for n in range(count)]


SMALL: dict[str, tuple[Callable[[int], Records], str]] = {
    "arc-easy": (arc, "test"),
    "arc-challenge": (lambda count: arc(count, "12345"), "test"),
    "openbookqa": (openbook, "test"),
    "piqa": (piqa, "validation"),
    "winogrande": (winogrande, "validation"),
    "lambada": (lambada, "test"),
}


@pytest.mark.parametrize("num_fewshot", [0, 3])
@pytest.mark.parametrize("name", SMALL)
def test_small_tasks_are_asked_as_the_harness_asks_them(name: str, tmp_path: Path, num_fewshot: int) -> None:
    records, split = SMALL[name]
    files = {split: write(tmp_path / "items.jsonl", records(12)[::-1])}
    task = find_task(name)
    if task.shots_from_items:
        shots = task.read_shots(items=files[split])
    else:
        # Some of the items are among the shots, so that leaving them out shows; every split has to be there.
        files |= {
            other: write(tmp_path / "train.jsonl", records(16)) for other in ("train", "validation") if other != split
        }
        shots = task.read_shots(files["train"])
    questions = task.questions(task.read(files[split]).items, "harness", num_fewshot, shots.items)
    expected = requests_of_lm_eval(name, files, tmp_path, num_fewshot, None)
    assert len(expected) == 12
    for question, (requests, gold, lengths) in zip(questions, expected, strict=True):
        assert pairs(question) == requests
        assert question.label == gold
        if task.conventions["harness"].normalize == "characters":
            assert list(question.lengths) == lengths


def test_an_item_that_fills_the_shots_is_replaced_as_the_harness_replaces_it(tmp_path: Path) -> None:
    """Three of five examples equal most of the items, so what is left of a draw is often too little."""
    items = [*piqa(1) * 8, *piqa(3)]
    files = {
        "validation": write(tmp_path / "valid.jsonl", items),
        "train": write(tmp_path / "train.jsonl", [items[0], items[0], *piqa(6)[3:5], items[0]]),
    }
    task = find_task("piqa")
    shots = task.read_shots(files["train"]).items
    questions = task.questions(task.read(files["validation"]).items, "harness", 2, shots, seed=5)
    expected = requests_of_lm_eval("piqa", files, tmp_path, 2, None, seed=5)
    assert [pairs(question) for question in questions] == [requests for requests, _, _ in expected]


def test_items_asked_alone_have_the_examples_they_have_in_the_whole_file(original: Records, tmp_path: Path) -> None:
    task = find_task("hellaswag")
    items = task.read(write(tmp_path / "val.jsonl", original[:60])).items
    shots = task.read_shots(write(tmp_path / "train.jsonl", original[60:200])).items
    whole = task.questions(items, "harness", 5, shots)
    assert task.questions([items[41], items[3]], "harness", 5, shots) == [whole[41], whole[3]]
