"""``micro_batch = "auto"`` takes the most that fits, tells what it found, and leaves no trace."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import FP32, SHAPE, assert_same_bits, make_state, run_steps, weights

from folio.errors import ConfigError
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.model.memory import training_memory
from folio.runtime import Runtime
from folio.training import micro_batch as room
from folio.training import trial
from folio.training.available_memory import at_most, available_memory, is_out_of_memory
from folio.training.config import TrainConfig
from folio.training.micro_batch import fit_by_estimate, largest_micro_batch

MIB = 2**20
AUTO = TrainConfig(micro_batch="auto")
SIZED = GPTConfig(vocab_size=1024, block_size=128, n_layer=2, n_head=4, n_embd=128)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="trials on a CPU need Linux")


def needed(sequences: int, of: int, shape: GPTConfig = SHAPE) -> int:
    return training_memory(shape, sequences, accumulates=sequences < of).peak


def with_trial(monkeypatch: pytest.MonkeyPatch, peak: object) -> list[int]:
    """Answer every trial with ``peak(micro_batch)``; returns what was tried, in order."""
    tried: list[int] = []

    def answer(model: GPT, runtime: Runtime, micro_batch: int, **_: object) -> int | None:
        tried.append(micro_batch)
        return peak(micro_batch)  # type: ignore[operator, no-any-return]

    monkeypatch.setattr(room, "trial_peak", answer)
    monkeypatch.setattr(room, "can_try", lambda device: True)
    return tried


def test_trials_go_down_the_divisors_until_one_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = with_trial(monkeypatch, lambda n: None if n > 12 else 21 * n * MIB)
    heard: list[str] = []
    fit = largest_micro_batch(GPT(SHAPE), FP32, AUTO, 24, available=200 * MIB, tell=heard.append)
    assert tried == [24, 12, 8, 6]  # 12 and 8 take 252 and 168 MiB; 80 % of what there is may be taken
    assert (fit.micro_batch, fit.sequences, fit.measured, fit.peak_bytes) == (6, 24, True, 126 * MIB)
    assert fit.how == "6 of 24 sequences fit: 126 MiB of 200 MiB measured; 8 took 168 MiB when tried"
    assert heard[-1] == "trying a micro-batch of 6 of 24 sequences"


def test_what_the_estimate_rules_out_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = with_trial(monkeypatch, lambda n: 1000)
    room_for_six = int(needed(6, 24) / 0.8) + 1 - sum(p.nbytes for p in GPT(SHAPE).parameters())
    fit = largest_micro_batch(GPT(SHAPE), FP32, AUTO, 24, available=room_for_six)
    assert tried == [6]
    assert fit.how.startswith("6 of 24 sequences fit: ")
    assert fit.how.endswith("; 8 would take 1 MiB (estimate)")


def test_a_whole_step_that_fits_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with_trial(monkeypatch, lambda n: 100 * MIB)
    fit = largest_micro_batch(GPT(SHAPE), FP32, AUTO, 24, available=4096 * MIB)
    assert fit.how == "all 24 sequences fit: 100 MiB of 4.0 GiB measured"


@pytest.mark.parametrize(("recompute", "remedy"), [(False, "--train.recompute, a smaller"), (True, "Use a smaller")])
def test_too_little_memory_for_one_sequence_is_an_error_with_both_sizes(
    recompute: bool, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_trial(monkeypatch, lambda n: None)
    shape = GPTConfig(n_layer=2)
    config = AUTO.model_copy(update={"recompute": recompute})
    with pytest.raises(ConfigError) as refused:
        fit_by_estimate(shape, FP32, config, 4, 500 * MIB)
    assert "one sequence of 1024 tokens" in refused.value.problem
    assert "of the 500 MiB available training may take 400 MiB, and 1 would take 1." in refused.value.problem
    assert remedy in refused.value.remedy
    assert "--model.block-size" in refused.value.remedy
    with pytest.raises(ConfigError, match="1 took all of it when tried"):
        largest_micro_batch(GPT(SHAPE), FP32, config, 4, available=500 * MIB)


def test_the_average_a_second_copy_and_several_ranks_are_accounted_for() -> None:
    def peak(runtime: Runtime = FP32, *, sharded: bool = False, **train: object) -> int:
        config = AUTO.model_copy(update=train)
        return fit_by_estimate(SIZED, runtime, config, 1, 1 << 40, sharded=sharded).peak_bytes

    class Two:
        rank, world_size = 0, 2

    numbers = 4 * sum(p.numel() for p in GPT(SIZED).parameters())
    several = dataclasses.replace(FP32, ranks=Two())
    assert peak(ema_decay=0.9) == peak() + numbers
    assert peak(checkpoint_async=True) == peak() + 3 * numbers
    assert peak(several) > peak()  # gradients lie in DDP's buckets while activations are made
    assert peak(several, sharded=True) < peak(several)


def test_an_estimate_is_called_one() -> None:
    fit = largest_micro_batch(GPT(SHAPE), FP32, AUTO, 8, available=2**30, trial=False)
    assert fit.how == "all 8 sequences fit: 1 MiB of 1.0 GiB (estimate)"
    assert not fit.measured


@LINUX
def test_a_trial_that_runs_out_of_memory_is_survived_and_the_next_one_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For real: the estimate is made to promise that everything fits."""
    monkeypatch.setitem(room.WORTH_A_TRIAL, "cpu", 100.0)
    tried: list[str] = []
    fit = largest_micro_batch(GPT(SIZED), FP32, AUTO, 512, available=400 * MIB, tell=tried.append)
    assert len(tried) > 1
    assert fit.micro_batch == 512 // 2 ** (len(tried) - 1)
    assert fit.measured
    assert fit.peak_bytes <= 0.8 * fit.available_bytes
    assert fit.peak_bytes == pytest.approx(needed(fit.micro_batch, 512, SIZED), rel=0.3)


@LINUX
def test_a_trial_ends_where_it_would_take_more_than_it_may() -> None:
    """It is stopped, not measured afterwards."""

    def peak(most: int) -> int | None:
        model = GPT(SIZED)
        return trial.trial_peak(model, FP32, 128, accumulates=False, recompute=False, later=MIB, most=most)

    assert peak(100 * MIB) is None
    enough = peak(2000 * MIB)
    assert enough is not None
    assert enough > 100 * MIB


@LINUX
def test_a_failed_allocation_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as error, at_most(64 * MIB):
        torch.ones(2**31)
    assert is_out_of_memory(error.value)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    torch.ones(2**27)  # 512 MiB: the limit is gone


@LINUX
def test_a_trial_leaves_no_trace() -> None:
    """Weights, random state, modes and gradients; and a run ends with the bits of one given the number."""
    config = {"batch_tokens": 8 * SHAPE.block_size, "steps": 4}
    given, source, plan = make_state(micro_batch=8, **config)
    run_steps(given, source, plan, 4)

    torch.manual_seed(5)
    model = GPT(SHAPE).initialize(5)
    model.eval()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit = largest_micro_batch(model, FP32, TrainConfig(micro_batch="auto", **config), 8)
    assert fit.micro_batch == 8
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    found, source, plan = make_state(micro_batch=fit.micro_batch, **config)
    found.model.load_state_dict(model.state_dict())
    run_steps(found, source, plan, 4)
    assert_same_bits(weights(found), weights(given))


def test_a_trial_in_this_process_leaves_no_trace_either() -> None:
    """What a GPU's trial is wrapped in, on the CPU: random state, modes and gradients are put back."""
    model = GPT(SHAPE).initialize(0).eval()
    before = torch.get_rng_state()
    with trial._no_trace(model, torch.device("cpu"), recompute=True):
        assert model.training
        assert model.recompute
        torch.rand(3)
        trial._train(model, FP32, 2, accumulates=True)
        assert model.embed.weight.grad is not None
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert not model.recompute
    assert all(parameter.grad is None for parameter in model.parameters())


def test_available_memory_is_cut_by_the_control_group(tmp_path: Path) -> None:
    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    cpu = torch.device("cpu")
    write("proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable:    4000000 kB\n")
    assert available_memory(cpu, tmp_path) == 4_000_000 * 1024
    write("proc/self/cgroup", "0::/batch/job\n")
    write("sys/fs/cgroup/batch/job/memory.max", "max\n")
    write("sys/fs/cgroup/batch/job/memory.current", "5000\n")
    assert available_memory(cpu, tmp_path) == 4_000_000 * 1024
    write("sys/fs/cgroup/batch/memory.max", "1000000\n")
    write("sys/fs/cgroup/batch/memory.current", "300000\n")
    write("sys/fs/cgroup/batch/memory.stat", "anon 1\ninactive_file 50000\n")
    assert available_memory(cpu, tmp_path) == 750_000
    write("proc/self/cgroup", "4:cpu,cpuacct:/\n9:memory:/gone\n0::/\n")
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write("sys/fs/cgroup/memory/memory.usage_in_bytes", "200\n")
    assert available_memory(cpu, tmp_path) == 4_000_000 * 1024
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n")
    write("sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 100\n")
    assert available_memory(cpu, tmp_path) == 900


STEP = """
import json, sys, torch
from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.training.available_memory import forget_peak, peak_resident_bytes, resident_bytes
from folio.training.config import OptimizerConfig
from folio.training.optimizers import Optimizers

def train(config):
    model = GPT(config).initialize(0)
    device, dtype = torch.device("cpu"), torch.float32
    optimizers = Optimizers(model, OptimizerConfig(kind="muon"), device=device, dtype=dtype)
    for _ in range(2):
        nats, count = model(*torch.randint(0, config.vocab_size, (2, 1, config.block_size)))
        (nats / count).backward()
        optimizers.step()
        optimizers.zero_grad()

torch.set_num_threads(1)
train(GPTConfig(vocab_size=64, block_size=32, n_layer=1, n_head=2, n_embd=32))
forget_peak()
before = resident_bytes()
train(GPTConfig.model_validate_json(sys.argv[1]))
print(peak_resident_bytes() - before)
"""


@LINUX
def test_what_muon_makes_while_it_moves_the_weights_is_in_the_estimate() -> None:
    """Within 15 %: with little text it is the peak of the step."""
    shape = GPTConfig(vocab_size=4096, block_size=64, n_layer=6, n_head=4, n_embd=512)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", STEP, shape.model_dump_json()]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    estimate = training_memory(shape, 1, optimizer="muon")
    assert estimate.step > estimate.activations
    assert estimate.peak == pytest.approx(int(answer.stdout), rel=0.15)
