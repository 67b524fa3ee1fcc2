"""Weights laid out for many rows: the same numbers, of the model as it was, and left alone where it does not help."""

from __future__ import annotations

import pytest
import torch
from model_shapes import SHAPES, random_ids, random_model

from folio.model import reordered as module
from folio.model.packed import pack
from folio.model.reordered import ReorderedGPT, reordered, reordering_helps

needs_operators = pytest.mark.skipif(not module._works(torch.float32), reason="PyTorch lacks the operators here")


@needs_operators
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_the_model(shape: str) -> None:
    model = random_model(SHAPES[shape])
    ids = random_ids(model.config)
    with torch.no_grad():
        ours, theirs = reordered(model, torch.float32)(ids), model(ids)
    assert isinstance(ours, torch.Tensor)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 2e-5 * theirs.abs().max()


@needs_operators
def test_bf16_is_as_near_as_autocast() -> None:
    model = random_model(SHAPES["gpt2"])
    ids = random_ids(model.config)
    with torch.no_grad():
        exact = model(ids)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            usual, ours = model(ids), reordered(model, torch.bfloat16)(ids)
    exact, usual, ours = (torch.log_softmax(logits.float(), -1) for logits in (exact, usual, ours))
    assert (ours - exact).norm() < 1.2 * (usual - exact).norm()


@needs_operators
def test_the_model_itself_is_left_as_it_was() -> None:
    model = random_model(SHAPES["gpt2"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = reordered(model, torch.float32)
    ids = random_ids(model.config)
    with torch.no_grad():
        first = copy(ids)
        for parameter in model.blocks.parameters():
            parameter.zero_()
        assert not torch.equal(model(ids), first)
        for name, value in model.state_dict().items():
            value.copy_(before[name])
        assert torch.equal(copy(ids), first)


def test_only_plain_models_on_a_cpu_with_the_operators_are_laid_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(SHAPES["gpt2"])
    assert reordering_helps(model, torch.float32) == module._works(torch.float32)
    assert not reordering_helps(pack(model), torch.float32)
    if module._works(torch.float32):
        assert not reordering_helps(ReorderedGPT(model.config), torch.float32)

    class Gone:
        def __getattr__(self, name: str) -> object:
            raise AttributeError(name)

    module._works.cache_clear()
    monkeypatch.setattr(module, "_operators", Gone)
    assert not reordering_helps(model, torch.float32)
    module._works.cache_clear()
