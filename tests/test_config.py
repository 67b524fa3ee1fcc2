"""Files and flags become frozen tables, and every mistake is named at once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from folio import config
from folio.config import Table, build, deep_merge, read_recipe, read_toml, to_toml
from folio.errors import ConfigError
from folio.verbs.options import over_recipe, parse, print_help


class Train(Table):
    """How to train."""

    batch_tokens: int = Field(default=4096, ge=1)
    """Tokens per step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """How the rate falls."""
    overfit: bool = False
    """Learn one batch."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Averaging of the gradient and its square."""


class Corpus(Table):
    """Where text comes from."""

    name: str | None = "shakespeare"
    """A named corpus."""
    path: Path | None = None
    """Own text."""
    files: tuple[str, ...] = ()
    """Some files."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.name is not None and self.path is not None:
            raise ValueError("give name or path, not both")
        return self


class Options(Table):
    """A verb's options."""

    recipe: tyro.conf.Positional[str]
    """A preset or a file."""
    rest: tyro.conf.Positional[tuple[str, ...]] = ()
    """More of them."""
    seed: int = 1
    """Where chance starts."""
    corpus: Corpus = Corpus()
    """[corpus]"""
    train: Train = Train()
    """[train]"""


def lines_of(error: pytest.ExceptionInfo[ConfigError]) -> list[str]:
    return [line.strip() for line in str(error.value).splitlines()]


def test_every_mistake_in_a_file_is_named_at_once() -> None:
    data = {
        "recipe": "x",
        "train": {"batch_tokns": 5, "learning_rate": -1.0, "schedule": "cosin", "overfit": "perhaps"},
        "corpus": 3,
        "traim": {},
    }
    with pytest.raises(ConfigError) as error:
        build(Options, data, source="'a.toml'")
    assert lines_of(error) == [
        "'a.toml': 6 mistakes",
        "corpus = 3: must be a table",
        "train.learning_rate = -1.0: must be greater than 0",
        "train.schedule = 'cosin': must be 'constant' or 'cosine'; did you mean 'cosine'?",
        "train.overfit = 'perhaps': must be a valid boolean",
        "unknown key train.batch_tokns; did you mean train.batch_tokens?",
        "unknown key traim; did you mean train?",
    ]


class Either(Table):
    """Keys that may hold values of several kinds."""

    count: Annotated[int, Field(ge=1)] | Literal["auto", "all"] | None = None
    """How many."""
    share: Annotated[float, Field(gt=0, le=1)] | bool = False
    """How much of it."""


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"count": "al"}, "count = 'al': must be a whole number of at least 1, 'auto', or 'all'; did you mean 'all'?"),
        ({"count": 0}, "count = 0: must be a whole number of at least 1, 'auto', or 'all'"),
        ({"share": 1.5}, "share = 1.5: must be a number above 0 and of at most 1, or true or false"),
    ],
)
def test_a_key_of_several_kinds_is_one_mistake_that_names_them_all(data: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(Either, data)
    assert lines_of(error) == [line]


def test_a_key_of_several_kinds_takes_each_of_them() -> None:
    assert [build(Either, {"count": count}).count for count in (3, "auto", "none")] == [3, "auto", None]


def test_a_contradiction_is_one_clean_line() -> None:
    with pytest.raises(ConfigError) as error:
        build(Options, {"recipe": "x", "corpus": {"path": "a.txt"}}, source="'a.toml'")
    assert str(error.value) == "'a.toml': corpus: give name or path, not both"


def test_tables_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Train().overfit = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a = 1\nb = = 2\n", "bad.toml', line 2: invalid value"),
        (b"a = [1,\n", "bad.toml', at its end: "),
        (b"a = 1\na = 2\n", "bad.toml', line 2: cannot overwrite a value"),
        (b'a = "\xff"\n', "bad.toml' is not UTF-8 text (byte 5)"),
    ],
)
def test_a_file_that_is_no_toml_names_the_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_toml(tmp_path / "bad.toml")
    assert said in error.value.problem
    assert len(lines_of(error)) == 2


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_toml(tmp_path / name)


def test_misspelt_preset_is_answered_with_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpt2.toml").write_text("seed = 3\n")
    (tmp_path / "modern-124m.toml").write_text("seed = 4\n")
    monkeypatch.setattr(config, "preset_folder", lambda: tmp_path)
    assert read_recipe("gpt2") == {"seed": 3}
    assert read_recipe(str(tmp_path / "modern-124m.toml")) == {"seed": 4}
    with pytest.raises(ConfigError) as error:
        read_recipe("modern-124")
    assert error.value.problem == "there is no preset 'modern-124'"
    assert error.value.remedy == "Did you mean modern-124m? Presets: gpt2, modern-124m."


def test_merge_goes_into_tables_and_leaves_its_inputs_alone() -> None:
    base = {"a": 1, "t": {"x": 1, "y": {"z": 2}}}
    assert deep_merge(base, {"t": {"y": {"w": 3}}, "b": 2}) == {"a": 1, "b": 2, "t": {"x": 1, "y": {"z": 2, "w": 3}}}
    assert deep_merge(base, {"t": 5}) == {"a": 1, "t": 5}
    assert base == {"a": 1, "t": {"x": 1, "y": {"z": 2}}}


@pytest.mark.parametrize("flag", ["--train.batch-tokens", "--train.batch_tokens"])
def test_flags_with_dashes_or_underscores(flag: str) -> None:
    assert parse(Options, ["tiny", flag, "8"]).train.batch_tokens == 8
    assert parse(Options, ["tiny", f"{flag}=8"]).train.batch_tokens == 8


def test_every_kind_of_flag() -> None:
    args = "tiny more --train.overfit --train.betas 0.8 0.9 --corpus.files a b --seed=-5 --corpus.name none -- --odd"
    options = parse(Options, args.split())
    assert (options.recipe, options.rest) == ("tiny", ("more", "--odd"))
    assert (options.train.overfit, options.train.betas) == (True, (0.8, 0.9))
    assert (options.corpus.files, options.corpus.name, options.seed) == (("a", "b"), None, -5)
    assert parse(Options, ["tiny", "--train.learning-rate", "5e-1"]).train.learning_rate == 0.5
    assert parse(Options, ["tiny", "--train.overfit", "--train.no-overfit"]).train.overfit is False


def test_flags_win_over_the_file_and_the_rest_stays() -> None:
    default = build(Options, {"recipe": "tiny", "train": {"batch_tokens": 8, "overfit": True}, "seed": 7})
    options = parse(Options, ["--train.batch-tokens", "16", "--train.no-overfit"], default=default)
    assert options == build(Options, {"recipe": "tiny", "train": {"batch_tokens": 16, "overfit": False}, "seed": 7})


def test_a_recipe_is_what_flags_start_from(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("seed = 7\n[train]\nbatch_tokens = 8\n")
    args = ["--train.overfit", "--seed", "9", str(tmp_path / "a.toml"), "more"]
    options = parse(Options, args, default=over_recipe(Options)(args))
    assert (options.train.batch_tokens, options.train.overfit, options.seed) == (8, True, 9)
    assert (options.recipe, options.rest) == (args[3], ("more",))
    assert over_recipe(Options)(["--train.overfit", "--seed", "9"]) is None


def test_a_mistake_in_a_recipe_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[train]\nbatch_token = 8\n")
    with pytest.raises(
        ConfigError, match=r"a\.toml': unknown key train\.batch_token; did you mean train\.batch_tokens"
    ):
        over_recipe(Options)([str(tmp_path / "a.toml")])


def test_every_mistake_in_flags_is_named_at_once() -> None:
    args = "--train.batch_tokens x --trian.overfit --train.schedule cosin --corpus.path --seed"
    with pytest.raises(ConfigError) as error:
        parse(Options, args.split())
    assert lines_of(error) == [
        "6 mistakes",
        "unknown key --trian.overfit; did you mean --train.overfit?",
        "--corpus.path needs a value",
        "--seed needs a value",
        "RECIPE is required",
        "--train.batch-tokens 'x': must be a valid integer",
        "--train.schedule 'cosin': must be 'constant' or 'cosine'; did you mean 'cosine'?",
    ]


def test_a_flag_without_its_table_is_answered_with_the_table() -> None:
    with pytest.raises(ConfigError, match=r"unknown key --batch-tokens; did you mean --train\.batch-tokens"):
        parse(Options, ["tiny", "--batch-tokens", "4"])


def test_an_argument_too_many() -> None:
    with pytest.raises(ConfigError, match="unexpected argument '4'"):
        parse(Train, ["4"])


def test_help_shows_the_sentence_under_each_field(capsys: pytest.CaptureFixture[str]) -> None:
    print_help(Options, "folio train", "Train.", ["folio train tiny"])
    shown = capsys.readouterr().out
    for part in ("RECIPE", "--train.batch-tokens INT", "Tokens per step.", "--train.no-overfit", "examples:"):
        assert part in shown


def test_help_after_a_recipe_shows_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    print_help(Options, "folio train", "Train.", default=build(Options, {"recipe": "tiny", "seed": 77}))
    assert "(default: 77)" in capsys.readouterr().out


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda text: text.lower() != "none")


@given(
    recipe=texts,
    files=st.lists(texts, max_size=3).map(tuple),
    name=texts | st.none(),
    rate=st.floats(min_value=1e-300, allow_infinity=True),
    overfit=st.booleans(),
    seed=st.integers(-(2**62), 2**62),
)
def test_a_printed_configuration_reads_back(
    recipe: str, files: tuple[str, ...], name: str | None, rate: float, overfit: bool, seed: int
) -> None:
    table = Options(
        recipe=recipe,
        seed=seed,
        corpus=Corpus(name=name, files=files),
        train=Train(learning_rate=rate, overfit=overfit),
    )
    assert build(Options, tomllib.loads(to_toml(table))) == table


def test_printed_configuration_is_toml_as_a_person_writes_it() -> None:
    table = Options(recipe="tiny", corpus=Corpus(name=None, path=Path("a.txt")))
    assert to_toml(table) == (
        'recipe = "tiny"\nrest = []\nseed = 1\n\n'
        '[corpus]\nname = "none"\npath = "a.txt"\nfiles = []\n\n'
        '[train]\nbatch_tokens = 4096\nlearning_rate = 0.001\nschedule = "cosine"\n'
        "overfit = false\nbetas = [0.9, 0.95]\n"
    )
