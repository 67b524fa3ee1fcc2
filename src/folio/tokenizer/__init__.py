"""Text to ids and back: characters, words, byte-level BPE, and GPT-2's own vocabulary."""

from folio.tokenizer.base import END_OF_TEXT, Tokenizer
from folio.tokenizer.config import TokenizerConfig
from folio.tokenizer.folder import load_tokenizer
from folio.tokenizer.gpt2 import gpt2_tokenizer
from folio.tokenizer.stream import StreamDecoder
from folio.tokenizer.training import count_words, train_tokenizer

__all__ = [
    "END_OF_TEXT",
    "StreamDecoder",
    "Tokenizer",
    "TokenizerConfig",
    "count_words",
    "gpt2_tokenizer",
    "load_tokenizer",
    "train_tokenizer",
]
