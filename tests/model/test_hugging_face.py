"""A Folio model folder is a Hugging Face model folder, both ways."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import pytest
import torch
from model_shapes import SHAPES, STANDARD, assert_same_logits, random_ids, random_model

from folio.errors import ArtifactError
from folio.model.accounting import parameter_counts
from folio.model.cache import KVCache
from folio.model.config import GPTConfig
from folio.model.families import family_of, pieces
from folio.model.folder import load_model, save_model
from folio.model.gpt import GPT
from folio.model.hf_config import config_from_hf, config_to_hf

transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def silence_is_checked(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]):
    """Every test here fails on a warning, a log line above info, or anything printed, by transformers."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.enable_propagation()
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        yield
    assert [record.getMessage() for record in caplog.records] == []
    assert capfd.readouterr() == ("", "")


def their_logits(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()(ids).logits


def our_logits(model: GPT, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(ids)


@pytest.mark.parametrize("shape", STANDARD)
def test_transformers_computes_our_logits(shape: str, tmp_path: Path) -> None:
    model = random_model(SHAPES[shape])
    save_model(model, tmp_path, eos_id=0)
    ids = random_ids(model.config)
    assert_same_logits(our_logits(model, ids), their_logits(tmp_path, ids))


@pytest.mark.parametrize("shape", SHAPES)
def test_our_own_folder_comes_back_with_the_same_bits(shape: str, tmp_path: Path) -> None:
    model = random_model(SHAPES[shape])
    save_model(model, tmp_path, eos_id=0)
    again = load_model(tmp_path)
    assert again.config == model.config
    assert not again.training
    for (name, ours), (other, theirs) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(ours, theirs), name
    ids = random_ids(model.config)
    assert torch.equal(our_logits(model, ids), our_logits(again, ids))


def their_model(kind: str) -> transformers.PreTrainedModel:
    """A random model made by transformers, no weight at 0 or 1."""
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    llama = {
        "vocab_size": 99,
        "hidden_size": 48,
        "intermediate_size": 72,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 40,
        **ids,
    }
    config = {
        "gpt2": lambda: transformers.GPT2Config(vocab_size=99, n_positions=40, n_embd=48, n_layer=2, n_head=4, **ids),
        "gpt2-untied": lambda: transformers.GPT2Config(
            vocab_size=99, n_positions=40, n_embd=48, n_layer=2, n_head=4, n_inner=60, tie_word_embeddings=False, **ids
        ),
        "llama": lambda: transformers.LlamaConfig(**llama),
        "llama-grouped-tied": lambda: transformers.LlamaConfig(
            **llama, num_key_value_heads=2, tie_word_embeddings=True, rope_theta=300.0
        ),
        "llama-narrow-heads": lambda: transformers.LlamaConfig(**llama, num_key_value_heads=1, head_dim=6),
        "qwen3": lambda: transformers.Qwen3Config(**llama, num_key_value_heads=2, head_dim=12),
        "qwen3-wide-heads": lambda: transformers.Qwen3Config(
            **{**llama, "num_attention_heads": 5}, num_key_value_heads=1, head_dim=32
        ),
        "qwen3-usual-heads": lambda: transformers.Qwen3Config(**llama, num_key_value_heads=2),  # 128 wide
    }[kind]()
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_((1.0 if "norm" in name or ".ln_" in name else 0.0) + 0.2 * torch.randn_like(weight))
    return model.eval()


THEIRS = [
    *("gpt2", "gpt2-untied", "llama", "llama-grouped-tied", "llama-narrow-heads"),
    *("qwen3", "qwen3-wide-heads", "qwen3-usual-heads"),
]


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("sharded", [False, True])
def test_we_compute_the_logits_of_a_folder_that_transformers_wrote(kind: str, sharded: bool, tmp_path: Path) -> None:
    theirs = their_model(kind)
    theirs.save_pretrained(tmp_path, max_shard_size="60KB" if sharded else "1GB")
    assert (tmp_path / "model.safetensors.index.json").exists() is sharded
    ours = load_model(tmp_path)
    ids = random_ids(ours.config)
    with torch.no_grad():
        assert_same_logits(our_logits(ours, ids), theirs(ids).logits)


@pytest.mark.parametrize("kind", ["gpt2", "llama-narrow-heads", "qwen3-wide-heads"])
def test_training_meets_their_gradients(kind: str, tmp_path: Path) -> None:
    """Of every tensor of the file, within 1e-5 of its norm: what a step then does is the optimizer's."""
    theirs = their_model(kind).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    ids = random_ids(ours.config)
    nats, count = ours(ids[:, :-1], ids[:, 1:])
    (nats / count).backward()
    theirs(ids, labels=ids).loss.backward()
    own, their_own = dict(ours.named_parameters()), dict(theirs.named_parameters())
    compared = 0
    for piece in pieces(ours.config, family_of(ours.config)):
        part = own[piece.ours].grad[piece.start : piece.stop]
        expected = their_own[piece.theirs].grad
        assert ((part.T if piece.transposed else part) - expected).norm() < 1e-5 * expected.norm(), piece.theirs
        compared += part.numel()
    assert compared == parameter_counts(ours.config).total


@pytest.mark.parametrize("kind", ["llama-narrow-heads", "qwen3-wide-heads"])
@torch.no_grad()
def test_generation_writes_what_theirs_writes(kind: str, tmp_path: Path) -> None:
    """Greedily, each with a cache of its own, and no two logits so near each other that rounding decides."""
    theirs = their_model(kind)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    prompt = random_ids(ours.config, batch=1, length=7)
    settings = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    written = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), **settings)
    cache = KVCache(ours.config, batch_size=1, capacity=27)
    ids, own = prompt, prompt
    for _ in range(20):
        best = ours(ids, cache=cache)[:, -1].topk(2)
        assert best.values[0, 0] - best.values[0, 1] > 1e-3
        ids = best.indices[:, :1]
        own = torch.cat((own, ids), dim=1)
    assert torch.equal(own, written)


@pytest.mark.parametrize("kind", THEIRS)
def test_old_spellings_mean_the_same(kind: str, tmp_path: Path) -> None:
    theirs = their_model(kind)
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    new = config_from_hf(values)
    values["torch_dtype"] = values.pop("dtype")
    values["transformers_version"] = "4.31.0"
    if "rope_parameters" in values:
        values["rope_theta"] = values.pop("rope_parameters")["rope_theta"]
        values["rope_scaling"] = None
        if kind in ("llama", "llama-grouped-tied", "qwen3-usual-heads"):
            values.pop("head_dim")
    values.pop("layer_types", None)
    path.write_text(json.dumps(values))
    assert config_from_hf(values) == new
    ids = random_ids(new)
    with torch.no_grad():
        assert_same_logits(our_logits(load_model(tmp_path), ids), theirs(ids).logits)


@pytest.mark.parametrize("masks", [False, True])
def test_gpt2_files_without_prefix_and_with_masks_open(masks: bool, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    theirs = their_model("gpt2")
    theirs.save_pretrained(tmp_path)
    tensors = {name.removeprefix("transformer."): t for name, t in load_file(tmp_path / "model.safetensors").items()}
    if masks:
        for i in range(2):
            tensors[f"h.{i}.attn.bias"] = torch.ones(1, 1, 40, 40).tril()
            tensors[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ours = load_model(tmp_path)
    ids = random_ids(ours.config)
    with torch.no_grad():
        assert_same_logits(our_logits(ours, ids), theirs(ids).logits)


@pytest.mark.parametrize("shape", STANDARD)
def test_config_survives_transformers(shape: str, tmp_path: Path) -> None:
    """Their reader, then their writer: the shape that comes back is the one that went in."""
    config = SHAPES[shape]
    (tmp_path / "config.json").write_text(json.dumps(config_to_hf(config, 7)))
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert (theirs.eos_token_id, theirs.bos_token_id) == (7, 7)
    theirs.save_pretrained(tmp_path / "again")
    assert config_from_hf(json.loads((tmp_path / "again" / "config.json").read_text())) == config


def test_a_folder_with_its_tokenizer_opens_in_one_call_each(tmp_path: Path) -> None:
    from folio.tokenizer import TokenizerConfig, train_tokenizer

    text = "To be, or not to be, that is the question.\n" * 20
    tokenizer = train_tokenizer([text], TokenizerConfig(kind="bpe", vocab_size=280))
    config = SHAPES["qwen3"].model_copy(update={"vocab_size": tokenizer.vocab_size})
    model = random_model(config)
    save_model(model, tmp_path, eos_id=tokenizer.eot_id, tokenizer_files=tokenizer.save_into)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = theirs("not to be", return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == tokenizer.encode("not to be")
    assert theirs.eos_token_id == tokenizer.eot_id
    assert_same_logits(our_logits(model, ids), their_logits(tmp_path, ids))


def test_saved_generation_config_stops_at_end_of_text(tmp_path: Path) -> None:
    save_model(random_model(SHAPES["llama"]), tmp_path, eos_id=3, generation={"do_sample": True, "top_k": 20})
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.generation_config.eos_token_id == 3
    assert model.generation_config.top_k == 20
    model.generation_config.do_sample = False
    model.generation_config.top_k = None
    ids = model.generate(torch.tensor([[3, 5]]), max_new_tokens=4, attention_mask=torch.ones(1, 2, dtype=torch.long))
    assert ids.shape[1] <= 6


def test_half_precision_files_load_as_fp32(tmp_path: Path) -> None:
    model = random_model(SHAPES["gpt2"])
    save_model(model, tmp_path, dtype=torch.bfloat16)
    again = load_model(tmp_path)
    assert {weight.dtype for weight in again.parameters()} == {torch.float32}
    assert torch.equal(again.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight.bfloat16().float())
    assert {weight.dtype for weight in load_model(tmp_path, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.bfloat16


@pytest.mark.parametrize("value", GPTConfig.model_fields)
def test_every_field_of_the_shape_is_known_to_the_mapping(value: str) -> None:
    """A new field must be considered in ``families.py`` and ``hf_config.py`` before it may be saved."""
    known = "vocab_size block_size n_layer n_head n_kv_head n_embd head_dim mlp_width norm norm_eps activation position"
    assert value in [*known.split(), "rope_theta", "qk_norm", "bias", "tie_embeddings", "dropout"]


@pytest.mark.parametrize(
    ("family", "change", "named"),
    [
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0}}, "llama3"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "yarn"),
        ("llama", {"attention_bias": True}, "attention_bias"),
        ("llama", {"mlp_bias": True}, "mlp_bias"),
        ("llama", {"head_dim": 7}, "head_dim 7 is odd"),
        ("llama", {"head_dim": "wide"}, "head_dim Input should be"),
        ("llama", {"hidden_act": "gelu"}, "'gelu'"),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantiz"),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}, "sliding window"),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding window"),
        ("gpt2", {"activation_function": "gelu"}, "'gelu'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("gpt2", {"model_type": "mamba"}, "'mamba'"),
    ],
)
def test_what_cannot_be_represented_is_refused_by_name(family: str, change: dict[str, object], named: str) -> None:
    values = {**config_to_hf(SHAPES[family], 0), **change}
    with pytest.raises(ArtifactError, match=named) as caught:
        config_from_hf(values)
    assert caught.value.remedy
    assert "\n" not in caught.value.problem
