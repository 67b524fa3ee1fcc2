"""Our Muon is PyTorch's, with fused projections taken apart."""

from __future__ import annotations

import pytest
import torch
from tiny_training import SHAPE
from torch import Tensor, nn

from folio.model.gpt import GPT
from folio.training.config import OptimizerConfig
from folio.training.muon import Muon, orthogonalize
from folio.training.optimizers import Optimizers


def matrices(*shapes: tuple[int, int]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def give_gradients(parameters: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def steps_of(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: int = 3) -> list[Tensor]:
    """How far each parameter moved."""
    before = [p.detach().clone() for p in parameters]
    for step in range(steps):
        give_gradients(parameters, step)
        optimizer.step()
    return [p.detach() - start for p, start in zip(parameters, before, strict=True)]


def test_equals_the_one_of_pytorch_for_square_wide_and_tall_matrices() -> None:
    shapes = ((32, 32), (32, 96), (96, 32), (32, 32))
    ours, theirs = matrices(*shapes), matrices(*shapes)
    moved = steps_of(Muon([{"params": ours}], 0.02, momentum=0.9, weight_decay=0.1), ours)
    reference = torch.optim.Muon(theirs, lr=0.02, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for our, their in zip(moved, steps_of(reference, theirs), strict=True):
        assert (our - their).norm() < 0.01 * their.norm()  # both iterate in bf16, in another order of products


def test_a_split_parameter_steps_as_the_matrices_it_is_made_of() -> None:
    split = (32, 16, 16)
    parts = matrices(*((rows, 32) for rows in split))
    start = torch.cat([part.detach() for part in parts])
    whole, unsplit = [nn.Parameter(start.clone())], [nn.Parameter(start.clone())]
    separate, together = Muon([{"params": parts}], 0.02), Muon([{"params": whole, "split": list(split)}], 0.02)
    one = Muon([{"params": unsplit}], 0.02)
    for step in range(3):
        give_gradients(parts, step)
        gradient = torch.cat([part.grad for part in parts])
        whole[0].grad, unsplit[0].grad = gradient.clone(), gradient.clone()
        for optimizer in (separate, together, one):
            optimizer.step()
    expected = torch.cat([part.detach() for part in parts]) - start
    assert (whole[0].detach() - start - expected).norm() < 1e-3 * expected.norm()
    assert (unsplit[0].detach() - start - expected).norm() > 0.1 * expected.norm()


def test_the_model_tells_muon_where_q_k_v_and_gate_and_value_part() -> None:
    model = GPT(SHAPE)
    optimizers = Optimizers(model, OptimizerConfig(kind="muon"), device=torch.device("cpu"), dtype=torch.float32)
    splits = {
        optimizers.names[p].split(".", 2)[2]: group["split"]
        for group in optimizers.all[0].param_groups
        for p in group["params"]
    }
    hidden = SHAPE.hidden
    assert splits == {
        "attn.qkv.weight": [32, 16, 16],
        "attn.proj.weight": None,
        "mlp.up.weight": [hidden, hidden],
        "mlp.proj.weight": None,
    }


def test_singular_values_end_near_one_and_directions_stay() -> None:
    matrix = matrices((24, 40))[0].detach()
    result = orthogonalize(matrix[None], dtype=torch.float32)[0]
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.6
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.T @ result @ right.T
    assert (inner - torch.diag(inner.diagonal())).abs().max() < 1e-3


def test_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="Muon takes matrices"):
        Muon([{"params": [nn.Parameter(torch.zeros(4))]}], 0.02)
