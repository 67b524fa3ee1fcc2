"""Errors are a line to the user, and a misspelling is answered with the nearest name."""

from __future__ import annotations

import pytest

from folio import errors
from folio.errors import ConfigError, Interrupted, MissingExtra, UserError, nearest, require


def test_the_text_is_the_problem_and_the_remedy_beneath() -> None:
    assert str(UserError("no text in 'a.txt'", "Give another file.")) == "no text in 'a.txt'\n       Give another file."
    assert str(ConfigError("n_head is 0")) == "n_head is 0"


@pytest.mark.parametrize(
    "name", ["ConfigError", "DataError", "ArtifactError", "MissingExtra", "Unreachable", "Diverged"]
)
def test_children_are_user_errors(name: str) -> None:
    assert issubclass(getattr(errors, name), UserError)
    assert f"─ {name} " in str(errors.__doc__)


def test_interrupted_is_nothing_to_mend() -> None:
    assert not issubclass(Interrupted, UserError)


def test_require_names_the_extra() -> None:
    with pytest.raises(MissingExtra, match=r"package 'no_such_package'.*\n.*pip install 'folio-lm\[hf\]'"):
        require("no_such_package.inner", "hf")
    assert require("json", "hf").__name__ == "json"


def test_require_does_not_hide_a_broken_package(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    (Path(str(tmp_path)) / "half_installed.py").write_text("import a_dependency_it_lacks\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_dependency_it_lacks"):
        require("half_installed", "hf")


@pytest.mark.parametrize(
    ("name", "found"), [("n-layers", "n_layer"), ("N_LAYER", "n_layer"), ("layer", "n_layer"), ("zzz", None)]
)
def test_nearest(name: str, found: str | None) -> None:
    assert nearest(name, ["n_layer", "batch_tokens"]) == found
