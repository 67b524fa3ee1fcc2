"""``folio generate`` from the command line to the text."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

import folio
from folio.cli import main
from folio.model.config import GPTConfig
from folio.model.folder import save_model
from folio.model.gpt import GPT
from folio.tokenizer import TokenizerConfig, train_tokenizer
from folio.verbs.generate import unescaped

GREEDY = ("--temperature", "0", "--max-new-tokens", "12", "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_tokenizer(["abcdefgh \n"], TokenizerConfig(kind="char"))
    path = tmp_path_factory.mktemp("verb") / "model"
    path.mkdir()
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=16, n_layer=1, n_head=2, n_embd=16)).initialize(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(20)
        model.embed.weight[tokenizer.eot_id] = 0
    save_model(model, path, eos_id=tokenizer.eot_id, tokenizer_files=tokenizer.save_into)
    return path


def answer_of(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, object]:
    assert main(["generate", *args, "--json"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    return json.loads(out)


def test_the_terminal_shows_prompt_and_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(folder), "--prompt", "abc", *GREEDY]) == 0
    expected = folio.load(folder, device="cpu").generate("abc", temperature=0, max_new_tokens=12)
    out = capsys.readouterr().out
    assert out.startswith("abc" + expected + "\n")
    assert "tokens/s" in out
    assert f"folio evaluate {folder}" in out


def test_json_holds_every_answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = answer_of(capsys, str(folder), "--prompt", "abc", "de", "--num-samples", "2", "--seed", "4")
    assert [row["prompt"] for row in answer["answers"]] == ["abc", "abc", "de", "de"]
    assert [row["seed"] for row in answer["answers"]] == [4, 5, 6, 7]
    assert answer["tokens_per_s"] > 0
    model = folio.load(folder, device="cpu")
    assert answer["answers"][2]["text"] == model.generate("de", seed=6)


def test_rows_of_a_batch_are_shown_one_after_the_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(folder), "--prompt", "abc", "de", "f", *GREEDY]) == 0
    out = capsys.readouterr().out
    model = folio.load(folder, device="cpu")
    places = []
    for number, prompt in enumerate(("abc", "de", "f"), 1):
        text = f"--- {number} of 3\n{prompt}{model.generate(prompt, temperature=0, max_new_tokens=12)}"
        assert text in out
        places.append(out.index(text))
    assert places == sorted(places)


def test_prompts_come_from_files_and_from_a_pipe(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompt.txt").write_text("ab\ncd\n")
    flagged = answer_of(capsys, str(folder), "--prompt", "ab\ncd", *GREEDY)["answers"]
    assert (
        answer_of(capsys, str(folder), "--prompt-file", str(tmp_path / "prompt.txt"), *GREEDY)["answers"][0]["text"]
        == (flagged[0]["text"])
    )
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\ncd\n")))
    assert answer_of(capsys, str(folder), *GREEDY)["answers"][0]["prompt"] == "ab\ncd"


def test_backslash_n_in_a_flag_is_a_line_break(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = (str(folder), "--prompt", r"ab\ncd", "--max-new-tokens", "200", "--temperature", "2", "--seed", "0")
    (answer,) = answer_of(capsys, *args, "--stop", r"\n")["answers"]
    assert answer["prompt"] == "ab\ncd"
    assert answer["finish"] == "stop"
    assert "\n" not in answer["text"]
    assert unescaped(r"a\\nb\tc\d") == "a\\nb\tc\\d"


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_weights_may_be_smaller(folder: Path, capsys: pytest.CaptureFixture[str], dtype: str) -> None:
    answer = answer_of(capsys, str(folder), "--prompt", "abc", "--dtype", dtype, *GREEDY)
    assert answer["dtype"] == dtype
    assert len(answer["answers"][0]["ids"]) == 12


def test_every_id_that_the_folder_ends_with_ends_a_text(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As transformers reads the same folder; kept when the model is saved again."""
    endless = folio.load(folder, device="cpu")
    written = endless.generate("abc", temperature=0, max_new_tokens=12)
    last = written[5]
    ends = [endless.tokenizer.eot_id, endless.tokenizer.id_of(last)]
    two = Path(shutil.copytree(folder, tmp_path / "two"))
    (two / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    (answer,) = answer_of(capsys, str(two), "--prompt", "abc", *GREEDY)["answers"]
    assert answer["text"] == written[: written.index(last)]
    assert answer["finish"] == "end_of_text"
    model = folio.load(two, device="cpu")
    assert model.end_ids == tuple(ends)
    assert model.generate("abc", temperature=0, max_new_tokens=12) == answer["text"]
    model.save(tmp_path / "again")
    assert folio.load(tmp_path / "again", device="cpu").end_ids == tuple(ends)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(two)
    ids = torch.tensor([model.tokenizer.encode("abc")])
    found = theirs.generate(ids, do_sample=False, max_new_tokens=12, pad_token_id=ends[0])
    assert found[0, ids.shape[1] :].tolist() == [*answer["ids"], ends[1]]
    (two / "generation_config.json").unlink()  # then config.json says it
    (two / "config.json").write_text(
        json.dumps({**json.loads((two / "config.json").read_text()), "eos_token_id": ends})
    )
    assert folio.load(two, device="cpu").end_ids == tuple(ends)


def test_a_full_context_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = (str(folder), "--prompt", "abc" * 10, "--temperature", "0", "--max-new-tokens", "30", "--device", "cpu")
    assert main(["generate", *args]) == 0
    out = capsys.readouterr().out
    assert "the first 14 tokens of the prompts were not read" in out
    assert "its last half was kept each time" in out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--prompt", "xyz"), "x"),
        (("--prompt-file", "absent.txt"), "absent.txt"),
        (("--temprature", "1"), "--temperature"),
        (("--top-p", "2"), "top-p"),
        (("--dtype", "int3"), "int8"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    folder: Path, args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(folder), *args, *(() if "--prompt" in args else ("--prompt", "a"))]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("folio: ")
    assert said in captured.err
    assert len(captured.err.splitlines()) <= 2


def test_a_prompt_that_is_no_utf8_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "latin1.txt").write_bytes("naïve".encode("latin1"))
    assert main(["generate", str(folder), "--prompt-file", str(tmp_path / "latin1.txt")]) == 2
    assert "latin1.txt' is not UTF-8 text (byte 2)" in capsys.readouterr().err
