"""``folio generate`` from a base with adapters: each one's own text, labelled, and an end where the model ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from adapted_models import letters, make_adapter, make_base, make_checkpoint

import folio
from folio.artifacts import write_manifest
from folio.cli import main
from folio.finetuning.adapters import base_of, save_adapter
from folio.finetuning.config_lora import LoraConfig
from folio.finetuning.trainable import make_trainable
from folio.model.config import GPTConfig
from folio.model.folder import load_model, save_model
from folio.model.gpt import GPT

FLAGS = ("--prompt", "abc", "de", "--max-new-tokens", "12", "--seed", "3", "--device", "cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base``, and on it the adapter ``a``, the run ``b`` and ``elsewhere``, an adapter for another model."""
    folder = tmp_path_factory.mktemp("adapters")
    base = make_base(folder / "base")
    make_adapter(folder / "a", base, seed=1)
    make_checkpoint(folder / "b", 2, base)
    make_adapter(folder / "elsewhere", make_base(folder / "other", seed=5))
    return folder


@pytest.fixture(autouse=True)
def _there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def answer_of(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert main(["generate", *args, *FLAGS, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8"])
def test_each_of_several_adapters_answers_as_it_does_alone(dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = answer_of(capsys, "base", "--adapter", "a", "tuned=b", "none", "--dtype", dtype)
    found = [(row["adapter"], row["prompt"], row["text"]) for row in answer["answers"]]
    paths = {"a": "a", "tuned": "b", "none": "base"}
    expected = [
        (name, row["prompt"], row["text"])
        for name, path in paths.items()
        for row in answer_of(capsys, path, "--dtype", dtype)["answers"]
    ]
    assert found == expected
    assert len({text for _, prompt, text in found if prompt == "abc"}) == 3
    assert [row["seed"] for row in answer["answers"]] == [3, 4] * 3
    assert answer["new_tokens"] == sum(len(row["ids"]) + (row["finish"] == "end_of_text") for row in answer["answers"])


def test_one_adapter_on_a_base_is_that_adapter_opened(capsys: pytest.CaptureFixture[str]) -> None:
    rows = answer_of(capsys, "base", "--adapter", "b")["answers"]
    assert rows == answer_of(capsys, "b")["answers"]
    assert "adapter" not in rows[0]
    assert answer_of(capsys, "base", "--adapter", "none")["answers"] == answer_of(capsys, "base")["answers"]


def test_the_terminal_says_who_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "base", "--adapter", "a", "b", *FLAGS]) == 0
    out = capsys.readouterr().out
    places = [out.index(text) for text in ("=== a\n", "--- 1 of 2\nabc", "--- 2 of 2\nde", "=== b\n")]
    assert places == sorted(places)
    assert out.rindex("--- 1 of 2\nabc") > out.index("=== b\n")


def test_without_a_seed_all_adapters_draw_with_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "base", "--adapter", "a", "b", "--prompt", "a", "--max-new-tokens", "4", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {row["seed"] for row in answer["answers"]} == {answer["seed"]}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("base", "--adapter", "elsewhere"), "was made for other weights"),
        (("base", "--adapter", "a", "elsewhere"), "was made for other weights"),
        (("base", "--adapter", "a", "absent"), "'absent' does not exist"),
        (("base", "--adapter", "a", "a"), "two adapters are called 'a'"),
        (("base", "--adapter", "a", "base"), "'base' is no adapter; give it as MODEL"),
        (("base", "--adapter", "base"), "'base' is no adapter; give it as MODEL"),
        (("base", "--adapter", "a", "b c=b"), "cannot be an adapter's name"),
        (("a", "--adapter", "b"), "a base has to be a whole model"),
        (("base", "--adapter", "a", "--base", "base"), "--base"),
        (("base", "--base", "base"), "it has no base"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_written(
    args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", *args, *FLAGS]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert len(captured.err.splitlines()) == 2


def test_a_path_with_an_equals_sign_is_a_path(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    shutil.copytree(home / "a", home / "rank=4")
    rows = answer_of(capsys, "base", "--adapter", "rank=4", "none")["answers"]
    assert [row["adapter"] for row in rows] == ["rank-4", "rank-4", "none", "none"]
    assert rows[0]["text"] == answer_of(capsys, "a")["answers"][0]["text"]


# Where a text ends.


def taught(model: GPT, ids: list[int], steps: int) -> None:
    """Train what is trainable in ``model`` to go on with ``ids``."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    given, targets = torch.tensor([ids[:-1]]), torch.tensor([ids[1:]])
    model.train()
    for _ in range(steps):
        nats, count = model(given, targets)
        optimizer.zero_grad()
        (nats / count).backward()
        optimizer.step()
    model.eval()


def test_a_model_tuned_to_end_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The base goes on for ever; with the adapter the same prompt has an end, in every way of opening it."""
    tokenizer = letters()
    shape = GPTConfig(vocab_size=tokenizer.vocab_size, block_size=32, n_layer=1, n_head=2, n_embd=32)
    model = GPT(shape).initialize(0)
    assert tokenizer.eot_id is not None
    taught(model, tokenizer.encode("abcd efgh\n" * 3), 80)
    base = tmp_path / "base"
    base.mkdir()
    save_model(model, base, eos_id=tokenizer.eot_id, tokenizer_files=tokenizer.save_into)
    write_manifest(base, "model", {})
    model = load_model(base)
    make_trainable(model, "lora", LoraConfig(rank=8))
    taught(model, [*tokenizer.encode("abcd abcd\n"), tokenizer.eot_id], 120)
    adapter = tmp_path / "adapter"
    save_adapter(model, adapter, base=base_of(base, str(base)), extra=tokenizer.save_into)
    greedy = ("--prompt", "ab", "--temperature", "0", "--max-new-tokens", "100", "--device", "cpu", "--json")
    for dtype in ("fp32", "bf16", "int8"):
        assert main(["generate", str(base), "--adapter", str(adapter), "none", "--dtype", dtype, *greedy]) == 0
        tuned, alone = json.loads(capsys.readouterr().out)["answers"]
        assert (tuned["text"], tuned["finish"]) == ("cd abcd\n", "end_of_text")
        assert (len(alone["ids"]), alone["finish"]) == (100, "length")
    assert folio.load(adapter, device="cpu").generate("ab", temperature=0) == "cd abcd\n"
