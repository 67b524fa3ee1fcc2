"""The tutorial's GPT-2 and Folio's own are one model; what a rung changes in its mathematics changes nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ladder_world import CPU, write_ids

from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.shards.batches import Batches
from folio.studies.ladder.child import held_out_nats, open_training
from folio.studies.ladder.fp8 import Fp8Linear, use_fp8
from folio.studies.ladder.own import OwnTraining
from folio.studies.ladder.plain import PlainGPT, PlainTraining, first_weights
from folio.studies.ladder.rungs import Settings, Step, steps_on
from folio.studies.ladder.shapes import TINY
from folio.studies.ladder.texts import Text, read_text

STEPS = {step.name: step for step in steps_on(CPU) if not step.refused}
CONFIG = GPTConfig(vocab_size=70, block_size=32, n_layer=2, n_head=2, n_embd=32)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Text:
    home = tmp_path_factory.mktemp("text")
    write_ids(home)
    return read_text(home, "char")


def ids(rows: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, CONFIG.vocab_size, (rows, CONFIG.block_size)))


@pytest.mark.parametrize("attention", ["scores", "fused", "products"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_the_plain_model_has_the_logits_of_folios_own(attention: str, padded: bool, tied: bool) -> None:
    config = CONFIG.model_copy(update={"tie_embeddings": tied})
    settings = Settings(attention=attention, padded=padded, tied=tied)  # type: ignore[arg-type]
    plain = PlainGPT(config, settings, seed=3)
    for name, parameter in plain.named_parameters():
        if "embed" not in name and "head" not in name:
            torch.nn.init.normal_(parameter, std=0.1)  # gains and biases too
    expected = plain(ids())
    assert expected.shape[-1] == (128 if padded else 70)
    own = plain.as_gpt()
    difference = (own(ids()) - expected[..., :70]).abs().max() / expected.std()
    assert difference < 1e-5
    back = PlainGPT(config, settings, seed=4).take(own)
    torch.testing.assert_close(back(ids())[..., :70], expected[..., :70])


def test_the_two_start_from_the_same_weights() -> None:
    settings = Settings(tied=True, init="gpt2", padded=True)
    plain, own = PlainGPT(CONFIG, settings, seed=7), first_weights(CONFIG, 7)
    for (name, ours), (other, theirs) in zip(
        sorted(plain.as_gpt().named_parameters()), sorted(own.named_parameters()), strict=True
    ):
        assert name == other
        assert torch.equal(ours, theirs)


def test_first_weights_are_gpt2s_at_its_width_and_keep_products_alike_at_others() -> None:
    for width in (64, 768):
        config = GPTConfig(vocab_size=70, block_size=32, n_layer=1, n_head=2, n_embd=width)
        weights = first_weights(config, 0).state_dict()
        up, proj = weights["blocks.0.mlp.up.weight"], weights["blocks.0.mlp.proj.weight"]
        assert float(up.std()) == pytest.approx(0.02 * (768 / width) ** 0.5, rel=0.03)
        assert float(proj.std()) == pytest.approx(float(up.std()) / 2**0.5, rel=0.03)
        product = torch.randn(512, width, generator=torch.Generator().manual_seed(0)) @ up.T
        assert float(product.std()) == pytest.approx(0.02 * 768**0.5, rel=0.03)
        assert torch.equal(weights["norm.weight"], torch.ones(width))


def test_the_bottom_starts_as_torch_does() -> None:
    plain = PlainGPT(CONFIG, Settings(), seed=0)
    assert 0.9 < plain.embed.weight.std() < 1.1
    assert plain.head.weight is not plain.embed.weight
    assert plain.blocks[0].attn.qkv.bias.abs().max() > 0


def losses_of(step: Step, text: Text, steps: int = 6) -> list[float]:
    training = open_training(TINY, replace(step.settings, compile=False, ranks=1), text, 4, accumulation=1)
    return [training.step() for _ in range(steps)]


@pytest.mark.parametrize(
    ("name", "below", "within"),
    [
        ("flash", "pages", 2e-2),  # bf16
        ("products", "flash", 2e-2),
        ("fused", "groups", 1e-5),
        ("accumulate", "chunked", 1e-5),
    ],
)
def test_rungs_that_only_compute_in_another_way_learn_the_same(
    text: Text, name: str, below: str, within: float
) -> None:
    steps = {key: replace(STEPS[key], settings=replace(STEPS[key].settings, bf16=within > 1e-3)) for key in STEPS}
    assert losses_of(steps[name], text) == pytest.approx(losses_of(steps[below], text), rel=within)


def test_folios_loop_takes_the_plain_steps(text: Text) -> None:
    """From one rung to the next the code changes altogether; only rows of padding leave the loss."""
    settings = replace(STEPS["fused"].settings, bf16=False, padded=False)
    config = TINY.config(text.vocab_size, settings)
    source = Batches(text.stream("train"), TINY.block_size, 4, 0)
    plain = PlainTraining(config, settings, source, 1e-3, 0)
    own = OwnTraining(config, replace(settings, loss="chunks"), source, 1e-3, 0, steps=10)
    for _ in range(8):
        assert own.step() == pytest.approx(plain.step(), rel=1e-5)
    ours, theirs = (dict(training.trained().named_parameters()) for training in (own, plain))
    assert ours.keys() == theirs.keys()
    for name in ours:
        # the softmax does not see a bias of keys: its gradient is rounding alone, which AdamW makes whole steps of
        seen = [0, 2] if name.endswith("qkv.bias") else [0, 1, 2]
        one, other = ([part.chunk(3)[i] for i in seen] for part in (ours[name], theirs[name]))
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_accumulation_cuts_the_same_batch(text: Text) -> None:
    settings = replace(STEPS["accumulate"].settings, bf16=False)
    whole = open_training(TINY, settings, text, 4, accumulation=1)
    cut = open_training(TINY, settings, text, 4, accumulation=2)
    assert whole.tokens == cut.tokens
    for _ in range(3):
        assert cut.step() == pytest.approx(whole.step(), rel=1e-5)


@pytest.mark.parametrize("name", [name for name in STEPS if name not in ("compile", "ddp")])
def test_every_rung_trains(text: Text, name: str) -> None:
    training = open_training(TINY, STEPS[name].settings, text, 4, steps=12)
    first, *_, last = [training.step() for _ in range(12)]
    assert last < first
    nats = held_out_nats(training.trained(), text.windows(TINY.block_size, 8))
    assert len(nats) > 1
    assert np.isfinite(nats).all()


def test_windows_are_spread_over_the_held_out_text(text: Text) -> None:
    few, stream = text.windows(16, 4), text.stream("val")
    assert few.shape == (4, 17)
    np.testing.assert_array_equal(few[0], stream.read(0, 17))
    last = (len(stream) - 1) // 16 - 1
    np.testing.assert_array_equal(few[-1], stream.read(16 * last, 17))


def test_fp8_products_are_near_those_in_full() -> None:
    model = GPT(CONFIG).initialize(0)
    reference = GPT(CONFIG).initialize(0)
    assert use_fp8(model.blocks) == 8
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in reference.named_parameters()]
    assert isinstance(model.blocks[0].attn.qkv, Fp8Linear)
    gradients = []
    for one in (model, reference):
        nats, count = one(ids(), ids())
        (nats / count).backward()
        gradients.append({name: p.grad for name, p in one.named_parameters()})
    for name, exact in gradients[1].items():
        error = float((gradients[0][name] - exact).norm() / exact.norm())
        assert error < 0.12, (name, error)
