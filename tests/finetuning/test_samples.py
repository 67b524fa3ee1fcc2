"""Samples of a finished run: begun as training begins them, marked by how they ended, written once however often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from play import PLAY
from pydantic import ValidationError

from folio.errors import ArtifactError, DataError
from folio.finetuning.config_data import DataConfig
from folio.finetuning.example_sets import ExampleSets, example_sets
from folio.finetuning.examples import Example
from folio.finetuning.preference.pair_sets import pair_sets
from folio.finetuning.samples import (
    Sample,
    SamplePrompt,
    SamplesConfig,
    draw_samples,
    ended_shares,
    read_samples,
    sample_prompts,
    sections,
)
from folio.generation.config import GenerationConfig
from folio.generation.engine import generate
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.model.loss import IGNORE
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from folio.training.metrics import MetricsLog
from folio.verbs.action import Terminal
from folio.verbs.finetune.samples import write_samples

WORDS = ["king", "sea", "vows", "crowns"]
DRAWING = GenerationConfig(max_new_tokens=24, seed=3)


@pytest.fixture(scope="module")
def char() -> Tokenizer:
    return train_tokenizer([PLAY + "#"], TokenizerConfig(kind="char"))


def written(folder: Path, records: list[dict[str, Any]]) -> str:
    path = folder / "examples.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def completions(folder: Path) -> DataConfig:
    records = [{"prompt": f"the {word}", "completion": f" of {word}"} for word in WORDS]
    return DataConfig(path=written(folder, records * 6), validation_fraction=0.3, deduplicate=False)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, char: Tokenizer) -> tuple[GPT, DataConfig, ExampleSets]:
    """A tiny model that knows four answers by heart, and the examples that it learned them from."""
    data = completions(tmp_path_factory.mktemp("learned"))
    sets = example_sets(data, char, 32)
    model = GPT(GPTConfig(vocab_size=char.vocab_size, block_size=32, n_layer=2, n_head=2, n_embd=48)).initialize(1)
    by_heart(model, [*sets.train, *sets.validation])
    return model, data, sets


def by_heart(model: GPT, examples: list[Example], steps: int = 80) -> None:
    width = max(example.length for example in examples)
    ids = torch.zeros(len(examples), width, dtype=torch.int64)
    targets = torch.full((len(examples), width), IGNORE)
    for row, example in enumerate(examples):
        ids[row, : example.length] = torch.from_numpy(example.ids[:-1].astype("int64"))
        wanted = torch.from_numpy(example.ids[1:].astype("int64"))
        targets[row, : example.length] = torch.where(torch.from_numpy(example.learned[1:]), wanted, IGNORE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        nats, count = model(ids, targets)
        optimizer.zero_grad()
        (nats / count).backward()
        optimizer.step()


def test_what_is_learned_with_its_end_ends_by_itself_and_is_marked_so(
    learned: tuple[GPT, DataConfig, ExampleSets], char: Tokenizer
) -> None:
    model, data, sets = learned
    prompts = sample_prompts(SamplesConfig(), char, data, sets, 32)
    samples = draw_samples(model, char, prompts, (0.0, 0.3), DRAWING, step=80)
    assert samples
    for one in samples:
        assert one.text == f" of {one.prompt.removeprefix('the ')}"
        assert one.finish == "end_of_text"
        assert one.ended
        assert one.tokens == len(one.text) + 1
        assert one.marked == f"ended by itself after {one.tokens} tokens"
    cut = draw_samples(model, char, prompts, (0.3,), DRAWING.model_copy(update={"max_new_tokens": 2}), step=80)
    assert {(one.finish, one.ended, one.marked) for one in cut} == {("length", False, "cut off after 2 tokens")}
    at_a_string = draw_samples(model, char, prompts, (0.3,), DRAWING.model_copy(update={"stop": ("of",)}), step=80)
    assert {(one.finish, one.ended, one.text) for one in at_a_string} == {("stop", True, " ")}


@pytest.mark.parametrize("rows", [2, 32])
def test_sample_i_is_what_its_own_seed_gives_and_likeliest_tokens_are_taken_once(
    learned: tuple[GPT, DataConfig, ExampleSets], char: Tokenizer, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("folio.finetuning.samples.ROWS", rows)
    model = learned[0]
    prompts = [SamplePrompt.of(char.encode("the k"), char)] * 3
    samples = draw_samples(model, char, prompts, (0.0, 3.0), DRAWING, step=1)
    assert [one.temperature for one in samples] == [0.0, 3.0, 3.0, 3.0]
    assert [one.seed for one in samples[1:]] == [3, 4, 5]
    assert len({one.text for one in samples[1:]}) == 3
    for one in samples[1:]:
        alone = DRAWING.model_copy(update={"temperature": 3.0, "seed": one.seed})
        assert generate(model, char, ["the k"], alone)[0].text == one.text


CHAT = [
    {"messages": [{"role": "user", "content": f"the {a}"}, {"role": "assistant", "content": b},
                  {"role": "user", "content": "say no"}, {"role": "assistant", "content": "no"}]}
    for a in WORDS for b in WORDS
]  # fmt: skip


@pytest.mark.parametrize("learn", ["answers", "last", "everything"])
@pytest.mark.parametrize("template", ["chatml", "plain"])
def test_prompts_of_conversations_are_the_ids_that_training_puts_before_the_answer(
    tmp_path: Path, template: str, learn: Any
) -> None:
    bpe = train_tokenizer([PLAY] * 3, TokenizerConfig(kind="bpe", vocab_size=340))
    data = DataConfig(path=written(tmp_path, CHAT), template=template, learn=learn, validation_fraction=0.3)
    sets = example_sets(data, bpe, 256)
    prompts = sample_prompts(SamplesConfig(count=3), bpe, data, sets, 256)
    assert len(prompts) == 3
    assert sets.template is not None
    for prompt, record in zip(prompts, sets.records["validation"], strict=False):
        messages = record.fields["messages"]
        before = messages[:3] if learn == "last" else messages[:1]
        assert prompt.text == sets.template.render(before, add_generation_prompt=True)
    if learn != "everything":
        for prompt, example in zip(prompts, sets.validation, strict=False):
            assert list(prompt.ids) == example.ids[: len(prompt.ids)].tolist()
            assert not example.learned[: len(prompt.ids)].any()
            assert example.learned[len(prompt.ids)]
    asked = sample_prompts(SamplesConfig(count=1, prompts=(messages[0]["content"],)), bpe, data, sets, 256)
    assert asked[0].text == sets.template.render(messages[:1], add_generation_prompt=True)
    if learn == "answers":
        assert asked[0].ids == prompts[-1].ids


@pytest.mark.parametrize("learn", ["answers", "everything"])
def test_prompts_of_completions_begin_as_in_training(tmp_path: Path, char: Tokenizer, learn: Any) -> None:
    data = completions(tmp_path).model_copy(update={"learn": learn})
    sets = example_sets(data, char, 32)
    opening = [char.eot_id] if learn == "everything" else []
    for prompts in ((), ("the king", "the sea")):
        found = sample_prompts(SamplesConfig(count=2, prompts=prompts), char, data, sets, 32)
        for prompt in found:
            assert list(prompt.ids) == opening + char.encode(prompt.text)
            assert any(
                list(prompt.ids) == one.ids[: len(prompt.ids)].tolist() for one in (*sets.train, *sets.validation)
            )


def test_plain_text_begins_with_an_end_of_text_and_given_prompts_take_turns(tmp_path: Path, char: Tokenizer) -> None:
    path = written(tmp_path, [{"text": f"the {word} of vows"} for word in WORDS])
    data = DataConfig(path=path, validation_fraction=0)
    sets = example_sets(data, char, 32)
    assert sample_prompts(SamplesConfig(count=2), char, data, sets, 32) == [SamplePrompt((char.eot_id,), "")] * 2  # type: ignore[arg-type]
    found = sample_prompts(SamplesConfig(prompts=("the k", "ROMEO")), char, data, sets, 32)
    assert [one.text for one in found] == ["the k", "ROMEO", "the k", "ROMEO", "the k"]
    assert {one.ids[0] for one in found} == {char.eot_id}
    with pytest.raises(DataError, match=r"samples\.prompts: .*€"):
        sample_prompts(SamplesConfig(prompts=("€",)), char, data, sets, 32)


def test_prompts_of_preferences_are_what_both_answers_follow(tmp_path: Path, char: Tokenizer) -> None:
    records = [{"prompt": f"the {word}", "chosen": " of vows", "rejected": " of the sea"} for word in WORDS]
    data = DataConfig(path=written(tmp_path, records), validation_fraction=0.0)
    sets = pair_sets(data, char, 32)
    found = sample_prompts(SamplesConfig(count=4), char, data, sets, 32)
    assert sorted(one.text for one in found) == sorted(f"the {word}" for word in WORDS)
    assert all(list(one.ids) == char.encode(one.text) for one in found)
    asked = sample_prompts(SamplesConfig(count=1, prompts=("the sea",)), char, data, sets, 32)
    assert asked == [one for one in found if one.text == "the sea"]


def test_without_validation_prompts_come_from_training(tmp_path: Path, char: Tokenizer) -> None:
    data = completions(tmp_path).model_copy(update={"validation_fraction": 0.0})
    sets = example_sets(data, char, 32)
    assert len(sample_prompts(SamplesConfig(), char, data, sets, 32)) == 5


def one(text: str, finish: str, temperature: float = 0.7, prompt: str = "") -> Sample:
    return Sample(10, temperature, prompt, text, finish, 4, 1)


def test_sections_mark_each_sample_and_end_with_the_shares() -> None:
    samples = [one("a", "end_of_text"), one("b", "length"), one("c", "length", 1.0, "Who?"), one("d", "length", 1.0)]
    text = sections(samples)
    assert text.index("## Temperature 0.7, after step 10") < text.index("## Temperature 1, after step 10")
    assert text.count("ended by itself after") == 1
    assert text.count("cut off after 4 tokens") == 3
    assert text.index("Who?") < text.index("\nc\n")
    shares = dict(ended_shares(samples))
    assert {name: (share.value, share.n) for name, share in shares.items()} == {
        "0.7": (0.5, 2), "1": (0.0, 2), "all": (0.25, 4),
    }  # fmt: skip
    assert text.rstrip().endswith(f"| all | 1 of 4 | 25% | {shares['all'].low:.0%} to {shares['all'].high:.0%} |")
    assert [name for name, _ in ended_shares(samples[:2])] == ["0.7"]


@given(st.text(alphabet="`~#|\n a", max_size=60))
def test_no_text_breaks_out_of_its_block(text: str) -> None:
    shown = sections([one(text, "length")])
    opening = next(line for line in shown.split("\n") if line.endswith("text") and line.startswith("```"))
    fence = opening.removesuffix("text")
    assert shown.split(f"{opening}\n")[1].split(f"\n{fence}\n")[0] == text
    assert fence not in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temperatures": (0.5, 0.5)}, "twice"),
        ({"temperatures": (-1,)}, "from 0 on"),
        ({"count": 1, "prompts": ("a", "b")}, "2 texts"),
    ],
)
def test_what_would_be_ignored_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SamplesConfig(**given)


def test_finishing_twice_writes_the_samples_once_after_those_of_training(
    learned: tuple[GPT, DataConfig, ExampleSets], char: Tokenizer, tmp_path: Path
) -> None:
    model, data, sets = learned
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.log(kind="sample", step=40, prompt="the ", text="k\n## Temperature 0.7, after step 80\n")
    config = SamplesConfig(count=2)
    prompts = sample_prompts(config, char, data, sets, 32)

    def finish(step: int) -> list[dict[str, Any]]:
        drawing = DRAWING.model_copy(update={"seed": None})
        return write_samples(model, char, prompts, config, drawing, tmp_path, Terminal(quiet=True), step=step, seed=9)

    first = finish(80)
    text = (tmp_path / "samples.md").read_text()
    assert finish(80) == first
    assert (tmp_path / "samples.md").read_text() == text, "written again, not added"
    assert text.startswith("## Step 40\n\n```text\nthe k\n")
    assert text.count("### 1:") == text.count("### 2:") == 2
    assert {line["seed"] for line in first} == {9, 10}
    finish(120)
    again = (tmp_path / "samples.md").read_text()
    assert "## Step 40" in again
    assert again.count("after step 120") == 2
    assert {one.step for one in read_samples(tmp_path)} == {120}


def test_a_damaged_file_of_samples_is_one_line(tmp_path: Path) -> None:
    assert read_samples(tmp_path) == []
    (tmp_path / "samples.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(ArtifactError, match=r"samples\.jsonl' is damaged"):
        read_samples(tmp_path)
