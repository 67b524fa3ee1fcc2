"""What is written about the project holds: the command reference, the commands in pages, no machine's own paths."""

from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path

import pytest

from folio.cli import VERBS, actions_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MACHINE_PATH = re.compile(r"(?<![\w.~>/-])/(?:home|root|Users|work|tmp|opt|mnt)/\w")
COMMAND = re.compile(r"(?:^|`)\s*(?:\$ )?folio +([a-z]+(?:-[a-z]+)*)(?: +([a-z]+)(?![\w./=-]))?", re.MULTILINE)


def committed_text() -> list[tuple[str, str]]:
    """Name and text of every file that is, or would be, committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    files = [(name, ROOT / name) for name in names if name and (ROOT / name).is_file()]
    return [(name, data.decode()) for name, file in files if b"\0" not in (data := file.read_bytes())]


def commands_named(page: Path) -> set[tuple[str, str]]:
    """``(verb, word after it)`` of each command in a page's code; prose like "folio reads" is not in code."""
    text = page.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```.*?```", text, re.DOTALL)) + "\n" + "\n".join(re.findall(r"`[^`\n]+`", text))
    return {(verb, action) for verb, action in COMMAND.findall(code)}


def test_the_command_reference_is_what_help_prints() -> None:
    reference = runpy.run_path(str(ROOT / "docs" / "commands.py"))["reference"]()
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == reference, "docs/commands.md is out of date: make docs"


def test_readme_names_commands() -> None:
    assert len(commands_named(ROOT / "README.md")) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_a_page_exists(page: Path) -> None:
    for verb, action in commands_named(page):
        assert verb in VERBS, f"folio {verb}"
        actions = actions_of(verb)
        assert "" in actions or not action or action in actions, f"folio {verb} {action}"


def test_no_file_holds_a_path_of_one_machine() -> None:
    found = [f"{name}: {match.group()}" for name, text in committed_text() if (match := MACHINE_PATH.search(text))]
    assert found == []


def test_a_path_of_one_machine_would_be_seen() -> None:
    assert MACHINE_PATH.search("see " + "/home" + "/ada/runs")
    assert not MACHINE_PATH.search("../beside/data and docs/work/x and https://a.org/work/x")
