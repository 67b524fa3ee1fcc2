"""Loading is strict, and a damaged or foreign folder is refused in one line."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from model_shapes import SHAPES, random_ids, random_model
from safetensors.torch import load_file, save_file

from folio import artifacts
from folio.errors import ArtifactError
from folio.model.folder import load_model, save_model


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder: Path, **change: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(ArtifactError) as caught:
        load_model(folder, **options)  # type: ignore[arg-type]
    assert "\n" not in caught.value.problem
    assert caught.value.remedy
    return caught.value.problem


@pytest.fixture(params=["gpt2", "llama-grouped", "folio"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    save_model(random_model(SHAPES[request.param]), tmp_path, eos_id=0)
    return tmp_path


def a_matrix(folder: Path) -> str:
    return sorted(name for name, tensor in load_file(folder / "model.safetensors").items() if tensor.ndim == 2)[1]


def test_padding_rows_are_not_in_the_file(folder: Path) -> None:
    assert {101, 128} & {n for t in load_file(folder / "model.safetensors").values() for n in t.shape} == {101}


def test_padding_rows_cannot_be_seen_or_make_a_difference(folder: Path) -> None:
    model = load_model(folder)
    assert torch.count_nonzero(model.embed.weight[101:]) == 0
    assert model(random_ids(model.config)).shape[-1] == 101


def test_a_missing_tensor_is_named(folder: Path) -> None:
    name = a_matrix(folder)
    edit(folder, lambda tensors: tensors.pop(name))
    assert f"missing: {name}" in refusal(folder)


def test_a_tensor_too_many_is_named(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({"_orig_mod.blocks.0.weight": torch.zeros(3)}))
    assert "_orig_mod.blocks.0.weight" in refusal(folder)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder: Path) -> None:
    name = a_matrix(folder)
    shape = tuple(load_file(folder / "model.safetensors")[name].shape)
    edit(folder, lambda tensors: tensors.update({name: torch.zeros(5, 7)}))
    assert f"{name} (5, 7) for {shape}" in refusal(folder)


def test_a_tensor_under_both_of_its_names_is_refused(tmp_path: Path) -> None:
    save_model(random_model(SHAPES["gpt2"]), tmp_path)
    edit(tmp_path, lambda tensors: tensors.update({"ln_f.weight": torch.ones(48)}))
    assert "'transformer.ln_f.weight' a second time" in refusal(tmp_path)


def test_all_faults_are_told_at_once(folder: Path) -> None:
    name = a_matrix(folder)
    edit(folder, lambda tensors: tensors.update(extra=tensors.pop(name)))
    told = refusal(folder)
    assert name in told
    assert "extra" in told


def test_another_number_of_layers_is_refused(folder: Path) -> None:
    edit_config(folder, n_layer=10**9, num_hidden_layers=10**9)
    if "folio" in json.loads((folder / "config.json").read_text()):
        edit_config(folder, folio={**json.loads((folder / "config.json").read_text())["folio"], "n_layer": 10**9})
    assert "1000000000 layers" in refusal(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, 5000])
def test_truncated_weights_are_refused(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "model.safetensors' is damaged" in refusal(folder)


@pytest.mark.parametrize("at", range(0, 300, 7))
def test_a_flipped_bit_in_the_header_never_loads_another_model(at: int, tmp_path: Path) -> None:
    """Refused, unless the bit is in metadata or padding that no weight depends on."""
    model = random_model(SHAPES["gpt2"])
    save_model(model, tmp_path)
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)
    try:
        again = load_model(tmp_path)
    except ArtifactError:
        return
    for ours, theirs in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_verify_finds_a_flipped_bit_in_a_weight(folder: Path) -> None:
    artifacts.write_manifest(folder, "model", {})
    load_model(folder, verify=True)
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert "sha256" in refusal(folder, verify=True)


@pytest.mark.parametrize("text", ["", "{", '{"model_type": "gpt2"', "[1]", "null", "\xff", "[" * 100_000])
def test_damaged_config_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    assert "config.json is damaged" in refusal(folder)


@pytest.mark.parametrize("value", [None, 0, -3, "many", [1], {}])
@pytest.mark.parametrize("keys", [("n_head", "num_attention_heads"), ("n_embd", "hidden_size"), ("vocab_size",)])
def test_impossible_sizes_are_refused(value: object, keys: tuple[str, ...], tmp_path: Path) -> None:
    for shape in ("gpt2", "llama"):
        folder = tmp_path / shape
        folder.mkdir()
        save_model(random_model(SHAPES[shape]), folder)
        edit_config(folder, **dict.fromkeys(keys, value))
        assert "config.json" in refusal(folder)


def test_a_pickle_is_refused_with_the_way_out(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pickle" in refusal(folder)


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors" in refusal(folder)
    (folder / "config.json").unlink()
    assert "no config.json" in refusal(folder)
    assert "does not exist" in refusal(folder / "nowhere")


def test_an_index_may_only_name_files_beside_it(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    assert "weight_map" in refusal(folder)
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    assert "model-00001-of-00002.safetensors' is missing" in refusal(folder)


def test_integers_are_not_weights(folder: Path) -> None:
    name = a_matrix(folder)
    edit(folder, lambda tensors: tensors.update({name: torch.zeros_like(tensors[name], dtype=torch.int8)}))
    assert "stored as I8" in refusal(folder)


def test_a_tied_head_may_be_in_the_file_but_only_equal(tmp_path: Path) -> None:
    save_model(random_model(SHAPES["gpt2"]), tmp_path)
    head = load_file(tmp_path / "model.safetensors")["transformer.wte.weight"].clone()
    edit(tmp_path, lambda tensors: tensors.update({"lm_head.weight": head}))
    load_model(tmp_path)
    head[3, 4] += 1
    edit(tmp_path, lambda tensors: tensors.update({"lm_head.weight": head}))
    assert "lm_head.weight is another matrix" in refusal(tmp_path)


def test_a_compiled_model_is_saved_under_its_own_names(tmp_path: Path) -> None:
    model = random_model(SHAPES["gpt2"])
    save_model(torch.compile(model, backend="eager"), tmp_path)  # type: ignore[arg-type]
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "_orig_mod" in name]
    assert torch.equal(load_model(tmp_path).embed.weight, model.embed.weight)


def test_the_tokenizer_and_the_card_come_along(tmp_path: Path) -> None:
    save_model(
        random_model(SHAPES["gpt2"]),
        tmp_path,
        tokenizer_files=lambda folder: (folder / "tokenizer.json").write_text("{}"),
        card="Trained on plays.",
    )
    assert (tmp_path / "tokenizer.json").read_text() == "{}"
    card = (tmp_path / "README.md").read_text()
    assert "Trained on plays." in card
    assert "GPT2LMHeadModel" in card
    assert "AutoModelForCausalLM" in card


FULL = """
import resource, signal, sys
from pathlib import Path
from folio.model.config import GPTConfig
from folio.model.folder import save_model
from folio.model.gpt import GPT

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_model(GPT(GPTConfig(vocab_size=500, n_embd=96, n_layer=1)).initialize(0), Path(sys.argv[1]))
except OSError as error:
    print(type(error).__name__, error.errno, error.filename)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
def test_what_does_not_fit_is_the_systems_own_error(tmp_path: Path) -> None:
    answer = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["OSError", str(errno.EFBIG), str(tmp_path / "model.safetensors")]


def test_a_shape_without_a_standard_class_says_so(tmp_path: Path) -> None:
    save_model(random_model(SHAPES["folio"]), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert (values["model_type"], values["architectures"]) == ("folio", ["FolioForCausalLM"])
    card = (tmp_path / "README.md").read_text()
    assert "No standard class" in card
    assert "AutoModelForCausalLM" not in card
