"""How the token embeddings of a model of words begin, and whether they are trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from folio.tokenizer.word2vec_config import Word2VecConfig

FIRST_ROWS = "embeddings"
"""A folder in a run with the rows that its token embedding began with, where they are not random."""
SHOWN = (":", "the", "a", "Romeo", "Juliet", "God", "pray", "love", "war", "quickly")


class EmbeddingsConfig(Word2VecConfig):
    """The rows of the token embedding: what they are before the first step, and after it."""

    init: Literal["random", "word2vec"] = "random"
    """random: as train.init draws them; word2vec: vectors learnt from the training split alone, for word tokenizers."""
    mode: Literal["warm", "frozen"] = "warm"
    """warm: trained with the rest; frozen: they stay as they begin, and so does a head that is tied to them."""
    min_count: int = Field(default=1, ge=1)
    """word2vec: leave out words that occur less often in the training split; they get their rows by other_rows."""
    other_rows: Literal["mean", "random"] = "mean"
    """word2vec: what an id without a vector gets (<|endoftext|>, and <unk> where it does not occur). mean: the mean of
    all vectors; random: what train.init drew."""
    scale: Literal["model", "vectors"] = "model"
    """word2vec: model: one factor brings the vectors to the spread that train.init draws with, a root mean square of
    0.02; vectors: they stay as long as word2vec made them."""
    show: tuple[str, ...] = SHOWN
    """word2vec: words whose cosines the report shows, as far as the vocabulary has them."""
