"""Time, cost and memory on rented GPUs come out as they do by hand."""

from __future__ import annotations

import pytest

from folio.config import ConfigError, build
from folio.model.config import GPTConfig
from folio.model.memory import training_memory
from folio.training.config import TrainConfig
from folio.training.estimate import rentals, training_run_flops, validation_run_flops
from folio.training.rental import Assumptions, UsdPerHour

# Matrices 2 x 12 x 64^2 = 98,304; head 1,000 x 64; attention 2 x 2 x 64 x (128 + 1) a token, both halves causal.
SMALL = GPTConfig(vocab_size=1000, block_size=128, n_layer=2, n_head=4, n_embd=64)
FORWARD = 2 * (98_304 + 64_000) + 2 * 2 * 64 * 129


def test_operations_of_a_run() -> None:
    config = TrainConfig(steps=10, batch_tokens=1024, validate_every=4, validation_tokens=256)
    assert training_run_flops(SMALL, config) == 3 * FORWARD * 1024 * 10
    assert validation_run_flops(SMALL, config) == FORWARD * 256 * 3  # after steps 4, 8 and 10
    at_the_end = config.model_copy(update={"validate_every": 0})
    assert validation_run_flops(SMALL, at_the_end) == FORWARD * 256
    every_tenth = config.model_copy(update={"validate_every": 5})
    assert validation_run_flops(SMALL, every_tenth) == FORWARD * 256 * 2  # the last of them is the end


def test_hours_and_dollars() -> None:
    config = TrainConfig(steps=10**9, batch_tokens=1024, validation_tokens=0)
    assumed = Assumptions(mfu=0.5, scaling_efficiency=0.75, usd_per_hour=UsdPerHour(a100=2, h100=4, h200=5))
    found, problems = rentals(SMALL, config, assumed)
    assert problems == []
    runs = {(run.gpus, run.gpu): run for run in found}
    seconds = 3 * FORWARD * 1024 * 10**9 / (312e12 * 0.5)
    assert runs[1, "A100"].hours == pytest.approx(seconds / 3600)
    assert runs[1, "A100"].usd == pytest.approx(2 * seconds / 3600)
    assert runs[1, "A100"].tokens_per_s == pytest.approx(1024e9 / seconds)
    assert runs[8, "A100"].hours == pytest.approx(seconds / 3600 / 8 / 0.75)
    assert runs[8, "A100"].usd == pytest.approx(2 * seconds / 3600 / 0.75)
    assert runs[8, "H200"].hours == pytest.approx(seconds / 3600 * 312 / 989 / 6)
    assert runs[8, "H200"].usd == pytest.approx(5 * 8 * runs[8, "H200"].hours)


def test_the_batch_is_cut_as_a_run_on_a_gpu_cuts_it() -> None:
    config = TrainConfig(batch_tokens=524_288)
    runs = {run.gpus: run for run in rentals(GPTConfig(), config, Assumptions())[0] if run.gpu == "A100"}
    assert (runs[1].micro_batch, runs[1].accumulation) == (32, 16)
    assert (runs[8].micro_batch, runs[8].accumulation) == (32, 2)
    given = config.model_copy(update={"micro_batch": 4})
    memory = training_memory(GPTConfig(), 4, dtype="bf16", accumulates=True, device="cuda").peak
    for run in rentals(GPTConfig(), given, Assumptions())[0]:
        assert run.micro_batch * run.accumulation * run.gpus == 512
        assert (run.micro_batch, run.peak_memory_bytes) == (4, memory)


def test_what_does_not_fit_is_said_and_auto_takes_what_does() -> None:
    config = TrainConfig(batch_tokens=524_288, micro_batch=512)
    by_hand = training_memory(GPTConfig(), 512, dtype="bf16", device="cuda").peak
    assert by_hand > 0.8 * 141e9
    found, problems = rentals(GPTConfig(), config, Assumptions())
    assert [(run.gpus, run.fits) for run in found] == [(1, False)] * 3
    assert len(problems) == 1
    assert "8 GPUs: micro_batch 512 does not divide the 64 sequences" in problems[0]
    automatic = config.model_copy(update={"micro_batch": "auto"})
    for run in rentals(GPTConfig(), automatic, Assumptions())[0]:
        twice = training_memory(
            GPTConfig(), 2 * run.micro_batch, dtype="bf16", accumulates=run.micro_batch * 4 <= 512, device="cuda"
        ).peak
        assert run.fits
        assert run.micro_batch * run.gpus == 512 or twice > 0.8 * run.gpu_memory_bytes


def test_a_model_too_large_for_one_gpu_is_spread_over_eight() -> None:
    shape = GPTConfig(n_layer=48, n_head=40, n_embd=3200)  # 6 billion parameters: 96 GB without activations
    config = TrainConfig(batch_tokens=524_288, micro_batch=1, recompute=True)
    runs = {(run.gpus, run.gpu): run for run in rentals(shape, config, Assumptions())[0]}
    assert not runs[1, "H100"].fits
    assert (runs[8, "H100"].parallel, runs[8, "H100"].fits) == ("fsdp", True)
    whole = rentals(shape, config.model_copy(update={"parallel": "ddp"}), Assumptions())[0]
    assert not any(run.fits for run in whole if run.gpu == "H100")


def test_impossible_assumptions_are_refused() -> None:
    for given in ({"mfu": 0}, {"mfu": 1.1}, {"scaling_efficiency": 0}, {"usd_per_hour": {"a100": -1}}):
        with pytest.raises(ConfigError):
            build(Assumptions, given)
