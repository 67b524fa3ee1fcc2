"""How vectors of words are learnt from text."""

from __future__ import annotations

from pydantic import Field

from folio.config import Table


class Word2VecConfig(Table):
    """Word2vec (Mikolov et al. 2013) with negative sampling; what is not named here is as gensim has it."""

    window: int = Field(default=12, ge=1)
    """word2vec: words to either side that a word is learnt from, at the most; a line is never left."""
    epochs: int = Field(default=30, ge=1)
    """word2vec: times that the text is read."""
    negative: int = Field(default=5, ge=1)
    """word2vec: words drawn at random for each true one, to be told from it."""
    skip_gram: bool = False
    """word2vec: learn the words around from a word (skip-gram) instead of a word from those around it (CBOW)."""
    subsample: float = Field(default=1e-3, ge=0)
    """word2vec: words that are a larger share of the text than this are skipped now and then; 0 skips none."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    """word2vec: first vectors, and all that is drawn. The same seed gives the same bits."""


class NearestConfig(Word2VecConfig):
    """Vectors by which the nearest word is found. Of one width for models of every width, so that they share ids."""

    width: int = Field(default=192, ge=1)
    """Numbers in a vector."""
