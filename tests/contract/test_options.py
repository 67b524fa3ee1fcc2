"""Every verb's options: each flag that --help shows is one that the command line reads, with a sentence about it."""

from __future__ import annotations

import contextlib
import io
import re

import pytest

from folio.cli import VERBS, actions_of
from folio.config import leaves
from folio.verbs.options import flagged, print_help, spelling


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_the_flags_that_are_read(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for action in actions_of(verb).values():
        keys = dict(leaves(action.options))
        with contextlib.redirect_stdout(out := io.StringIO()):
            print_help(action.options, "folio", "")
        shown = set(re.findall(r"^\s+(--[a-z][\w.-]*)", out.getvalue(), re.MULTILINE))
        assert shown == {spelling(key, keys) for key in flagged(keys)}


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_a_sentence(verb: str) -> None:
    for action in actions_of(verb).values():
        assert [key for key, info in leaves(action.options) if not info.description] == []
