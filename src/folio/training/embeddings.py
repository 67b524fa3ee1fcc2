"""The first rows of a model's token embedding from vectors of words, each on the row of its word's id.

V ids, C numbers in a row
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from folio.model.families import family_of, pieces
from folio.model.folder import read_config
from folio.model.gpt import GPT
from folio.model.stored import stored_tensors, weight_files
from folio.tokenizer import Tokenizer
from folio.tokenizer.vectors import WordVectors
from folio.tokenizer.word2vec import Rows
from folio.training.config_embeddings import EmbeddingsConfig

INITIAL_RMS = 0.02
"""Of the embedding as :meth:`folio.model.gpt.GPT.initialize` draws it."""


@dataclass(frozen=True, eq=False)
class FirstRows:
    """Every row (V, C) of the embedding before the first step, and how it was made."""

    vectors: WordVectors
    """A vector for every token of the vocabulary, in the order of ids; the fact ``others`` names those not learnt."""
    learnt: int
    """How many of them are word2vec's; the others got theirs by the rule ``other_rows``."""
    factor: float
    """What word2vec's vectors were multiplied with."""


def place_vectors(model: GPT, vectors: WordVectors, tokenizer: Tokenizer, config: EmbeddingsConfig) -> FirstRows:
    """Put the vector of each word on the row of its id, and what the rules say on the others; in place.

    The model has its random weights already; all but the embedding keep them, so that runs which differ in ``init``
    alone begin alike elsewhere.
    """
    V, C = tokenizer.vocab_size, model.config.n_embd
    assert vectors.rows.shape[1] == C, "the vectors were learnt for another width"
    ids = np.array([tokenizer.id_of(word) for word in vectors.words])
    factor = 1.0 if config.scale == "vectors" else INITIAL_RMS / _root_mean_square(vectors.rows)
    learnt = vectors.rows * np.float32(factor)
    with torch.no_grad():
        rows: Rows = model.embed.weight[:V].float().cpu().numpy().copy()
        others = np.setdiff1d(np.arange(V), ids)
        if config.other_rows == "mean":
            rows[others] = learnt.mean(axis=0)
        rows[ids] = learnt
        model.embed.weight[:V] = torch.from_numpy(rows).to(model.embed.weight)
    _check_rows(model, learnt, vectors.words, tokenizer)
    tokens = tuple(tokenizer.token(id) for id in range(V))
    facts = {**vectors.facts, "factor": factor, "others": [tokens[id] for id in others]}
    return FirstRows(WordVectors(tokens, rows, facts), len(ids), factor)


def _check_rows(model: GPT, learnt: Rows, words: tuple[str, ...], tokenizer: Tokenizer) -> None:
    """Word by word: its id names it and nothing else, and the row of that id is the word's vector."""
    special, seen = tokenizer.special_ids, set()
    rows = model.embed.weight.detach()
    for place, word in enumerate(words):
        id = tokenizer.id_of(word)
        assert tokenizer.token(id) == word, f"id {id} is {tokenizer.token(id)!r}, not {word!r}"
        assert word in special or tokenizer.encode(word) == [id], f"{word!r} is not read as id {id}"
        assert id not in seen, f"two vectors for id {id}"
        assert np.array_equal(rows[id].float().cpu().numpy(), learnt[place]), f"row {id} is not the vector of {word!r}"
        seen.add(id)


def _root_mean_square(rows: Rows) -> float:
    return float(np.sqrt(np.mean(np.square(rows, dtype=np.float64)))) or 1.0


def freeze_rows(model: GPT) -> None:
    """Leave the embedding out of training; a tied head is the same tensor, and is left out with it. In place."""
    model.embed.weight.requires_grad_(False)


def embedding_rows(model_folder: Path) -> Rows:
    """The token embedding (V, C) of a saved model, read alone; :class:`~folio.errors.ArtifactError` if it is none."""
    config = read_config(model_folder)
    family = family_of(config)
    name = next(piece.theirs for piece in pieces(config, family) if piece.ours == "embed.weight")
    with ExitStack() as files:
        found: Any = stored_tensors(files, weight_files(model_folder), family)[name].read()
        return np.asarray(found.float().numpy(), dtype=np.float32)
