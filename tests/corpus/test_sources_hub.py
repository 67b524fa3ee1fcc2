"""Hub datasets: pinned by commit, divided by their card, from the cache where it has them, told quickly where not."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sources_world import HASTY, Server, hub_answers, serving, texts_of, write_parquet

from folio.corpus.sources import SourceChanged, SourceConfig, open_source
from folio.errors import ConfigError, Unreachable

pytest.importorskip("huggingface_hub")
constants: Any = pytest.importorskip("huggingface_hub.constants")

NAME = "HuggingFaceFW/fineweb-edu"
COMMIT = "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9"
CARD = {
    "configs": [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/*/*"}]},
        {"config_name": "sample-10BT", "data_files": [{"split": "train", "path": "sample/10BT/*"}]},
        {"config_name": "pair", "data_files": [{"split": "test", "path": ["data/x/*", "sample/10BT/000*"]}]},
    ]
}
README = "---\nconfigs:\n- config_name: pair\n  data_files:\n  - split: test\n    path: data/*/*\n---\ntext\n"
FILES = ["data/x/000_00000.parquet", "sample/10BT/000_00000.parquet", "sample/10BT/001_00000.parquet"]


@pytest.fixture
def contents(tmp_path: Path) -> dict[str, bytes]:
    """Each file holds its own name, twice."""
    files = {name: write_parquet(tmp_path / "made" / name, [name, name], 1).read_bytes() for name in FILES}
    return {**files, "README.md": README.encode()}


@pytest.fixture
def hub(contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A hub on this machine that has the dataset, and an empty cache."""
    with serving(hub_answers(NAME, COMMIT, contents, CARD)) as world:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", world.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield world


@pytest.fixture
def cached(tmp_path: Path, contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``cached(names)``: put files into a hub cache as the hub's own client lays them out."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))

    def put(*names: str) -> None:
        home = cache / f"datasets--{NAME.replace('/', '--')}"
        for folder in ("refs", "blobs", f"snapshots/{COMMIT}"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        (home / "refs" / "main").write_text(COMMIT)
        for name in names:
            blob = home / "blobs" / hashlib.sha256(contents[name]).hexdigest()
            blob.write_bytes(contents[name])
            link = home / "snapshots" / COMMIT / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)

    return put


def test_the_short_name_is_the_sample_of_ten_billion(hub: Server) -> None:
    source = open_source("fineweb-edu", patience=HASTY)
    assert [part.id for part in source.parts()] == [f"{name}:{row}" for name in FILES[1:] for row in (0, 1)]
    assert texts_of(source) == [FILES[1]] * 2 + [FILES[2]] * 2
    assert COMMIT in source.describe()["from"]
    assert NAME in source.describe()["from"]
    assert all(file.mark.startswith("sha256:") for file in source.plan.files)
    assert open_source(NAME, patience=HASTY).fingerprint == source.fingerprint


def test_configuration_and_split_are_those_of_the_card(hub: Server) -> None:
    def names(**settings: Any) -> list[str]:
        return [file.name for file in open_source(SourceConfig(path=NAME, **settings), patience=HASTY).plan.files]

    assert names(configuration="default") == [FILES[0]]
    assert names(configuration="pair", split="test") == FILES[:2]
    with pytest.raises(ConfigError, match=r"no configuration 'sample-10TB'\n.*Did you mean 'sample-10BT'\?"):
        names(configuration="sample-10TB")
    with pytest.raises(ConfigError, match=r"has no split 'train'\n.*There are: test\."):
        names(configuration="pair")
    with pytest.raises(ConfigError, match="there is no hub dataset 'no/such'"):
        open_source("no/such", patience=HASTY)


@pytest.mark.parametrize("path", ["sample/10BT/*.parquet", "sample/10BT", "sample/**"])
@pytest.mark.parametrize("revision", ["", f"@{COMMIT}"])
def test_a_place_of_the_hub_is_named_by_path(hub: Server, path: str, revision: str) -> None:
    source = open_source(f"hf://datasets/{NAME}{revision}/{path}", patience=HASTY)
    assert [file.name for file in source.plan.files] == FILES[1:]


def test_faults_that_pass_are_tried_again(hub: Server) -> None:
    source = open_source("fineweb-edu", patience=HASTY)
    hub.faults = ["status", "drop", ""]
    assert len(texts_of(source)) == 4


def test_keys_are_not_shown_to_whom_the_hub_leads(
    hub: Server, contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    stored = {f"datasets/{NAME}/resolve/{COMMIT}/{name}": content for name, content in contents.items()}
    with serving(stored) as other:
        hub.redirect = other.url.replace("127.0.0.1", "localhost")
        assert len(texts_of(open_source("fineweb-edu", patience=HASTY))) == 4
        assert other.asked
        assert set(other.keys) == {None}
    assert "Bearer hf_secret" in hub.keys


def test_what_the_cache_has_is_not_fetched(hub: Server, cached: Callable[..., None]) -> None:
    fingerprint = open_source("fineweb-edu", patience=HASTY).fingerprint
    cached(FILES[1])
    hub.asked = []
    source = open_source("fineweb-edu", patience=HASTY)
    assert source.fingerprint == fingerprint
    assert len(texts_of(source)) == 4
    assert not [each for each in hub.asked if FILES[1] in each]
    assert [each for each in hub.asked if FILES[2] in each]


def test_offline_the_cache_is_used(cached: Callable[..., None], contents: dict[str, bytes]) -> None:
    cached(*FILES[1:])
    source = open_source("fineweb-edu")
    assert texts_of(source) == [FILES[1]] * 2 + [FILES[2]] * 2
    assert source.plan.files[0].mark == f"sha256:{hashlib.sha256(contents[FILES[1]]).hexdigest()}"
    assert "as much of it as the hub's cache on this machine holds" in source.describe()["from"]
    cached("README.md", FILES[0])
    paired = open_source(SourceConfig(path=NAME, configuration="pair", split="test"))
    assert [file.name for file in paired.plan.files] == [FILES[0]]


def test_offline_and_online_are_the_same_source(
    hub: Server, cached: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    online = open_source("fineweb-edu", patience=HASTY).fingerprint
    cached(*FILES[1:])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert open_source("fineweb-edu").fingerprint == online


def test_a_file_of_the_cache_that_changes_is_noticed(cached: Callable[..., None], tmp_path: Path) -> None:
    cached(*FILES[1:])
    source = open_source("fineweb-edu")
    blob = tmp_path / "cache" / f"datasets--{NAME.replace('/', '--')}" / "snapshots" / COMMIT / FILES[1]
    blob.resolve().write_bytes(b"another")
    with pytest.raises(SourceChanged):
        texts_of(source)


def test_offline_by_wish_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="not in the hub's cache, and HF_HUB_OFFLINE is set") as caught:
        open_source("fineweb-edu")
    assert time.monotonic() - begun < 2
    assert "\n" not in caught.value.problem


def test_a_silent_hub_is_given_up_within_two_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="not in the hub's cache, and the hub does not answer"):
            open_source("fineweb-edu")
        assert time.monotonic() - begun < 2
