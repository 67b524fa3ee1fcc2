"""Benchmarks named on a command line become what documents are looked through for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from folio.corpus.quality import Contamination, ContaminationConfig
from folio.errors import ConfigError, DataError
from folio.verbs.action import Terminal
from folio.verbs.decontamination import contamination_of

LINES = [
    "the quick brown fox jumps over the lazy dog and then sleeps all day long",
    "of all the things that one may plant in a garden none is so slow as a tree",
]
CHOICE = {"ind": 7, "activity_label": "Gardening", "ctx": LINES[0], "label": 1}
ENDINGS = [f"{word} things happen to everyone who waits for it" for word in ("bad", "good", "odd", "old")]


def opened(*names: str | Path, config: ContaminationConfig | None = None) -> Contamination:
    return contamination_of([str(name) for name in names], Terminal(quiet=True), config)


def met(contamination: Contamination, text: str) -> tuple[tuple[str, str], ...]:
    return contamination.verdict(f"before. {text}\nafter").met


@pytest.fixture
def hellaswag(tmp_path: Path) -> Path:
    file = tmp_path / "scenes.jsonl"
    file.write_text(json.dumps({**CHOICE, "endings": ENDINGS}) + "\n")
    return file


def test_texts_one_a_line_are_items_by_their_line(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text(f"{LINES[0]}\n\n{LINES[1]}\n")
    (tmp_path / "more.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in LINES))
    both = opened(f"{tmp_path / 'own.txt'},{tmp_path / 'more.jsonl'}")
    assert met(both, LINES[1]) == (("own", "3"), ("more", "2"))


def test_a_file_of_a_known_task_is_read_as_such(hellaswag: Path) -> None:
    across = f"{LINES[0]} {ENDINGS[1]}".split()[6:]
    for name, found in (("scenes", opened(hellaswag)), ("hellaswag", opened(f"hellaswag={hellaswag}"))):
        assert met(found, " ".join(across)) == ((name, "7"),)
        assert met(found, f"Gardening: {LINES[0]}") == ((name, "7"),)


def test_which_answers_are_looked_for_is_the_users_choice(hellaswag: Path) -> None:
    end = LINES[0].split()[-8:]
    right, wrong = (" ".join([*end, *ENDINGS[which].split()]) for which in (1, 0))
    found = {}
    for answers in ("right", "all", "none"):
        benchmark = opened(hellaswag, config=ContaminationConfig(answers=answers))
        found[answers] = [bool(met(benchmark, text)) for text in (right, wrong)]
    assert found == {"right": [True, False], "all": [True, True], "none": [False, False]}


def test_a_description_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "riddles.toml").write_text(
        'name = "riddles"\nabout = "Riddles."\nkind = "multiple-choice"\nid = ["key"]\nendings = ["answers"]\n'
        '[fields]\nriddle = ["riddle"]\n[label]\nfield = ["right"]\n'
        '[conventions.plain]\nabout = "."\nencoding = "apart"\ncontext = "{riddle}"\nending = " {ending}"\n'
    )
    record = {"key": "r1", "riddle": LINES[0], "answers": ["a fox", "a dog"], "right": 0}
    (tmp_path / "file.jsonl").write_text(json.dumps(record) + "\n")
    found = opened(f"{tmp_path / 'riddles.toml'}={tmp_path / 'file.jsonl'}")
    assert met(found, f"{LINES[0]} a fox") == (("riddles", "r1"),)


def test_mistakes_are_one_line_with_what_to_do(tmp_path: Path, hellaswag: Path) -> None:
    (tmp_path / "odd.jsonl").write_text('{"question": "what is it"}\n')
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ConfigError, match="Did you mean 'hellaswag'"):
        opened("helaswag")
    with pytest.raises(DataError, match=r"line 1 has no field 'text'.*its fields: question"):
        opened(tmp_path / "odd.jsonl")
    with pytest.raises(DataError, match="holds no items"):
        opened(tmp_path / "empty.txt")
    with pytest.raises(DataError, match="does not exist"):
        opened(tmp_path / "nowhere.jsonl")
    with pytest.raises(ConfigError, match="two benchmarks are called 'hellaswag'"):
        opened(f"hellaswag={hellaswag}", f"hellaswag={hellaswag}".replace("scenes", "./scenes"))
    with pytest.raises(ConfigError, match="no benchmark is named"):
        opened(" ,")


def test_the_terminal_says_what_is_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.txt").write_text(f"{LINES[0]}\ntoo short\n")
    contamination_of([str(tmp_path / "own.txt")], Terminal())
    assert capsys.readouterr().out == "looks for own: 3 grams of 2 items, 1 of them too short to be looked for\n"


@pytest.mark.slow
def test_hellaswag_itself(shared_data: Callable[[str], Path]) -> None:
    found = opened(f"hellaswag={shared_data('hellaswag_val_0-4999.jsonl')}")
    assert found.describe()["benchmarks"] == {"hellaswag": {"items": 5000, "too_short": 0, "grams": 181_423}}
