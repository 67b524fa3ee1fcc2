"""``folio shards mix``: shards of several sources to one set, by weights and a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from tyro.conf import Positional

from folio.shards.mixing.plan import MixConfig
from folio.verbs.action import Action, Outcome, Terminal

if TYPE_CHECKING:
    from folio.shards import Shards


class MixOptions(MixConfig):
    """Which shards, in which shares, to which folder."""

    sources: Positional[tuple[Path, ...]] = Field(min_length=1)
    """Folders of shards, all made by one tokenizer; also .bin files of llm.c or modded-nanogpt, with --tokenizer."""
    to: Path
    """Folder for the mixture."""
    tokenizer: Path | None = None
    """The tokenizer that made the shards; needed for files made by others."""


def mix(options: MixOptions, terminal: Terminal) -> Outcome:
    """Open and compare every source, then write the mixture."""
    from folio.shards.mixing.mix import MixProgress, mix_shards

    named = dict(zip(names_of(options.sources), options.sources, strict=True))
    sources = _opened(named, options.tokenizer, terminal)
    with terminal.progress("mix shards", None, "token") as bar:

        def show(progress: MixProgress) -> None:
            bar.update(progress.tokens, {"written": f"{progress.tokens / progress.total:.0%}"})

        shards = mix_shards(sources, options.to, options, show)
    splits = {name: shards.manifest.config["splits"][name] for name in shards.splits}
    for one in splits["train"]["sources"]:
        share = one["tokens"] / shards.tokens("train")
        terminal.print(
            f"{one['name']}: {one['epochs']:.2f} epochs of {one['available']:,} tokens, {share:.1%} of the mixture"
        )
    if "val" not in splits:
        terminal.print("no source has a validation split, so the mixture has none")
    columns = ("tokens", "documents", "text_bytes")
    rows = [(name, *(counts[column] for column in columns), len(counts["files"])) for name, counts in splits.items()]
    terminal.table(("split", "tokens", "documents", "text bytes", "files"), rows)
    data: dict[str, Any] = {"id": shards.manifest.id, **shards.manifest.config["source"], "splits": splits}
    tokenizer = options.tokenizer or "TOKENIZER"
    follow = f"folio train PRESET --shards.path {options.to} --tokenizer.path {tokenizer}"
    return Outcome(data, wrote=(options.to,), next=(f"folio shards verify {options.to}", follow))


def names_of(paths: Sequence[Path]) -> list[str]:
    """What to call each: as many of the last parts of its path as tell it from the others, else with a number."""
    whole = [path.resolve().parts for path in paths]
    for depth in (1, 2, 3):
        names = ["/".join(parts[-depth:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    return [f"{name}#{number}" for number, name in enumerate(names, 1)]


def _opened(named: dict[str, Path], tokenizer: Path | None, terminal: Terminal) -> dict[str, Shards]:
    """Every source, each byte compared with its manifest."""
    from folio.shards import open_shards
    from folio.tokenizer import load_tokenizer

    made_by = load_tokenizer(tokenizer) if tokenizer is not None else None
    opened: dict[str, Shards] = {}
    for name, path in named.items():
        with terminal.progress(f"compare {name}", None, "byte") as bar:
            opened[name] = open_shards(path, made_by, on_progress=bar.update)
    return opened


ACTION = Action(
    MixOptions,
    mix,
    "Mix shards by weights, whole documents taking turns.",
    examples=(
        "folio shards mix data/web data/books --weights 0.7,0.3 --tokens 10B --to data/mixture",
        "folio shards mix data/web data/books data/code --to data/all",
    ),
)
