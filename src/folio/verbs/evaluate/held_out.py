"""Passages of held-out text: of a corpus's validation split, of a file, or of what the models' own runs held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from folio.config import build
from folio.corpus import Corpus, CorpusConfig, open_corpus
from folio.corpus.splitting import TailSplit
from folio.errors import ConfigError, UserError
from folio.evaluation.oracle.prompts import Passage, last_lines, passages
from folio.verbs.evaluate.text import recipe_of, run_of


@dataclass(frozen=True)
class HeldOut:
    """Where passages come from; ``description`` says which text and which part of it."""

    corpus: Corpus
    description: str
    whole: bool = False
    """All of the text, or its last lines, rather than the corpus's own split."""
    tail: float | None = None

    def passages(self) -> Iterator[Passage]:
        """The candidates, document by document."""
        if self.whole:
            for document in self.corpus.documents():
                yield from passages(document.text, 0 if self.tail is None else last_lines(document.text, self.tail))
        elif isinstance(self.corpus.split, TailSplit):
            for document in self.corpus.documents():
                held_out = [part for side, part in self.corpus.split.parts(document) if side == "val"]
                yield from passages(document.text, len(document.text) - sum(len(part.text) for part in held_out))
        else:
            for document in self.corpus.documents("val"):
                yield from passages(document.text)

    def facts(self) -> dict[str, Any]:
        return {"text": self.description, "corpus_fingerprint": self.corpus.fingerprint}


def held_out(models: Sequence[str], corpus: str | None, text: str | None, tail: float | None) -> HeldOut:
    """The text that the options name; :class:`ConfigError` if they name two, or the models' runs held out several."""
    if corpus is not None and text is not None:
        raise ConfigError("--corpus and --text are two ways to say one thing", "Give one of them.")
    if tail is not None and text is None:
        raise ConfigError("--tail cuts a --text", "Name the file: --text FILE --tail 0.1")
    if text is not None:
        opened = open_corpus(build(CorpusConfig, {"path": text}))
        part = "all of it" if tail is None else f"the last {tail:.4g} of its lines"
        return HeldOut(opened, f"{opened.name} ({part})", whole=True, tail=tail)
    if corpus is not None:
        opened = open_corpus(build(CorpusConfig, {"name": corpus}))
        return HeldOut(opened, f"{opened.name} (val)")
    found = [(name, config) for name in models if (config := _corpus_of_run(Path(name))) is not None]
    if not found:
        raise UserError(
            f"'{models[0]}' is not in a run that was trained on a corpus, so no held-out text goes with it",
            "Say where prompts come from: --text FILE or --corpus NAME.",
        )
    first, opened = found[0][0], open_corpus(found[0][1])
    for name, config in found[1:]:
        if config != found[0][1] and open_corpus(config).fingerprint != opened.fingerprint:
            raise ConfigError(
                f"'{first}' and '{name}' were trained on different text, or hold out different parts of it",
                "Say where prompts come from: --text FILE or --corpus NAME.",
            )
    return HeldOut(opened, f"{opened.name} (val)")


def _corpus_of_run(model: Path) -> CorpusConfig | None:
    """The corpus of the run that ``model`` is, or lies in; None if it has none: shards, a source, or examples."""
    run = run_of(model)
    recipe = None if run is None else recipe_of(run)
    return recipe.corpus if recipe is not None and recipe.corpus_is_read else None
