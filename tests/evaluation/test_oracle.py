"""The oracle: the span it scores is the one meant, whoever computes it, and its statistics are those by hand."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_shapes import SHAPES, random_model

from folio.errors import ArtifactError, DataError
from folio.evaluation.engine import Query
from folio.evaluation.oracle.foreign import ForeignModel
from folio.evaluation.oracle.judge import Continuation, FolioJudge, Judgement, judged
from folio.evaluation.oracle.prompts import Prompt, passages
from folio.evaluation.oracle.scores import bootstrapped, difference, mean_z, measurement, prompt_means, standardized
from folio.model.folder import save_model
from folio.model.gpt import GPT
from folio.tokenizer import Tokenizer, TokenizerConfig, load_tokenizer, train_tokenizer
from folio.tokenizer.base import END_OF_TEXT

LINES = ["To be, or not to be, that is the question:\n", "Whether 'tis nobler in the mind to suffer — naïve Ω\n"] * 8
PROMPTS = ["To be", "that is the question: to suffer in the mind", "Whether 'tis nobler"]
WRITTEN = [[", or not to be", " naïve Ω"], ["."], ["\n\nto be in the mind, that is the question: " * 3, "x", " — Ω"]]


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_tokenizer(LINES, TokenizerConfig(kind="bpe", vocab_size=300))


@pytest.fixture(scope="module")
def gpt(bpe: Tokenizer) -> GPT:
    return random_model(SHAPES["gpt2"].model_copy(update={"vocab_size": bpe.vocab_size}))


@pytest.fixture(scope="module")
def exported(bpe: Tokenizer, gpt: GPT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oracle") / "gpt2"
    folder.mkdir()
    save_model(gpt, folder, eos_id=bpe.eot_id, tokenizer_files=bpe.save_into)
    return folder


@pytest.fixture(scope="module")
def neox(bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kind that Folio does not build: partial rotary positions, parallel sublayers."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPTNeoXConfig(
        vocab_size=bpe.vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.5,
    )
    folder = tmp_path_factory.mktemp("oracle") / "neox"
    transformers.GPTNeoXForCausalLM(config).save_pretrained(folder)
    bpe.save_into(folder)
    return folder


def plainly(folder: Path, prompt: str, continuation: str, block_size: int = 32) -> float:
    """The sum by transformers' own model and tokenizer, one forward pass for each id, written as the rule is told."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    context = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    scored = tokenizer(continuation, add_special_tokens=False)["input_ids"]
    ids, total = context + scored, 0.0
    for place in range(len(context), len(ids)):
        if len(scored) <= block_size:
            begin = max(0, len(ids) - 1 - block_size)
        else:  # pieces of half a context, each with half a context before it
            first = len(context) + (place - len(context)) // (block_size // 2) * (block_size // 2)
            begin = max(0, first - block_size // 2)
        with torch.no_grad():
            logits = model(torch.tensor([ids[begin:place]])).logits[0, -1].double()
        total += float(logits.log_softmax(-1)[ids[place]])
    return total


def assert_plain(judge: Any, folder: Path, tokenizer: Tokenizer) -> list[list[Judgement]]:
    answers = judged(judge, PROMPTS, WRITTEN)
    for prompt, written, row in zip(PROMPTS, WRITTEN, answers, strict=True):
        for text, judgement in zip(written, row, strict=True):
            assert judgement.tokens == len(tokenizer.encode(text))
            assert judgement.log_likelihood == pytest.approx(plainly(folder, prompt, text), rel=1e-5)
            assert judgement.log_probability == pytest.approx(judgement.log_likelihood / judgement.tokens)
    return answers


def test_the_scored_span_is_the_continuation_by_transformers_own_logits(
    gpt: GPT, bpe: Tokenizer, exported: Path
) -> None:
    answers = assert_plain(FolioJudge(bpe, lambda: gpt), exported, bpe)
    long, short = answers[2][0], answers[0][0]
    assert long.tokens > 32
    assert short.cut == 0


def test_a_model_of_another_kind_is_scored_in_batches_as_transformers_does_alone(
    neox: Path, bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_plain(ForeignModel(neox), neox, bpe)
    answers = []
    for tokens in (1, 64, 4096):
        monkeypatch.setattr("folio.evaluation.oracle.foreign.FORWARD_TOKENS", tokens)
        answers.append([j.log_likelihood for row in judged(ForeignModel(neox), PROMPTS, WRITTEN) for j in row])
    assert answers[0] == pytest.approx(answers[1], rel=1e-5)
    assert answers[0] == pytest.approx(answers[2], rel=1e-5)


@pytest.mark.parametrize(("context", "continuation"), [(1, 1), (5, 28), (5, 29), (40, 3), (9, 32), (9, 33), (40, 90)])
def test_both_kinds_of_judge_follow_one_rule_beyond_the_context(
    gpt: GPT, bpe: Tokenizer, exported: Path, context: int, continuation: int
) -> None:
    ids = torch.randint(0, 256, (context + continuation,), generator=torch.Generator().manual_seed(1)).tolist()
    query = Query(ids[:context], (ids[context:],))
    pytest.importorskip("transformers")
    ((ours,),) = FolioJudge(bpe, lambda: gpt).log_likelihoods([query])
    ((theirs,),) = ForeignModel(exported).log_likelihoods([query])
    assert (ours.tokens, ours.cut, ours.greedy) == (theirs.tokens, theirs.cut, theirs.greedy)
    assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, rel=1e-5)


def test_the_likeliest_ids_are_told_by_a_foreign_judge(neox: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(neox).eval()
    ids = [5, 6]
    with torch.no_grad():
        for _ in range(4):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    ((right, wrong),) = ForeignModel(neox).log_likelihoods([Query(ids[:2], (ids[2:], [*ids[2:5], (ids[5] + 1) % 300]))])
    assert (right.greedy, wrong.greedy) == (True, False)


def test_what_a_tokenizer_sets_before_every_text_is_read_and_never_scored(neox: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path / "with-bos"
    transformers.AutoModelForCausalLM.from_pretrained(neox).save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(neox)
    eot = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{eot} $A", pair=f"{eot} $A $B", special_tokens=[(eot, tokenizer.eos_token_id)]
    )
    tokenizer.save_pretrained(folder)
    judge, bare = ForeignModel(folder), ForeignModel(neox)
    assert (judge.opening_ids, bare.opening_ids) == ([tokenizer.eos_token_id], [])
    assert judge.encode("to be") == bare.encode("to be")
    ((dressed,),) = judged(judge, ["To be"], [[", or"]])
    ((expected,),) = bare.log_likelihoods(
        [Query([tokenizer.eos_token_id, *bare.encode("To be")], (bare.encode(", or"),))]
    )
    assert dressed.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-5)
    assert dressed.tokens == expected.tokens


def test_the_score_does_not_depend_on_who_opens_a_folder_whose_tokenizer_opens_every_text(
    exported: Path, gpt: GPT, bpe: Tokenizer, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    folder = tmp_path / "with-bos"
    shutil.copytree(exported, folder)
    spec = json.loads((folder / "tokenizer.json").read_text())
    eot = END_OF_TEXT
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": eot, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {eot: {"id": eot, "ids": [bpe.eot_id], "tokens": [eot]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    ours, theirs = FolioJudge(load_tokenizer(folder), lambda: gpt), ForeignModel(folder)
    assert ours.opening_ids == theirs.opening_ids == [bpe.eot_id]
    assert FolioJudge(bpe, lambda: gpt).opening_ids == []
    for mine, other in zip(judged(ours, PROMPTS, WRITTEN), judged(theirs, PROMPTS, WRITTEN), strict=True):
        assert [one.log_likelihood for one in mine] == pytest.approx([one.log_likelihood for one in other], rel=1e-5)
        assert [(one.tokens, one.cut) for one in mine] == [(one.tokens, one.cut) for one in other]


def test_weights_are_read_to_be_checked_and_let_go(neox: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    judge = ForeignModel(neox)
    judge.check_weights()
    assert "_model" not in vars(judge)
    for file in neox.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ArtifactError, match="cannot open the model"):
        ForeignModel(tmp_path).check_weights()


def test_weights_that_could_run_code_are_not_opened(neox: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    for file in neox.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="no safetensors"):
        ForeignModel(tmp_path)


def test_a_tokenizer_with_more_ids_than_the_foreign_model_is_refused(neox: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    for file in neox.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    train_tokenizer([*LINES, "and some more text"], TokenizerConfig(kind="bpe", vocab_size=310)).save_into(tmp_path)
    with pytest.raises(ArtifactError, match="310 ids, the model 300"):
        ForeignModel(tmp_path)


def test_continuations_without_a_score_keep_their_place_and_say_why() -> None:
    characters = train_tokenizer(["abc "], TokenizerConfig(kind="char"))
    shape = SHAPES["gpt2"].model_copy(update={"vocab_size": characters.vocab_size})
    judge = FolioJudge(characters, lambda: random_model(shape))
    ((first, second, third, fourth),) = judged(judge, ["ab"], [["", "abc", "abz", "c"]])
    assert (first.unscored, second.unscored, third.unscored, fourth.unscored) == ("empty", "", "unreadable", "")
    assert (second.tokens, fourth.tokens) == (3, 1)
    assert first.log_probability is None
    ((alone,),) = judged(judge, ["ab"], [["c"]])
    assert fourth.log_likelihood == pytest.approx(alone.log_likelihood, rel=1e-6)
    words = train_tokenizer(["to be"], TokenizerConfig(kind="word"))
    judge = FolioJudge(words, lambda: random_model(shape))
    assert judged(judge, ["to"], [["  "]])[0][0].unscored == "empty", "white space is no token of a word tokenizer"


def test_no_continuation_at_all_needs_no_weights() -> None:
    characters = train_tokenizer(["abc"], TokenizerConfig(kind="char"))
    assert judged(FolioJudge(characters, lambda: pytest.fail("read")), ["a"], [[""]])[0][0].unscored == "empty"


def prompts(count: int) -> list[Prompt]:
    return [Prompt(f"p{i}", passage) for i, passage in enumerate(passages("\n\n".join(map(str, range(count)))))]


def scored(*values: float | None) -> list[Judgement]:
    return [Judgement(unscored="empty") if v is None else Judgement(v * 4, 4, 1) for v in values]


def test_a_score_is_the_mean_over_prompts_of_the_mean_over_samples() -> None:
    rows = [scored(-1.0, -3.0), scored(-5.0, None), scored(None, None)]
    written = [[Continuation("text", 7, {"tokens": 3}) for _ in row] for row in rows]
    result = measurement(prompts(3), written, rows, {"oracle": "judge"})
    (score,) = result.scores
    assert (score.value, score.n, score.unit, score.better) == (pytest.approx(-3.5), 2, "prompts", "higher")
    assert score.standard_error == pytest.approx(np.std([-2.0, -5.0], ddof=1) / math.sqrt(2))
    assert [(item["id"], item[score.numerator]) for item in result.items] == [("p0", -2.0), ("p1", -5.0)]
    assert result.items[1]["samples"][1] == {
        "text": "text",
        "seed": 7,
        "log_probability": None,
        "log_likelihood": None,
        "oracle_tokens": 0,
        "bytes": 4,
        "cut": 0,
        "unscored": "empty",
        "tokens": 3,
    }
    facts = {"continuations": 6, "empty": 3, "unreadable": 0, "prompts_without_score": ["p2"]}
    assert facts.items() <= result.facts.items()
    assert (result.facts["oracle_tokens"], result.facts["cut_tokens"], result.facts["oracle"]) == (12, 3, "judge")
    with pytest.raises(DataError, match="none of the 2 continuations"):
        measurement(prompts(1), [written[0]], [scored(None, None)], {})


def test_z_scores_are_those_by_hand() -> None:
    z = standardized(np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [0.0, 0.0, -3.0]]))
    root = math.sqrt(1.5)
    assert z == pytest.approx(np.array([[-root, 0, root], [0, 0, 0], [math.sqrt(0.5), math.sqrt(0.5), -math.sqrt(2)]]))
    assert standardized(np.array([[-6.1, -5.9]])) == pytest.approx(np.array([[-1.0, 1.0]]))
    assert (standardized(np.full((1, 3), 0.1 + 0.2)) == 0).all()


def test_mean_z_takes_the_prompts_that_all_models_have() -> None:
    scores = np.array([[1.0, 2.0, 3.0], [1.0, np.nan, 2.0], [3.0, 2.0, 1.0], [0.0, 1.0, 2.0]])
    first, second, third = mean_z(scores)
    assert (first.n, second.n) == (3, 3)
    assert first.value == pytest.approx(-math.sqrt(1.5) / 3)
    assert first.low < first.value < first.high
    assert third.value == pytest.approx(-first.value)
    assert mean_z(scores[:, :1]) == []
    assert mean_z(np.full((2, 2), np.nan)) == []


def test_the_bootstrap_interval_is_that_of_a_known_mean_and_spread() -> None:
    draws = np.random.default_rng(0)
    values = draws.normal(-5.0, 0.5, 400)
    found = bootstrapped(values)
    error = values.std(ddof=1) / 20
    assert (found.value, found.n) == (pytest.approx(values.mean()), 400)
    assert found.standard_error == pytest.approx(error)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)
    assert bootstrapped(values) == found


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(1)
    covered = [
        found.low <= 2.0 <= found.high for found in (bootstrapped(draws.exponential(2.0, 50)) for _ in range(200))
    ]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_differences_are_paired_and_leave_out_what_one_side_lacks() -> None:
    draws = np.random.default_rng(2)
    hardness = draws.normal(0, 5, 60)
    first, second = hardness + draws.normal(0, 0.1, 60), hardness + 0.2 + draws.normal(0, 0.1, 60)
    first[3] = second[8] = np.nan
    found = difference(first, second)
    assert found is not None
    assert found.n == 58
    assert 0.1 < found.low < 0.2 < found.high < 0.3, "the prompts' own hardness cancels"
    assert difference(np.array([np.nan, 1.0]), np.array([1.0, np.nan])) is None


def test_prompt_means_leave_out_what_has_no_score() -> None:
    rows: Sequence[Sequence[Judgement]] = [scored(-1.0, None, -2.0), scored(None)]
    means = prompt_means(rows)
    assert means[0] == -1.5
    assert math.isnan(means[1])
