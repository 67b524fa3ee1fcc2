"""Folders of adapters: PEFT computes the same logits from ours, Folio from PEFT's, and a wrong base is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from model_shapes import SHAPES, assert_same_logits, random_ids, random_model
from safetensors.torch import load_file, save_file
from tiny_training import FP32, SHAPE, Counting, run_steps

from folio.artifacts import MANIFEST, Parent, read_manifest, verify, write_manifest
from folio.errors import ArtifactError, ConfigError, UserError
from folio.finetuning.adapters import Base, base_of, load_adapter, read_adapter, save_adapter
from folio.finetuning.config_lora import LoraConfig, Method
from folio.finetuning.lora import adapter_parameters, add_lora, set_adapter
from folio.finetuning.trainable import make_trainable
from folio.model.config import GPTConfig
from folio.model.folder import load_model, save_model
from folio.model.gpt import GPT
from folio.training.config import TrainConfig
from folio.training.plan import BatchPlan, solve_batch
from folio.training.state import TrainingState

os.environ["HF_HUB_OFFLINE"] = "1"
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

KINDS = ["gpt2", "llama-grouped", "qwen3-grouped-untied", "qwen3-wide-heads"]
VARIANTS = {"lora": {}, "rslora": {"rslora": True}, "dora": {"dora": True}}


def adapted(shape: GPTConfig, name: str = "default", **settings: object) -> GPT:
    model = random_model(shape)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in add_lora(model, LoraConfig.model_validate({"rank": 4, "alpha": 6, **settings}), name):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def base_folder(folder: Path, kind: str) -> Path:
    folder.mkdir()
    save_model(random_model(SHAPES[kind]), folder)
    return folder


def logits(model: GPT) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(random_ids(model.config))
    return found


def peft_logits(base: Path, adapter: Path, shape: GPTConfig) -> torch.Tensor:
    model = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base), adapter)
    with torch.no_grad():
        found: torch.Tensor = model.eval()(random_ids(shape)).logits
    return found


def written_by_peft(base: Path, folder: Path, **settings: Any) -> torch.Tensor:
    """PEFT writes a random adapter for ``base`` into ``folder``; its logits."""
    torch.manual_seed(0)
    inner = transformers.AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(
        **{"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM", "init_lora_weights": False, **settings}
    )
    model = peft.get_peft_model(inner, config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "magnitude" in name:
                parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
            elif "lora_" in name:
                parameter.mul_(0.5)  # so large that it shows, not so large that rounding grows with it
        found: torch.Tensor = model(random_ids(load_model(base).config)).logits
    model.save_pretrained(folder)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_peft_computes_the_same_logits_from_our_folder(kind: str, variant: str, tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", kind)
    model = adapted(SHAPES[kind], **VARIANTS[variant])
    save_adapter(model, tmp_path / "adapter")
    theirs = peft_logits(base, tmp_path / "adapter", SHAPES[kind])
    assert (theirs - logits(random_model(SHAPES[kind]))).abs().max() > 0.1
    assert_same_logits(logits(model), theirs)


@pytest.mark.parametrize(
    ("kind", "targets", "names"),
    [
        ("gpt2", ["mlp.proj"], ["mlp.c_proj"]),
        ("gpt2", ["proj", "qkv"], ["c_attn", "c_proj"]),
        ("llama-grouped", ["q_proj", "v_proj"], ["q_proj", "v_proj"]),
        ("llama-grouped", ["up", "layers.1.self_attn.k_proj"], ["gate_proj", "up_proj", "1.self_attn.k_proj"]),
    ],
)
def test_peft_puts_ours_on_the_layers_that_were_chosen(
    kind: str, targets: list[str], names: list[str], tmp_path: Path
) -> None:
    base = base_folder(tmp_path / "base", kind)
    model = adapted(SHAPES[kind], targets=targets)
    save_adapter(model, tmp_path / "adapter")
    assert sorted(json.loads((tmp_path / "adapter/adapter_config.json").read_text())["target_modules"]) == sorted(names)
    assert_same_logits(logits(model), peft_logits(base, tmp_path / "adapter", SHAPES[kind]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", ["use_rslora", "use_dora", ""])
def test_our_logits_from_the_folder_that_peft_wrote_are_its_own(kind: str, variant: str, tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", kind)
    settings = {
        "target_modules": "all-linear",
        "fan_in_fan_out": kind == "gpt2",
        **({variant: True} if variant else {}),
    }
    theirs = written_by_peft(base, tmp_path / "adapter", **settings)
    model = load_model(base)
    load_adapter(model, tmp_path / "adapter")
    set_adapter(model, "default")
    assert_same_logits(logits(model), theirs, 5e-5)  # random adapters of this size amplify rounding


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": ["down_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
        {"target_modules": r".*\.2\.mlp\.(up|gate)_proj"},
        {"target_modules": ["q_proj", "o_proj"], "exclude_modules": ["1.self_attn.q_proj"], "lora_dropout": 0.1},
    ],
)
def test_every_way_of_choosing_layers_is_understood(settings: dict[str, Any], tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", "llama-grouped")
    theirs = written_by_peft(base, tmp_path / "adapter", **settings)
    model = load_model(base)
    config = load_adapter(model, tmp_path / "adapter")
    set_adapter(model, "default")
    assert_same_logits(logits(model), theirs, 5e-5)  # random adapters of this size amplify rounding
    save_adapter(model, tmp_path / "again")  # and so is what Folio then writes
    assert_same_logits(peft_logits(base, tmp_path / "again", model.config), theirs)
    assert read_adapter(tmp_path / "again", model.config)[0] == config


def test_half_precision_adapters_open(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", "gpt2")
    written_by_peft(base, tmp_path / "adapter", target_modules=["c_attn"], fan_in_fan_out=True)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file)
    model = load_model(base)
    load_adapter(model, tmp_path / "adapter")
    set_adapter(model, "default")
    assert_same_logits(logits(model), peft_logits(base, tmp_path / "adapter", model.config))


def test_saved_and_read_parameters_are_the_same_bits_under_the_same_names(tmp_path: Path) -> None:
    """What resuming needs: the folder holds all that is trained."""
    model = adapted(SHAPES["folio-mixed"], dora=True, rslora=True, dropout=0.25)
    save_adapter(model, tmp_path / "adapter")
    config, tensors = read_adapter(tmp_path / "adapter", model.config)
    own = adapter_parameters(model)
    assert tensors.keys() == own.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(torch.equal(tensors[name], parameter) for name, parameter in own.items())
    assert (config.rank, config.alpha, config.dropout, config.dora, config.rslora) == (4, 6, 0.25, True, True)


def test_several_adapters_lie_on_one_base(tmp_path: Path) -> None:
    expected = {}
    for name, settings in (("a", {"targets": ["qkv"]}), ("b", {"dora": True})):
        model = adapted(SHAPES["gpt2"], name, **settings)
        save_adapter(model, tmp_path / name, name=name)
        expected[name] = logits(model)
    model = random_model(SHAPES["gpt2"])
    for name in expected:
        load_adapter(model, tmp_path / name, name=name)
    for name in ("b", "a", "b"):
        set_adapter(model, name)
        assert torch.equal(logits(model), expected[name])
        assert not any(parameter.requires_grad for parameter in model.parameters())
    save_adapter(model, tmp_path / "idle", name="a")  # one that is not in use
    assert (
        load_file(tmp_path / "idle/adapter_model.safetensors").keys()
        == load_file(tmp_path / "a/adapter_model.safetensors").keys()
    )
    with pytest.raises(ConfigError, match="no adapter 'c'"):
        save_adapter(model, tmp_path / "c", name="c")


def test_the_manifest_says_whose_adapter_it_is(tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base", "gpt2")
    own = write_manifest(folder, "model", {})
    base = base_of(folder, "gpt2-small")
    assert base.parent == Parent(kind="model", id=own.id)
    saved = save_adapter(adapted(SHAPES["gpt2"]), tmp_path / "adapter", base=base)
    assert verify(tmp_path / "adapter", "adapter") == saved
    assert saved.parents == (base.parent,)
    assert saved.config["base"]["shape"]["n_embd"] == 48
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["base_model_name_or_path"] == "gpt2-small"
    assert str(tmp_path) not in "".join(file.read_text() for file in (tmp_path / "adapter").glob("*.json"))
    load_adapter(load_model(folder), tmp_path / "adapter", base=base)


def test_the_same_weights_are_the_same_base_wherever_they_lie(tmp_path: Path) -> None:
    plain = base_of(base_folder(tmp_path / "plain", "gpt2"))
    assert plain.parent is None
    checkpoint = tmp_path / "step-1"
    checkpoint.mkdir()
    inside = base_folder(checkpoint / "model", "gpt2")
    (checkpoint / "state").mkdir()
    manifest = write_manifest(checkpoint, "checkpoint", {})
    found = base_of(inside)
    assert found == Base(plain.weights, Parent(kind="checkpoint", id=manifest.id))
    (tmp_path / "plain" / MANIFEST).write_text('{"another": "program"}')
    assert base_of(tmp_path / "plain") == plain


def test_more_files_are_part_of_the_folder(tmp_path: Path) -> None:
    """Such as the tokenizer's: the manifest speaks of them, and a damaged one is seen."""
    model = adapted(SHAPES["gpt2"])
    saved = save_adapter(model, tmp_path / "adapter", extra=lambda folder: (folder / "tokenizer.json").write_text("{}"))
    assert {"tokenizer.json", "README.md", "adapter_config.json", "adapter_model.safetensors"} == saved.files.keys()
    load_adapter(random_model(SHAPES["gpt2"]), tmp_path / "adapter")
    (tmp_path / "adapter" / "README.md").write_text("my own words")
    load_adapter(random_model(SHAPES["gpt2"]), tmp_path / "adapter")
    (tmp_path / "adapter" / "tokenizer.json").write_text("[]")
    assert "tokenizer.json' is damaged" in refused(random_model(SHAPES["gpt2"]), tmp_path / "adapter").problem

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        save_adapter(model, tmp_path / "another", extra=full)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def refused(model: GPT, folder: Path, base: Base | None = None) -> UserError:
    before = logits(model)
    with pytest.raises(ArtifactError) as caught:
        load_adapter(model, folder, base=base)
    assert "\n" not in caught.value.problem
    assert caught.value.remedy
    assert torch.equal(logits(model), before)
    return caught.value


def test_an_adapter_of_other_weights_is_refused_by_its_manifest(tmp_path: Path) -> None:
    save_adapter(adapted(SHAPES["gpt2"]), tmp_path / "adapter", base=Base("a" * 64))
    model = random_model(SHAPES["gpt2"])
    assert "other weights" in refused(model, tmp_path / "adapter", Base("b" * 64)).problem
    load_adapter(model, tmp_path / "adapter", base=Base("a" * 64))


def test_an_adapter_of_another_shape_is_refused_by_its_manifest(tmp_path: Path) -> None:
    """Also where every tensor would fit."""
    save_adapter(adapted(SHAPES["llama"]), tmp_path / "adapter")
    longer = SHAPES["llama"].model_copy(update={"block_size": 64})
    assert "block_size 32, not 64" in refused(random_model(longer), tmp_path / "adapter").problem


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("llama-grouped", {"n_embd": 64}, "has the shape"),
        ("llama-grouped", {"n_layer": 4}, "it lacks 'model.layers.3"),
        ("llama-grouped", {"n_layer": 2}, "no place for 'model.layers.2"),
        ("gpt2", {}, "no place for"),
    ],
)
def test_without_a_manifest_names_and_shapes_must_fit(
    kind: str, change: dict[str, int], told: str, tmp_path: Path
) -> None:
    base = base_folder(tmp_path / "base", "llama-grouped")
    written_by_peft(base, tmp_path / "adapter", target_modules=["q_proj", "down_proj"])
    other = random_model(SHAPES[kind].model_copy(update=change))
    problem = refused(other, tmp_path / "adapter").problem
    assert "made for another model" in problem
    assert told in problem


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "all"}, "bias"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"use_qalora": True}, "use_qalora"),
        ({"a_key_of_tomorrow": 1}, "a_key_of_tomorrow"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"r": 0}, "rank"),
        ({"target_modules": 5}, "target_modules"),
        ({"target_modules": "("}, "target_modules"),
    ],
)
def test_what_ours_do_not_do_is_refused_by_its_key(settings: dict[str, Any], told: str, tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", "llama-grouped")
    written_by_peft(base, tmp_path / "adapter", target_modules=["q_proj"])
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    assert told in refused(load_model(base), tmp_path / "adapter").problem


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    model = adapted(SHAPES["gpt2"])
    manifest = save_adapter(model, tmp_path / "adapter")
    assert manifest == read_manifest(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "adapter_model.safetensors" in refused(random_model(SHAPES["gpt2"]), tmp_path / "adapter").problem
    assert "is not an adapter" in refused(random_model(SHAPES["gpt2"]), tmp_path).problem
    (tmp_path / "adapter" / MANIFEST).unlink()
    file.unlink()
    assert "is missing" in refused(random_model(SHAPES["gpt2"]), tmp_path / "adapter").problem


def adapter_state(method: Method) -> tuple[TrainingState, Counting, BatchPlan]:
    """Training of an adapter with dropout, from the start: the same bits each time."""
    config = TrainConfig(steps=6, batch_tokens=8 * SHAPE.block_size, seed=5)
    model = GPT(SHAPE).initialize(1)
    make_trainable(model, method, LoraConfig(rank=4, dora=True, dropout=0.2))
    torch.manual_seed(config.seed)
    plan = solve_batch(config.batch_tokens, SHAPE.block_size, None)
    return TrainingState(model, config, FP32), Counting(plan.sequences), plan


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_run_goes_on_from_base_and_adapter_with_the_same_bits(method: Method, tmp_path: Path) -> None:
    """A checkpoint needs the adapter and the optimizer's state; the base lies where it lay."""
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    state, source, plan = adapter_state(method)
    run_steps(state, source, plan, 3)
    save_adapter(state.model, tmp_path / "adapter")
    kept = {name: tensor.clone() for name, tensor in state.tensors().items()}
    run_steps(state, source, plan, 3)

    resumed, _, _ = adapter_state(method)
    _, shipped = read_adapter(tmp_path / "adapter", resumed.model.config)

    def read(tensors: dict[str, torch.Tensor]) -> None:
        assert tensors.keys() == kept.keys()
        for name, tensor in tensors.items():
            tensor.copy_(kept[name])

    resumed.load(shipped.items(), read, step=3)
    run_steps(resumed, source, plan, 3)
    expected = dict(state.model.named_parameters())
    assert all(torch.equal(parameter, expected[name]) for name, parameter in resumed.model.named_parameters())
    assert sum(name.startswith("optimizer/") for name in kept) == 3 * len(shipped)  # nothing is kept of the base
