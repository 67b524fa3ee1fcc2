"""A hub that breaks off, refuses or knows no such name ends in one line; a full disk is told as what it is."""

from __future__ import annotations

import errno
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from folio.corpus import hub as dataset_hub
from folio.errors import ConfigError, Unreachable
from folio.verbs import hub as model_hub

huggingface_hub = pytest.importorskip("huggingface_hub")
errors = pytest.importorskip("huggingface_hub.errors")
constants = pytest.importorskip("huggingface_hub.constants")


def broken_off() -> Exception:
    """What the HTTP package below this hub client raises where a connection drops."""
    below = errors.HfHubHTTPError.__bases__[0]
    return below("peer closed connection\nwithout sending the complete body")  # type: ignore[no-any-return]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """A hub that answers, and then fails with the given error."""

    def fail(error: Exception) -> None:
        def download(*_: Any, local_files_only: bool, **__: Any) -> str:
            raise errors.LocalEntryNotFoundError("nothing") if local_files_only else error

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        for module in (dataset_hub, model_hub):
            monkeypatch.setattr(module, "answers", lambda *_: True)

    return fail


FETCHES: list[Callable[[], Path]] = [
    lambda: model_hub.download("org/name"),
    lambda: dataset_hub.dataset_file("org/name", "main", "a.parquet"),
]


@pytest.mark.parametrize("fetch", FETCHES)
@pytest.mark.parametrize("error", [broken_off(), ConnectionResetError("reset by peer"), TimeoutError()])
def test_a_connection_that_drops_is_one_line(
    failing: Callable[[Exception], None], fetch: Callable[[], Path], error: Exception
) -> None:
    failing(error)
    with pytest.raises(Unreachable) as caught:
        fetch()
    assert "\n" not in caught.value.problem


@pytest.mark.parametrize("fetch", FETCHES)
def test_a_full_disk_is_not_taken_for_the_network(
    failing: Callable[[Exception], None], fetch: Callable[[], Path]
) -> None:
    failing(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space"):
        fetch()


@pytest.mark.parametrize("name", ["a/b/c", "org/na me", "--x/y"])
def test_a_name_that_no_dataset_can_have_is_told_at_once(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name of a hub dataset"):
        dataset_hub.dataset_file(name, "main", "a.parquet")


@pytest.mark.parametrize(
    "file",
    [
        *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json"),
        *("vocab.json", "merges.txt", "config.json", "model-00001-of-00002.safetensors"),
        *("model.safetensors", "model.safetensors.index.json", "chat_template.jinja"),
        *("adapter_config.json", "adapter_model.safetensors"),
    ],
)
def test_all_files_of_any_model_are_fetched(file: str) -> None:
    assert any(fnmatch(file, pattern) for pattern in model_hub.FILES)


def test_weights_that_could_run_code_are_not_fetched() -> None:
    assert not any(fnmatch(name, pattern) for name in ("pytorch_model.bin", "x.py") for pattern in model_hub.FILES)
