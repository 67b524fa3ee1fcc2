"""Nothing damaged ever loads: bits flipped, files cut short, lost or exchanged, in all that a run leaves on disk."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from real_runs import folio as folio_process
from real_runs import write_recipe

import folio
from folio.cli import main
from folio.errors import UserError
from folio.training.checkpoint import newest_sound_checkpoint

CASES = 50
"""Damages drawn for each kind of artefact: 200 in all."""


class Made:
    """A tiny run with all that belongs to it."""

    def __init__(self, base: Path) -> None:
        self.run = base / "run"
        (self.tokenizer,) = (base / "cache" / "tokenizer").glob("*[0-9a-f]")
        (self.shards,) = (base / "cache" / "shards").glob("*[0-9a-f]")
        self.older, self.checkpoint = sorted((self.run / "checkpoints").glob("step-*"))[-2:]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    base = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOLIO_CACHE", str(base / "cache"))
        arguments = ["train", str(write_recipe(base)), "--out", str(base / "run"), "--train.steps", "8"]
        assert main([*arguments, "--shards.tokens-per-shard", "4000", "--train.keep-every", "4"]) == 0
        yield Made(base)


def files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


@contextmanager
def content_of(file: Path, content: bytes) -> Iterator[None]:
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)


def draw_damage(draw: random.Random, files: list[Path]) -> tuple[Path, bytes, str]:
    """One of ``files``, what it holds after a bit has flipped or its end is lost, and words for it."""
    while True:
        file = draw.choice(files)
        content = bytearray(file.read_bytes())
        if draw.random() < 0.5:
            size = draw.randrange(len(content))
            return file, bytes(content[:size]), f"{file.name} cut to {size}"
        bit = draw.randrange(len(content) * 8)
        content[bit // 8] ^= 1 << bit % 8
        if not means_the_same(file, bytes(content)):
            return file, bytes(content), f"{file.name} with bit {bit} flipped"


def means_the_same(file: Path, content: bytes) -> bool:
    """Whether a manifest still says all it said: 1e-5 may be written 1E-5."""
    try:
        return file.name == "manifest.json" and json.loads(content) == json.loads(file.read_bytes())
    except ValueError:
        return False


def outcome(call: Callable[[], object], damage: str) -> UserError | None:
    """The error for the user that ``call`` ends in, None if it works; fails if it ends in any other."""
    try:
        call()
    except UserError as error:
        return error
    except Exception as error:
        raise AssertionError(f"{damage} ended in {type(error).__name__}") from error
    return None


def refusal(call: Callable[[], object], damage: str) -> str:
    """The problem that ``call`` names, in one line and with a remedy; fails if it works."""
    error = outcome(call, damage)
    assert error is not None, f"{damage} was loaded"
    assert "\n" not in error.problem, damage
    assert error.remedy, damage
    return error.problem


def test_no_damage_in_a_checkpoint_is_resumed_from_or_loaded(made: Made) -> None:
    draw = random.Random(1)
    for _ in range(CASES):
        file, content, damage = draw_damage(draw, files_of(made.checkpoint))
        with content_of(file, content):
            found, passed_over = newest_sound_checkpoint(made.run)
            assert found.path == made.older, damage
            assert len(passed_over) == 1, damage
            assert str(file) in passed_over[0], damage
            inside = file.relative_to(made.checkpoint)
            if inside.parts[0] != "state" and file.name != "README.md":
                for given in (made.checkpoint, made.checkpoint / "model"):
                    assert file.name in refusal(lambda given=given: folio.load(given, device="cpu"), damage)
            if file.name in ("manifest.json", "tokenizer.json", "tokenizer_config.json"):
                assert file.name in refusal(lambda: folio.load_tokenizer(made.checkpoint), damage)
    assert newest_sound_checkpoint(made.run)[0].path == made.checkpoint


def test_no_damage_in_shards_is_opened(made: Made) -> None:
    draw = random.Random(2)
    for _ in range(CASES):
        file, content, damage = draw_damage(draw, files_of(made.shards))
        with content_of(file, content):
            assert file.name in refusal(lambda: folio.open_shards(made.shards), damage)
    assert folio.open_shards(made.shards).tokens("train") > 0


def test_no_damage_in_a_tokenizer_is_loaded(made: Made) -> None:
    draw = random.Random(3)
    for _ in range(CASES):
        file, content, damage = draw_damage(draw, files_of(made.tokenizer))
        with content_of(file, content):
            assert file.name in refusal(lambda: folio.load_tokenizer(made.tokenizer), damage)
    assert folio.load_tokenizer(made.tokenizer).vocab_size > 0


def test_no_damage_in_a_saved_model_is_loaded(made: Made, tmp_path: Path) -> None:
    folio.load(made.run, device="cpu").save(tmp_path / "model")
    files = [file for file in files_of(tmp_path / "model") if file.name != "README.md"]
    draw = random.Random(4)
    for _ in range(CASES):
        file, content, damage = draw_damage(draw, files)
        with content_of(file, content):
            assert file.name in refusal(lambda: folio.load(tmp_path / "model", device="cpu"), damage)
    (tmp_path / "model" / "README.md").write_text("my own words")
    assert folio.load(tmp_path / "model", device="cpu").config.n_layer == 2


def test_no_file_of_a_checkpoint_may_be_lost_emptied_or_another_checkpoints(made: Made, tmp_path: Path) -> None:
    for file in files_of(made.checkpoint):
        inside = file.relative_to(made.checkpoint)
        other = (made.older / inside).read_bytes()
        for name, content in (("lost", None), ("emptied", b""), ("exchanged", other)):
            if content == file.read_bytes():
                continue  # the tokenizer, which is the same in both
            with content_of(file, b"" if content is None else content):
                if content is None:
                    file.unlink()
                found, passed_over = newest_sound_checkpoint(made.run)
                assert found.path == made.older, (inside, name)
                assert len(passed_over) == 1
                if inside.parts[0] != "state" and file.name != "README.md":
                    refusal(lambda: folio.load(made.checkpoint, device="cpu"), f"{inside} {name}")


def test_a_file_that_the_manifest_does_not_name_is_not_used(made: Made) -> None:
    added = made.checkpoint / "model" / "model.safetensors.index.json"
    added.write_text("{}")
    try:
        told = refusal(lambda: folio.load(made.checkpoint, device="cpu"), "an added index")
    finally:
        added.unlink()
    assert told == f"'{added}' is none of the files that its manifest names"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_what_others_made_and_is_damaged_ends_in_no_traceback(name: str, made: Made, tmp_path: Path) -> None:
    """Without a manifest not every flipped bit can be seen; those that can are told like any other error."""
    folder = tmp_path / "theirs"
    shutil.copytree(made.checkpoint / "model", folder)
    draw, refused = random.Random(name), 0
    for _ in range(CASES):
        file, content, damage = draw_damage(draw, [folder / name])
        with content_of(file, content):
            error = outcome(lambda: folio.load(folder, device="cpu").tokenizer.encode("a bad cab"), damage)
            refused += error is not None
            assert error is None or "\n" not in error.problem, damage
    assert refused > CASES // 3


def test_another_programs_manifest_is_none_of_ours(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.checkpoint / "model", tmp_path / "model")
    for folder in (tmp_path, tmp_path / "model"):
        (folder / "manifest.json").write_text('{"name": "an extension", "manifest_version": 3}')
    assert folio.load(tmp_path / "model", device="cpu").tokenizer.vocab_size > 0


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.run, tmp_path / "run"))


def flip_in(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def one_message(told: str) -> str:
    """The problem's line of what was told, of which there is one; its remedy is on the next."""
    assert "Traceback" not in told
    lines = told.strip().splitlines()
    assert [line.startswith("folio: ") for line in lines] == [True, False], told
    return lines[0]


def test_resume_passes_over_a_damaged_checkpoint_and_says_so(made: Made, copy: Path) -> None:
    damaged = copy / "checkpoints" / made.checkpoint.name
    flip_in(damaged / "state" / os.listdir(damaged / "state")[0])
    done = folio_process("train", "--resume", copy)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert f"passed over: '{damaged}/state/" in done.stdout
    assert f"resume     {copy / 'checkpoints' / made.older.name}" in done.stdout


@pytest.mark.parametrize("verb", ["generate", "evaluate"])
def test_a_damaged_best_checkpoint_is_named_with_the_others(verb: str, copy: Path) -> None:
    best = folio.load(copy, device="cpu").folder
    flip_in(best / "model.safetensors")
    done = folio_process(verb, copy)
    assert done.returncode == 2
    assert one_message(done.stderr) == f"folio: '{best}/model.safetensors' is damaged: its sha256 is not the manifest's"
    others = [path for path in (copy / "checkpoints").iterdir() if path != best.parent]
    assert others
    assert all(f"'{path}'" in done.stderr for path in others)
    where = ["--to", copy.parent / "evaluation"] if verb == "evaluate" else []
    assert folio_process(verb, others[0], *where).returncode == 0


def a_changed_digit(content: bytes) -> bytes:
    return content.replace(b'"steps": 8', b'"steps": 9')


def a_flipped_bit(content: bytes) -> bytes:
    return content.replace(b":", b";", 1)


def half_lost(content: bytes) -> bytes:
    return content[: len(content) // 2 - 1]


def not_text(content: bytes) -> bytes:
    return b"\xff" + content


DAMAGES = {
    "config.json": [a_changed_digit, a_flipped_bit, half_lost, not_text],
    "metrics.jsonl": [a_flipped_bit, not_text],  # a lost end is what a kill leaves; a changed digit cannot be seen
}


@pytest.mark.parametrize("verb", ["report", "resume"])
@pytest.mark.parametrize(("name", "damage"), [(name, damage) for name in DAMAGES for damage in DAMAGES[name]])
def test_a_damaged_run_is_one_message(
    verb: str, name: str, damage: Callable[[bytes], bytes], copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copy / name
    content = file.read_bytes()
    file.write_bytes(damage(content))
    assert file.read_bytes() != content
    kept = {path: path.read_bytes() for path in files_of(copy)}
    capsys.readouterr()
    code = main(["report", str(copy)] if verb == "report" else ["train", "--resume", str(copy), "--train.steps", "10"])
    assert code == 2
    assert str(file) in one_message(capsys.readouterr().err)
    assert {path: path.read_bytes() for path in files_of(copy)} == kept  # refused before anything was written
