"""A description is all there is to a task; one of a user's own works the same, and mistakes in it are named."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from folio.checksums import sha256_of
from folio.cli import main
from folio.corpus import CorpusConfig, open_corpus
from folio.corpus.table import NAMED
from folio.errors import ConfigError, DataError, Unreachable
from folio.evaluation.tasks import find_task, shipped_tasks

DOCS = Path(__file__).resolve().parents[2] / "docs" / "tasks.md"
OWN = """
name = "capitals"
about = "Which city is the capital."
kind = "multiple-choice"
endings = ["cities"]

[fields]
country = ["country"]

[label]
field = ["capital"]
counts = "names"
names = ["cities"]

[conventions.plain]
about = "As a sentence."
encoding = "apart"
normalize = "characters"
context = "The capital of {country|strip} is"
ending = " {ending}."
shots = "others"
shot = "{context}{ending} "
"""


def described(path: Path, text: str = OWN) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_shipped_task_is_named_as_its_file_and_has_the_harness_convention() -> None:
    assert sorted(shipped_tasks()) == [
        *("arc-challenge", "arc-easy", "hellaswag", "lambada", "openbookqa", "piqa", "winogrande"),
    ]
    for name in shipped_tasks():
        task = find_task(name)
        assert task.name == name
        assert task.conventions["harness"].encoding == "pair"
        assert re.fullmatch(r"[0-9a-f]{64}", task.sha256)
    assert list(find_task("hellaswag").conventions) == ["completion", "harness"]


def test_a_description_of_ones_own_is_a_task(tmp_path: Path) -> None:
    task = find_task(described(tmp_path / "capitals.toml"))
    file = tmp_path / "capitals.jsonl"
    records = [
        {"country": " France", "cities": ["Lyon", "Paris"], "capital": "Paris"},
        {"country": "Peru", "cities": ["Lima", "Cusco"], "capital": "Lima"},
        {"country": "Chad", "cities": ["Abeche", "N'Djamena"], "capital": "N'Djamena"},
    ]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    items = task.read(file).items
    france = task.questions(items, "plain")[0]
    assert france.contexts == ("The capital of France is",)
    assert (france.endings, france.label, france.lengths) == ((" Lyon.", " Paris."), 1, (5, 6))
    assert task.shots_from_items
    shots = task.read_shots(items=file).items
    (context,) = task.questions(items, "plain", 2, shots)[0].contexts
    peru, chad = "The capital of Peru is Lima. ", "The capital of Chad is N'Djamena. "
    assert context in (peru + chad + "The capital of France is", chad + peru + "The capital of France is")
    with pytest.raises(ConfigError, match="3 few-shot examples are drawn from at least 4 items, not 3"):
        task.questions(items, "plain", 3, shots)
    with pytest.raises(DataError, match="'capitals' does not say where its file is"):
        task.read()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("{country|strip}", "{contry}", r"uses \{contry\}, which is no field\n *Did you mean \{country\}\?"),
        ("{country|strip}", "{country|stripp}", "there is no cleaner 'stripp'; did you mean 'strip'"),
        ("{country|strip}", "{country", "expected '}'"),
        ('encoding = "apart"', 'encoding = "alone"', r"\[conventions.plain\]: encoding = 'alone'"),
        ('kind = "multiple-choice"', 'kind = "choice"', "kind = 'choice'"),
        ('endings = ["cities"]', "", "needs endings"),
        ("[fields]", "[feilds]", "feilds"),
        ('names = ["cities"]', "", "names belong to counts = 'names'"),
        ("[conventions.plain]", "[convention]", "unknown key convention"),
        (OWN[OWN.index("[conventions") :], "", "has no convention"),
        ("about = ", "about ", "'.*toml', line 3"),
    ],
)
def test_a_mistake_in_a_description_is_named(old: str, new: str, problem: str, tmp_path: Path) -> None:
    assert old in OWN
    with pytest.raises(ConfigError, match=problem):
        find_task(described(tmp_path / "own.toml", OWN.replace(old, new)))


def test_an_unknown_task_or_convention_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no task 'helaswag'\n *Did you mean 'hellaswag'"):
        find_task("helaswag")
    with pytest.raises(ConfigError, match=r"no convention 'completions'\n *Did you mean 'completion'"):
        find_task("hellaswag").convention("completions")
    with pytest.raises(ConfigError, match=r"cannot read 'none\.toml'"):
        find_task("none.toml")


@pytest.mark.parametrize("name", ["arc-easy", "hellaswag", "lambada"])
def test_without_a_network_the_missing_file_is_told_within_two_seconds(name: str) -> None:
    before = time.monotonic()
    with pytest.raises(Unreachable) as raised:
        find_task(name).read()
    assert time.monotonic() - before < 2
    assert f"--data {name}=FILE" in raised.value.remedy
    with pytest.raises(Unreachable, match="--shots-from FILE"):
        find_task("piqa").read_shots()


def test_a_silent_network_is_given_up_within_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses that take the call and say nothing; the hub is not marked as offline."""
    import socket

    import huggingface_hub.constants

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        row = NAMED["hellaswag"]
        file = replace(row.files[0], url=url + "/hellaswag_val.jsonl")
        monkeypatch.setitem(NAMED, "hellaswag", replace(row, files=(file,)))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        before = time.monotonic()
        with pytest.raises(Unreachable, match=r"no answer; .* the hub does not answer"):
            find_task("hellaswag").read()
        assert time.monotonic() - before < 2


def test_a_file_in_the_hubs_cache_is_found_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants
    import pyarrow
    import pyarrow.parquet

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    task = find_task("arc-easy")
    source = task.description.data
    folder = tmp_path / "datasets--allenai--ai2_arc" / "snapshots" / source.revision / "ARC-Easy"
    folder.mkdir(parents=True)
    record = {"id": "1", "question": "?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record]), folder / "test-00000-of-00001.parquet")
    data = task.read()
    assert [item.label for item in data.items] == [1]
    assert data.facts["origin"] == f"hub dataset allenai/ai2_arc at {source.revision}"


def test_hub_files_are_fixed_by_a_commit_and_named_ones_by_a_checksum() -> None:
    for name in shipped_tasks():
        description = find_task(name).description
        for source in filter(None, (description.data, description.shots)):
            assert re.fullmatch(r"[0-9a-f]{40}", source.revision)
            assert source.named is None or NAMED[source.named].kind == "benchmark"


def test_named_data_that_was_got_is_read_without_being_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"ind": 1, "activity_label": "A", "ctx_a": "B.", "ctx_b": "he", "ctx": "B. he", "label": 0}
    given = described(tmp_path / "given.jsonl", json.dumps(record | {"endings": list("abcd")}) + "\n")
    row = NAMED["hellaswag"]
    file = replace(row.files[0], sha256=sha256_of(given))
    monkeypatch.setitem(NAMED, "hellaswag", replace(row, files=(file,)))
    monkeypatch.setenv("FOLIO_CACHE", str(tmp_path / "cache"))
    assert main(["corpus", "get", "hellaswag", "--from-file", str(given)]) == 0
    assert "folio evaluate MODEL --tasks hellaswag" in capsys.readouterr().out
    data = find_task("hellaswag").read()
    assert [item.id for item in data.items] == ["1"]
    assert (data.facts["origin"], data.sha256) == ("named data 'hellaswag'", file.sha256)


def test_a_benchmark_is_no_corpus() -> None:
    with pytest.raises(ConfigError, match="'hellaswag' is a benchmark, not a text"):
        open_corpus(CorpusConfig(name="hellaswag"))


def test_the_description_in_the_documentation_works(tmp_path: Path) -> None:
    text = DOCS.read_text(encoding="utf-8")
    (description,) = re.findall(r"```toml\n(name = .*?)```", text, re.DOTALL)
    (records,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    task = find_task(described(tmp_path / "riddles.toml", description))
    (tmp_path / "riddles.jsonl").write_text(records)
    items = task.read(tmp_path / "riddles.jsonl").items
    for convention in task.conventions.values():
        questions = task.questions(items, convention)
        assert len(questions) == len(items) > 1
        for question in questions:
            for shown in (*question.contexts, *question.endings):
                assert json.dumps(shown) in text
