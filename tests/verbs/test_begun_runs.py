"""What is said of a name that is no model, or none yet: what it is, and how to go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from finetuned_runs import command, write
from tuned_runs import train_base

from folio.checksums import sealed_json

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base``, and examples."""
    home = tmp_path_factory.mktemp("begun")
    train_base(home)
    write(home / "examples.jsonl", [{"prompt": "the ", "completion": "cook."} for _ in range(8)])
    return home


@pytest.fixture(autouse=True)
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def told(*arguments: object) -> str:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 2
    return err


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "a run", "--prompt", "a"),
        ("report", "a run"),
        ("evaluate", "a run", "--text", "text.txt"),
        ("finetune", "a run", "--data", "examples.jsonl"),
    ],
)
def test_a_run_amid_its_search_says_how_to_go_on(arguments: tuple[str, ...], home: Path) -> None:
    run = home / "a run"
    run.mkdir(exist_ok=True)
    (run / "config.json").write_text(sealed_json({"verb": "finetune", "recipe": {}, "base": {"given": "base"}}))
    said = told(*arguments)
    assert "'a run' is amid its search" in said
    assert "folio finetune --resume 'a run'" in said


def test_a_run_that_has_saved_nothing_says_how_to_go_on(home: Path) -> None:
    run = home / "new"
    run.mkdir()
    (run / "config.json").write_text(sealed_json({"verb": "train", "recipe": {}, "resolved": {}}))
    said = told("generate", "new", "--prompt", "a")
    assert "run 'new' has no complete checkpoint yet" in said
    assert "folio train --resume new" in said


def test_where_a_base_is_asked_for_hub_ids_are_named_and_adapters_are_not() -> None:
    said = told("finetune", "gpt2", "--data", "examples.jsonl")
    assert "'gpt2' does not exist" in said
    assert "hub id such as openai-community/gpt2" in said
    assert "HF_HUB_OFFLINE" in said
    assert "adapter" not in said
    assert "adapter" in told("generate", "gpt2", "--prompt", "a")
    said = told("finetune", "org/name", "--data", "examples.jsonl")
    assert "unset HF_HUB_OFFLINE" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--forgetting.tasks", "hellaswag"), "--forgetting.data hellaswag=FILE"),
        (("--forgetting.tasks", "hellaswag,piqa", "--forgetting.data", "a"), "--forgetting.data piqa=FILE"),
        (("--evaluation.tasks", "hellaswag", "--train.device", "cpu"), "--evaluation.data hellaswag=FILE"),
    ],
)
def test_a_benchmarks_file_is_asked_for_by_the_flag_that_gives_it(
    flags: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOLIO_CACHE", str(tmp_path))  # nothing was fetched before
    err = command("finetune", "base", "--data", "examples.jsonl", "--out", tmp_path / "run",
                  "--data.validation-fraction", "0", *flags)[2]  # fmt: skip
    assert said in err
    assert not (tmp_path / "run").exists()
