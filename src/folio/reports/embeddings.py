"""Embeddings that began as word2vec's, in a run's report: cosines before and after, and how far rows moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from folio.errors import ArtifactError
from folio.reports.heatmap import heat_map, visible
from folio.reports.page import Page
from folio.reports.quantities import duration
from folio.reports.records import RunRecord
from folio.tokenizer.vectors import WordVectors, cosines
from folio.training.config_embeddings import FIRST_ROWS, SHOWN

if TYPE_CHECKING:
    from folio.tokenizer.word2vec import Rows


def show_embeddings(page: Page, record: RunRecord) -> None:
    """A section for a run whose embedding began as word2vec's; none for any other.

    What cannot be read is said in its place: the rest of the run is still worth reporting.
    """
    if not (record.path / FIRST_ROWS).is_dir():
        return
    page.section("Embeddings")
    try:
        _show(page, record)
    except ArtifactError as error:
        page.note(f"The embeddings cannot be compared: {error.problem}.")


def _show(page: Page, record: RunRecord) -> None:
    from folio.training.checkpoint import list_checkpoints
    from folio.training.movement import first_rows, moved, rows_of

    first = first_rows(record.path)
    assert first is not None
    asked = _asked(record)
    page.paragraph(_origin(first, asked))
    found = []
    now: Rows | None = None
    for checkpoint in list_checkpoints(record.path):
        now = rows_of(checkpoint)
        found.append(moved(first, now, checkpoint.step))
    if found and asked.get("mode") != "frozen":
        page.table(
            ("step", "median", "95th percentile", "largest", "n (words)"),
            [[one.step, one.median, one.p95, one.largest, one.words] for one in found],
            caption="How far rows moved, |now − start| / |start|, in the checkpoints that were kept",
        )
    elif found:
        page.paragraph(f"They were frozen: the largest movement in any checkpoint is {max(m.largest for m in found)}.")
    _heat_maps(page, first, now if asked.get("mode") != "frozen" else None, tuple(asked.get("show", SHOWN)))


def _asked(record: RunRecord) -> Mapping[str, Any]:
    recipe = record.config.get("recipe")
    found = recipe.get("embeddings") if isinstance(recipe, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _origin(first: WordVectors, asked: Mapping[str, Any]) -> str:
    """How the rows were learnt, in a sentence or two."""
    facts = first.facts
    others = facts.get("others", [])
    kind = "skip-gram" if facts["skip_gram"] else "CBOW"
    named = ", ".join(map(visible, others[:4])) + (f" and {len(others) - 4:,} more" if len(others) > 4 else "")
    rule = {"mean": "the mean of all", "random": "a random one"}.get(str(asked.get("other_rows")), "one by a rule")
    rest = f" {named} got {rule}." if others else ""
    return (
        f"{len(first.words) - len(others):,} rows began as word2vec's ({kind}, window {facts['window']}, "
        f"{facts['negative']} negative samples, {facts['epochs']} epochs, seed {facts['seed']}), learnt from the "
        f"{facts['tokens']:,} tokens of the training split in {duration(facts['train_s'])}, which is not part of the "
        f"run's time.{rest}"
    )


def _heat_maps(page: Page, first: WordVectors, now: Rows | None, words: tuple[str, ...]) -> None:
    """Cosines of the words asked for, before the first step and after the last."""
    rows = first.known(words)
    if len(rows) < 2:
        return
    names = [first.words[row] for row in rows]
    stages = [("Cosines before training", first.rows)] + ([] if now is None else [("Cosines after training", now)])
    unknown = [visible(word) for word in words if word not in names]
    page.figures(
        *(heat_map(names, cosines(all_rows[rows]).tolist(), title=t, value_label="cosine") for t, all_rows in stages),
        caption=f"Not in the vocabulary: {', '.join(unknown)}." if unknown else "",
    )
