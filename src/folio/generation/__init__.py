"""Text from a model: sampling, batches, streaming, stop strings. The names load torch when first used."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from folio.generation.answer import Answer, Piece
    from folio.generation.config import GenerationConfig
    from folio.generation.engine import Generation, Prompt, generate

__all__ = ["Answer", "Generation", "GenerationConfig", "Piece", "Prompt", "generate"]

_HOMES = {"Answer": "answer", "Piece": "answer", "GenerationConfig": "config"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'folio.generation' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"folio.generation.{_HOMES.get(name, 'engine')}"), name)
