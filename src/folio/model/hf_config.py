"""``config.json`` of a Hugging Face folder to :class:`GPTConfig` and back, in the spellings of transformers 4 and 5.

What a folder asks for and this model does not compute is refused by name: nothing is ignored that changes a logit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import ValidationError

from folio.errors import ArtifactError
from folio.model.config import GPTConfig
from folio.model.families import ARCHITECTURES, Family, family_of

_GPT2_ACTIVATIONS = {
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_python_tanh": "gelu",
    "relu": "relu",
    "relu2": "relu2",
}
_QWEN3_HEAD_DIM = 128
_FULL_LAYERS = 28
"""What Qwen3's class takes where a file is silent: the width of a head, and how many layers have no window."""
_BARE_CLASSES = {"gpt2": "GPT2Model", "llama": "LlamaModel", "qwen3": "Qwen3Model"}
_READS = "Folio reads GPT2LMHeadModel, LlamaForCausalLM, Qwen3ForCausalLM and its own folders."


def config_to_hf(config: GPTConfig, eos_id: int | None = None, dtype: str = "float32") -> dict[str, Any]:
    """The ``config.json`` that makes transformers compute what ``config`` describes.

    ``eos_id`` is the end-of-text id; documents begin with it too, so it is also the id that begins a text. Keys that
    transformers 5 renamed are written in both spellings.
    """
    family = family_of(config)
    common: dict[str, Any] = {
        "model_type": family,
        "architectures": [ARCHITECTURES[family]],
        "vocab_size": config.vocab_size,
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
        "tie_word_embeddings": config.tie_embeddings,
        "dtype": dtype,
        "torch_dtype": dtype,
    }
    if family == "folio":
        return {**common, "folio": config.model_dump(mode="json")}
    return {**common, **(_to_gpt2(config) if family == "gpt2" else _to_llama(config, family))}


def _to_gpt2(config: GPTConfig) -> dict[str, Any]:
    return {
        "n_positions": config.block_size,
        "n_ctx": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.mlp_width,
        "activation_function": {"gelu": "gelu_new"}.get(config.activation, config.activation),
        "layer_norm_epsilon": config.norm_eps,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
    }


def _to_llama(config: GPTConfig, family: Family) -> dict[str, Any]:
    values: dict[str, Any] = {
        "hidden_size": config.n_embd,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": config.block_size,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": False,
        "attention_dropout": config.dropout,
    }
    return values | ({"use_sliding_window": False} if family == "qwen3" else {"mlp_bias": False})


def config_from_hf(values: Mapping[str, Any]) -> GPTConfig:
    """The shape that a ``config.json`` describes; :class:`ArtifactError` names what cannot be represented.

    Of the dropouts, ``resid_pdrop`` (GPT-2) or ``attention_dropout`` (Llama, Qwen3) becomes ours: it matters to
    training alone.
    """
    model_type = values.get("model_type")
    if model_type not in ARCHITECTURES:
        _refuse(f"model_type {model_type!r}")
    family: Family = model_type
    allowed = {ARCHITECTURES[family], _BARE_CLASSES.get(family)}
    for name in values.get("architectures") or ():
        if name not in allowed:
            _refuse(f"the class {name}")
    if values.get("quantization_config") is not None:
        _refuse("quantized weights (quantization_config)")
    try:
        if family == "folio":
            return GPTConfig.model_validate(values["folio"])
        shape = _from_gpt2(values) if family == "gpt2" else _from_llama(values, family)
        return _plain(GPTConfig.model_validate(shape))
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, e['loc']))} {e['msg']}".strip() for e in error.errors())
        raise ArtifactError(f"config.json describes an impossible model: {reasons}", "Restore the file.") from None
    except KeyError as error:
        raise ArtifactError(f"config.json does not say {error.args[0]!r}", "Restore the file.") from None
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise ArtifactError(f"config.json is damaged: {error}", "Restore the file.") from None


def _from_gpt2(values: Mapping[str, Any]) -> dict[str, Any]:
    activation = values.get("activation_function", "gelu_new")
    if activation not in _GPT2_ACTIVATIONS:
        _refuse(f"activation_function {activation!r}")
    for key, expected in (
        ("scale_attn_weights", True),
        ("scale_attn_by_inverse_layer_idx", False),
        ("add_cross_attention", False),
    ):
        if values.get(key, expected) != expected:
            _refuse(f"{key} = {str(values[key]).lower()}")
    return {
        "vocab_size": values["vocab_size"],
        "block_size": values.get("n_positions", values.get("n_ctx")) or values["n_positions"],
        "n_layer": values["n_layer"],
        "n_head": values["n_head"],
        "n_embd": values["n_embd"],
        "mlp_width": values.get("n_inner"),
        "norm": "layernorm",
        "norm_eps": values.get("layer_norm_epsilon", 1e-5),
        "activation": _GPT2_ACTIVATIONS[activation],
        "position": "learned",
        "bias": True,
        "tie_embeddings": values.get("tie_word_embeddings", True),
        "dropout": values.get("resid_pdrop", 0.1),
    }


def _from_llama(values: Mapping[str, Any], family: Family) -> dict[str, Any]:
    heads = values["num_attention_heads"]
    if values.get("hidden_act", "silu") not in ("silu", "swish"):
        _refuse(f"hidden_act {values['hidden_act']!r}")
    for key in ("attention_bias", "mlp_bias"):
        if values.get(key):
            _refuse(f"{key} = true")
    _refuse_windows(values)
    return {
        "vocab_size": values["vocab_size"],
        "block_size": values["max_position_embeddings"],
        "n_layer": values["num_hidden_layers"],
        "n_head": heads,
        "n_kv_head": values.get("num_key_value_heads") or heads,
        "n_embd": values["hidden_size"],
        "head_dim": values.get("head_dim") or (_QWEN3_HEAD_DIM if family == "qwen3" else None),
        "mlp_width": values["intermediate_size"],
        "norm": "rmsnorm",
        "norm_eps": values.get("rms_norm_eps", 1e-6),
        "activation": "swiglu",
        "position": "rope",
        "rope_theta": _rope_theta(values),
        "qk_norm": family == "qwen3",
        "bias": False,
        "tie_embeddings": values.get("tie_word_embeddings", False),
        "dropout": values.get("attention_dropout") or 0.0,
    }


def _refuse_windows(values: Mapping[str, Any]) -> None:
    """Refuse layers that do not see all before a token: ``layer_types`` names them, or a window and where it begins."""
    kinds = values.get("layer_types")
    others = sorted({*map(str, kinds or ())} - {"full_attention"})
    if others:
        _refuse(f"{' and '.join(others).replace('sliding_attention', 'sliding window attention')} (layer_types)")
    windowed = values["num_hidden_layers"] > values.get("max_window_layers", _FULL_LAYERS)
    if not kinds and values.get("use_sliding_window") and values.get("sliding_window") and windowed:
        _refuse("sliding window attention (use_sliding_window)")


def _rope_theta(values: Mapping[str, Any]) -> float:
    """The base of the rotary frequencies: ``rope_parameters`` since transformers 5, ``rope_theta`` before."""
    theta = values.get("rope_theta")
    for key in ("rope_scaling", "rope_parameters"):
        rope = values.get(key) or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            _refuse(f"rope scaling of kind {kind!r} ({key})")
        if rope.get("partial_rotary_factor", values.get("partial_rotary_factor", 1.0)) != 1.0:
            _refuse("partial_rotary_factor")
        theta = rope.get("rope_theta", theta)
    return 10000.0 if theta is None else float(theta)


def _plain(config: GPTConfig) -> GPTConfig:
    """The same shape with what equals a default left empty, as a person would write it."""
    change: dict[str, Any] = {}
    if config.n_kv_head == config.n_head:
        change["n_kv_head"] = None
    if config.attention_width == config.n_embd:
        change["head_dim"] = None
    if config.mlp_width == config.model_copy(update={"mlp_width": None}).hidden:
        change["mlp_width"] = None
    return config.model_copy(update=change)


def _refuse(what: str) -> NoReturn:
    raise ArtifactError(f"config.json asks for {what}, which Folio cannot represent", _READS)
