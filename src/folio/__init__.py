"""Folio: train, measure and ship GPT-2-class language models.

The public names load what they need when first used, so ``import folio`` costs nothing.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load", "load_tokenizer", "open_shards", "train"]

if TYPE_CHECKING:
    from folio.verbs.library import load, load_tokenizer, open_shards, train


def __getattr__(name: str) -> Any:
    if name in __all__:
        from folio.verbs import library

        return getattr(library, name)
    raise AttributeError(f"module 'folio' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
