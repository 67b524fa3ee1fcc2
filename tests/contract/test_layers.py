"""Imports run one way through the house, and each rule about who may touch what holds."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

import folio

PACKAGE = Path(folio.__file__).parent
ORDER = [
    *("errors", "launch", "config", "hardware", "ranks", "runtime", "checksums", "locks", "artifacts"),
    *("corpus", "tokenizer", "shards", "model", "training", "evaluation"),
    *("generation", "finetuning", "export", "serving", "studies", "reports", "verbs", "cli"),
]
TOP = ("__init__", "__main__")
MODEL_MAY_USE = {"errors", "config", "artifacts", "model"}
REPORTS_MAY_BE_USED_BY = {"reports", "studies", "verbs", "cli"}
PROCESS_GROUP_SET_UP = {"init_process_group", "destroy_process_group", "new_group"}

MODULE = re.compile(r"folio(\.\w+)+")
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(tree: ast.AST, file: Path) -> set[str]:
    """Every module that a file imports anywhere in it, lazily and for types too, or names in a string."""
    found = set()
    package = ["folio", *file.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)} if base == "folio" else {base}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE.fullmatch(node.value):
            found.add(node.value)
    return found


def rooms_used(file: Path) -> set[str]:
    modules = imported_modules(ast.parse(file.read_text(encoding="utf-8")), file)
    names = {module.split(".")[1] for module in modules if module.startswith("folio.")}
    return {name for name in names if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()}


def faults(file: Path, used: set[str]) -> list[str]:
    room = room_of(file)
    if room in TOP:
        return []
    found = [f"{room} -> {other}" for other in used if ORDER.index(other) > ORDER.index(room) and other != "reports"]
    if "reports" in used and room not in REPORTS_MAY_BE_USED_BY:
        found.append(f"{room} -> reports")
    return found


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room_of(file) for file in FILES} - set(TOP) <= set(ORDER)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(file: Path) -> None:
    assert faults(file, rooms_used(file)) == []


def test_an_arrow_that_runs_back_is_seen() -> None:
    source = "def f():\n    from folio.training import loop\n"
    file = PACKAGE / "shards" / "batches.py"
    used = {module.split(".")[1] for module in imported_modules(ast.parse(source), file)}
    assert faults(file, used) == ["shards -> training"]
    assert faults(PACKAGE / "training" / "loop.py", {"reports"}) == ["training -> reports"]
    assert imported_modules(ast.parse("from ..cli import main"), file) == {"folio.cli"}


def test_model_stands_on_torch_and_little_else() -> None:
    allowed = {"torch", "safetensors", "pydantic", "folio", *sys.stdlib_module_names}
    for file in sorted((PACKAGE / "model").rglob("*.py")):
        modules = imported_modules(ast.parse(file.read_text(encoding="utf-8")), file)
        assert {module.split(".")[0] for module in modules} <= allowed, file
        assert rooms_used(file) <= MODEL_MAY_USE, file


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_only_ranks_sets_up_processes(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    touched = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & PROCESS_GROUP_SET_UP
    touched |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert room_of(file) == "ranks" or not touched & PROCESS_GROUP_SET_UP


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_a_file_holds_one_idea(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 300
