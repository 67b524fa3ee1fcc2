"""A preset's loss curve is the one that was recorded: bit for bit where it was recorded, closely elsewhere.

The recipe is the preset's own but for the number of steps and the text, which is made up here. After a change that is
meant to move the numbers (the preset, first weights, the order of the data, an optimizer, a kernel), and after no
other, record them anew and say in the commit why they moved. Kinds of machine that are at hand no longer are then to
be taken out of the file by hand. On a kind that is not listed yet, recording adds it:

    python tests/training/test_golden.py --record
"""

from __future__ import annotations

import json
import platform
import random
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from real_runs import folio

from folio.hardware import speed_up_fp32_products
from folio.training.metrics import read_metrics

PRESET = "tiny-shakespeare-char-fast"
STEPS = 16
GOLDEN = Path(__file__).parent / "golden" / f"{PRESET}.json"
HERE = 1e-7
"""Relative. The same bits, in fact, in every process so far; JSON keeps a float whole."""
ELSEWHERE = {"fp32": 2e-5, "bf16": 2e-2}
"""Relative, on a kind of machine that is not in the file: other kernels sum in another order. Measured on the recorded
processor held down to AVX2 and to SSE4.1 (``ATEN_CPU_CAPABILITY``, ``ONEDNN_MAX_CPU_ISA``): 2.2e-7 and 2.7e-3."""

Numbers = dict[str, list[float]]


def kind_of_machine() -> str:
    """What decides which kernels run, and so the bits: processor, PyTorch, its instructions, oneDNN for fp32."""
    matmul = torch.get_float32_matmul_precision()
    products = "onednn" if speed_up_fp32_products() else "plain"
    torch.set_float32_matmul_precision(matmul)  # the other tests of this process go on as they were
    torch_version = ".".join(torch.__version__.split(".")[:2])
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()}, {_processor()}, torch {torch_version}, {capability}, fp32 products {products}"


def _processor() -> str:
    """Maker and model, for oneDNN and MKL choose kernels and block sizes by them."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split("\n\n", 1)[0]
    except OSError:
        return platform.system()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    names = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
    return " ".join(facts[name] for name in names if name in facts) or platform.system()


def write_text(path: Path) -> None:
    """Sentences over fifty words, each word with a few that follow it: something to learn within sixteen steps."""
    draw = random.Random(16)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 7))) for _ in range(50)]
    after = {word: draw.choices(words, k=3) for word in words}
    text, word = [], words[0]
    for _ in range(16000):
        word = draw.choice(after[word])
        text.append(word + draw.choice(("", "", "", ",", ".\n")))
    path.write_text(" ".join(text), encoding="utf-8")


def train(folder: Path, precision: str) -> Numbers:
    """Run the preset in a process of its own, on one thread."""
    write_text(folder / "text.txt")
    run = folder / precision
    flags = {"steps": STEPS, "device": "cpu", "precision": precision, "compile": "off"}
    given = [part for key, value in flags.items() for part in (f"--train.{key}", value)]
    done = folio("train", PRESET, "--corpus.path", folder / "text.txt", "--out", run, *given)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "config.json").read_text())["resolved"]["threads"] == 1
    lines = list(read_metrics(run))
    numbers = {key: [line[key] for line in lines if line["kind"] == "train"] for key in ("nats_per_token", "grad_norm")}
    assert len(numbers["nats_per_token"]) == STEPS
    numbers["validation"] = [line["nats_per_token"] for line in lines if line["kind"] == "validation"]
    return numbers


def recorded() -> dict[str, dict[str, Numbers]]:
    """By kind of machine and precision."""
    found: dict[str, dict[str, Numbers]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("precision", ELSEWHERE)
def test_the_loss_curve_of_a_preset_is_the_recorded_one(precision: str, tmp_path: Path) -> None:
    golden, here = recorded(), kind_of_machine()
    expected = golden.get(here, next(iter(golden.values())))[precision]
    numbers = train(tmp_path, precision)
    tolerance = HERE if here in golden else ELSEWHERE[precision]
    message = f"{PRESET} in {precision} gave other losses than were recorded; the module's first lines say what to do"
    for key in ("nats_per_token", "validation"):
        np.testing.assert_allclose(numbers[key], expected[key], rtol=tolerance, err_msg=message)
    if here in golden:  # gradients of another machine may differ by more than is worth a bound
        np.testing.assert_allclose(numbers["grad_norm"], expected["grad_norm"], rtol=tolerance, err_msg=message)


def test_the_recorded_curves_agree_and_learn() -> None:
    """Kinds of machine agree as closely as an unknown one must; what was recorded is a model that learns."""
    golden = recorded()
    first = next(iter(golden.values()))
    for kind, curves in golden.items():
        assert curves.keys() == ELSEWHERE.keys(), kind
        for precision, numbers in curves.items():
            losses = numbers["nats_per_token"]
            np.testing.assert_allclose(losses, first[precision]["nats_per_token"], rtol=ELSEWHERE[precision])
            np.testing.assert_allclose(losses, curves["fp32"]["nats_per_token"], rtol=ELSEWHERE["bf16"])
            assert losses[-1] < 0.85 * losses[0]


def record() -> None:
    """Write what this machine gives into the file, beside what others gave."""
    golden: dict[str, Any] = recorded() if GOLDEN.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        golden[kind_of_machine()] = {precision: train(Path(folder), precision) for precision in ELSEWHERE}
    GOLDEN.parent.mkdir(exist_ok=True)
    lists_on_a_line = re.sub(r"\[[^]]*\]", lambda found: " ".join(found[0].split()), json.dumps(golden, indent=1))
    GOLDEN.write_text(lists_on_a_line + "\n", encoding="utf-8")
    print(f"recorded for {kind_of_machine()} in {GOLDEN}; kept for {len(golden) - 1} other kinds of machine")


if __name__ == "__main__":
    if sys.argv[1:] != ["--record"]:
        sys.exit(__doc__)
    record()
