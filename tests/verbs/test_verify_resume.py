"""``folio verify-resume`` kills for real, sees a single changed bit, and leaves neither process nor folder behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from real_runs import write_recipe

from folio.cli import main
from folio.config import read_toml
from folio.errors import BrokenPromise
from folio.training.config import TrainConfig
from folio.verbs import killing, verify_resume
from folio.verbs.killing import Killing, Timing
from folio.verbs.recipe import load_recipe
from folio.verbs.same_end import differences
from folio.verbs.verify_resume import settled, shared_environment
from folio.verbs.verify_resume import write_recipe as write_toml
from folio.verbs.victim import END, FIRST, SAVE, START, STEP, VALIDATION, Trainer, Watch, descendants, processes


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def proof(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the verb printed for three kills, and the folder that it kept."""
    out = tmp_path_factory.mktemp("proof") / "runs"
    command = [sys.executable, "-W", "error", "-m", "folio", "verify-resume", str(recipe)]
    done = subprocess.run(
        [*command, "--kills", "3", "--kill-seed", "5", "--train.checkpoint-every", "0", "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, out


def test_three_kills_no_difference(proof: tuple[str, Path]) -> None:
    printed, out = proof
    rows = re.findall(r"^ +(\d+) +killed-\d+ +process +(start-up|first step|step|\w+)", printed, re.MULTILINE)
    assert [number for number, _ in rows] == ["1", "2", "3"]
    assert "3 kills, 0 differences" in printed
    digests = re.findall(r"weights sha256 ([0-9a-f]{64})", printed)
    assert len(digests) >= 2
    assert len(set(digests)) == 1
    assert json.loads((out / "undisturbed.json").read_text())["weights_sha256"] == digests[0]


def test_a_recipe_without_checkpoints_gets_some_and_is_told(proof: tuple[str, Path]) -> None:
    printed, out = proof
    assert "checkpoint every 1 steps: the recipe saves none on the way" in printed
    assert read_toml(out / "recipe.toml")["train"]["checkpoint_every"] == 1


def test_a_kill_was_gone_on_after_from_a_checkpoint(proof: tuple[str, Path]) -> None:
    events = [json.loads(line) for line in (proof[1] / "killed-1" / "metrics.jsonl").read_text().splitlines()]
    assert any(line.get("event") == "resumed" for line in events)


@pytest.fixture
def twin(proof: tuple[str, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The undisturbed run, and a copy of it to be changed."""
    shutil.copytree(proof[1] / "undisturbed", tmp_path / "twin")
    return proof[1] / "undisturbed", tmp_path / "twin"


def sealed_again(run: Path, file: str, change: Callable[[bytearray], None]) -> None:
    """Change a file of the last checkpoint, and its manifest with it, as a wrong run would have written both."""
    from folio.artifacts import read_manifest, record_of, seal_manifest

    checkpoint = sorted((run / "checkpoints").glob("step-*"))[-1]
    content = bytearray((checkpoint / file).read_bytes())
    change(content)
    (checkpoint / file).write_bytes(content)
    manifest = read_manifest(checkpoint)
    seal_manifest(
        checkpoint, manifest.model_copy(update={"files": {**manifest.files, file: record_of(checkpoint / file)}})
    )


def flip_last_bit(content: bytearray) -> None:
    content[-4] ^= 1  # the lowest bit of the last number's mantissa


def test_one_changed_bit_of_a_weight_is_seen_and_named(twin: tuple[Path, Path]) -> None:
    run, other = twin
    assert differences(other, run) == []
    sealed_again(other, "model/model.safetensors", flip_last_bit)
    (told,) = differences(other, run)
    assert re.fullmatch(r"model/model\.safetensors: [\w.]+: 1 of [\d,]+ values differ, by \S+ at most", told)


def test_one_changed_bit_of_the_state_is_seen(twin: tuple[Path, Path]) -> None:
    run, other = twin
    checkpoint = sorted((other / "checkpoints").glob("step-*"))[-1]
    state = sorted((checkpoint / "state").rglob("*.safetensors"))[0].relative_to(checkpoint).as_posix()
    sealed_again(other, state, flip_last_bit)
    (told,) = differences(other, run)
    assert told.startswith(state)


def test_another_loss_is_seen(twin: tuple[Path, Path]) -> None:
    run, other = twin
    lines = [json.loads(line) for line in (other / "metrics.jsonl").read_text().splitlines()]
    last = next(line for line in reversed(lines) if line["kind"] == "validation")
    last["nats_per_token"] += 1e-15
    (other / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (told,) = differences(other, run)
    assert told.startswith("validation loss of step 24: ")


def test_a_run_that_did_not_come_to_its_end_is_a_difference(twin: tuple[Path, Path]) -> None:
    run, other = twin
    shutil.rmtree(sorted((other / "checkpoints").glob("step-*"))[-1])
    assert differences(other, run) != []
    shutil.rmtree(other / "checkpoints")
    assert "has no checkpoint" in differences(other, run)[0]


def test_a_difference_is_exit_code_1_and_keeps_the_runs(
    recipe: Path, proof: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The trainings are those of the proof, and a kill that did change something."""

    def train(trainer: Trainer, run: Path, *_: object) -> Timing:
        shutil.copytree(proof[1] / "undisturbed", run)
        return Timing()

    def kill(self: Killing, tell: object) -> None:
        self.runs.append(self.folder / "killed-1")
        shutil.copytree(proof[1] / "undisturbed", self.runs[0])
        sealed_again(self.runs[0], "model/model.safetensors", flip_last_bit)

    monkeypatch.setattr(verify_resume, "train_undisturbed", train)
    monkeypatch.setattr(Killing, "run", kill)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["verify-resume", str(recipe), "--json"]) == 1
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["differences"] == 1
    assert "model/model.safetensors" in answer["runs"][0]["differences"][0]
    assert answer["runs"][0]["weights_sha256"] != answer["undisturbed"]["weights_sha256"]
    assert "ended with other bits" in captured.err
    assert "Traceback" not in captured.err
    (kept,) = tmp_path.glob("folio-verify-resume-*")
    assert str(kept) in captured.err


REFUSED = {
    "no kills": (["--kills", "0"], "--kills '0'"),
    "no ranks": (["--ranks", "0"], "--ranks '0'"),
    "a shape that cannot be": (["--model.n-head", "3"], "n_head 3 does not divide n_embd 32"),
    "text that is not there": (["--corpus.path", "no-such.txt"], "no-such.txt"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    case: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    flags, told = REFUSED[case]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["verify-resume", str(recipe), *flags]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("folio: ") == 1
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_preset_is_answered_with_the_nearest(capsys: Any) -> None:
    assert main(["verify-resume", "shakespear"]) == 2
    assert "Did you mean shakespeare?" in capsys.readouterr().err


def alive(pids: list[int]) -> list[int]:
    """Which of them still run; one that ended and waits for its parent has no command line."""
    listed = processes()
    return [pid for pid in pids if any(listed.get(pid, (0, []))[1])]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_no_process_and_no_folder(recipe: Path, tmp_path: Path, number: signal.Signals) -> None:
    verb = subprocess.Popen(
        [sys.executable, "-m", "folio", "verify-resume", str(recipe), "--train.steps", "100000"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while not (children := descendants(verb.pid)) or not list(tmp_path.glob("*/undisturbed/config.json")):
        assert time.monotonic() < until
        assert verb.poll() is None
        time.sleep(0.05)
    verb.send_signal(number)
    _, error = verb.communicate(timeout=60)
    assert verb.returncode == 3, error
    assert error.endswith("folio: interrupted; unfinished work was not saved\n")
    assert alive(children) == []
    assert list(tmp_path.iterdir()) == []


class Script(Trainer):
    """Processes that are small scripts, one after the other."""

    scripts: list[str]

    def command(self, run: Path, *, restarts: int) -> list[str]:
        return [sys.executable, "-c", self.scripts.pop(0)]


SLEEP = "import time; time.sleep(60)"
FAIL = """print('{"error": "the checkpoint cannot be read", "remedy": "Mend it."}'); raise SystemExit(2)"""


def test_a_run_that_does_not_go_on_is_a_broken_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killing, "AIMS", (START,))
    trainer = Script(tmp_path / "recipe.toml", 1, dict(os.environ))
    object.__setattr__(trainer, "scripts", [SLEEP, FAIL])
    kills = Killing(trainer, tmp_path, TrainConfig(steps=10, checkpoint_every=1), Timing(start_s=0.1), 1, seed=0)
    with pytest.raises(BrokenPromise, match="killed-1 did not go on after kill 1: the checkpoint cannot be read"):
        kills.run(lambda run, step: None)
    (kill,) = kills.kills
    assert (kill.moment, kill.step, kill.steps_again) == (START, None, None)


def test_a_run_that_stands_still_is_a_broken_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killing, "AIMS", (STEP,))
    monkeypatch.setattr(killing, "PATIENCE_S", 0.3)
    trainer = Script(tmp_path / "recipe.toml", 1, dict(os.environ))
    object.__setattr__(trainer, "scripts", [SLEEP])
    kills = Killing(trainer, tmp_path, TrainConfig(steps=10, checkpoint_every=1), Timing(), 1, seed=0)
    with pytest.raises(BrokenPromise, match="killed-1 stood still for 0 s after kill 0"):
        kills.run(lambda run, step: None)


def test_every_process_gets_one_recipe_and_one_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vocabulary nobody asked for is left to the tokenizer; what looks at free memory looks once."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert shared_environment(2)["OMP_NUM_THREADS"] == "3"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert int(shared_environment(2)["OMP_NUM_THREADS"]) >= 1
    assert "OMP_NUM_THREADS" not in shared_environment(1)
    recipe = load_recipe(str(write_recipe(tmp_path)))
    assert load_recipe(str(write_toml(tmp_path, recipe))) == recipe
    assert "vocab_size" not in read_toml(tmp_path / "recipe.toml")["model"]
    (tmp_path / "config.json").write_text('{"resolved": {"micro_batch": 4, "parallel": "fsdp"}}')
    found = settled(TrainConfig(micro_batch="auto"), tmp_path)
    assert (found.micro_batch, found.parallel) == (4, "fsdp")
    assert settled(TrainConfig(micro_batch=2), tmp_path).micro_batch == 2


def test_what_a_process_was_doing_is_read_from_its_folder(tmp_path: Path) -> None:
    config = TrainConfig(steps=8, validate_every=4, checkpoint_every=2)
    metrics, saves = tmp_path / "metrics.jsonl", tmp_path / "checkpoints"
    watch = Watch(tmp_path, config)

    def log(*lines: dict[str, Any], rest: str = "") -> str:
        with open(metrics, "a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines) + rest)
        watch.look()
        return watch.moment

    def train(step: int) -> dict[str, Any]:
        return {"kind": "train", "step": step, "nats_per_token": 1.0}

    watch.look()
    assert watch.moment == START
    assert log() == FIRST
    assert log(train(1), train(2)) == STEP
    (saves / ".step-00000002.tmp-abc").mkdir(parents=True)
    assert log() == SAVE
    watch.new_process()  # killed: what it left behind is no save of the next one
    assert (log(rest='{"kind": "tr'), watch.step) == (START, None)
    metrics.write_bytes(metrics.read_bytes().rpartition(b"\n")[0] + b"\n")  # as the log is opened again
    assert log(train(3)) == START, "a rank that outlived the killed one says nothing of the next"
    assert log({"kind": "event", "step": 2, "event": "resumed"}) == FIRST
    assert watch.resumed == 2
    assert (log(train(3)), log(train(4))) == (STEP, VALIDATION)
    assert log({"kind": "validation", "step": 4, "nats_per_token": 1.0}) == STEP
    assert (log({"kind": "event", "step": 8, "event": "finished"}), watch.ended) == (END, False)
    (saves / "step-00000008").mkdir()
    assert watch.ended
