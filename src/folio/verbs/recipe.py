"""A recipe: everything one training run is made from, one table per room, in pipeline order."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import model_validator

from folio.config import Table, build, read_recipe, recipe_path
from folio.corpus.config import CorpusConfig
from folio.corpus.quality.config import QualityConfig
from folio.errors import ConfigError
from folio.evaluation.config import EvaluationConfig
from folio.generation.config import GenerationConfig
from folio.model.config import GPTConfig
from folio.shards.config import ReadingConfig, ShardsConfig
from folio.shards.parts.config import DividedSourceOptions
from folio.shards.token_count import TokenCount
from folio.tokenizer.config import TokenizerConfig
from folio.training.config import TrainConfig
from folio.training.config_embeddings import EmbeddingsConfig

ASSUMED_SIZES = {"char": 128, "word": 16384}
"""Ids of a tokenizer whose size only the text can tell."""


class RecipeShards(ShardsConfig, ReadingConfig):
    """Where the ids come from: shards made before, or made now and kept in the cache."""

    path: Path | None = None
    """Shards made before, to train on as they are; needs tokenizer.path (or kind gpt2). Neither corpus nor source is
    read."""


class RecipeSource(DividedSourceOptions):
    """A text too large to be read in one walk, in place of a corpus."""

    path: str | None = None
    """What folio shards write takes for a source: a dataset of the hub, such as fineweb-edu, .parquet files, or an
    address. Empty: the corpus is the text."""
    tokens: TokenCount | None = None
    """Stop with the document by which there are so many ids, such as 10B; the held out ones count. Empty: all of it."""


class Recipe(Table):
    """What ``folio train`` reads from a preset or a TOML file."""

    corpus: CorpusConfig = CorpusConfig()
    """Text."""
    source: RecipeSource = RecipeSource()
    """Text too large to be read in one walk."""
    quality: QualityConfig = QualityConfig()
    """Which documents of a source stay, and what is changed in them."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """Text to ids."""
    shards: RecipeShards = RecipeShards()
    """Ids on disk."""
    model: GPTConfig = GPTConfig()
    """The shape of the model; its vocabulary is the tokenizer's."""
    embeddings: EmbeddingsConfig = EmbeddingsConfig()
    """The rows of its token embedding: random or word2vec's, trained or not."""
    train: TrainConfig = TrainConfig()
    """The training run."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What is measured while training, besides the validation loss."""
    generation: GenerationConfig = GenerationConfig()
    """How samples are drawn while training."""

    @property
    def corpus_is_read(self) -> bool:
        """Whether the text is the corpus, and not a source or shards made before."""
        return self.shards.path is None and self.source.path is None

    @model_validator(mode="after")
    def _quality_is_of_a_source(self) -> Self:
        if self.source.path is None and (self.quality != QualityConfig() or self.source != RecipeSource()):
            raise ValueError("quality.* and source.* are for a source: give source.path")
        return self

    @model_validator(mode="after")
    def _word2vec_is_of_words(self) -> Self:
        begins, usual = self.embeddings, EmbeddingsConfig()
        if begins.init == "random" and begins != usual.model_copy(update={"mode": begins.mode, "show": begins.show}):
            raise ValueError("embeddings.* but for mode are for embeddings.init 'word2vec'")
        if begins.init == "word2vec" and self.tokenizer.path is None and self.tokenizer.kind != "word":
            raise ValueError(f"embeddings.init 'word2vec' needs tokenizer.kind 'word', not '{self.tokenizer.kind}'")
        return self


def load_shape(name_or_path: str) -> GPTConfig:
    """The model of a preset or a TOML file, its vocabulary as far as it is known without reading text."""
    recipe = load_recipe(name_or_path)
    return recipe.model.model_copy(update={"vocab_size": expected_vocabulary(recipe)[0]})


def load_recipe(name_or_path: str) -> Recipe:
    """The recipe of a preset or a TOML file; :class:`ConfigError` names every mistake in it."""
    return build(Recipe, read_recipe(name_or_path), source=f"'{recipe_path(name_or_path)}'")


def model_for_vocabulary(config: GPTConfig, vocab_size: int) -> GPTConfig:
    """``config`` with the tokenizer's vocabulary. A ``vocab_size`` given by hand must agree."""
    given = config.vocab_size if "vocab_size" in config.model_fields_set else vocab_size
    if given != vocab_size:
        raise ConfigError(
            f"model.vocab_size is {given:,}; the tokenizer has {vocab_size:,} ids", "Leave model.vocab_size out."
        )
    return config.model_copy(update={"vocab_size": vocab_size})


def expected_vocabulary(recipe: Recipe) -> tuple[int, str]:
    """The size of the vocabulary and how it is known, for no text is read and no tokenizer trained here."""
    from folio.tokenizer.config import DEFAULT_BPE_SIZE

    tokenizer = recipe.tokenizer
    if "vocab_size" in recipe.model.model_fields_set:
        return recipe.model.vocab_size, f"{recipe.model.vocab_size:,} ids"
    if tokenizer.path is not None:
        from folio.tokenizer import load_tokenizer

        size = load_tokenizer(tokenizer.path).vocab_size
        return size, f"{size:,} ids, from {tokenizer.path}"
    if tokenizer.kind == "gpt2":
        size = GPTConfig().vocab_size
        return size, f"{size:,} ids"
    if tokenizer.kind == "bpe" or tokenizer.vocab_size is not None:
        size = tokenizer.vocab_size or DEFAULT_BPE_SIZE
        return size, f"{size:,} ids, if the text has so many"
    size = ASSUMED_SIZES[tokenizer.kind]
    return size, f"{size:,} ids assumed: the text decides (set model.vocab_size to be exact)"
