"""What narrower weights cost: the loss of one model in fp32, bf16 and int8 on the same tokens, compared pair by pair.

    python benchmarks/measure_quantization.py MODEL TEXT [--max-tokens 100000]

The first tokens of TEXT are read in blocks of the model's context. The difference to fp32 is a mean over the same
tokens, with the standard error over blocks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from folio.model.quantized import weight_bytes
from folio.verbs.library import as_dtype, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--max-tokens", type=int, default=100_000)
    options = parser.parse_args()
    model = load(options.model, device="cpu")
    size = model.config.block_size
    ids = torch.tensor(model.tokenizer.encode(options.text.read_text(encoding="utf-8"))[: options.max_tokens + 1])
    blocks = (len(ids) - 1) // size
    inputs, targets = (ids[start : start + blocks * size].view(blocks, size) for start in (0, 1))
    print(f"{blocks * size:,} tokens in {blocks:,} blocks of {size}")
    exact = None
    for dtype in ("fp32", "bf16", "int8"):
        gpt = as_dtype(model.gpt, dtype)  # type: ignore[arg-type]
        rows = torch.cat([gpt.token_nats(x, y) for x, y in zip(inputs.split(32), targets.split(32), strict=True)])
        nats = rows.double().mean(1)
        exact = nats if exact is None else exact
        error = (nats - exact).std() / blocks**0.5
        print(
            f"{dtype}: {nats.mean():.5f} nats/token, {nats.mean() - exact.mean():+.5f} ± {error:.5f} to fp32, "
            f"{weight_bytes(gpt) / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
