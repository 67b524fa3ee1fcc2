"""A model on a benchmark: predictions by hand, both conventions, what is left out and what is cut counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_shapes import SHAPES, random_model

from folio.errors import DataError
from folio.evaluation.estimates import proportion
from folio.evaluation.multiple_choice import encode_pair, grouped, measure_task, metrics_of
from folio.evaluation.results import Measurement
from folio.evaluation.tasks import find_task
from folio.model.gpt import GPT
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

SCENES = [
    (
        "Skiing",
        "A man is on a hill.",
        "he",
        ["skis down it.", "eats a boat.", "is", "paints the snow very slowly blue."],
    ),
    ("Cooking", "A pan is on the stove. Oil is in it.", "the cook", ["stirs.", "flies off", "adds an egg.", "sits"]),
    ("Home", "[header] How to clean [title] Sweep. [step] Take a broom.", "", ["Use it.", "Eat it.", "Sell it", "Go."]),
]


def hellaswag(path: Path, scenes: list[Any] = SCENES) -> Path:
    lines = [
        {
            "ind": i,
            "activity_label": activity,
            "ctx_a": a,
            "ctx_b": b,
            "ctx": f"{a} {b}".strip(),
            "label": i % 4,
            "endings": endings,
        }
        for i, (activity, a, b, endings) in enumerate(scenes)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def tokenizer_of(kind: str = "bpe") -> Tokenizer:
    text = " ".join(f"{activity}: {a} {b} {' '.join(endings)}" for activity, a, b, endings in SCENES) * 2
    return train_tokenizer([text], TokenizerConfig(kind=kind, **({"vocab_size": 280} if kind == "bpe" else {})))


def model_for(tokenizer: Tokenizer, block_size: int = 96) -> GPT:
    return random_model(
        SHAPES["gpt2"].model_copy(update={"vocab_size": tokenizer.vocab_size, "block_size": block_size})
    )


def measured(
    path: Path, name: str, convention: str, tokenizer: Tokenizer, model: GPT, num_fewshot: int = 0, **settings: Any
) -> Measurement:
    task = find_task(name)
    items = task.read(path).items
    chosen = task.convention(convention)
    questions = task.questions(items, chosen, num_fewshot, items if num_fewshot else None)
    return measure_task(model, tokenizer, task, chosen, questions, num_fewshot=num_fewshot, **settings)


def log_p(model: GPT, context: list[int], ending: list[int]) -> float:
    whole = torch.tensor([[*context, *ending]])
    with torch.no_grad():
        each = torch.log_softmax(model(whole[:, :-1])[0].double(), -1)[len(context) - 1 :]
    return float(each.gather(1, torch.tensor(ending)[:, None]).sum())


def test_completion_is_the_raw_context_a_space_and_the_mean_per_token(tmp_path: Path) -> None:
    tokenizer = tokenizer_of()
    model = model_for(tokenizer)
    found = measured(hellaswag(tmp_path / "h.jsonl"), "hellaswag", "completion", tokenizer, model)
    assert found.name == "hellaswag.completion"
    for item, (_, a, b, endings) in zip(found.items, SCENES, strict=True):
        context = tokenizer.encode(f"{a} {b}".strip())
        ids = [tokenizer.encode(" " + ending) for ending in endings]
        sums = np.array([log_p(model, context, one) for one in ids])
        means = sums / [len(one) for one in ids]
        assert item["log_likelihoods"] == pytest.approx(sums.tolist(), abs=1e-4)
        assert item["tokens"] == [len(one) for one in ids]
        assert (item["prediction"], item["prediction_norm"]) == (sums.argmax(), means.argmax())
        assert (item["acc"], item["acc_norm"]) == (sums.argmax() == item["label"], means.argmax() == item["label"])
    score = found.score("acc_norm")
    assert score.value == np.mean([item["acc_norm"] for item in found.items])
    assert (score.convention, score.n, score.unit, score.better) == ("completion, 0-shot", 3, "items", "higher")


def test_harness_divides_by_characters_and_puts_the_label_in_front(tmp_path: Path) -> None:
    tokenizer = tokenizer_of()
    model = model_for(tokenizer)
    found = measured(hellaswag(tmp_path / "h.jsonl"), "hellaswag", "harness", tokenizer, model)
    contexts = [
        "Skiing: A man is on a hill. He",
        "Cooking: A pan is on the stove. Oil is in it. The cook",
        "Home: How to clean. Sweep. Take a broom.",
    ]
    for item, context, (*_, endings) in zip(found.items, contexts, SCENES, strict=True):
        length = len(tokenizer.encode(context))
        sums = []
        for ending in endings:
            both = tokenizer.encode(f"{context} {ending}")
            sums.append(log_p(model, both[:length], both[length:]))
        assert item["log_likelihoods"] == pytest.approx(sums, abs=1e-4)
        assert item["prediction_norm"] == np.argmax(np.array(sums) / [len(ending) for ending in endings])


def test_examples_come_before_and_are_named(tmp_path: Path) -> None:
    tokenizer = tokenizer_of()
    model = model_for(tokenizer)
    path = hellaswag(tmp_path / "h.jsonl")
    found = measured(path, "hellaswag", "harness", tokenizer, model, num_fewshot=1)
    assert found.name == "hellaswag.harness.1-shot"
    assert {score.convention for score in found.scores} == {"harness, 1-shot"}
    assert (
        found.items[0]["log_likelihoods"]
        != measured(path, "hellaswag", "harness", tokenizer, model).items[0]["log_likelihoods"]
    )


def test_a_context_that_is_too_long_is_cut_and_counted(tmp_path: Path) -> None:
    tokenizer = tokenizer_of()
    found = measured(hellaswag(tmp_path / "h.jsonl"), "hellaswag", "harness", tokenizer, model_for(tokenizer, 24))
    assert found.facts["cut"] == sum(item["cut"] > 0 for item in found.items) > 0


def test_what_the_vocabulary_lacks_is_left_out_and_counted(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("char")
    strange = [*SCENES, ("Home", "A café.", "it", ["opens.", "is blue.", "sings", "goes."])]
    path = hellaswag(tmp_path / "h.jsonl", strange)
    found = measured(path, "hellaswag", "completion", tokenizer, model_for(tokenizer))
    assert [item["id"] for item in found.items] == ["0", "1", "2"]
    assert (found.facts["items"], found.facts["left_out"]) == (4, 1)
    only = hellaswag(tmp_path / "only.jsonl", strange[3:])
    with pytest.raises(DataError, match="none of the 1 items of 'hellaswag' can be written"):
        measured(only, "hellaswag", "completion", tokenizer, model_for(tokenizer))


def test_names_in_a_blank_have_a_context_each(tmp_path: Path) -> None:
    tokenizer = tokenizer_of()
    model = model_for(tokenizer)
    path = tmp_path / "w.jsonl"
    record = {
        "sentence": "The egg is on the hill so _ is in it.",
        "option1": "the egg",
        "option2": "the hill",
        "answer": "2",
    }
    path.write_text(json.dumps(record) + "\n")
    (item,) = measured(path, "winogrande", "harness", tokenizer, model).items
    sums = []
    for name in ("the egg", "the hill"):
        context = f"The egg is on the hill so {name}"
        both = tokenizer.encode(context + " is in it.")
        length = len(tokenizer.encode(context))
        sums.append(log_p(model, both[:length], both[length:]))
    assert item["log_likelihoods"] == pytest.approx(sums, abs=1e-4)
    assert (item["label"], "acc_norm" in item) == (1, False)


def test_a_last_word_is_right_if_it_would_be_written(tmp_path: Path) -> None:
    tokenizer = tokenizer_of()
    model = model_for(tokenizer)
    path = tmp_path / "l.jsonl"
    texts = ["the cook stirs", "The man is on a hill", "Oil is in it"]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    found = measured(path, "lambada", "harness", tokenizer, model)
    for item, text in zip(found.items, texts, strict=True):
        length = len(tokenizer.encode(text.rpartition(" ")[0]))
        ids = tokenizer.encode(text)
        assert item["nats"] == pytest.approx(-log_p(model, ids[:length], ids[length:]), abs=1e-4)
        with torch.no_grad():
            likeliest = model(torch.tensor([ids[:-1]]))[0, length - 1 :].argmax(-1).tolist()
        assert item["acc"] == (likeliest == ids[length:])
    nats = np.mean([item["nats"] for item in found.items])
    assert found.score("perplexity").value == pytest.approx(np.exp(nats))


def test_every_way_of_sharing_the_work_gives_the_same(tmp_path: Path) -> None:
    tokenizer = tokenizer_of()
    model = model_for(tokenizer)
    path = hellaswag(tmp_path / "h.jsonl", SCENES * 3)
    whole = measured(path, "hellaswag", "completion", tokenizer, model)
    turns: list[int] = []
    pieces = measured(
        path, "hellaswag", "completion", tokenizer, model, at_once=2, running=lambda done, metrics: turns.append(done)
    )
    assert turns == [2, 4, 6, 8, 9]
    for one, two in zip(whole.items, pieces.items, strict=True):
        assert one["log_likelihoods"] == pytest.approx(two["log_likelihoods"], abs=1e-5)


def test_metrics_are_foretold(tmp_path: Path) -> None:
    tokenizer = tokenizer_of()
    model = model_for(tokenizer)
    task = find_task("hellaswag")
    found = measured(hellaswag(tmp_path / "h.jsonl"), "hellaswag", "harness", tokenizer, model)
    assert metrics_of(task, task.convention("harness")) == tuple(score.metric for score in found.scores)
    assert metrics_of(find_task("lambada"), find_task("lambada").convention("harness")) == ("acc", "perplexity")


def test_pairs_are_cut_where_the_context_ends_by_itself() -> None:
    tokenizer = tokenizer_of()
    context, ending = encode_pair(tokenizer.encode, "A man ", "is", "pair")
    assert context == tokenizer.encode("A man")
    assert tokenizer.decode(context + ending) == "A man is"
    assert encode_pair(tokenizer.encode, "", " is", "pair") == ([], tokenizer.encode(" is"))
    assert encode_pair(tokenizer.encode, "A man ", "is", "apart")[0] == tokenizer.encode("A man ")


def test_what_stands_before_every_text_stands_before_a_context_of_the_harness(tmp_path: Path) -> None:
    import tokenizers

    class Opening(type(tokenizer_of())):  # type: ignore[misc]
        @property
        def backend(self) -> tokenizers.Tokenizer:
            backend = tokenizers.Tokenizer.from_str(json.dumps(self._spec))
            special = [("<|endoftext|>", self.eot_id)]
            backend.post_processor = tokenizers.processors.TemplateProcessing(
                single="<|endoftext|> $A", special_tokens=special
            )
            return backend

    plain = tokenizer_of()
    opening = Opening(plain._spec, plain._settings)
    model = model_for(plain)
    path = hellaswag(tmp_path / "h.jsonl")
    for convention, alike in (("harness", False), ("completion", True)):
        with_it = measured(path, "hellaswag", convention, opening, model)
        without = measured(path, "hellaswag", convention, plain, model)
        same = with_it.items[0]["log_likelihoods"] == pytest.approx(without.items[0]["log_likelihoods"], abs=1e-4)
        assert same == alike
    context = [plain.eot_id, *plain.encode("Skiing: A man is on a hill. He")]
    both = plain.encode("Skiing: A man is on a hill. He skis down it.")
    expected = log_p(model, context, both[len(context) - 1 :])
    found = measured(path, "hellaswag", "harness", opening, model)
    assert found.items[0]["log_likelihoods"][0] == pytest.approx(expected, abs=1e-4)


def test_neighbours_with_one_context_are_one_query() -> None:
    queries = grouped([([1], [2]), ([1], [3, 4]), ([5], [6]), ([1], [7])])
    assert [(q.context, q.continuations) for q in queries] == [([1], ([2], [3, 4])), ([5], ([6],)), ([1], ([7],))]


@pytest.mark.parametrize("hits", [0, 1, 25, 99, 100])
def test_wilsons_interval_stays_within_what_can_be(hits: int) -> None:
    one = proportion([1] * hits + [0] * (100 - hits))
    assert 0 <= one.low <= one.value <= one.high <= 1
    z, p, n = 1.959964, hits / 100, 100  # the interval's ends solve (p - x)^2 = z^2 x (1 - x) / n
    for end in (one.low, one.high):
        assert (p - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / n, abs=1e-6)
