"""``config.json`` as published models have it, with all that surrounds the shape: read rightly, or refused by key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from published_configs import DISTILGPT2, GPT2, LLAMA32, QWEN3, QWEN3_4B, SMOLLM, SMOLLM2, SMOLLM2_INSTRUCT, TINYLLAMA

from folio.errors import ArtifactError
from folio.model.accounting import parameter_counts
from folio.model.build import skeleton
from folio.model.config import GPTConfig
from folio.model.families import family_of, pieces
from folio.model.folder import read_config
from folio.model.hf_config import config_from_hf, config_to_hf

MODERN: dict[str, Any] = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False}
SMALL_LLAMA = {**MODERN, "vocab_size": 49152, "n_layer": 30, "n_head": 9, "n_kv_head": 3, "n_embd": 576}
SMALL_QWEN = {**MODERN, "vocab_size": 151936, "block_size": 40960, "qk_norm": True, "rope_theta": 1e6, "norm_eps": 1e-6}

READ = {
    "gpt2": (GPT2, GPTConfig(dropout=0.1), 124_439_808),
    "distilgpt2": (DISTILGPT2, GPTConfig(dropout=0.1, n_layer=6), 81_912_576),
    "SmolLM-135M": (SMOLLM, GPTConfig(**SMALL_LLAMA, block_size=2048), 134_515_008),
    "SmolLM2-135M": (SMOLLM2, GPTConfig(**SMALL_LLAMA, block_size=8192, rope_theta=1e5), 134_515_008),
    "SmolLM2-135M-Instruct": (
        SMOLLM2_INSTRUCT,
        GPTConfig(**SMALL_LLAMA, block_size=8192, rope_theta=1e5),
        134_515_008,
    ),
    "Qwen3-0.6B": (
        QWEN3,
        GPTConfig(**SMALL_QWEN, n_layer=28, n_head=16, n_kv_head=8, n_embd=1024, head_dim=128, mlp_width=3072),
        596_049_920,
    ),
    "Qwen3-4B": (
        QWEN3_4B,
        GPTConfig(**SMALL_QWEN, n_layer=36, n_head=32, n_kv_head=8, n_embd=2560, head_dim=128, mlp_width=9728),
        4_022_468_096,
    ),
    "TinyLlama-1.1B": (
        TINYLLAMA,
        GPTConfig(
            **MODERN,
            vocab_size=32000,
            block_size=2048,
            n_layer=22,
            n_head=32,
            n_kv_head=4,
            n_embd=2048,
            mlp_width=5632,
            tie_embeddings=False,
        ),
        1_100_048_384,
    ),
}


@pytest.mark.parametrize("name", READ)
def test_a_published_config_is_read_as_its_shape(name: str, tmp_path: Path) -> None:
    """The number of parameters is the published one."""
    values, shape, parameters = READ[name]
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = read_config(tmp_path)
    expected = shape.model_dump() | {"mlp_width": config.mlp_width}
    assert config.model_dump() == expected
    assert config.hidden == shape.hidden
    assert parameter_counts(config).total == parameters


@pytest.mark.parametrize("name", READ)
def test_transformers_gives_it_the_same_tensors(name: str) -> None:
    """Of the same names and shapes, whole, from what is published and from what Folio writes for it."""
    transformers = pytest.importorskip("transformers")
    values, _, _ = READ[name]
    config = config_from_hf(values)
    family = family_of(config)
    ours = {name: tuple(weight.shape) for name, weight in skeleton(config).named_parameters()}
    expected = {}
    for piece in pieces(config, family):
        shape = (piece.stop - piece.start, *ours[piece.ours][1:])
        expected[piece.theirs] = shape[::-1] if piece.transposed else shape
    for written in (values, config_to_hf(config, 0)):
        kept = {key: value for key, value in written.items() if key not in ("model_type", "transformers_version")}
        with torch.device("meta"):
            theirs = transformers.AutoModelForCausalLM.from_config(
                transformers.AutoConfig.for_model(values["model_type"], **kept)
            )
        assert {name: tuple(weight.shape) for name, weight in theirs.named_parameters()} == expected


def test_a_model_of_another_rotation_is_refused_by_its_key() -> None:
    with pytest.raises(ArtifactError, match=r"rope scaling of kind 'llama3' \(rope_scaling\)"):
        config_from_hf(LLAMA32)
    plain = config_from_hf({**LLAMA32, "rope_scaling": None})
    assert parameter_counts(plain).total == 1_235_814_400


SAME_MODEL: list[dict[str, Any]] = [
    {"dtype": "bfloat16", "torch_dtype": None},
    {"rope_parameters": {"rope_theta": 1000000, "rope_type": "default"}, "rope_theta": None},
    {"rope_parameters": {"rope_theta": 1000000, "rope_type": "default"}, "rope_theta": 5},
    {"rope_scaling": {"type": "default"}},
    {"layer_types": ["full_attention"] * 28},
    {"layer_types": None, "sliding_window": 4096},
    {"use_sliding_window": True, "sliding_window": None},
    {"use_sliding_window": True, "sliding_window": 4096},  # max_window_layers leaves every layer without one
    {"eos_token_id": [151645, 151643], "pad_token_id": 151643, "bos_token_id": None},
    {"pretraining_tp": 2, "use_cache": False, "initializer_range": 0.5, "max_window_layers": 70},
    {"attention_dropout": None, "attention_bias": None, "architectures": None},
    {"architectures": ["Qwen3Model"], "hidden_act": "swish"},
    {"_name_or_path": "somewhere", "transformers_version": "5.0.0.dev0", "auto_map": {}, "a_key_of_tomorrow": 1},
]


@pytest.mark.parametrize("change", SAME_MODEL)
def test_what_changes_no_logit_is_passed_over(change: dict[str, Any]) -> None:
    values = {key: value for key, value in {**QWEN3, **change}.items() if value is not None}
    assert config_from_hf(values) == config_from_hf({**QWEN3, **change}) == config_from_hf(QWEN3)


@pytest.mark.parametrize("head_dim", [None, 64])
def test_a_head_width_that_says_nothing_new_is_left_empty(head_dim: int | None) -> None:
    assert config_from_hf({**SMOLLM2, "head_dim": head_dim}).head_dim is None
    assert config_from_hf({**SMOLLM2, "head_dim": 48}).head_dim == 48


@pytest.mark.parametrize(
    ("values", "change", "named"),
    [
        (QWEN3, {"max_window_layers": 21, "use_sliding_window": True, "sliding_window": 4096}, "use_sliding_window"),
        (QWEN3, {"layer_types": ["full_attention", "linear_attention"] * 14}, r"linear_attention \(layer_types\)"),
        (QWEN3, {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, r"'yarn' \(rope_scaling\)"),
        (QWEN3, {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, r"'dynamic' \(rope_parameters\)"),
        (QWEN3, {"attention_bias": True}, "attention_bias"),
        (QWEN3, {"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
        (QWEN3, {"head_dim": -128}, "head_dim"),
        (QWEN3, {"architectures": ["Qwen3ForSequenceClassification"]}, "Qwen3ForSequenceClassification"),
        (SMOLLM2, {"mlp_bias": True}, "mlp_bias"),
        (SMOLLM2, {"num_attention_heads": 7}, "n_head 7 does not divide n_embd 576"),
        (SMOLLM2, {"model_type": "mistral"}, "'mistral'"),
        (SMOLLM2, {"model_type": "qwen2"}, "'qwen2'"),
        (SMOLLM2, {"model_type": "smollm3"}, "'smollm3'"),
        (GPT2, {"activation_function": "gelu"}, "activation_function 'gelu'"),
        (GPT2, {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse"),
    ],
)
def test_what_would_change_a_logit_is_refused_by_its_key(
    values: dict[str, Any], change: dict[str, Any], named: str
) -> None:
    with pytest.raises(ArtifactError, match=named) as caught:
        config_from_hf({**values, **change})
    assert "\n" not in caught.value.problem


@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("use", [False, True])
@pytest.mark.parametrize("first", [0, 27, 28, 40])
def test_windows_are_seen_where_transformers_has_them(window: int | None, use: bool, first: int) -> None:
    transformers = pytest.importorskip("transformers")
    values = {**QWEN3, "sliding_window": window, "use_sliding_window": use, "max_window_layers": first}
    theirs = transformers.Qwen3Config(**{key: value for key, value in values.items() if key != "model_type"})
    if "sliding_attention" not in theirs.layer_types:
        assert config_from_hf(values) == config_from_hf(QWEN3)
        return
    with pytest.raises(ArtifactError, match="sliding window"):
        config_from_hf(values)


def test_a_run_begun_before_heads_had_a_width_is_the_same_shape() -> None:
    """A shape recorded without the key reads as one whose heads share out the width, and equals it."""
    for shape in (GPTConfig(), config_from_hf(SMOLLM2)):
        recorded = shape.model_dump(mode="json")
        assert recorded.pop("head_dim") is None
        assert GPTConfig.model_validate(recorded) == shape


def test_a_width_that_gpt2_has_no_key_for_is_saved_as_folio() -> None:
    assert family_of(GPTConfig(head_dim=64)) == "gpt2"
    assert family_of(GPTConfig(head_dim=32)) == "folio"
    assert family_of(GPTConfig(n_head=7, head_dim=64)) == "folio"
    llama = GPTConfig(**MODERN, n_head=8, n_embd=100, head_dim=32)
    assert family_of(llama) == "folio"  # 8 does not divide 100, which Llama's class wants whatever head_dim is
    assert family_of(llama.model_copy(update={"qk_norm": True})) == "qwen3"
    assert family_of(llama.model_copy(update={"n_embd": 104})) == "llama"
