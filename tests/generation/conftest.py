"""Two small random models, and tokenizers trained on a few lines, to generate with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from folio.model.config import GPTConfig
from folio.model.gpt import GPT
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

LINES = ["To be, or not to be, that is the question:\n", "Whether 'tis nobler in the mind to suffer — naïve Ω\n"] * 8
SHAPES = {
    "gpt2": {},
    "modern": {
        "norm": "rmsnorm",
        "activation": "swiglu",
        "position": "rope",
        "qk_norm": True,
        "n_kv_head": 2,
        "bias": False,
        "tie_embeddings": False,
    },
}


def random_gpt(vocab_size: int, shape: str = "gpt2", **changes: object) -> GPT:
    """A model whose weights are large enough that its likeliest token depends on the whole context."""
    sizes = {"vocab_size": vocab_size, "block_size": 32, "n_layer": 2, "n_head": 4, "n_embd": 48}
    model = GPT(GPTConfig.model_validate({**sizes, **SHAPES[shape], **changes})).initialize(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(12)
    return model.eval()


@pytest.fixture(scope="session")
def make_gpt() -> Callable[..., GPT]:
    """``make_gpt(vocab_size, "modern", dropout=0.5)``: :func:`random_gpt`."""
    return random_gpt


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    return train_tokenizer(LINES, TokenizerConfig(kind="bpe", vocab_size=300))


@pytest.fixture(scope="session", params=SHAPES)
def model(request: pytest.FixtureRequest, bpe: Tokenizer) -> GPT:
    return random_gpt(bpe.vocab_size, request.param)
