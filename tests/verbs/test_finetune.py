"""``folio finetune``: from a base and examples to a run, by every method; what it holds, what opens it, what it learned."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluated_runs import SCENES
from finetuned_runs import (
    BARE,
    METHODS,
    SHORT,
    WORDS,
    command,
    completion,
    data_of,
    files_of,
    finetune,
    four_bit_layers,
    lines_of,
    make_home,
    states_seen,
    tune,
    weights_of,
    write,
)

import folio
from folio.artifacts import read_manifest
from folio.finetuning.four_bit import quantize_base
from folio.generation.config import GenerationConfig
from folio.generation.engine import generate
from folio.model.folder import load_model
from folio.model.gpt import GPT
from folio.tokenizer import Tokenizer
from folio.training.checkpoint import list_checkpoints
from folio.training.metrics import read_metrics

ADAPTERS = ("lora", "qlora")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("finetune"))


@pytest.fixture(scope="module")
def runs(home: Path) -> dict[str, tuple[dict[str, Any], Any]]:
    """By method: the answer of a short run at ``home/METHOD``, and the model that was trained."""
    before = files_of(home / "base")
    found = {}
    for method in METHODS:
        with states_seen() as states:
            answer = tune(home, home / method, method, "--train.optimizer.learning-rate", "1e-2")
        found[method] = (answer, states[-1].model)
    assert files_of(home / "base") == before
    return found


Runs = dict[str, tuple[dict[str, Any], Any]]


def part_of(run: Path) -> Path:
    """``model/`` or ``adapter/`` of its last checkpoint."""
    (part,) = (path for path in list_checkpoints(run)[-1].path.iterdir() if path.name in ("model", "adapter"))
    return part


@pytest.mark.parametrize("method", METHODS)
def test_a_run_is_an_ordinary_run(home: Path, runs: Runs, method: str) -> None:
    run, (answer, _) = home / method, runs[method]
    assert {path.name for path in run.iterdir()} == {"config.json", "metrics.jsonl", "checkpoints", "report.html"}
    checkpoint = list_checkpoints(run)[-1].path
    part = "adapter" if method in ADAPTERS else "model"
    assert {path.name for path in checkpoint.iterdir()} == {part, "state", "manifest.json"}
    assert {"tokenizer.json", "tokenizer_config.json"} <= {path.name for path in (checkpoint / part).iterdir()}
    config = json.loads((run / "config.json").read_text())
    assert (config["preset"], config["recipe"]["method"]) == ("finetune", method)
    assert config["base"]["given"] == str(home / "base")
    assert config["recipe"]["train"]["steps"] == 6
    assert config["parents"][0]["id"] == read_manifest(base_model(home).parent).id
    assert (answer["steps"], answer["run"]) == (6, str(run))
    assert answer["next"][0].startswith("folio generate ")


def base_model(home: Path) -> Path:
    return list_checkpoints(home / "base")[-1].path / "model"


@pytest.mark.parametrize("method", METHODS)
def test_losses_fall_and_a_line_says_by_how_much(home: Path, runs: Runs, method: str) -> None:
    lines = lines_of(home / method, "validation")
    assert [line["step"] for line in lines] == [0, 3, 6]
    losses = [line["nats_per_token"] for line in lines]
    assert all(after < before for before, after in pairwise(losses))
    within = [line["train_nats_per_token"] for line in lines]
    assert all(after < before for before, after in pairwise(within))
    assert [line["epoch"] for line in lines] == [0, 2, 4]  # 3 rows, 2 of them a step
    for line in lines:
        assert line["perplexity"] == pytest.approx(math.exp(line["nats_per_token"]))
        assert line["examples"] == 4
        assert 0 < line["standard_error_nats"] < 1
    train = lines_of(home / method, "train")
    assert [line["step"] for line in train] == list(range(1, 7))
    assert sum(line["tokens"] for line in train) == 4 * sum(len(f"{word}: {completion(word, n)['completion']}")
                                                            for n, word in enumerate(WORDS))  # fmt: skip
    assert lines[-1]["tokens_seen"] == sum(line["tokens"] for line in train)


def test_before_the_first_step_every_method_has_the_loss_of_the_base(home: Path, runs: Runs) -> None:
    first = {method: lines_of(home / method, "validation")[0]["nats_per_token"] for method in METHODS}
    model = load_model(base_model(home))
    tokenizer = folio.load_tokenizer(base_model(home))
    whole, _ = loss_by_hand(model, tokenizer, home / "held.jsonl")
    assert first["full"] == first["head"] == pytest.approx(first["lora"], rel=1e-6)
    assert first["full"] == pytest.approx(whole, rel=1e-5)
    quantize_base(model)
    rounded, _ = loss_by_hand(model, tokenizer, home / "held.jsonl")
    assert first["qlora"] == pytest.approx(rounded, rel=1e-5)
    assert rounded != pytest.approx(whole, rel=1e-3)


def loss_by_hand(model: GPT, tokenizer: Tokenizer, examples: Path) -> tuple[float, int]:
    """Nats per token of the answers and their end-of-text, each example by itself; and how many tokens those are."""
    nats = tokens = 0.0
    for line in map(json.loads, examples.read_text().splitlines()):
        assert tokenizer.eot_id is not None
        prompt, answer = tokenizer.encode(line["prompt"]), [*tokenizer.encode(line["completion"]), tokenizer.eot_id]
        with torch.no_grad():
            logprobs = model.eval()(torch.tensor([[*prompt, *answer]]))[0].log_softmax(-1)
        for place, id in enumerate(answer, len(prompt)):
            nats, tokens = nats - float(logprobs[place - 1, id]), tokens + 1
    return nats / tokens, int(tokens)


def test_a_method_moves_only_what_it_says(home: Path, runs: Runs) -> None:
    base = weights_of(home / "base")
    full, head = weights_of(part_of(home / "full")), weights_of(part_of(home / "head"))
    assert [name for name in base if torch.equal(base[name], full[name])] == []
    moved = {name for name in base if not torch.equal(base[name], head[name])}
    assert moved == {"norm.weight", "norm.bias"}
    assert not torch.equal(head["head.weight"], base["embed.weight"])  # cut loose from the embedding
    for method, trained in (("full", full), ("head", {**head})):
        counted = sum(p.numel() for name, p in trained.items() if method == "full" or name.startswith(("norm", "head")))
        assert runs[method][0]["resolved"]["trainable"] == counted
    model = runs["lora"][1]
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    assert all(p.grad is None for p in frozen.values())
    for name, weight in frozen.items():
        plain = name.replace(".base", ".weight")
        assert torch.equal(weight.detach(), base[plain]), name
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all(name.endswith(("_A", "_B")) for name in trained)


def test_a_base_in_4_bits_stays_so_and_adapters_alone_move(home: Path, runs: Runs) -> None:
    model = runs["qlora"][1]
    fresh_model = load_model(base_model(home))
    quantize_base(fresh_model)
    layers, fresh = four_bit_layers(model), four_bit_layers(fresh_model)
    assert len(layers) == len(fresh) == 8  # four matrices in each of two blocks
    for layer, begun in zip(layers, fresh, strict=True):
        assert layer.packed.dtype == torch.uint8
        assert torch.equal(layer.packed, begun.packed)
        assert layer.packed.numel() * 2 == layer.shape[0] * layer.shape[1]
    assert {name.rsplit("_", 1)[-1] for name, p in model.named_parameters() if p.requires_grad} == {"A", "B"}


@pytest.mark.parametrize("method", METHODS)
def test_transformers_and_peft_open_it_with_equal_logits(home: Path, runs: Runs, method: str) -> None:
    transformers = pytest.importorskip("transformers")
    ours, part = folio.load(home / method), part_of(home / method)
    ids = ours.tokenizer.encode("one: a man.")
    if method in ADAPTERS:
        peft = pytest.importorskip("peft")
        settings = json.loads((part / "adapter_config.json").read_text())
        assert Path(settings["base_model_name_or_path"]) == base_model(home)
        base = transformers.AutoModelForCausalLM.from_pretrained(settings["base_model_name_or_path"])
        theirs = peft.PeftModel.from_pretrained(base, part).eval()
    else:
        theirs = transformers.AutoModelForCausalLM.from_pretrained(part).eval()
    with torch.no_grad():
        logits = theirs(torch.tensor([ids])).logits[0, :, : ours.tokenizer.vocab_size]
    torch.testing.assert_close(ours([ids])[0], logits, rtol=1e-4, atol=1e-4)
    assert transformers.AutoTokenizer.from_pretrained(part).eos_token_id == ours.tokenizer.eot_id


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_loss_it_reports_is_that_of_what_it_saved(home: Path, runs: Runs, method: str) -> None:
    model = folio.load(home / method)
    loss, tokens = loss_by_hand(model.gpt, model.tokenizer, home / "held.jsonl")
    (answer, _) = runs[method]
    assert answer["validation"]["nats_per_token"] == pytest.approx(loss, rel=1e-4)
    assert answer["validation"]["tokens"] == tokens
    assert answer["best"]["nats_per_token"] == answer["validation"]["nats_per_token"]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_learned_by_heart_it_answers_and_stops_by_itself(home: Path, tmp_path: Path, method: str) -> None:
    few = write(tmp_path / "few.jsonl", [completion(word, number) for number, word in enumerate(WORDS[:4])])
    learned = ("--train.steps", "60", "--train.batch-tokens", "64", "--train.optimizer.learning-rate", "1e-2")
    answer = finetune(
        home / "base", "--data", few, "--data.validation-fraction", "0", "--method", method,
        "--out", tmp_path / "run", "--train.device", "cpu", "--train.precision", "fp32", *learned,
        "--forgetting.no-measure", "--samples.temperatures", "0", "--samples.count", "3",
    )  # fmt: skip
    assert answer["validation"] is None
    assert lines_of(tmp_path / "run", "train")[-1]["nats_per_token"] < 0.1
    model = folio.load(tmp_path / "run")
    for number, word in enumerate(WORDS[:4]):
        wanted = completion(word, number)
        drawing = GenerationConfig(max_new_tokens=30, temperature=0)
        (written,) = generate(model.gpt, model.tokenizer, [wanted["prompt"]], drawing)
        assert written.text == wanted["completion"]
        assert written.finish == "end_of_text"
    code, out, err = command("generate", tmp_path / "run", "--prompt", "two: ", "--temperature", "0")
    assert (code, out.splitlines()[0]) == (0, "two: the egg."), out + err
    assert all(sample["finish"] == "end_of_text" for sample in answer["samples"])
    assert "ended by itself" in (tmp_path / "run" / "samples.md").read_text()


def test_a_recipe_in_a_file_and_flags_over_it(home: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'method = "lora"\n[data]\npath = "{(home / "train.jsonl").as_posix()}"\nvalidation_fraction = 0.3\n'
        "[lora]\nrank = 2\n[train]\nsteps = 9\nbatch_tokens = 128\n[samples]\ncount = 0\n[forgetting]\nmeasure = false\n"
    )
    answer = finetune(home / "base", "--recipe", recipe, "--out", tmp_path / "run", "--train.steps", "2", *BARE)
    config = json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]
    assert (config["lora"]["rank"], config["data"]["validation_fraction"]) == (2, 0.3)
    assert (answer["steps"], config["train"]["steps"]) == (2, 2)
    assert config["train"]["optimizer"]["learning_rate"] == 2e-4  # the usual of the method


def test_without_steps_epochs_say_how_long_and_each_ends_with_a_validation(home: Path, tmp_path: Path) -> None:
    answer = finetune(*data_of(home), "--method", "head", "--out", tmp_path / "run", *BARE, "--train.epochs", "2",
                      "--train.batch-tokens", "64")  # fmt: skip
    assert answer["steps"] == 6  # two epochs of three rows
    lines = lines_of(tmp_path / "run", "validation")
    assert [(line["step"], line["epoch"]) for line in lines] == [(0, 0), (3, 1), (6, 2)]


def test_validation_tokens_takes_whole_examples(home: Path, tmp_path: Path) -> None:
    tune(home, tmp_path / "run", "head", "--train.validation-tokens", "20")
    line = lines_of(tmp_path / "run", "validation")[0]
    assert (line["examples"], line["tokens"]) == (2, len("a man.") + len("the egg.") + 2)


def test_accumulated_it_takes_the_same_steps(home: Path, runs: Runs, tmp_path: Path) -> None:
    tune(home, tmp_path / "run", "lora", "--train.optimizer.learning-rate", "1e-2", "--train.micro-batch", "1")
    once, parts = (
        [line["nats_per_token"] for line in lines_of(run, "train")] for run in (home / "lora", tmp_path / "run")
    )
    assert parts == pytest.approx(once, rel=1e-5)


@pytest.mark.parametrize("flags", [("--train.dropout", "0.3"), ("--lora.dropout", "0.3"), ("--train.recompute",)])
def test_dropout_is_that_of_training_alone_and_recomputing_changes_nothing(
    home: Path, runs: Runs, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    tune(home, tmp_path / "run", "lora", "--train.optimizer.learning-rate", "1e-2", *flags)
    ours, plain = ([line["nats_per_token"] for line in lines_of(run, "train")] for run in (tmp_path / "run", home / "lora"))
    before = [lines_of(run, "validation")[0]["nats_per_token"] for run in (tmp_path / "run", home / "lora")]
    assert before[0] == before[1]
    if "--train.recompute" in flags:
        assert ours == pytest.approx(plain, rel=1e-5)
    else:
        assert ours[1] != pytest.approx(plain[1], rel=1e-4)


def test_what_evaluation_asks_for_is_measured_of_an_adapted_model(home: Path, tmp_path: Path) -> None:
    items, run = tmp_path / "items.jsonl", tmp_path / "run"
    items.write_text("".join(json.dumps(scene) + "\n" for scene in SCENES))
    tune(
        home, run, "lora", "--train.sample-every", "3", "--train.sample-prompt", "the ", "--evaluation.every", "3",
        "--evaluation.tasks", "hellaswag", "--evaluation.convention", "completion", "--evaluation.data", items,
        "--evaluation.texts", home / "text.txt", "--generation.max-new-tokens", "8",
    )  # fmt: skip
    seen = [(line["step"], line["name"]) for line in lines_of(run, "evaluation")]
    names = ("hellaswag.completion", "loss.text")
    assert sorted(seen) == [(step, name) for step in (3, 6) for name in names]
    assert all(score["value"] is not None for line in lines_of(run, "evaluation") for score in line["scores"].values())
    samples = lines_of(run, "sample")
    assert [line["step"] for line in samples] == [3, 6]
    assert "## Step 3" in (run / "samples.md").read_text()
    assert "hellaswag" in (part_of(run) / "README.md").read_text()


def test_best_by_a_score_of_the_adapted_model(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tune(home, run, "lora", "--evaluation.every", "2", "--evaluation.texts", home / "text.txt",
         "--train.best-by", "loss.text.nats_per_token", "--train.optimizer.learning-rate", "3e-2")  # fmt: skip
    scores = {line["step"]: line["scores"]["nats_per_token"]["value"] for line in lines_of(run, "evaluation")}
    kept = [checkpoint.step for checkpoint in list_checkpoints(run)]
    assert min(scores, key=scores.__getitem__) in kept
    assert min(scores.values()) < max(scores.values())


def test_chats_leave_their_template_in_the_tokenizer(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finetune(home / "base", "--data", home / "chats.jsonl", "--data.template", "plain", "--method", "lora", "--out", run,
             *BARE, *SHORT, "--data.validation-fraction", "0.3", "--data.unknown-characters", "drop")  # fmt: skip
    model = folio.load(run)
    assert model.tokenizer.settings["chat_template"]
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(part_of(run))
    assert "one" in theirs.apply_chat_template([{"role": "user", "content": "one"}], tokenize=False)


def test_rows_that_attend_across_are_trained_and_measured_as_they_lie(home: Path, runs: Runs, tmp_path: Path) -> None:
    tune(home, tmp_path / "run", "lora", "--data.attend-across", "--train.optimizer.learning-rate", "1e-2")
    across, alone = (lines_of(run, "validation")[0] for run in (tmp_path / "run", home / "lora"))
    assert across["convention"] != alone["convention"]
    assert across["nats_per_token"] != pytest.approx(alone["nats_per_token"], rel=1e-6)
    assert lines_of(tmp_path / "run", "train")[-1]["nats_per_token"] < across["train_nats_per_token"]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_preferences_end_to_end(home: Path, tmp_path: Path, method: str) -> None:
    run = tmp_path / "run"
    answer = finetune(
        home / "base", "--data", home / "pairs.jsonl", "--data.validation", home / "held_pairs.jsonl", "--method",
        method, "--out", run, *BARE, "--train.steps", "8", "--train.validate-every", "4", "--train.batch-tokens", "256",
        "--train.optimizer.learning-rate", "5e-3", "--dpo.beta", "0.2",
    )  # fmt: skip
    lines = lines_of(run, "validation")
    assert [line["step"] for line in lines] == [0, 4, 8]
    assert lines[0]["nats_per_pair"] == pytest.approx(math.log(2), rel=1e-4)  # the policy is its own reference
    assert lines_of(run, "train")[0]["nats_per_pair"] == pytest.approx(math.log(2), rel=1e-4)
    assert lines[-1]["nats_per_pair"] < lines[0]["nats_per_pair"]
    assert lines[-1]["train_nats_per_pair"] < math.log(2)
    assert lines[-1]["accuracy"] > 0.5
    assert answer["best"]["nats_per_pair"] == min(line["nats_per_pair"] for line in lines[1:])
    assert folio.load(run).generate("one: ", max_new_tokens=4)
    assert (run / "report.html").stat().st_size > 1000


def test_nothing_held_out_is_trained_to_the_end(home: Path, tmp_path: Path) -> None:
    answer = finetune(home / "base", "--data", home / "train.jsonl", "--data.validation-fraction", "0", "--method",
                      "head", "--out", tmp_path / "run", *BARE, *SHORT)  # fmt: skip
    assert (answer["steps"], answer["validation"], answer["best"]["step"]) == (6, None, 6)
    assert lines_of(tmp_path / "run", "validation") == []
    assert (tmp_path / "run" / "report.html").is_file()


def test_it_goes_on_from_a_fine_tuned_model(home: Path, runs: Runs, tmp_path: Path) -> None:
    """A model that was fine-tuned whole is a base like any other: its tokenizer, its weights."""
    answer = finetune(home / "full", *data_of(home)[1:], "--method", "lora", "--out", tmp_path / "run", *BARE, *SHORT)
    first = lines_of(tmp_path / "run", "validation")[0]["nats_per_token"]
    assert first == pytest.approx(runs["full"][0]["validation"]["nats_per_token"], rel=1e-5)
    assert answer["steps"] == 6


def test_without_out_the_run_is_named_after_base_and_method(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    arguments = ("base", "--data", "train.jsonl", "--method", "head", *BARE, *SHORT, "--train.steps", "1")
    first, second = finetune(*arguments), finetune(*arguments)
    assert first["run"] == "runs/base-head"
    assert Path(second["run"]).parent == Path("runs")
    assert second["run"] != first["run"]
    assert json.loads((home / first["run"] / "config.json").read_text())["base"]["given"] == "base"


def test_weights_are_told_so_that_two_runs_can_be_held_together(home: Path, runs: Runs, tmp_path: Path) -> None:
    again = tune(home, tmp_path / "again", "qlora", "--train.optimizer.learning-rate", "1e-2")
    assert again["weights_sha256"] == runs["qlora"][0]["weights_sha256"]
    other = tune(home, tmp_path / "other", "qlora", "--train.optimizer.learning-rate", "1e-2", "--train.seed", "5")
    assert other["weights_sha256"] != again["weights_sha256"]
    assert [line["kind"] for line in read_metrics(tmp_path / "again")] == [
        line["kind"] for line in read_metrics(home / "qlora")
    ]
