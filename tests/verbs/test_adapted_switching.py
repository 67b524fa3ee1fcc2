"""Several adapters on one base: each is what a fresh load of it is, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapted_models import letters, logits, make_adapter, make_base, make_checkpoint, opened

import folio
from folio.errors import ArtifactError, ConfigError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8"])
def test_switching_gives_each_one_to_the_bit_of_a_fresh_load(dtype: str, base: Path, tmp_path: Path) -> None:
    paths: dict[str | None, Path] = {
        None: base,
        "a": make_adapter(tmp_path / "a", base, seed=1, targets=["qkv"]),
        "b": make_adapter(tmp_path / "b", base, seed=2, dora=True),
        "run": make_checkpoint(tmp_path / "run", 3, base),
    }
    expected = {name: opened(path, dtype) for name, path in paths.items()}
    texts = {
        name: folio.load(path, dtype=dtype, device="cpu").generate("ab", seed=1)  # type: ignore[arg-type]
        for name, path in paths.items()
    }
    model = folio.load(base, dtype=dtype, device="cpu")  # type: ignore[arg-type]
    for name in ("a", "b", "run"):
        model.add_adapter(paths[name], name)
        assert torch.equal(logits(model), expected[None])
    assert model.adapters == ("a", "b", "run")
    for name in ("b", "a", None, "run", "b"):
        model.set_adapter(name)
        assert model.adapter == name
        assert torch.equal(logits(model), expected[name])
        assert model.generate("ab", seed=1) == texts[name]
        assert not any(parameter.requires_grad for parameter in model.gpt.parameters())
    assert len({tuple(found.flatten()[:50].tolist()) for found in expected.values()}) == 4


def test_a_model_opened_from_an_adapter_takes_others_on_its_base(base: Path, tmp_path: Path) -> None:
    a, b = make_adapter(tmp_path / "a", base, seed=1), make_adapter(tmp_path / "b", base, seed=2)
    model = folio.load(a, device="cpu")
    assert (model.adapters, model.adapter) == (("default",), "default")
    model.add_adapter(b, "b")
    for name, path in ((None, base), ("b", b), ("default", a)):
        model.set_adapter(name)
        assert torch.equal(logits(model), opened(path))
        assert model.folder == path


def test_an_adapter_that_cannot_be_changed_to_is_refused_and_nothing_changes(base: Path, tmp_path: Path) -> None:
    a = make_adapter(tmp_path / "a", base)
    wrong = make_adapter(tmp_path / "wrong", make_base(tmp_path / "other", seed=7))
    model = folio.load(base, device="cpu")
    model.add_adapter(a, "a")
    model.set_adapter("a")
    expected = logits(model)
    with pytest.raises(ConfigError, match="has an adapter 'a' already"):
        model.add_adapter(a, "a")
    with pytest.raises(ConfigError, match="cannot be an adapter's name"):
        model.add_adapter(a, "a b")
    with pytest.raises(ConfigError, match="no adapter 'b'"):
        model.set_adapter("b")
    with pytest.raises(ArtifactError, match="made for other weights"):
        model.add_adapter(wrong, "wrong")
    assert (model.adapters, model.adapter) == (("a",), "a")
    assert torch.equal(logits(model), expected)


def test_the_tokenizer_is_the_adapters_own_where_it_has_one(base: Path, tmp_path: Path) -> None:
    own = letters("zyxwvuts \n")
    with_one = make_adapter(tmp_path / "with", base, tokenizer=own)
    without = make_adapter(tmp_path / "without", base)
    expected = {with_one: own.fingerprint, without: letters().fingerprint, base: letters().fingerprint}
    model = folio.load(base, device="cpu")
    for name, path in (("with", with_one), ("without", without)):
        model.add_adapter(path, name)
        assert folio.load(path, device="cpu").tokenizer.fingerprint == expected[path]
        assert folio.load_tokenizer(path).fingerprint == expected[path]
    for name, path in (("with", with_one), (None, base), ("with", with_one), ("without", without)):
        model.set_adapter(name)
        assert model.tokenizer.fingerprint == expected[path]
