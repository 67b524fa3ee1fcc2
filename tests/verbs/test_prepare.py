"""Tokenizer and shards are made once, by one process, and damaged ones are made anew with a word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from real_runs import write_recipe

from folio.locks import locked

PREPARING = """
import os, sys, time
from pathlib import Path
from folio import tokenizer
from folio.shards import write
from folio.verbs import prepare
from folio.verbs.action import Terminal
from folio.verbs.recipe import load_recipe

recipe, log = load_recipe(sys.argv[1]), Path(sys.argv[2])
train, write_split = tokenizer.train_tokenizer, write._write_split

def slowly(*arguments):
    with open(log, "a") as file:
        file.write("tokenizer\\n")
    print("making", flush=True)
    time.sleep(float(sys.argv[3]))
    return train(*arguments)

def written(*arguments):
    with open(log, "a") as file:
        file.write(f"shards {arguments[0]}\\n")
    time.sleep(0.3)
    return write_split(*arguments)

tokenizer.train_tokenizer, write._write_split = slowly, written
prepared = prepare.prepare(recipe, Terminal())
print("prepared", prepared.tokenizer.fingerprint, prepared.shards.manifest.id)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path)


def begin(recipe: Path, pause_s: float) -> subprocess.Popen[str]:
    cache = recipe.parent / "cache"
    command = [sys.executable, "-W", "error", "-c", PREPARING, str(recipe), str(recipe.parent / "log"), str(pause_s)]
    environment = {**os.environ, "FOLIO_CACHE": str(cache)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for said in process.stdout:
        if said.startswith(line):
            return
    raise AssertionError(process.communicate())


def test_two_processes_make_it_once_and_the_other_waits(recipe: Path) -> None:
    first = begin(recipe, 2.5)
    wait_for(first, "making")
    second = begin(recipe, 2.5)
    told, errors = second.communicate(timeout=60)
    rest, first_errors = first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0), first_errors + errors
    assert (recipe.parent / "log").read_text().split("\n") == ["tokenizer", "shards train", "shards val", ""]
    assert told.count("another process is making it; waiting") in (1, 2)  # for the tokenizer, perhaps for the shards
    assert told.splitlines()[-1] == rest.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_process_that_is_killed_holds_nobody_up(recipe: Path) -> None:
    first = begin(recipe, 60)
    wait_for(first, "making")
    second = begin(recipe, 0)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    told, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert told.splitlines()[-1].startswith("prepared")


def test_what_is_damaged_in_the_cache_is_made_anew_with_a_word(recipe: Path) -> None:
    sound, errors = begin(recipe, 0).communicate(timeout=60)
    assert "prepared" in sound, errors
    (shard,) = recipe.parent.glob("cache/shards/*/train_000000.bin")
    (vocabulary,) = recipe.parent.glob("cache/tokenizer/*/tokenizer.json")
    for file, what in ((shard, "shards"), (vocabulary, "tokenizer")):
        content = bytearray(file.read_bytes())
        content[-9] ^= 1
        file.write_bytes(content)
        again, errors = begin(recipe, 0).communicate(timeout=60)
        assert again.splitlines()[-1] == sound.splitlines()[-1], errors
        assert f"{what:<10} made anew, for in the cache '{file}' is damaged" in again


def test_a_lock_is_held_by_one_and_waiting_is_told_once(tmp_path: Path) -> None:
    code = "import sys, time\nfrom pathlib import Path\nfrom folio.locks import locked\n"
    code += "with locked(Path(sys.argv[1])) as held:\n    print(held, flush=True)\n    time.sleep(2)\n"
    command = [sys.executable, "-c", code, str(tmp_path / "a.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with locked(tmp_path / "a.lock", wait=False) as held:
            assert not held
        told: list[str] = []
        with locked(tmp_path / "a.lock", on_wait=lambda: told.append("waiting")) as held:
            assert held
            assert told == ["waiting"]
            assert holder.wait() == 0
