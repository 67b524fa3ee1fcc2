"""``folio shards mix``: shards of several sources to one set, by weights and a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from pydantic import Field
from tyro.conf import Positional

from folio.errors import ConfigError
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
    return Outcome(data, wrote=(options.to,), next=_next(options, shards.manifest.config["tokenizer"]["kind"]))


def names_of(paths: Sequence[Path]) -> list[str]:
    """What to call each: as many of the last parts of its path as tell it from the others.

    :class:`ConfigError` for a path that is given twice, in whatever words.
    """
    whole = [path.resolve() for path in paths]
    for number, path in enumerate(paths):
        if (first := whole.index(whole[number])) < number:
            same = (
                f"'{path}' is given twice" if paths[first] == path else f"'{paths[first]}' and '{path}' are one folder"
            )
            raise ConfigError(same, "Give it once, with a higher weight.")
    depth = 1
    while True:
        names = [Path(*path.parts[-depth:]).as_posix() for path in whole]
        if len(set(names)) == len(names):
            return names
        depth += 1


def _next(options: MixOptions, kind: str) -> tuple[str, ...]:
    """What to do with the mixture: a whole command where its tokenizer is GPT-2's."""
    to = quote(str(options.to))
    recipe, by = "gpt2", "--tokenizer.kind gpt2"
    if kind != "gpt2":
        recipe, by = "RECIPE.toml", f"--tokenizer.path {quote(str(options.tokenizer or 'TOKENIZER'))}"
    return f"folio shards verify {to}", f"folio train {recipe} --shards.path {to} {by}"


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
