"""Shards of several sources to one set of shards: by weights and a budget, whole documents, evenly interleaved."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from folio.artifacts import Parent, seal_manifest
from folio.checksums import record_of
from folio.errors import ArtifactError, ConfigError
from folio.shards.files import SplitWriter
from folio.shards.folder import Shards, open_shards
from folio.shards.format import dtype_for
from folio.shards.journal import Workplace, interruptible, partial_folder, workplace
from folio.shards.manifest import KIND, shards_manifest
from folio.shards.mixing.plan import MixConfig, Share, plan_mixture
from folio.shards.mixing.runs import Runs
from folio.shards.stream import TokenStream
from folio.shards.write import is_done

if TYPE_CHECKING:
    from pathlib import Path

WRITTEN_IDS = 1 << 20
"""Held at a time, whatever the size of a run."""


@dataclass(frozen=True, slots=True)
class MixProgress:
    """Ids written, of how many, about."""

    tokens: int
    total: int


def mix_shards(
    sources: Mapping[str, Shards],
    to: Path,
    config: MixConfig | None = None,
    on_progress: Callable[[MixProgress], None] = lambda progress: None,
) -> Shards:
    """Write the mixture of ``sources`` (by name) to the new folder ``to``, and open it.

    The training split takes turns: the source that is farthest behind its share gives its next run of documents. Each
    source's runs come in an order drawn anew for each epoch, and the last document that a source gives is whole, so it
    may give a little more than its share. The validation split is that of each source, whole, one after the other.

    The bytes depend on the sources' ids, their order and ``config`` alone. A writing that was killed begins anew; one
    that finds its work done returns at once. Memory is some megabytes, whatever the sizes.

    Raises :class:`ArtifactError` for sources of different tokenizers, when ``to`` holds something else or the disk is
    full; :class:`ConfigError` as :func:`~folio.shards.mixing.plan.plan_mixture` does; :class:`DataError` for a source
    without training documents; :class:`Interrupted` on Ctrl-C.
    """
    config = config or MixConfig()
    made_by = _one_tokenizer(sources)
    eot_id = made_by["eot_id"]
    runs = {name: Runs(own.split("train"), eot_id, config.run_tokens, name) for name, own in sources.items()}
    shares = plan_mixture({name: one.tokens for name, one in runs.items()}, config)
    parents = {name: _parent(own) for name, own in sources.items()}
    job = _job(made_by, config, parents, "val" if any("val" in own.splits for own in sources.values()) else None)
    if is_done(to, job):
        shutil.rmtree(partial_folder(to), ignore_errors=True)
        return open_shards(to)
    with interruptible(to, "mixing to", "begins anew"), workplace(to, job) as place:
        mixing = _Mixing(place, eot_id, on_progress, _total(shares, sources))
        train = mixing.train(runs, shares, config.seed)
        val = mixing.val(sources)
        splits = {
            "train": {"text_bytes": _text_bytes(sources, train, "train"), **train},
            "val": {"text_bytes": _text_bytes(sources, val, "val"), **val},
        }
        recorded = {key: job[key] for key in ("tokenizer", "dtype", "tokens_per_shard", "source")}
        described = {**recorded, "splits": {name: splits[name] for name in job["splits"]}}
        files = dict(sorted(place.journal.files.items()))
        seal_manifest(place.shards, shards_manifest(described, files, parents.values()))
        place.publish()
    return open_shards(to, verify=False)


class _Mixing:
    """Writes the splits of one mixture, and counts what each source gave."""

    def __init__(self, place: Workplace, eot_id: int, on_progress: Callable[[MixProgress], None], total: int) -> None:
        self._place = place
        self._eot_id = eot_id
        self._tell = on_progress
        self._total = total
        self._written = 0

    def train(self, runs: Mapping[str, Runs], shares: list[Share], seed: int) -> dict[str, Any]:
        """The runs of all sources, the one that is farthest behind its share first, until all have given theirs."""
        writer = self._writer("train")
        given = {share.name: {"tokens": 0, "documents": 0} for share in shares}
        orders = {name: one.endless("mixture", seed, number) for number, (name, one) in enumerate(runs.items())}
        behind = list(shares)
        try:
            while behind:
                share = min(behind, key=lambda one: given[one.name]["tokens"] / one.tokens)
                own, counts = runs[share.name], given[share.name]
                start, stop = next(orders[share.name])
                left = share.tokens - counts["tokens"]
                if stop - start >= left:
                    stop = min(stop, own.next_document(start + left))
                    behind.remove(share)
                counts["documents"] += self._copy(own.stream, start, stop, writer)
                counts["tokens"] += stop - start
            described = self._finished("train", writer)
        finally:
            writer.abandon()
        about = {share.name: share for share in shares}
        described["sources"] = [
            {
                "name": name,
                **counts,
                "weight": about[name].weight,
                "available": about[name].available,
                "epochs": counts["tokens"] / about[name].available,
            }
            for name, counts in given.items()
        ]
        return _summed(described)

    def val(self, sources: Mapping[str, Shards]) -> dict[str, Any]:
        """The validation documents of each source that has any, whole and once."""
        writer = self._writer("val")
        given = []
        try:
            for name, own in sources.items():
                if "val" in own.splits:
                    stream = own.split("val")
                    start = Runs(stream, self._eot_id, 1, f"{name}, val").begin
                    documents = self._copy(stream, start, len(stream), writer)
                    given.append({"name": name, "tokens": len(stream) - start, "documents": documents})
            described = self._finished("val", writer)
        finally:
            writer.abandon()
        return _summed({**described, "sources": given})

    def _copy(self, stream: TokenStream, start: int, stop: int, writer: SplitWriter) -> int:
        """Write ids ``start`` to ``stop``; how many documents begin among them."""
        documents = 0
        for at in range(start, stop, WRITTEN_IDS):
            ids = stream.read(at, min(WRITTEN_IDS, stop - at))
            documents += int(np.count_nonzero(ids == self._eot_id))
            writer.write(ids.astype(self._place.journal.job["dtype"], copy=False))
            self._written += len(ids)
            self._tell(MixProgress(self._written, self._total))
        return documents

    def _writer(self, split: str) -> SplitWriter:
        job = self._place.journal.job
        return SplitWriter(self._place.shards, split, np.dtype(job["dtype"]).newbyteorder("<"), job["tokens_per_shard"])

    def _finished(self, split: str, writer: SplitWriter) -> dict[str, Any]:
        writer.finish()
        self._place.journal.files.update(writer.files)
        return {"files": sorted(writer.files)}


def _one_tokenizer(sources: Mapping[str, Shards]) -> dict[str, Any]:
    """What the sources record of the tokenizer that made them all."""
    made_by = {name: own.manifest.config["tokenizer"] for name, own in sources.items()}
    first, *others = made_by
    for name in others:
        if made_by[name]["fingerprint"] != made_by[first]["fingerprint"]:
            kinds = [f"'{one}' ({made_by[one]['kind']}, {made_by[one]['vocab_size']:,} ids)" for one in (first, name)]
            raise ArtifactError(
                f"{kinds[0]} and {kinds[1]} were made by different tokenizers",
                "Write both with one: folio shards write.",
            )
    if made_by[first]["eot_id"] is None:
        raise ArtifactError(f"the tokenizer of '{first}' has no end-of-text id", "Use one that has <|endoftext|>.")
    return dict(made_by[first])


def _parent(shards: Shards) -> Parent:
    """The id of shards; without a manifest, that of the one they would have, with the sums of their bytes."""
    files = shards.manifest.files
    if all(record.sha256 for record in files.values()):
        return Parent(kind=KIND, id=shards.manifest.id)
    summed = {name: record_of(shards.path / name) for name in files}
    return Parent(kind=KIND, id=shards.manifest.model_copy(update={"files": summed}).id)


def _job(made_by: dict[str, Any], config: MixConfig, parents: Mapping[str, Parent], val: str | None) -> dict[str, Any]:
    """All that the bytes depend on, and the names of the sources."""
    ids = [parent.id for parent in parents.values()]
    names = list(parents)
    for number, id in enumerate(ids):
        if (first := ids.index(id)) < number:
            raise ConfigError(
                f"'{names[first]}' and '{names[number]}' are the same shards", "Give them once, with a higher weight."
            )
    rule = config.model_dump(mode="json", include={"weights", "tokens", "seed", "run_tokens"})
    job = {
        "tokenizer": made_by,
        "dtype": dtype_for(made_by["vocab_size"]).name,
        "tokens_per_shard": config.tokens_per_shard,
        "source": {
            "corpus": f"mixture of {', '.join(parents)}",
            "fingerprint": hashlib.sha256(json.dumps([rule, ids], sort_keys=True).encode()).hexdigest(),
            "mixture": {**rule, "sources": dict(zip(parents, ids, strict=True))},
        },
        "splits": ["train", *([val] if val else [])],
    }
    return dict(json.loads(json.dumps(job)))  # as it will be read back


def _total(shares: list[Share], sources: Mapping[str, Shards]) -> int:
    held_out = sum(own.tokens("val") for own in sources.values() if "val" in own.splits)
    return sum(share.tokens for share in shares) + held_out


def _text_bytes(sources: Mapping[str, Shards], split: dict[str, Any], name: str) -> int:
    """Bytes of text behind the ids of each source, by its mean: exact for what is taken whole, however often."""
    return sum(
        round(one["tokens"] * sources[one["name"]].text_bytes(name) / sources[one["name"]].tokens(name))
        for one in split["sources"]
    )


def _summed(split: dict[str, Any]) -> dict[str, Any]:
    return {**{count: sum(one[count] for one in split["sources"]) for count in ("tokens", "documents")}, **split}
