"""Tokens/s of writing at batch 1, Folio beside Hugging Face's ``generate``, in one process and in turns.

    python benchmarks/measure_generation.py [--rounds 7] [--new-tokens 64] [--threads 2]

GPT-2 124M with random weights, the same ones on both sides, a prompt of 32 tokens, greedy, end-of-text forbidden.
Hugging Face runs ``GPT2LMHeadModel.generate`` with its cache. A round asks every contestant once, in turn; medians and
the median of the ratios within a round are printed. The text of both sides is compared in fp32.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import transformers

from folio.generation.config import GenerationConfig
from folio.generation.engine import Generation
from folio.model.config import GPTConfig
from folio.model.folder import save_model
from folio.model.gpt import GPT
from folio.model.quantized import weight_bytes
from folio.runtime import make_runtime
from folio.verbs.library import as_dtype


class NoEndTokenizer:
    """A stand-in that decodes nothing and never ends, so that the engine alone is measured."""

    vocab_size, eot_id = 50257, None

    def token_bytes(self, id: int) -> bytes:
        return b""


def hugging_face(folder: Path, dtype: torch.dtype, prompt: list[int], new_tokens: int) -> Callable[[], list[int]]:
    model = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=dtype).eval()
    ids = torch.tensor([prompt])
    settings = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False, "use_cache": True}

    def write() -> list[int]:
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=50256, **settings)
        return out[0, len(prompt) :].tolist()

    return write


def folio(model: GPT, prompt: list[int], new_tokens: int) -> Callable[[], list[int]]:
    config = GenerationConfig(max_new_tokens=new_tokens, temperature=0, seed=0)

    def write() -> list[int]:
        writing = Generation(model, NoEndTokenizer(), [prompt], config)  # type: ignore[arg-type]
        for _ in writing:
            pass
        return writing.answers[0].ids

    return write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    prompt = torch.randint(0, 50000, (32,), generator=torch.Generator().manual_seed(0)).tolist()
    base = GPT(GPTConfig()).initialize(0).eval()
    writers: dict[str, Callable[[], list[int]]] = {}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        save_model(base, Path(folder))
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            writers[f"hugging face {name}"] = hugging_face(Path(folder), dtype, prompt, options.new_tokens)
    for name in ("fp32", "bf16", "int8"):
        model = as_dtype(base, name)  # type: ignore[arg-type]
        sizes[f"folio {name}"] = weight_bytes(model) / 1e6
        writers[f"folio {name}"] = folio(model, prompt, options.new_tokens)
    texts = {name: write() for name, write in writers.items()}
    make_runtime("cpu")  # as the command line does, after the peer has warmed up with torch's defaults
    rates: dict[str, list[float]] = {name: [] for name in writers}
    for _ in range(options.rounds):
        for name, write in writers.items():
            torch.set_float32_matmul_precision("highest" if name.startswith("hugging") else "medium")
            start = time.perf_counter()
            write()
            rates[name].append(options.new_tokens / (time.perf_counter() - start))
    peers = {"folio fp32": "hugging face fp32", "folio bf16": "hugging face bf16", "folio int8": "hugging face bf16"}
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {platform.processor()}")
    print(f"{options.threads} threads, {options.rounds} rounds, {options.new_tokens} tokens after {len(prompt)}")
    print(f"{'':20} {'tokens/s':>9} {'least':>7} {'most':>7}   ratio   MB of weights")
    result = {}
    for name, values in rates.items():
        peer = peers.get(name)
        ratio = median(a / b for a, b in zip(values, rates[peer], strict=True)) if peer else None
        told = f"{ratio:.2f} x {peer}" if ratio else ""
        print(
            f"{name:20} {median(values):9.1f} {min(values):7.1f} {max(values):7.1f}   {told} {sizes.get(name, 0):.0f}"
        )
        result[name] = {"tokens_per_s": median(values), "ratio": ratio}
    print(f"fp32 texts equal: {texts['hugging face fp32'] == texts['folio fp32']}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
