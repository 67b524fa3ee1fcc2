"""A name that means an adapter opens base and adapter as one model, in every verb; nothing damaged opens."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from adapted_models import logits, make_adapter, make_base, make_checkpoint, opened, peft_logits, shape_of, told
from model_shapes import assert_same_logits, random_ids

import folio
from folio.artifacts import MANIFEST
from folio.checksums import sealed_json
from folio.cli import main
from folio.finetuning.adapters import load_adapter
from folio.finetuning.lora import add_lora, merged, set_adapter
from folio.finetuning.low_rank import LoraConfig
from folio.finetuning.trainable import make_trainable
from folio.model.folder import load_model
from folio.verbs.evaluate.judging import model_fingerprint

os.environ["HF_HUB_OFFLINE"] = "1"
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

KINDS = ["gpt2", "llama-grouped", "qwen3-grouped-untied"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_a_checkpoint_and_an_adapter_are_the_model_that_peft_makes_of_them(kind: str, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", kind)
    run = tmp_path / "run"
    best = make_checkpoint(run, 10, base, loss=1.0)
    make_checkpoint(run, 20, base, loss=2.0)
    theirs = peft_logits(base, best / "adapter")
    found = opened(best / "adapter")
    assert_same_logits(found, theirs)
    assert (found - opened(base)).abs().max() > 0.1
    assert torch.equal(opened(best), found)
    assert torch.equal(opened(run), found)
    assert folio.load(run, device="cpu").folder == best / "adapter"


def test_what_peft_wrote_opens_by_the_base_that_it_names(base: Path, tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    theirs = peft.get_peft_model(model, config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        expected = theirs(random_ids(shape_of("gpt2"))).logits
    assert_same_logits(opened(tmp_path / "theirs"), expected, 5e-5)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "int8"])
def test_every_dtype_is_that_of_the_merged_weights(dtype: str, base: Path, tmp_path: Path) -> None:
    """In each it is the same bits as a folder of the merged model; so bf16 is rounded once."""
    adapter = make_adapter(tmp_path / "adapter", base, dora=True)
    folio.load(adapter, device="cpu").save(tmp_path / "merged")
    assert torch.equal(opened(adapter, dtype), opened(tmp_path / "merged", dtype))
    settings = {"max_new_tokens": 20, "seed": 1}
    texts = [
        folio.load(path, dtype=dtype, device="cpu").generate("abc", **settings)  # type: ignore[arg-type]
        for path in (adapter, tmp_path / "merged")
    ]
    assert texts[0] == texts[1]


def test_no_damage_in_a_checkpoint_of_an_adapter_is_loaded(base: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    other, best = make_checkpoint(run, 1, base, loss=2.0), make_checkpoint(run, 2, base, loss=1.0)
    files = [file for file in best.rglob("*") if file.is_file() and "state" not in file.parts]
    assert {file.name for file in files} > {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}
    for file in files:
        if file.name == "README.md":
            continue
        content = file.read_bytes()
        flipped = bytearray(content)
        flipped[len(flipped) // 2] ^= 1
        for damaged in (bytes(flipped), content[: len(content) // 2], None):
            file.unlink() if damaged is None else file.write_bytes(damaged)
            for given in (best, best / "adapter"):
                assert file.name in told(given).problem, file
            error = told(run)
            assert file.name in error.problem
            assert f"'{other}'" in error.remedy
            file.write_bytes(content)
    (best / "adapter" / "README.md").write_text("my own words")
    folio.load(run, device="cpu")


def test_an_adapter_of_another_checkpoint_put_in_its_place_is_refused(base: Path, tmp_path: Path) -> None:
    one, two = (make_checkpoint(tmp_path / "run", step, base) for step in (1, 2))
    shutil.rmtree(two / "adapter")
    shutil.copytree(one / "adapter", two / "adapter")
    assert "is damaged" in told(two).problem


def test_evaluations_measure_base_and_adapter(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("abc def gab\nhead fed\n" * 30)
    run = tmp_path / "run"
    checkpoint = make_checkpoint(run, 1, base)
    folio.load(run, device="cpu").save("merged")
    found = {}
    for name in (str(run), "merged", str(base)):
        assert main(["evaluate", name, "--text", "text.txt", "--device", "cpu", "--to", "e", "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        found[name] = answer["evaluations"][0]["measurements"]["loss"]["scores"]
        if name == str(run):
            parents = json.loads(Path("e", MANIFEST).read_text())["parents"]
            own = json.loads((checkpoint / "adapter" / MANIFEST).read_text())
            assert [parent["kind"] for parent in parents] == ["adapter"] == [own["kind"]]
        shutil.rmtree("e")
    assert found[str(run)] == found["merged"] != found[str(base)]
    assert main(["compare", str(base), str(run), "--text", "text.txt", "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("verb", [("evaluate",), ("evaluate", "oracle")])
def test_a_run_that_learnt_from_examples_has_no_text_of_its_own(
    verb: tuple[str, ...], base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    make_checkpoint(run, 1, base)
    (run / "metrics.jsonl").touch()
    (run / "config.json").write_text(sealed_json({"recipe": {"model": str(base), "method": "lora"}, "base": {}}))
    oracle = ("--oracle", str(base)) if "oracle" in verb else ()
    assert main([*verb, str(run), *oracle, "--device", "cpu"]) == 2
    problem, remedy = capsys.readouterr().err.strip().splitlines()
    assert f"'{run}'" in problem
    assert "--text FILE" in remedy


def test_the_fingerprint_of_a_judge_is_that_of_base_and_adapter(base: Path, tmp_path: Path) -> None:
    a = make_adapter(tmp_path / "a", base, seed=1)
    b = make_adapter(tmp_path / "b", base, seed=2)
    elsewhere = shutil.copytree(a, tmp_path / "elsewhere")
    assert model_fingerprint(a) == model_fingerprint(elsewhere)
    assert len({model_fingerprint(folder) for folder in (base, a, b)}) == 3
    prints = []
    for seed in (1, 2):  # the same adapter on two bases
        own = make_base(tmp_path / str(seed) / "own", seed=seed)
        moved = shutil.copytree(tmp_path / "1" / "c", tmp_path / "2" / "c") if prints else tmp_path / "1" / "c"
        prints.append(model_fingerprint(moved if prints else make_adapter(moved, own, called="own")))
    assert prints[0] != prints[1]


def test_an_adapter_trained_on_a_rounded_base_opens_on_the_full_one(base: Path, tmp_path: Path) -> None:
    """QLoRA: what opens is the sum of full-precision base and adapter; what was trained stood beside it."""
    pytest.importorskip("bitsandbytes")
    adapter = make_adapter(tmp_path / "adapter", base)
    rounded = load_model(base)
    make_trainable(rounded, "qlora", LoraConfig(rank=4, alpha=6))
    set_adapter(rounded, None)
    load_adapter(rounded, adapter, name="tuned")
    set_adapter(rounded, "tuned")
    full = load_model(base)
    add_lora(full, LoraConfig(rank=1))
    load_adapter(full, adapter, name="tuned")
    set_adapter(full, "tuned")
    found = opened(adapter)
    assert torch.equal(found, logits(merged(full)))
    beside = (found - logits(rounded)).std() / found.std()
    assert 1e-3 < beside < 1
