"""What cannot be fine-tuned is refused in one line, with exit code 2, and nothing is written."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from finetuned_runs import BARE, SHORT, command, completion, data_of, files_of, make_home, tune, write

from folio.tokenizer import TokenizerConfig, train_tokenizer


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = make_home(tmp_path_factory.mktemp("mistakes"))
    tune(home, home / "tuned", "lora", "--train.steps", "1")
    write(home / "silent.jsonl", [{"prompt": f"{n}: ", "completion": ""} for n in range(9)])
    write(home / "long.jsonl", [{"prompt": f"{n} the cook " * 20, "completion": "a man."} for n in range(9)])
    write(home / "few.jsonl", [completion("one", 0)])
    (home / "empty.jsonl").write_text("")
    (home / "broken.jsonl").write_text('{"prompt": "one", "completion": "two"}\n{"prompt": \n')
    other = home / "foreign"
    shutil.copytree(next((home / "base" / "checkpoints").glob("step-*")) / "model", other)
    (other / "manifest.json").unlink(missing_ok=True)
    train_tokenizer(["abc" + "".join(map(chr, range(200, 400)))], TokenizerConfig(kind="char")).save_into(other)
    return home


@pytest.fixture(autouse=True)
def _there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def complaint(home: Path, *arguments: object) -> str:
    """What is said of a mistake: a line, and what to do; nothing is written anywhere."""
    before = files_of(home)
    code, _out, err = command("finetune", *arguments)
    after = files_of(home)
    shutil.rmtree(home / "new", ignore_errors=True)
    assert (code, "Traceback" in err) == (2, False), err
    assert after == before
    lines = err.splitlines()
    assert lines[0].startswith("folio: ")
    assert len([line for line in lines if line.startswith("folio: ")]) == 1
    assert all(line.startswith("       ") for line in lines[1:])
    return err


OUT = ("--out", "new", *BARE, *SHORT)
DATA = ("--data", "train.jsonl", "--data.validation", "held.jsonl")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("base", "--data", "chats.jsonl", "--data.template", "chatlm"), "chatml"),
        (("base", *DATA, "--data.template", "chatml"), "not conversations"),
        (("base", "--data", "few.jsonl", "--data.validation-fraction", "0.5"), "validation"),
        (("base", "--data", "empty.jsonl"), "empty.jsonl"),
        (("base", "--data", "nowhere.jsonl"), "nowhere.jsonl"),
        (("base", "--data", "broken.jsonl"), "line 2"),
        (("base", "--data", "train.jsonl", "--data.validation", "train.jsonl"), "also held out"),
        (("base", "--data", "silent.jsonl"), "no answer"),
        (("base", "--data", "long.jsonl", "--data.too-long", "drop"), "do not fit a context of 64"),
        (("base", "--data", "long.jsonl", "--data.too-long", "truncate"), "nothing is left to learn"),
        (("base", *DATA, "--data.block-size", "65"), "data.block_size is 65, and the model's context holds 64"),
        (("base", *DATA, "--data.format", "chat"), "messages"),
        (("base", *DATA, "--train.batch-tokens", "100"), "batch_tokens"),
        (("base", *DATA, "--train.micro-batch", "3"), "micro_batch"),
        (("base", *DATA, "--train.optimizer.kind", "muon"), "muon"),
        (("base", *DATA, "--method", "full", "--lora.rank", "4"), "[lora]"),
        (("base", *DATA, "--method", "head", "--lora.rank", "4"), "[lora]"),
        (("base", *DATA, "--method", "lroa"), "lora"),
        (("base", *DATA, "--dpo.beta", "0.5"), "[dpo]"),
        (("base", *DATA, "--lora.targets", "nothing"), "nothing"),
        (("base", *DATA, "--evaluation.oracle.model", "base"), "oracle"),
        (("base", *DATA, "--evaluation.texts", "nowhere.txt"), "nowhere.txt"),
        (("base", *DATA, "--train.best-by", "riddles.acc"), "best_by"),
        (("base", *DATA, "--train.sample-every", "2", "--train.sample-prompt", "é"), "é"),
        (("base", *DATA, "--train.steps", "-1"), "steps"),
        (("base", "--data", "train.jsonl", "--data.validation-fraction", "0", "--train.patience", "2"), "patience"),
        (("tuned", *DATA), "adapter"),
        (("foreign", *DATA), "tokenizer"),
        (("nowhere", *DATA), "nowhere"),
        (("base",), "data"),
        (DATA, "MODEL"),
        (("base", *DATA, "--train.epoch", "2"), "epochs"),
        (("base", *DATA, "--resume", "tuned"), "--out"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_line(home: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in complaint(home, *OUT, *arguments)


def test_an_occupied_folder_is_left_as_it_is(home: Path) -> None:
    assert "tuned" in complaint(home, "base", *DATA, "--out", "tuned", *BARE, *SHORT)


@pytest.mark.parametrize(("method", "package"), [("qlora", "bitsandbytes")])
def test_a_missing_extra_is_named(home: Path, monkeypatch: pytest.MonkeyPatch, method: str, package: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    said = complaint(home, *OUT, "base", *DATA, "--method", method)
    assert "folio-lm[finetune]" in said
    assert package in said


def test_an_adapter_folder_is_no_base(home: Path) -> None:
    (adapter,) = (home / "tuned" / "checkpoints").glob("step-*/adapter")
    assert "folio finetune merge" in complaint(home, adapter, *data_of(home)[1:], *OUT)


def test_a_damaged_base_is_told(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "base", tmp_path / "base")
    (weights,) = tmp_path.glob("base/checkpoints/step-*/model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "model.safetensors" in complaint(home, tmp_path / "base", *DATA, *OUT)


def test_a_damaged_checkpoint_is_passed_over_and_a_damaged_recipe_told(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(home / "tuned", run)
    config = json.loads((run / "config.json").read_text())
    config["recipe"]["lora"]["rank"] = 3
    (run / "config.json").write_text(json.dumps(config))
    assert "config.json" in complaint(home, "--resume", run)


def test_a_run_of_another_kind_names_its_verb(home: Path) -> None:
    assert "folio train --resume base" in complaint(home, "--resume", "base")
    assert "not a run" in complaint(home, "--resume", ".")
