"""The presets: a dozen, each one a recipe that parses."""

from __future__ import annotations

import pytest

from folio.config import build, preset_paths, read_recipe, to_toml

PRESETS = preset_paths()


def test_number_of_presets() -> None:
    assert len(PRESETS) == 10


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_a_recipe(name: str) -> None:
    import tomllib

    from folio.verbs.recipe import Recipe

    recipe = build(Recipe, read_recipe(name), source=name)
    assert build(Recipe, tomllib.loads(to_toml(recipe))) == recipe
