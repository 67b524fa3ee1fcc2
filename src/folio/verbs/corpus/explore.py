"""``folio corpus explore``: walk a text, or two, and write what was found as a record and a page."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from folio.verbs.action import Outcome, Terminal
from folio.verbs.corpus.opening import Opened, open_all
from folio.verbs.corpus.options import ExploreOptions, check, kind_of
from folio.verbs.corpus.printing import print_comparison, print_exploration

if TYPE_CHECKING:
    from folio.corpus.exploring import Exploration, Material
    from folio.verbs.progress import Progress

__all__ = ["ExploreOptions", "explore"]

BLOCK_SIZES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
SHOWN_SIZES = (512, 1024, 2048)
REDRAW_S = 0.1


def explore(options: ExploreOptions, terminal: Terminal) -> Outcome:
    """Count, print the tables, and write ``explore.json`` and ``report.html``."""
    import json

    from folio.artifacts import new_folder, refuse_occupied, write_file, write_manifest
    from folio.corpus.exploration import KIND
    from folio.reports.exploration import exploration_page

    whats = [options.what, *([options.against] if options.against is not None else [])]
    check(options, {kind_of(what) for what in whats})
    opened = open_all(options, terminal)
    to = options.to or Path("data/explore") / _folder_name(opened)
    refuse_occupied(to, allowed_kind=KIND)
    explorations = [_explored(each, options, terminal) for each in opened]
    found = explorations[0].record
    if len(explorations) > 1:
        found = {**found, "against": explorations[1].record, "comparison": _compared(*explorations)}
    with new_folder(to, replace=KIND) as folder:
        write_file(folder / "explore.json", json.dumps(found, ensure_ascii=False, indent=1) + "\n")
        exploration_page(explorations, found.get("comparison")).write(folder / "report.html")
        write_manifest(folder, KIND, _config(explorations, options))
    for exploration in explorations:
        print_exploration(terminal, exploration.record, titled=len(explorations) > 1)
    if len(explorations) > 1:
        print_comparison(terminal, [each.name for each in explorations], found["comparison"])
    return Outcome(found, wrote=(to / "explore.json", to / "report.html"), next=(_next(options),))


def _explored(opened: Opened, options: ExploreOptions, terminal: Terminal) -> Exploration:
    from folio.corpus.exploring import explore as walk
    from folio.shards.packing_statistics import packing_statistics

    with ExitStack() as stack:
        bars = _Bars(terminal, stack, opened.material)
        exploration = walk(opened.material, opened.tokens_of, seed=options.seed, tell=bars)
        bars.finish()
    lengths = exploration.statistics.encoded_lengths.counts
    sizes = sorted({*BLOCK_SIZES, options.block_size})
    packing = [found.record() for size in sizes if (found := packing_statistics(lengths, size)) is not None]
    record = exploration.record
    record["packing"] = packing
    record["packing_shown"] = sorted({*SHOWN_SIZES, options.block_size})
    tokenizer = opened.tokenizer
    record["tokenizer"] = tokenizer and {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size}
    return exploration


def _compared(one: Exploration, other: Exploration) -> dict[str, Any]:
    from folio.corpus.exploring import compared_words

    return {**compared_words(one.statistics, other.statistics), "documents": one.copies.shared_with(other.copies)}


class _Bars:
    """A bar for each stage of an exploration, with the megabytes of text a second while it is walked."""

    def __init__(self, terminal: Terminal, stack: ExitStack, material: Material) -> None:
        self._terminal, self._stack, self._material = terminal, stack, material
        self._stage = ""
        self._bar: Progress | None = None
        self._drawn = self._begun = time.monotonic()
        self._done = 0, 0

    def __call__(self, stage: str, documents: int, size: int) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self.finish()
            look = self._material.look
            total = (look.wanted or look.population) if not self._stage else None
            self._stage, self._begun = stage, now
            self._bar = self._stack.enter_context(self._terminal.progress(stage, total, "documents"))
            self._bar.update(0)
        self._done = documents, size
        if now - self._drawn >= REDRAW_S:
            self._drawn = now
            self._draw(now)

    def finish(self) -> None:
        """Draw where it ended, and close the bar."""
        self._draw(time.monotonic())
        self._stack.close()

    def _draw(self, now: float) -> None:
        documents, size = self._done
        rate = size / 1e6 / max(now - self._begun, 1e-3)
        if self._bar is not None:
            self._bar.update(documents, {"text": f"{size / 1e6:,.1f} MB", "rate": f"{rate:,.1f} MB/s"} if size else {})


def _folder_name(opened: tuple[Opened, ...]) -> str:
    names = [each.material.name.strip("/").replace("/", "-").replace(" ", "-") or "text" for each in opened]
    return "-against-".join(names)


def _config(explorations: list[Exploration], options: ExploreOptions) -> dict[str, Any]:
    """What decided the result: the texts, and how much of them was looked at."""
    sides = [
        {"corpus": each.name, "fingerprint": each.material.about["fingerprint"], "look": each.material.look.record()}
        for each in explorations
    ]
    config = {**sides[0], "limit": options.limit, "sample": options.sample, "seed": options.seed}
    return {**config, "against": sides[1]} if len(sides) > 1 else config


def _next(options: ExploreOptions) -> str:
    what = quote(options.what)
    kind = kind_of(options.what)
    if kind == "shards":
        return f"folio shards verify {what}"
    if kind == "elsewhere":
        return f"folio shards write {what}"
    return f"folio tokenizer train {what} --to data/bpe"
