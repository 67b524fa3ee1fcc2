"""``folio generate --chat``: a model that was tuned on chats is talked to as it was taught."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from finetuned_runs import ANSWERS, BARE, TEXT, WORDS, chat, command, finetune, write

import folio
from folio.errors import ArtifactError, ConfigError
from folio.finetuning.templates import load_template

GREEDY = ("--temperature", "0", "--max-new-tokens", "40", "--device", "cpu")
LEARNED = {word: ANSWERS[number % 4] for number, word in enumerate(WORDS)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base``, which was not taught to talk, and on it ``whole`` and ``adapter``, which answer every word."""
    home = tmp_path_factory.mktemp("chat")
    write(home / "text.jsonl", [{"text": f"{number} User: Assistant: A C fjqvxyz: {TEXT}"} for number in range(80)])
    train = {"steps": 40, "batch_tokens": 512, "validation_tokens": 64, "device": "cpu", "precision": "fp32"}
    shape = {"block_size": 64, "n_layer": 2, "n_head": 2, "n_embd": 32}
    tables = {"corpus": {"path": str(home / "text.jsonl")}, "tokenizer": {"kind": "char"}, "model": shape}
    folio.train({**tables, "train": {**train, "optimizer": {"learning_rate": 1e-2}}}, out=home / "base")
    write(home / "chats.jsonl", [chat(word, number) for number, word in enumerate(WORDS)])
    data = (home / "base", "--data", home / "chats.jsonl", "--data.template", "plain", *BARE)
    taught = ("--data.validation-fraction", "0", "--train.batch-tokens", "512", "--train.steps", "120")
    finetune(*data, *taught, "--method", "full", "--train.optimizer.learning-rate", "1e-2", "--out", home / "whole")
    short = ("--data.validation-fraction", "0", "--train.steps", "2", "--method", "lora")
    finetune(*data, *short, "--out", home / "adapter")
    return home


def answers_of(*arguments: object) -> list[dict[str, Any]]:
    code, out, err = command("generate", *arguments, *GREEDY, "--json")
    assert code == 0, err
    found: list[dict[str, Any]] = json.loads(out)["answers"]
    return found


def test_it_answers_what_it_was_taught_and_ends(home: Path) -> None:
    """A chat's prompt alone, as plain text, is nothing that it was taught to answer."""
    answers = answers_of(home / "whole", "--chat", "--prompt", *WORDS)
    assert {answer["prompt"]: answer["text"] for answer in answers} == LEARNED
    assert {answer["finish"] for answer in answers} == {"end_of_text"}
    plain = answers_of(home / "whole", "--prompt", *WORDS)
    assert all(answer["text"].strip() != LEARNED[answer["prompt"]] for answer in plain)


def test_the_library_says_the_same_and_knows_a_conversation(home: Path) -> None:
    model = folio.load(home / "whole", device="cpu")
    asked = [{"role": "user", "content": "three"}]
    assert model.chat(asked, temperature=0) == LEARNED["three"]
    rendered = load_template("plain", model.tokenizer).render(asked, add_generation_prompt=True)
    assert model.generate(rendered, temperature=0).strip() == LEARNED["three"]
    with pytest.raises(ConfigError, match="temperature"):
        model.chat(asked, temprature=0)
    with pytest.raises(ArtifactError, match="has no chat template"):
        folio.load(home / "base").chat(asked)


def test_what_the_system_says_comes_first(home: Path) -> None:
    (told,) = answers_of(home / "whole", "--chat", "--system", r"the man\nis in the pan", "--prompt", "one")
    model = folio.load(home / "whole", device="cpu")
    messages = [{"role": "system", "content": "the man\nis in the pan"}, {"role": "user", "content": "one"}]
    assert told["text"] == model.chat(messages, temperature=0, max_new_tokens=40)
    rendered = load_template("plain", model.tokenizer).render(messages, add_generation_prompt=True)
    assert told["prompt_tokens"] == len(model.tokenizer.encode(rendered))


def test_piped_input_is_one_turn(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"five\n")))
    (answer,) = answers_of(home / "whole", "--chat")
    assert (answer["prompt"], answer["text"]) == ("five", LEARNED["five"])


class Typed(io.StringIO):
    """A terminal at which these lines are typed, and then Ctrl-D."""

    def isatty(self) -> bool:
        return True


def test_at_a_terminal_lines_are_turns_and_what_was_said_stays_known(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that cannot be said is told of and forgotten."""
    monkeypatch.setattr(sys, "stdin", Typed("one\n\nTHE\n\u00c4\ntwo\n"))
    code, out, err = command("generate", home / "whole", "--chat", "--seed", "3", "--max-new-tokens", "20")
    assert code == 0, err
    model = folio.load(home / "whole", device="cpu")
    messages: list[dict[str, str]] = []
    for turn, said in enumerate(("one", "two")):
        messages.append({"role": "user", "content": said})
        answer = model.chat(messages, seed=3 + turn, max_new_tokens=20)
        messages.append({"role": "assistant", "content": answer})
        assert f"> {answer}\n" in out
    assert out.count("'\u00c4'") == 1
    assert "seed 3" in out


@pytest.mark.parametrize(
    ("model", "flags", "said"),
    [
        ("base", ("--chat", "--prompt", "one"), "base' has no chat template"),
        ("whole", ("--system", "be kind", "--prompt", "one"), "Add --chat"),
        ("whole", ("--chat", "--prompt", " "), "Give --prompt TEXT"),
        ("whole", ("--chat", "--json"), "--json cannot hold a conversation"),
        ("whole", ("--chat", "--num-samples", "2"), "a conversation is with one model"),
        ("whole", ("--chat", "--prompt", "<|endoftext|>"), "writes the special token"),
    ],
)
def test_mistakes_are_one_line(
    home: Path, model: str, flags: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Typed(""))
    code, _out, err = command("generate", home / model, *flags)
    assert (code, len(err.splitlines())) == (2, 2)
    assert said in err


def test_adapters_of_one_base_each_answer(home: Path) -> None:
    answers = answers_of(home / "base", "--adapter", f"a={home / 'adapter'}", f"b={home / 'adapter'}", "--chat",
                         "--prompt", "one")  # fmt: skip
    assert [answer["adapter"] for answer in answers] == ["a", "b"]
    assert answers[0]["text"] == folio.load(home / "adapter", device="cpu").chat(
        [{"role": "user", "content": "one"}], temperature=0, max_new_tokens=40
    )
