"""A spec: what examples are asked for. Read from a TOML file, with every mistake in it named at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from folio.config import config_error, read_toml, unknown_key, validated
from folio.errors import ConfigError, nearest
from folio.evaluation.tasks.template import Template
from folio.finetuning.synthesis.tables import PromptTable, Settings

ATTRIBUTE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class Spec(Settings):
    """A whole spec."""

    prompt: PromptTable
    attributes: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = {}
    """Lists of values; each combination of one value of each is a prompt."""

    @property
    def combinations(self) -> int:
        """How many different prompts there are."""
        product = 1
        for values in self.attributes.values():
            product *= len(values)
        return product

    def identity(self) -> dict[str, Any]:
        """All that decides what a folder of examples holds; amounts, limits and the budget may change as it grows."""
        content = self.model_dump(mode="json", exclude={"limits", "budget"})
        content["amount"] = {"seed": self.amount.seed}
        content["request"] = self.drawing()
        return content

    def drawing(self) -> dict[str, Any]:
        """How an answer is drawn, without what only says how it travels."""
        return self.request.model_dump(mode="json", exclude={"stream", "max_tokens_name"})


def spec_folder() -> Path:
    """Where the shipped specs lie: inside an installed package, or ``specs/`` of a checkout."""
    package = Path(__file__).parents[2]
    installed = package / "specs"
    return installed if installed.is_dir() else package.parent.parent / "specs"


def spec_path(given: str) -> Path:
    """The file that a shipped spec's name or a path means; a misspelt name is answered with the nearest."""
    if given.endswith(".toml") or "/" in given or "\\" in given:
        return Path(given)
    specs = {path.stem: path for path in sorted(spec_folder().glob("*.toml"))}
    if given in specs:
        return specs[given]
    guess = nearest(given, specs)
    hint = f"Did you mean {guess}?" if guess else "Give the path of a TOML file, or the name of a spec."
    raise ConfigError(f"there is no spec '{given}'", f"{hint} Specs: {', '.join(specs)}.")


def read_spec(given: str) -> dict[str, Any]:
    """The tables of a spec by its name or path; :class:`ConfigError` lists every mistake in it."""
    data = read_toml(spec_path(given))
    check_spec(data, f"'{given}'")
    return data


def check_spec(data: Mapping[str, Any], source: str = "") -> Spec:
    """``data`` as a spec; :class:`ConfigError` lists every mistake: of the tables, the attributes and the templates."""
    spec, mistakes = validated(Spec, {**data, "attributes": {}} if "attributes" in data else data)
    given = data.get("attributes", {})
    mistakes += _attribute_mistakes(given)
    prompt = data.get("prompt")
    if isinstance(prompt, Mapping) and isinstance(given, Mapping):
        mistakes += _template_mistakes(prompt, given)
    if mistakes or spec is None:
        raise config_error(mistakes, source)
    return spec.model_copy(update={"attributes": {name: tuple(values) for name, values in given.items()}})


def _attribute_mistakes(given: Any) -> list[str]:
    if not isinstance(given, Mapping):
        return ["attributes: must be a table of lists"]
    mistakes = []
    for name, values in given.items():
        key = f"attributes.{name}"
        if not ATTRIBUTE_NAME.fullmatch(name):
            mistakes.append(f"{key}: a name has letters, digits, _ and - and begins with a letter")
        if not isinstance(values, list | tuple) or not values or not all(isinstance(one, str) for one in values):
            mistakes.append(f"{key} = {str(values)[:60]!r}: must be a list of at least one text")
            continue
        for value in sorted({one for one in values if values.count(one) > 1}):
            mistakes.append(f"{key} has {value!r} more than once")
    return mistakes


def _template_mistakes(prompt: Mapping[str, Any], attributes: Mapping[str, Any]) -> list[str]:
    mistakes: list[str] = []
    used: set[str] = set()
    for key in ("template", "system"):
        text = prompt.get(key, "")
        if not isinstance(text, str):
            continue
        try:
            fields = Template.parse(text).fields
        except ValueError as error:
            mistakes.append(f"prompt.{key}: {error}")
            return mistakes
        used |= fields
        for field in sorted(fields - set(attributes)):
            told = unknown_key(field, list(attributes), lambda name: f"{{{name}}}").removeprefix("unknown key ")
            name, semicolon, guess = told.partition("; ")
            there = f"attributes: {', '.join(attributes)}" if attributes else "the spec has no attributes"
            mistakes.append(f"prompt.{key} names {name}, which is no attribute; {guess if semicolon else there}")
    if isinstance(prompt.get("template"), str):
        mistakes += [f"attributes.{name} is named in no template" for name in attributes if name not in used]
    return mistakes
