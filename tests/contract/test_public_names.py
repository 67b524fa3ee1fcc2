"""The names that stay: the library's, and the command's."""

from __future__ import annotations

import importlib
import inspect

import pytest

import folio
from folio.cli import VERBS

PUBLIC = {"__version__", "load", "load_tokenizer", "open_shards", "train"}
VERBS_OF_THIS_VERSION = [
    *("demo", "corpus", "tokenizer", "shards", "train", "lr", "verify-resume"),
    *("evaluate", "compare", "synthesize", "finetune", "generate", "ladder", "study", "report", "bench", "check"),
]


def test_public_names() -> None:
    assert set(folio.__all__) == set(dir(folio)) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_public_name_is_a_documented_function(name: str) -> None:
    assert inspect.isfunction(getattr(folio, name))
    assert inspect.getdoc(getattr(folio, name))


def test_load_takes_path_dtype_device() -> None:
    assert list(inspect.signature(folio.load).parameters)[:3] == ["path", "dtype", "device"]


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="laod"):
        _ = folio.laod  # type: ignore[attr-defined]


def test_verbs() -> None:
    assert list(VERBS) == VERBS_OF_THIS_VERSION


@pytest.mark.parametrize("verb", VERBS_OF_THIS_VERSION)
def test_every_verb_is_made_of_actions(verb: str) -> None:
    from folio.config import Table
    from folio.verbs.action import Action

    actions = importlib.import_module(VERBS[verb][0]).ACTIONS
    assert actions
    for action in actions.values():
        assert isinstance(action, Action)
        assert issubclass(action.options, Table)
        assert action.summary
        assert all(f"folio {verb}" in example for example in action.examples)
