"""lm-evaluation-harness on our engine: the numbers of its own ``hf`` model, quietly, offline, refused in one line."""

from __future__ import annotations

import json
import logging
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lm_eval")

from folio.errors import ConfigError, DataError, Unreachable, UserError
from folio.evaluation.estimates import exponential, mean
from folio.evaluation.harness import adapter as harness
from folio.evaluation.harness.adapter import harness_model
from folio.evaluation.harness.quiet import quietly
from folio.evaluation.harness.run import measure_harness, perplexity
from folio.evaluation.harness.tasks import load_tasks
from folio.evaluation.results import Measurement, read_evaluation, write_evaluation
from folio.generation.config import GenerationConfig
from folio.generation.engine import generate
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.runtime import Runtime, make_runtime
from folio.tokenizer import Tokenizer, TokenizerConfig, gpt2_tokenizer, load_tokenizer, train_tokenizer
from folio.verbs.action import Terminal
from folio.verbs.evaluate.harness import run_harness
from folio.verbs.library import Model

ON_CPU = Runtime(torch.device("cpu"), "fp32")
WORDS = (
    *("the", "a", "boy", "girl", "roof", "water", "barbell", "walks", "lifts", "puts", "slowly", "then", "and"),
    *("of", "into", "over", "her", "his", "ball", "runs"),
)
HEAD = "task: {name}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    validation: {file}\n    train: {file}\n"
HEAD += "validation_split: validation\ntraining_split: train\nfewshot_split: train\nmetadata:\n  version: 2.0\n"
TASKS = {
    "swag": """
output_type: multiple_choice
doc_to_text: "{{activity_label}}: {{ctx}}"
doc_to_choice: endings
doc_to_target: label
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
""",
    "rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{endings|join(' ')}}"
metric_list:
  - metric: word_perplexity
  - metric: byte_perplexity
  - metric: bits_per_byte
""",
    "last": """
output_type: loglikelihood
doc_to_text: "{{ctx}}"
doc_to_target: " {{endings[0]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
    "writing": """
output_type: generate_until
doc_to_text: "{{ctx}}"
doc_to_target: "{{endings[0]}}"
generation_kwargs: {until: ["e", "\\n\\n"], max_gen_toks: 24}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
  - {metric: bleu, aggregation: bleu, higher_is_better: true}
""",
    "drawn": """
output_type: generate_until
repeats: 2
doc_to_text: "{{ctx}}"
doc_to_target: "{{endings[0]}}"
generation_kwargs: {until: [], max_gen_toks: 8, do_sample: true, temperature: 1.0}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
""",
}
GROUP = "group: {name}\ntask: [swag, last]\naggregate_metric_list:\n  - {{metric: acc, weight_by_size: true}}\n"


def items(count: int, longest: int = 12) -> Iterator[dict[str, Any]]:
    """Made-up items of the shape of HellaSwag's, with contexts of very different lengths."""
    draw = random.Random(0)

    def text(most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, most)))

    for number in range(count):
        context = text(longest * (8 if number % 7 == 3 else 1))
        yield {
            "activity_label": text(2),
            "ctx": context + (" " if number % 5 == 0 else ""),
            "endings": [text(longest) for _ in range(4)],
            "label": draw.randrange(4),
        }


def write_tasks(folder: Path, documents: Sequence[Mapping[str, Any]]) -> Path:
    file = folder / "documents.jsonl"
    file.write_text("".join(json.dumps(document) + "\n" for document in documents))
    for name, rest in TASKS.items():
        (folder / f"{name}.yaml").write_text(HEAD.format(name=name, file=file) + rest)
    (folder / "both.yaml").write_text(GROUP.format(name="both"))
    return folder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"), list(items(40)))


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    lines = [" ".join((*item["endings"], item["ctx"])) + "\n" for item in items(30)]
    return train_tokenizer(lines, TokenizerConfig(kind="bpe", vocab_size=320))


def random_model(tokenizer: Tokenizer, folder: Path, **changes: Any) -> Model:
    """A model whose likeliest token depends on the whole context, saved as the folder that ``transformers`` opens."""
    sizes = {"block_size": 64, "n_layer": 2, "n_head": 2, "n_embd": 32, "vocab_size": tokenizer.vocab_size}
    gpt = GPT(GPTConfig.model_validate({**sizes, **changes})).initialize(0).eval()
    with torch.no_grad():
        for parameter in gpt.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)
    model = Model(gpt, folder, tokenizer)
    model.save(folder)
    return model


@pytest.fixture(scope="module")
def model(bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return random_model(bpe, tmp_path_factory.mktemp("model") / "m")


@dataclass
class Options:
    harness: tuple[str, ...]
    include_path: Path | None
    num_fewshot: int | None = None
    limit: int | None = None


def ours(model: Model, tasks: Path, *names: str, runtime: Runtime = ON_CPU, **options: Any) -> dict[str, Measurement]:
    measured = run_harness(model, Options(names, tasks, **options), Terminal(quiet=True), runtime)
    return {measurement.name.removesuffix(".lm-eval"): measurement for measurement in measured}


def theirs(model: Model, tasks: Path, *names: str, batch_size: int = 4, **options: Any) -> dict[str, Measurement]:
    """The same from ``hf``, on the folder."""
    pytest.importorskip("accelerate")
    with quietly():
        from lm_eval.models.huggingface import HFLM

        lm = HFLM(pretrained=str(model.folder), device="cpu", dtype="float32", batch_size=batch_size)
        lm.cut = dict.fromkeys(names, ())
        measured = measure_harness(lm, load_tasks(names, tasks), **options)
    return {measurement.name.removesuffix(".lm-eval"): measurement for measurement in measured}


def assert_same(a: Measurement, b: Measurement, within_nats: float = 1e-4) -> None:
    """Every item alike, log-likelihoods within ``within_nats``, and so the scores."""
    assert len(a.items) == len(b.items) > 0
    for one, other in zip(a.items, b.items, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            expected = other[key]
            if isinstance(value, float) or (isinstance(value, list) and key == "log_likelihoods"):
                assert value == pytest.approx(expected, abs=within_nats, rel=0), (one["id"], key)
            else:
                assert value == expected, (one["id"], key)
    assert [score.metric for score in a.scores] == [score.metric for score in b.scores]
    for score, other_score in zip(a.scores, b.scores, strict=True):
        assert score.value == pytest.approx(other_score.value, rel=1e-5)
        assert score.standard_error == pytest.approx(other_score.standard_error, rel=1e-3)


@pytest.mark.parametrize("shots", [None, 3])
def test_choices_and_likelihoods_are_those_of_hf(model: Model, tasks: Path, shots: int | None) -> None:
    a = ours(model, tasks, "swag", num_fewshot=shots)["swag"]
    assert_same(a, theirs(model, tasks, "swag", num_fewshot=shots)["swag"])
    assert len({item["prediction"] for item in a.items}) > 1
    assert a.scores[0].convention.endswith(f"{shots or 0}-shot")
    assert a.facts["cut"] > 0  # some contexts are longer than the model's, cut as hf cuts them


def test_numbers_are_those_that_lm_eval_itself_reports(model: Model, tasks: Path) -> None:
    pytest.importorskip("accelerate")
    with quietly():
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        hf = HFLM(pretrained=str(model.folder), device="cpu", dtype="float32", batch_size=4)
        manager = TaskManager(include_path=str(tasks), include_defaults=False)
        report = simple_evaluate(hf, tasks=["swag", "rolling"], num_fewshot=2, limit=15, task_manager=manager)
    assert report is not None
    for name, measurement in ours(model, tasks, "swag,rolling", num_fewshot=2, limit=15).items():
        numbers = report["results"][name]
        for score in measurement.scores:
            assert score.value == pytest.approx(numbers[f"{score.metric},none"], rel=1e-5)
            error = numbers[f"{score.metric}_stderr,none"]
            assert error in ("N/A", pytest.approx(score.standard_error))
        for item, sample in zip(measurement.items, report["samples"][name], strict=True):
            assert (item["id"], item["doc_hash"]) == (sample["doc_id"], sample["doc_hash"])
            if name == "swag":
                told = [response[0] for response in sample["filtered_resps"]]
                assert item["log_likelihoods"] == pytest.approx(told, abs=1e-4)


def test_likelihoods_of_single_continuations_are_those_of_hf(model: Model, tasks: Path) -> None:
    a, b = ours(model, tasks, "last")["last"], theirs(model, tasks, "last")["last"]
    assert_same(a, b)
    assert [item["greedy"] for item in a.items] == [item["greedy"] for item in b.items]


def test_a_perplexity_beyond_all_bounds_is_told_and_its_error_is_the_bootstraps(model: Model, tasks: Path) -> None:
    score = ours(model, tasks, "last")["last"].score("perplexity")
    assert math.isfinite(score.value)
    nats = np.random.default_rng(0).normal(3.0, 0.5, 400)
    with quietly():
        from lm_eval.api.metrics import bootstrap_stderr

        resampled = bootstrap_stderr(perplexity, list(-nats), 4000)
    assert exponential(mean(nats)).standard_error == pytest.approx(resampled, rel=0.05)
    assert math.isfinite(perplexity([-5000.0, -3000.0]))


def test_long_texts_are_rolled_over_as_hf_does(model: Model, tmp_path: Path) -> None:
    documents = [*items(6, longest=90), {"ctx": "", "endings": [""], "label": 0, "activity_label": ""}]
    folder = write_tasks(tmp_path, documents)
    a = ours(model, folder, "rolling")["rolling"]
    assert_same(a, theirs(model, folder, "rolling", batch_size=1)["rolling"], within_nats=2e-4)
    assert max(len(model.tokenizer.encode(" ".join(item["endings"]))) for item in documents) > 3 * 64
    assert {score.metric for score in a.scores} == {"word_perplexity", "byte_perplexity", "bits_per_byte"}


def test_answers_are_those_of_hf(model: Model, tasks: Path) -> None:
    a, b = ours(model, tasks, "writing")["writing"], theirs(model, tasks, "writing")["writing"]
    assert_same(a, b)
    assert a.facts["aggregates"] == b.facts["aggregates"]
    answers = [item["answer"][0] for item in a.items]
    assert any(answers)
    assert not any("e" in answer for answer in answers)
    assert a.facts["cut"] > 0


PAIRS = [
    ("the boy", " walks"),
    ("the boy ", "walks"),
    ("the boy \n ", "walks and runs"),
    ("", "the boy walks"),
    ("", "<|endoftext|>the boy"),
    ("the boy<|endoftext|>", " walks"),
    ("the boy wal", "ks x"),
    ("naïve Ω", " 日本"),
    ("the " * 200, "boy walks"),
    ("a", " boy" * 40),
]


@pytest.mark.parametrize("opened", [False, True], ids=["plain", "with an automatic first token"])
def test_a_pair_of_texts_parts_where_hf_parts_it(model: Model, tmp_path: Path, opened: bool) -> None:
    pytest.importorskip("accelerate")
    folder = tmp_path / "m"
    model.save(folder)
    if opened:
        spec = json.loads((folder / "tokenizer.json").read_text())
        first = {"id": "<|endoftext|>", "type_id": 0}
        spec["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": first}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<|endoftext|>": first | {"ids": [model.tokenizer.eot_id], "tokens": [first["id"]]}},
        }
        del spec["post_processor"]["special_tokens"]["<|endoftext|>"]["type_id"]
        (folder / "tokenizer.json").write_text(json.dumps(spec))
        (folder / "manifest.json").unlink()  # as of a folder that others made
    with quietly():
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM

        requests = [Instance("loglikelihood", {}, pair, 0, ("pairs", i, 1)) for i, pair in enumerate(PAIRS)]
        rolling = [Instance("loglikelihood_rolling", {}, (text,), 0, ("r", 0, 1)) for text, _ in PAIRS]
        # its cache confuses requests whose ids are the same but part elsewhere, as happens among these
        hf = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1, logits_cache=False)
        expected = hf.loglikelihood(requests, disable_tqdm=True)
        expected_rolling = hf.loglikelihood_rolling(rolling, disable_tqdm=True)
    lm = harness_model(model.gpt, load_tokenizer(folder), no_answers)
    found = lm.loglikelihood(requests)
    for pair, one, other in zip(PAIRS, found, expected, strict=True):
        assert one == (pytest.approx(other[0], abs=1e-4), other[1]), pair
    assert lm.loglikelihood_rolling(rolling) == pytest.approx(expected_rolling, abs=2e-4)
    assert lm.cut["pairs"] == {8}


def test_an_ending_without_ids_of_its_own_is_refused(model: Model) -> None:
    with quietly():
        from lm_eval.api.instance import Instance
    lm = harness_model(model.gpt, model.tokenizer, no_answers)
    with pytest.raises(DataError, match="item 7 of task 'swag' has nothing to score"):
        lm.loglikelihood([Instance("loglikelihood", {}, ("the boy", ""), 0, ("swag", 7, 1))])


def no_answers(prompts: Sequence[Sequence[int]], settings: Mapping[str, Any]) -> list[list[int]]:
    raise AssertionError("nothing is to be written")


@pytest.fixture
def gpt2() -> Tokenizer:
    try:
        return gpt2_tokenizer()
    except Unreachable as error:
        pytest.skip(f"GPT-2's vocabulary cannot be fetched here: {error.problem}")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_hellaswag_items_are_those_of_hf(
    shared_data: Callable[[str], Path], gpt2: Tokenizer, tmp_path: Path
) -> None:
    with shared_data("hellaswag_val_0-4999.jsonl").open(encoding="utf-8") as lines:
        documents = [json.loads(line) for line, _ in zip(lines, range(1000), strict=False)]
    folder = write_tasks(tmp_path, documents)
    model = random_model(gpt2, tmp_path / "model", block_size=256, n_embd=48)
    b = theirs(model, folder, "swag", batch_size=4)["swag"]
    before = torch.get_float32_matmul_precision()
    try:
        a = ours(model, folder, "swag", runtime=make_runtime("cpu", "fp32"))["swag"]
    finally:
        torch.set_float32_matmul_precision(before)
    assert len(a.items) == 1000
    assert_same(a, b)
    assert len({item["prediction"] for item in a.items}) == 4


def test_a_context_is_computed_once_for_all_its_endings(
    model: Model, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    engine = harness.log_likelihoods

    def spy(gpt: GPT, queries: Sequence[Any], **options: Any) -> Any:
        asked.extend(queries)
        return engine(gpt, queries, **options)

    monkeypatch.setattr(harness, "log_likelihoods", spy)
    count = len(ours(model, tasks, "swag")["swag"].items)
    assert len(asked) == count
    assert {len(query.continuations) for query in asked} <= {3, 4}  # an ending may be given twice


def test_drawn_answers_are_the_same_each_time_and_differ_in_a_repetition(model: Model, tasks: Path) -> None:
    state, array, python = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    with quietly():
        loaded = load_tasks(("drawn",), tasks)
        texts = [_texts(model, loaded) for _ in range(2)]
    assert texts[0] == texts[1]
    assert any(one != other for one, other in texts[0])
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == array).all()
    assert random.getstate() == python


def _texts(model: Model, loaded: Any) -> list[list[str]]:
    """What is written for each item of a task, and written again."""

    def write(prompts: Sequence[Sequence[int]], settings: Mapping[str, Any]) -> list[list[int]]:
        config = GenerationConfig.model_validate(settings)
        return [answer.ids for answer in generate(model.gpt, model.tokenizer, prompts, config)]

    task = loaded["tasks"]["drawn"]
    task.set_config(key="num_fewshot", value=0)
    task.build_all_requests(limit=6)
    lm = harness_model(model.gpt, model.tokenizer, write)
    answers = lm.generate_until([request for request in task.instances for _ in range(2)])
    return [answers[i : i + 2] for i in range(0, len(answers), 2)]


def test_nothing_is_printed_logged_or_warned(
    model: Model, tasks: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    handlers = logging.getLogger("lm_eval").handlers
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours(model, tasks, "both,rolling", "writing", limit=5)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not caught
    assert logging.getLogger("lm_eval").handlers == handlers


def test_scores_follow_from_their_items_and_survive_the_disk(model: Model, tasks: Path, tmp_path: Path) -> None:
    measured = ours(model, tasks, "both", "rolling")
    assert set(measured) == {"swag", "last", "both", "rolling"}
    write_evaluation(tmp_path / "e", list(measured.values()), {"model": "m"})
    for measurement in read_evaluation(tmp_path / "e").measurements.values():
        assert measurement.scores
        for score in measurement.scores:
            over = sum(item[score.numerator] for item in measurement.items)
            under = sum(item[score.denominator] for item in measurement.items) if score.denominator else score.n
            value = np.exp(over / under) if score.transform == "exp" else over / under
            assert value == pytest.approx(score.value, rel=1e-6)
            assert score.n == len(measurement.items) == len({item["id"] for item in measurement.items})
            assert score.low <= score.value <= score.high
    assert measured["both"].score("acc").n == 2 * measured["swag"].score("acc").n
    assert str(tasks) not in json.dumps([dict(measurement.facts) for measurement in measured.values()])


def refusal(model: Model, tasks: Path | None, *names: str) -> UserError:
    with pytest.raises(UserError) as caught:
        ours(model, tasks, *names)  # type: ignore[arg-type]
    assert "\n" not in caught.value.problem
    return caught.value


def test_an_unknown_task_is_answered_with_the_nearest(model: Model, tasks: Path) -> None:
    assert "Did you mean rolling?" in str(refusal(model, tasks, "swag", "roling"))


def test_a_broken_task_file_is_named(model: Model, tasks: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("task: mine\ndoc_to_choice: [a\n")
    assert "broken.yaml" in refusal(model, tmp_path, "mine").problem


def test_data_that_only_the_hub_has_are_refused_within_seconds(
    model: Model, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.perf_counter()
    error = refusal(model, tasks, "hellaswag")
    assert time.perf_counter() - start < 2
    assert isinstance(error, Unreachable)
    assert "--include-path" in error.remedy
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    ("change", "content", "told"),
    [
        (("doc_to_text", "doc_to_txt"), None, "doc_to_txt"),
        (("", ""), '{"ctx": "a" "b": 1}\n', "JSON"),
        (("documents.jsonl", "absent.jsonl"), None, "absent.jsonl"),
        (("choice: endings", "choice: answers"), None, "swag"),
    ],
    ids=["unknown key", "malformed data", "absent data", "absent field"],
)
def test_a_task_that_cannot_be_read_is_refused_in_a_line(
    model: Model, tmp_path: Path, change: tuple[str, str], content: str | None, told: str
) -> None:
    write_tasks(tmp_path, list(items(3)))
    file = tmp_path / "swag.yaml"
    file.write_text(file.read_text().replace(*change))
    if content is not None:
        (tmp_path / "documents.jsonl").write_text(content)
    error = refusal(model, tmp_path, "swag")
    assert isinstance(error, DataError)
    assert told in error.problem


def test_answers_that_the_engine_cannot_write_are_refused(model: Model, tmp_path: Path) -> None:
    write_tasks(tmp_path, list(items(3)))
    file = tmp_path / "writing.yaml"
    file.write_text(file.read_text().replace("max_gen_toks", "num_beams: 4, max_gen_toks"))
    error = refusal(model, tmp_path, "writing")
    assert isinstance(error, ConfigError)
    assert "num_beams" in error.problem


def test_chat_templates_are_refused_in_a_line(model: Model) -> None:
    lm = harness_model(model.gpt, model.tokenizer, no_answers)
    with pytest.raises(ConfigError, match="no chat template"):
        lm.apply_chat_template([{"role": "user", "content": "hello"}])
