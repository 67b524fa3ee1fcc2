"""``folio finetune merge``: the folder is the adapted model, for transformers as for Folio."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from adapted_models import letters, make_adapter, make_base, make_checkpoint
from model_shapes import assert_same_logits, random_ids
from safetensors.torch import load_file, save_file

import folio
from folio.artifacts import MANIFEST, read_manifest, verify
from folio.errors import ArtifactError, UserError
from folio.model.folder import load_model
from folio.verbs.action import Outcome, Terminal
from folio.verbs.finetune.merge import ACTION
from folio.verbs.options import parse

os.environ["HF_HUB_OFFLINE"] = "1"
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def merge(*arguments: Path | str) -> Outcome:
    return ACTION.run(parse(ACTION.options, [str(argument) for argument in arguments]), Terminal(quiet=True))


def refused(*arguments: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        merge(*arguments)
    assert caught.value.remedy
    return caught.value.problem


@pytest.mark.parametrize("kind", ["gpt2", "llama-grouped", "qwen3-grouped-untied"])
@pytest.mark.parametrize("dora", [False, True])
def test_transformers_opens_what_peft_computes(kind: str, dora: bool, tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base = make_base(tmp_path / "base", kind)
    adapter = make_adapter(tmp_path / "adapter", base, dora=dora)
    merge(adapter, "--out", tmp_path / "merged")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    theirs = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    ids = random_ids(load_model(base).config)
    with torch.no_grad():
        expected = theirs(ids).logits
        assert_same_logits(plain(ids).logits, expected, 2e-5)
    found = folio.load(tmp_path / "merged", device="cpu")
    assert torch.equal(found(ids), folio.load(adapter, device="cpu")(ids))


def test_a_run_is_merged_with_its_tokenizer_and_origin(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    (base / MANIFEST).unlink()
    (base / "generation_config.json").write_text('{"eos_token_id": 99, "temperature": 0.7}')
    checkpoint = make_checkpoint(tmp_path / "run", 1, base)
    (tmp_path / "merged").mkdir()  # an empty folder is as good as none
    outcome = merge(tmp_path / "run", "--out", tmp_path / "merged")
    assert outcome.wrote == (tmp_path / "merged",)
    manifest = verify(tmp_path / "merged", "model")
    assert [parent.id for parent in manifest.parents] == [read_manifest(checkpoint / "adapter").id]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (checkpoint / "adapter" / name).read_bytes()
    generation = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert (generation["eos_token_id"], generation["temperature"]) == (letters().eot_id, 0.7)
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["eos_token_id"] == letters().eot_id
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "`base`" in card
    assert str(tmp_path) not in card + (tmp_path / "merged" / MANIFEST).read_text()


def test_without_a_tokenizer_of_its_own_the_bases_files_and_ids_are_kept(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    (base / MANIFEST).unlink()
    (base / "generation_config.json").write_text('{"eos_token_id": [0, 3]}')
    (base / "special_tokens_map.json").write_text("{}")
    merge(make_adapter(tmp_path / "adapter", base), "--out", tmp_path / "merged")
    assert (tmp_path / "merged" / "special_tokens_map.json").read_text() == "{}"
    assert json.loads((tmp_path / "merged" / "generation_config.json").read_text())["eos_token_id"] == [0, 3]
    assert folio.load(tmp_path / "merged", device="cpu").tokenizer.fingerprint == letters().fingerprint


def test_the_bases_several_ends_stay_those_of_what_is_merged(tmp_path: Path) -> None:
    """But for a number that is no special token of the adapter's own tokenizer, where it may mean anything."""
    base = make_base(tmp_path / "base")
    (base / MANIFEST).unlink()
    tokenizer = letters()
    assert tokenizer.eot_id is not None
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": [tokenizer.eot_id, 3]}))
    checkpoint = make_checkpoint(tmp_path / "run", 1, base)
    assert (folio.load(base).end_ids, folio.load(checkpoint).end_ids) == ((tokenizer.eot_id, 3), (tokenizer.eot_id,))
    spec = json.loads((base / "tokenizer.json").read_text())
    token = next(text for text, id in spec["model"]["vocab"].items() if id == 3)
    spec["added_tokens"].append({**spec["added_tokens"][0], "id": 3, "content": token})
    adapter = Path(shutil.copytree(checkpoint / "adapter", tmp_path / "adapter"))
    (adapter / MANIFEST).unlink(missing_ok=True)
    (adapter / "tokenizer.json").write_text(json.dumps(spec))
    assert folio.load(adapter).end_ids == (tokenizer.eot_id, 3)
    merge(adapter, "--out", tmp_path / "merged")
    ends = json.loads((tmp_path / "merged" / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [tokenizer.eot_id, 3]


def test_bf16_is_rounded_once_from_the_sum(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base)
    merge(adapter, "--out", tmp_path / "merged", "--dtype", "bf16")
    assert {tensor.dtype for tensor in load_file(tmp_path / "merged" / "model.safetensors").values()} == {
        torch.bfloat16
    }
    ids = torch.arange(9)[None]
    found = folio.load(tmp_path / "merged", dtype="bf16", device="cpu")(ids)
    assert torch.equal(found, folio.load(adapter, dtype="bf16", device="cpu")(ids))


def test_an_adapter_of_a_rounded_base_is_merged_into_the_full_one(tmp_path: Path) -> None:
    """The weights without an adapter are the base's own bits, no 4-bit levels."""
    base = make_base(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base, targets=["qkv"])
    merge(adapter, "--out", tmp_path / "merged")
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "merged"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"transformer.h.{layer}.attn.c_attn.weight" for layer in range(3)}


def test_the_base_may_be_named(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base, called="gone/away/model")
    assert "the base of adapter" in refused(adapter, "--out", tmp_path / "merged")
    merge(adapter, "--base", base, "--out", tmp_path / "merged")
    assert (tmp_path / "merged" / "config.json").is_file()


def test_what_cannot_be_merged_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base)
    assert "is no adapter; it is a whole model already" in refused(base, "--out", tmp_path / "merged")
    wrong = make_base(tmp_path / "wrong", seed=4)
    assert "made for other weights" in refused(adapter, "--base", wrong, "--out", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    for occupied in (base, tmp_path):  # nor is another model replaced
        before = sorted(path.name for path in occupied.iterdir())
        with pytest.raises(ArtifactError, match="holds something else"):
            merge(adapter, "--out", occupied)
        assert sorted(path.name for path in occupied.iterdir()) == before


def test_a_base_in_four_bits_is_not_merged_into(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base)
    (adapter / MANIFEST).unlink()
    rounded = make_base(tmp_path / "rounded")
    (rounded / MANIFEST).unlink()
    tensors = load_file(rounded / "model.safetensors")
    name = "transformer.h.0.attn.c_attn.weight"
    packed = torch.zeros(tensors[name].numel() // 2, 1, dtype=torch.uint8)
    save_file({**tensors, name: packed}, rounded / "model.safetensors")
    assert "is stored as U8" in refused(adapter, "--base", rounded, "--out", tmp_path / "merged")
