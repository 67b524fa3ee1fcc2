"""``folio finetune``: from base and examples to a run by every method: what it holds, who opens it, what it learned."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from finetuned_runs import (
    METHODS,
    WORDS,
    base_model,
    command,
    completion,
    files_of,
    finetune,
    four_bit_layers,
    lines_of,
    make_home,
    part_of,
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
