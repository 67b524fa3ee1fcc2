"""The rows that a model's token embedding begins with: vectors learnt from the training split, kept in the cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from folio.checksums import sha256_of
from folio.errors import ConfigError
from folio.model.accounting import parameter_counts
from folio.tokenizer.vectors import KIND, WordVectors, load_vectors
from folio.tokenizer.word2vec import Lines, count_ids, train_word2vec
from folio.tokenizer.word2vec_config import Word2VecConfig
from folio.training.config_embeddings import EmbeddingsConfig
from folio.verbs.action import Terminal
from folio.verbs.prepare import cached, made_once

if TYPE_CHECKING:
    from folio.model.config import GPTConfig
    from folio.model.gpt import GPT
    from folio.ranks import Ranks
    from folio.shards import Shards
    from folio.tokenizer import Tokenizer
    from folio.training.embeddings import FirstRows


def begin_embeddings(
    model: GPT, config: EmbeddingsConfig, tokenizer: Tokenizer, shards: Shards, ranks: Ranks, terminal: Terminal
) -> FirstRows | None:
    """Give the token embedding the rows that ``config`` asks for, in place; None where those are the random ones."""
    from folio.training.embeddings import freeze_rows, place_vectors

    width = model.config.n_embd
    vectors = ranks.first_on_each_machine(lambda: word_vectors(config, width, tokenizer, shards, terminal))
    first = None if vectors is None else place_vectors(model, vectors, tokenizer, config)
    if config.mode == "frozen":
        freeze_rows(model)
    return first


def word_vectors(
    config: EmbeddingsConfig, width: int, tokenizer: Tokenizer, shards: Shards, terminal: Terminal
) -> WordVectors | None:
    """Word2vec's vectors of ``width`` numbers for the words of the training split, None if they are not asked for.

    What is held out is not read. Processes that need the same ones at the same time train them once.
    """
    if config.init != "word2vec":
        return None
    if tokenizer.kind != "word":
        raise ConfigError(
            f"embeddings.init word2vec is for tokenizers of kind word; this one is of kind {tokenizer.kind}",
            "Give --tokenizer.kind word, or leave embeddings.init out.",
        )
    learning = {key: getattr(config, key) for key in (*Word2VecConfig.model_fields, "min_count")}
    folder = cached(KIND, _contents(shards), tokenizer.fingerprint, learning, width)

    def make() -> WordVectors:
        learn(config, width, tokenizer, shards, terminal).save(folder)
        return load_vectors(folder)

    vectors = made_once(KIND, folder, lambda: load_vectors(folder), make, terminal)
    took = f"{vectors.facts['train_s']:.1f} s to train"
    terminal.print(f"word2vec   {len(vectors.words):,} vectors of {width} numbers, {took}: {folder}")
    return vectors


def learn(
    config: EmbeddingsConfig, width: int, tokenizer: Tokenizer, shards: Shards, terminal: Terminal
) -> WordVectors:
    """The vectors, trained now; their facts say how long that took, reading and counting included."""
    begun = time.perf_counter()
    stream, eot = shards.split("train"), tokenizer.eot_id
    occurrences = count_ids(stream.blocks(), tokenizer.vocab_size)
    words = [
        tokenizer.token(id) if id != eot and occurrences[id] >= config.min_count else None
        for id in range(tokenizer.vocab_size)
    ]
    counts = {word: int(occurrences[id]) for id, word in enumerate(words) if word is not None}
    line_end = tokenizer.id_of("\n") if tokenizer.has("\n") else None
    with terminal.progress("word2vec", config.epochs, "epoch") as bar:
        rows = train_word2vec(Lines(stream.blocks, words, line_end, eot), counts, width, config, bar.update)
    facts: dict[str, Any] = {
        **{key: getattr(config, key) for key in (*Word2VecConfig.model_fields, "min_count")},
        "tokenizer": tokenizer.fingerprint,
        "tokens": int(occurrences.sum()),
        "gensim": importlib.metadata.version("gensim"),
        "train_s": time.perf_counter() - begun,
    }
    return WordVectors(tuple(counts), rows, facts)


def frozen_weights(config: EmbeddingsConfig, shape: GPTConfig) -> int:
    """How many weights are left out of training; those of a tied head are the same ones."""
    return shape.vocab_size * shape.n_embd if config.mode == "frozen" else 0


def spared_flops(config: EmbeddingsConfig, shape: GPTConfig) -> int:
    """Operations of a training step that fall away: a head tied to frozen rows needs no gradient of its own."""
    return 2 * frozen_weights(config, shape) if shape.tie_embeddings else 0


def embedding_facts(config: EmbeddingsConfig, shape: GPTConfig, first: FirstRows | None) -> dict[str, Any]:
    """What ``config.json`` says of rows that are not random, or not trained."""
    facts: dict[str, Any] = {}
    if frozen := frozen_weights(config, shape):
        facts["trainable"] = parameter_counts(shape).total - frozen
    if first is not None:
        facts["word2vec"] = {
            "vectors": first.learnt,
            "train_s": first.vectors.facts["train_s"],
            "factor": first.factor,
            "rows_sha256": hashlib.sha256(first.vectors.rows.tobytes()).hexdigest(),
        }
    return facts


def embeddings_in_words(config: EmbeddingsConfig) -> list[str]:
    """What the model card says of them, nothing where they are as usual."""
    if config.init == "word2vec":
        then = "stayed so" if config.mode == "frozen" else "were trained on from there"
        return [f"Its token embeddings began as word2vec's, learnt from the training text, and {then}."]
    return ["Its token embeddings are random and were not trained."] if config.mode == "frozen" else []


def changed_embeddings(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Keys of [embeddings] that differ between two recipes, but for what the report shows."""
    usual = EmbeddingsConfig().model_dump(mode="json")
    begun, asked = ({**usual, **recipe.get("embeddings", {})} for recipe in (saved, now))
    return [f"embeddings.{key}" for key in usual if key != "show" and asked[key] != begun[key]]


def _contents(shards: Shards) -> list[str]:
    """The sha256 of each file of the training split, in order; of shards that others made it is reckoned now."""
    recorded = shards.manifest.files
    return [recorded[path.name].sha256 or sha256_of(path) for path in shards.split("train").paths]
