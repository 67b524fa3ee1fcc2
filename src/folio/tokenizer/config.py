"""Which tokenizer, and of what size."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from folio.config import Table
from folio.tokenizer.word2vec_config import NearestConfig

DEFAULT_BPE_SIZE = 4096


class TokenizerConfig(Table):
    """How text becomes ids."""

    kind: Literal["char", "word", "bpe", "gpt2"] = "bpe"
    """char: one id a character; word: words and marks; bpe: byte pairs learnt from the text; gpt2: OpenAI's own."""
    vocab_size: int | None = Field(default=None, ge=4)
    """Ids in all, special tokens included (bpe: 4096 unless given; word: the most frequent words)."""
    min_count: int = Field(default=1, ge=1)
    """word only: how often a word must occur to have an id of its own."""
    special_tokens: tuple[str, ...] = ()
    """Further special tokens (word and bpe), given ids just before <|endoftext|>, which is always last."""
    out_of_vocabulary: Literal["unk", "nearest"] = "unk"
    """word only: what becomes of a word of the text that is too rare for an id. unk: <unk>; nearest: the word with an
    id whose word2vec vector has the highest cosine with its own. A word the text does not have is <unk> either way."""
    nearest: NearestConfig = NearestConfig()
    """The vectors that tell which word is nearest."""
    path: Path | None = None
    """A folder with a tokenizer.json to use as it is, instead of making one."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.path is not None and (self.vocab_size is not None or self.min_count > 1 or self.special_tokens):
            raise ValueError("a tokenizer read from path takes no vocab_size, min_count or special_tokens")
        if self.kind in ("char", "gpt2") and (self.vocab_size is not None or self.special_tokens):
            raise ValueError(f"a {self.kind} tokenizer takes no vocab_size and no special_tokens")
        if self.min_count > 1 and self.kind != "word":
            raise ValueError(f"min_count belongs to kind 'word', not '{self.kind}'")
        if self.min_count > 1 and self.vocab_size is not None:
            raise ValueError("give either min_count or vocab_size, not both")
        if self.out_of_vocabulary == "nearest" and (self.kind != "word" or self.path is not None):
            what = "a tokenizer read from path" if self.path is not None else f"kind '{self.kind}'"
            raise ValueError(
                f"out_of_vocabulary 'nearest' belongs to a tokenizer of kind 'word' made now, not to {what}"
            )
        if self.out_of_vocabulary == "unk" and self.nearest != NearestConfig():
            raise ValueError("nearest.* is for out_of_vocabulary 'nearest'")
        if len(set(self.special_tokens)) < len(self.special_tokens) or not all(self.special_tokens):
            raise ValueError("special_tokens must be different from each other and not empty")
        smallest = 256 + 1 + len(self.special_tokens)
        if self.kind == "bpe" and self.vocab_size is not None and self.vocab_size < smallest:
            raise ValueError(f"a bpe tokenizer needs a vocab_size of at least {smallest}: 256 bytes and special tokens")
        return self
