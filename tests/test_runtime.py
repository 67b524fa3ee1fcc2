"""Device and precision are chosen, said, or refused in one line; the process's settings are safe to keep."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from folio import hardware
from folio.errors import ConfigError
from folio.hardware import matmul_peak, measured_matmul_peak
from folio.runtime import Runtime, make_runtime


def run_python(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what is to be missing")
def test_cuda_where_there_is_none_is_refused_in_one_line() -> None:
    for name in ("cuda", "cuda:1"):
        with pytest.raises(ConfigError) as refused:
            make_runtime(name)
        assert refused.value.problem == f"device '{name}' is not available on this machine"
        assert refused.value.remedy == "Use auto, or cpu."


def test_a_device_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no device 'gpu'"):
        make_runtime("gpu")
    with pytest.raises(ConfigError, match="device 'meta' is not available"):
        make_runtime("meta")


@pytest.mark.parametrize(("precision", "needs"), [("fp16", "needs a GPU"), ("tf32", "needs a CUDA GPU")])
def test_precisions_that_a_cpu_does_not_have_are_refused(precision: str, needs: str) -> None:
    with pytest.raises(ConfigError, match=f"precision {precision} {needs}; this run is on cpu"):
        make_runtime("cpu", precision)  # type: ignore[arg-type]


@pytest.mark.parametrize(("multiplies", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_a_cpu_gets_bf16_only_if_it_multiplies_it(
    multiplies: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "cpu_multiplies_bf16", lambda: multiplies)
    runtime = make_runtime("cpu")
    assert runtime.precision == chosen
    assert runtime.reason in runtime.describe()
    assert make_runtime("cpu", "fp32").describe().endswith("fp32 (as asked)")


def test_products_run_in_the_precision_chosen() -> None:
    a = torch.randn(4, 4)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        runtime = Runtime(torch.device("cpu"), precision)  # type: ignore[arg-type]
        with runtime.autocast():
            assert (a @ a).dtype == runtime.dtype == dtype
    assert (a @ a).dtype == torch.float32


def test_fast_fp32_products_are_kept_only_at_fp32_accuracy() -> None:
    make_runtime("cpu", "fp32")
    generator = torch.Generator().manual_seed(5)
    a, b = (torch.randn(512, 512, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    assert ((a @ b).double() - exact).norm() < 2e-6 * exact.norm()


def test_products_that_lose_accuracy_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    product = torch.Tensor.__matmul__

    def in_bf16(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return product(a.bfloat16(), b.bfloat16()).float() if a.dtype == torch.float32 else product(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", in_bf16)
    assert hardware.speed_up_fp32_products.__wrapped__() is False
    assert asked == ["medium", "highest"]
    monkeypatch.setattr(torch.Tensor, "__matmul__", product)
    asked.clear()
    assert hardware.speed_up_fp32_products.__wrapped__() is True
    assert asked == ["medium"]


def test_the_peak_is_measured_and_says_so() -> None:
    here = torch.device("cpu"), torch.float32
    peak, origin = matmul_peak(*here, seconds=0.05)
    assert origin == "measured here"
    assert 1e9 < peak < 1e14
    assert measured_matmul_peak(*here, seconds=0.05) < 3 * peak


ABSENT_CUDA = """
import torch
def trap(name):
    def touched(*args, **kwargs): raise AssertionError(f"torch.cuda.{name} was called")
    return touched
for name in ("_lazy_init", "synchronize", "get_device_name", "is_bf16_supported", "get_rng_state"):
    setattr(torch.cuda, name, trap(name))
import sys
sys.path.insert(0, sys.argv[1])
from tiny_training import make_state, fit_quietly
from folio.runtime import make_runtime
runtime = make_runtime("cpu")
runtime.synchronize(); runtime.describe()
state, source, plan = make_state(runtime=runtime, steps=2, ema_decay=0.5)
fit_quietly(state, source, plan)
with state.shipping_weights(): state.tensors()
assert not torch.cuda.is_initialized()
print("untouched")
"""


def test_nothing_of_cuda_is_touched_on_a_cpu() -> None:
    assert run_python(ABSENT_CUDA, str(Path(__file__).parent / "training")) == "untouched\n"


KEEPING = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tiny_training import SHAPE, make_state, run_steps
from folio.hardware import keep_pages
from folio.runtime import make_runtime
runtime = make_runtime("cpu")
shape = SHAPE.model_copy(update={"block_size": 128, "n_embd": 64, "vocab_size": 1000})
state, source, plan = make_state(shape, runtime, batch_tokens=1024)
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
run_steps(state, source, plan, 10)
after_10, faults_10 = resident(), faults()
run_steps(state, source, plan, 40)
print(keep_pages(), after_10, resident(), (faults() - faults_10) / 40)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_stays_bounded_and_pages_are_kept_over_a_long_run() -> None:
    tests = str(Path(__file__).parent / "training")
    kept, after_10, after_50, faults = run_python(KEEPING, tests).split()
    assert int(after_50) < 1.05 * int(after_10)
    released, _, _, faults_released = run_python(KEEPING, tests, FOLIO_KEEP_PAGES="0").split()
    assert released == "False"
    if kept == "True":
        assert float(faults) < 0.5 * float(faults_released)


COMPILED = """
import sys, warnings
warnings.simplefilter("default")  # compiling, torch uses what torch deprecates
sys.path.insert(0, sys.argv[1])
from tiny_training import FP32, make_state, run_steps
from folio.training.checkpoint import weights_sha256
state, source, plan = make_state(compile=sys.argv[2])
print(state.compile())
print(run_steps(state, source, plan, 3))
print(sorted(state.model.state_dict())[0])
"""


def test_without_a_compiler_compile_is_off_and_says_so() -> None:
    tests = str(Path(__file__).parent / "training")
    environment = {"PATH": "", "CXX": ""}
    said, losses, _ = run_python(COMPILED, tests, "on", **environment).splitlines()
    assert said == "off (no C++ compiler on this machine)"
    said, plain, _ = run_python(COMPILED, tests, "off", **environment).splitlines()
    assert said == "off"
    assert losses == plain


@pytest.mark.slow
def test_compiled_it_trains_alike_and_names_stay(tmp_path: Path) -> None:
    import shutil

    if shutil.which("g++") is None:
        pytest.skip("no g++")
    tests = str(Path(__file__).parent / "training")
    said, losses, name = run_python(COMPILED, tests, "on", TORCHINDUCTOR_CACHE_DIR=str(tmp_path)).splitlines()
    assert said == "on"
    _, plain, plain_name = run_python(COMPILED, tests, "off").splitlines()
    assert name == plain_name
    for one, other in zip(eval(losses), eval(plain), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
