"""``folio synthesize`` as a person meets it: what is shown and asked before anything is spent."""

from __future__ import annotations

import os
import pty
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_endpoint import KEY, FaultyEndpoint, serving, spec_text
from synthesis_processes import FOLIO, Here, environment, records

from folio.cli import VERBS, main
from folio.errors import ConfigError
from folio.verbs.options import parse
from folio.verbs.synthesize import ACTIONS, SynthesizeOptions, spec_defaults


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Here:
    return Here(tmp_path, monkeypatch, capsys)


@pytest.fixture
def world(here: Here) -> Iterator[FaultyEndpoint]:
    with serving(FaultyEndpoint()) as served:
        here.use(served)
        here.spec(spec_text(10))
        yield served


PRICES = ("--budget.prompt-price", "1", "--budget.completion-price", "2", "--budget.cost", "0.1")


def test_the_estimate_comes_before_any_request_and_nothing_is_spent_without_a_yes(
    here: Here, world: FaultyEndpoint
) -> None:
    assert here(*PRICES, yes=False) == 2
    assert "nobody is at a terminal to agree" in here.told
    assert "give --yes" in here.told
    shown = here.printed
    assert "10 of 1,728 combinations" in shown
    assert "estimate   about 680 tokens, cost 0.0013; at most 1,460 tokens, cost 0.0021" in shown
    assert "budget     cost 0.1" in shown
    assert not world.requests
    assert not here.out.exists()


def test_a_preview_shows_three_real_answers_which_count(here: Here, world: FaultyEndpoint) -> None:
    assert here("--preview", yes=False) == 0
    assert len(world.requests) == len(records(here.out)) == 3
    assert "[user] Write of a6 and b3 at c8." in here.printed
    for record in records(here.out):
        assert record["text"] in here.printed
    assert "folio synthesize" in here.printed
    assert "--yes" in here.printed
    assert here("--preview", yes=False) == 0
    assert len(world.requests) == 3, "a second preview shows the same three"
    assert here() == 0
    assert len(records(here.out)) == 10 == len(world.requests)


def test_the_command_that_goes_on_says_what_flags_changed(here: Here, world: FaultyEndpoint) -> None:
    flags = ["--request.stream", "--budget.tokens", "9000", "--filters.forbidden", "a b", "c", "--request.top-p", "0.5"]
    assert here("--preview", *flags, yes=False) == 0
    (line,) = (line for line in here.printed.splitlines() if line.startswith("  folio synthesize"))
    again = shlex.split(line)[2:]
    assert again[:3] == ["spec.toml", "--out", "out"]
    assert sorted(again[3:]) == sorted([*flags, "--yes"])
    assert main(["synthesize", *again]) == 0
    assert len(records(here.out)) == 10


def test_a_preview_shows_what_the_filters_set_aside(here: Here, world: FaultyEndpoint) -> None:
    world.choose = lambda number, body: "length" if number == 1 else None
    assert here("--preview", "--limits.concurrency", "1", yes=False) == 0
    assert "(filtered: cut short)" in here.printed
    assert len(world.requests) == 3


def test_a_preview_stays_within_the_budget(here: Here, world: FaultyEndpoint) -> None:
    assert here("--preview", "--budget.tokens", "150", yes=False) == 0
    assert len(world.requests) == 1
    assert "the budget ends here" in here.printed


def at_a_terminal(folder: Path, world: FaultyEndpoint, answers: list[str]) -> tuple[int, str]:
    """Run at a pseudo-terminal, answering each question in turn; gives the exit code and all that was shown."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [*FOLIO, "synthesize", "spec.toml", "--out", "out"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "TERM": "dumb", **environment(world)},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    ) as process:
        os.close(follower)
        shown, until = "", time.monotonic() + 60
        asked = 0
        try:
            while time.monotonic() < until:
                if not select.select([leader], [], [], 0.1)[0]:
                    if process.poll() is not None:
                        break
                    continue
                try:
                    shown += os.read(leader, 4096).decode(errors="replace")
                except OSError:  # the other side is closed
                    break
                if shown.count("[y/n]") > asked and asked < len(answers):
                    os.write(leader, answers[asked].encode() + b"\n")
                    asked += 1
            return process.wait(timeout=10), shown
        finally:
            process.kill()
            os.close(leader)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize(("answers", "kept"), [(["n"], 0), (["y", "n"], 3), (["y", "y"], 10)])
def test_a_person_is_asked_before_three_and_before_the_rest(
    here: Here, world: FaultyEndpoint, answers: list[str], kept: int
) -> None:
    code, shown = at_a_terminal(here.folder, world, answers)
    assert code == 0, shown
    assert "Ask for 3 examples first?" in shown
    assert ("Go on with the other 7?" in shown) == (kept > 0)
    assert len(records(here.out)) == len(world.requests) == kept
    assert KEY not in shown


def test_flags_change_what_the_spec_says_and_mistakes_in_both_are_named(here: Here, world: FaultyEndpoint) -> None:
    args = ["spec.toml", "--amount.count", "4", "--request.temperature", "0.3", "--filters.forbidden", "a b", "c"]
    options = parse(SynthesizeOptions, args, default=spec_defaults(args))
    assert (options.amount.count, options.request.temperature) == (4, 0.3)
    assert options.filters.forbidden == ("a b", "c")
    assert options.limits.backoff_s == 0.01, "the spec's own stays"
    with pytest.raises(ConfigError, match=r"unknown key --request.temprature; did you mean --request.temperature"):
        parse(SynthesizeOptions, ["spec.toml", "--request.temprature", "1"], default=spec_defaults(["spec.toml"]))
    here.spec(spec_text(10).replace("{a}", "{aa}"))
    assert here() == 2
    assert "prompt.template names {aa}, which is no attribute; did you mean {a}?" in here.told
    assert not world.requests


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "SPEC is required"),
        (("nowhere.toml",), "cannot read 'nowhere.toml'"),
        (("fantasy-location",), "Did you mean fantasy-locations?"),
    ],
)
def test_a_spec_that_is_not_there_is_told(given: tuple[str, ...], words: str, here: Here, capsys: Any) -> None:
    assert main(["synthesize", *given]) == 2
    assert words in capsys.readouterr().err


def test_a_missing_key_and_a_missing_package_name_what_to_do(here: Here) -> None:
    here.spec(spec_text(3))
    assert here() == 2
    assert "OPENAI_API_KEY is not set" in here.told
    here.monkeypatch.setenv("OPENAI_API_KEY", KEY)
    here.monkeypatch.setitem(sys.modules, "openai", None)
    assert here() == 2
    assert "pip install 'folio-lm[finetune]'" in here.told


def test_a_base_url_that_is_none_is_told(here: Here) -> None:
    here.spec(spec_text(3))
    here.monkeypatch.setenv("OPENAI_API_KEY", KEY)
    here.monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000")
    assert here() == 2
    assert "OPENAI_BASE_URL is no http address" in here.told


def test_marks_make_a_text_file_beside_the_jsonl(here: Here, world: FaultyEndpoint) -> None:
    assert here("--output.begin", "<LOC>", "--output.end", "</LOC>") == 0
    text = (here.out / "examples.txt").read_text()
    assert text.count("<LOC>\n") == text.count("\n</LOC>\n") == 10
    assert f"wrote {Path('out') / 'examples.txt'}" in here.printed
    assert [block.strip() for block in text.split("</LOC>")[:-1]] == [
        f"<LOC>\n{record['text']}" for record in records(here.out)
    ]


def test_a_complete_folder_is_left_as_it_is(here: Here, world: FaultyEndpoint) -> None:
    assert here() == 0
    before = (here.out / "examples.jsonl").read_bytes()
    assert here(yes=False) == 0
    assert (here.out / "examples.jsonl").read_bytes() == before
    assert len(world.requests) == 10


def test_without_a_folder_it_goes_by_the_specs_name(here: Here, world: FaultyEndpoint) -> None:
    assert main(["synthesize", "spec.toml", "--yes"]) == 0
    assert len(records(here.folder / "synthesized" / "spec")) == 10


def test_the_verb_stands_after_compare() -> None:
    verbs = list(VERBS)
    assert verbs.index("synthesize") == verbs.index("compare") + 1
    assert list(ACTIONS) == [""]
