"""The oracle's score of a model that is still being trained: what it writes now after prompts that stay the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from folio.corpus import open_corpus
from folio.errors import ConfigError
from folio.evaluation.oracle.prompts import draw
from folio.evaluation.oracle.scores import NAME, measurement, prompt_means
from folio.evaluation.results import Measurement
from folio.generation.config import GenerationConfig
from folio.model.gpt import GPT
from folio.runtime import Runtime
from folio.tokenizer import Tokenizer
from folio.verbs.action import Terminal
from folio.verbs.evaluate.continuing import Writer, continued_by
from folio.verbs.evaluate.held_out import HeldOut
from folio.verbs.evaluate.judging import judge_all, open_judge, oracle_refusal
from folio.verbs.hub import model_folder
from folio.verbs.recipe import Recipe, model_for_vocabulary

RATIO = 3.0
THIS = "this run"


Measuring = Callable[[GPT, Callable[[], None]], Measurement]
"""What measures a model, calling what it is given besides now and then."""


def oracle_measure(recipe: Recipe, tokenizer: Tokenizer, runtime: Runtime) -> Measuring:
    """What measures any state of the model; prompts are drawn here, once, from the corpus's validation split.

    A continuation has three times its prompt's tokens, at temperature 1, one for each prompt, with the same seeds every
    time. A model of which nothing can be judged yet has a measurement without scores. :class:`ConfigError` where the
    run's text is shards or a source, besides what opening the oracle and drawing prompts raise.
    """
    config = recipe.evaluation
    assert config.oracle is not None
    if not recipe.corpus_is_read:
        raise ConfigError("evaluation.oracle draws prompts from a corpus, and this run's text is shards or a source")
    corpus = open_corpus(recipe.corpus)
    writer = Writer(THIS, Path(), tokenizer, model_for_vocabulary(recipe.model, tokenizer.vocab_size))
    judge = open_judge(model_folder(config.oracle), runtime, "fp32")
    drawn = draw(
        HeldOut(corpus, f"{corpus.name} (val)").passages(),
        config.prompts,
        config.seed,
        refusal=lambda text: writer.refusal(text) or oracle_refusal(judge, text),
    )
    quiet = Terminal(quiet=True)

    def measure(model: GPT, poll: Callable[[], None]) -> Measurement:
        written = continued_by(
            model,
            writer,
            drawn.prompts,
            GenerationConfig(temperature=1.0),
            ratio=RATIO,
            samples=1,
            seed=config.seed,
            on_progress=lambda texts, tokens: poll(),
        )
        judgements = judge_all(judge, drawn, {THIS: written}, quiet)[THIS]
        if np.isnan(prompt_means(judgements)).all():
            return Measurement(NAME, (), [])
        return measurement(drawn.prompts, written, judgements, {})

    return measure
