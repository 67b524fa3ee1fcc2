"""``torchrun ... -m folio``: who speaks and writes, and how a job ends when a rank fails, dies, or is to stop."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rank_processes import Ended, Job
from real_runs import write_recipe

from folio.cli import main
from folio.errors import ConfigError
from folio.launch import NO_LAUNCHER, Launch, another_told, launched
from folio.training.checkpoint import list_checkpoints
from folio.training.metrics import read_metrics

FAULTY = Path(__file__).parent / "training" / "faulty_rank.py"
TRAIN = ("-m", "folio", "train", "tiny.toml")
LONG = ("--train.steps", "100000", "--train.checkpoint-every", "4")
"""A run that does not end by itself while a test looks on."""
SIXTY = ("--train.steps", "60", "--train.checkpoint-every", "4")
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "TORCHELASTIC_RUN_ID": "job"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_recipe(tmp_path)
    return tmp_path


def in_process(*arguments: object) -> tuple[int, str, str]:
    """``folio`` in this process, alone: exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def saved(run: Path, step: int = 1) -> Callable[[], bool]:
    """Whether a checkpoint of that step or a later one is there."""
    return lambda: any(c.step >= step for c in list_checkpoints(run))


def says_nothing_of_its_insides(ended: Ended) -> bool:
    """No traceback through Folio; torchrun's own report of a failure has one of torchrun."""
    return not re.search(r'File ".*[/\\]folio[/\\]', ended.err)


def test_without_a_launcher_a_process_is_alone() -> None:
    assert launched({}) == NO_LAUNCHER == Launch()
    assert NO_LAUNCHER.first


def test_torchrun_s_environment_is_read() -> None:
    told = {**TORCHRUN, "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_RESTART_COUNT": "3"}
    assert launched(told) == Launch(1, 2, 0, 1, 3, f"job-{os.getppid()}")
    assert not launched(told).first
    assert launched(TORCHRUN) == Launch(1, 2, 1, 2, 0, f"job-{os.getppid()}")
    assert launched({"RANK": "0", "WORLD_SIZE": "1"}) == Launch()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"MASTER_ADDR": None}, "RANK=1 and WORLD_SIZE=2 are in the environment, but no launcher set them"),
        ({"RANK": "2"}, "RANK=2 and WORLD_SIZE=2 are in the environment, but no launcher set them"),
        ({"RANK": "-1"}, "RANK=-1 and WORLD_SIZE=2 are in the environment, but no launcher set them"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two' in the environment is no number"),
    ],
)
def test_an_environment_that_no_launcher_left_is_refused(change: dict[str, str | None], problem: str) -> None:
    told = {name: value for name, value in {**TORCHRUN, **change}.items() if value is not None}
    with pytest.raises(ConfigError, match=re.escape(problem)) as refused:
        launched(told)
    assert "torchrun" in refused.value.remedy


def test_ranks_without_a_launcher_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, out, err = in_process("train", "tiny.toml")
    assert (code, out) == (2, "")
    assert err.startswith("folio: RANK=1 and WORLD_SIZE=2 are in the environment, but no launcher set them\n       ")
    assert err.count("\n") == 2


@pytest.mark.parametrize("verb", ["generate", "demo", "evaluate", "bench"])
def test_verbs_of_one_process_are_refused_under_a_launcher(monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    for name, value in {**TORCHRUN, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    code, out, err = in_process(verb, "anything")
    assert (code, out) == (2, "")
    assert err == f"folio: folio {verb} runs in one process\n       Start it without torchrun: folio {verb} ...\n"


def test_whether_another_rank_has_told_is_seen_where_torchrun_looks(tmp_path: Path) -> None:
    own, other = (tmp_path / "attempt_0" / rank / "error.json" for rank in "12")
    environment = {"TORCHELASTIC_ERROR_FILE": str(own)}
    for path in (own, other):
        path.parent.mkdir(parents=True)
    own.touch()
    assert not another_told(environment)
    assert not another_told({})
    other.touch()
    assert another_told(environment)


def test_what_cannot_be_is_said_once_by_the_first_rank_alone(folder: Path) -> None:
    with Job(folder, 2, *TRAIN, "--out", "run", "--train.batch-tokens", "544") as job:
        ended = job.end()
    assert ended.code != 0
    assert ended.folio_lines == ["folio: batch_tokens 544 is not a multiple of block_size 32 times 2 ranks"]
    assert "\n       The nearest values that are: 512 or 576.\n" in ended.err
    assert says_nothing_of_its_insides(ended)
    assert not (folder / "run").exists()


@dataclass(frozen=True)
class Story:
    """A run of two ranks that a second process wanted too, that was stopped, and went on in one process."""

    run: Path
    refused: tuple[int, str, str]
    stopped: Ended
    stopped_at: int
    resumed: tuple[int, str, str]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    write_recipe(folder)
    run = folder / "run"
    with Job(folder, 2, *TRAIN, "--out", "run", "--or-resume", "--json", *LONG) as job:
        job.wait_until(saved(run))
        refused = in_process("train", "--resume", run)
        job.signal(None, signal.SIGTERM)
        stopped = job.end(timeout_s=60)
    step = list_checkpoints(run)[-1].step
    with contextlib.chdir(folder):
        resumed = in_process("train", "--resume", run, "--train.steps", step + 3, "--json")
    return Story(run, refused, stopped, step, resumed)


def test_or_resume_begins_a_run_that_was_not_begun_with_all_its_ranks(story: Story) -> None:
    lines = [line for line in read_metrics(story.run) if line["kind"] == "train"]
    assert [line["step"] for line in lines] == list(range(1, story.stopped_at + 4))  # each step once, by one writer


def test_a_second_process_on_the_same_run_is_refused(story: Story) -> None:
    code, _, err = story.refused
    assert code == 2
    assert err == f"folio: another process is training '{story.run}'\n       Wait until it ends, or stop it.\n"


def test_asked_to_end_torchrun_lets_its_ranks_save_and_one_of_them_tells(story: Story) -> None:
    (line,) = story.stopped.folio_lines
    assert line == f"folio: stopped by SIGTERM after step {story.stopped_at} of 100000; saved"
    assert "Go on with: folio train --resume run" in story.stopped.err
    assert says_nothing_of_its_insides(story.stopped)


def test_under_json_the_ranks_together_print_one_object(story: Story) -> None:
    (line,) = story.stopped.out.splitlines()
    assert json.loads(line)["interrupted"].startswith(f"stopped by SIGTERM after step {story.stopped_at}")


def test_what_two_ranks_saved_one_process_goes_on_with(story: Story) -> None:
    code, out, err = story.resumed
    assert code == 0, err
    answer = json.loads(out)
    assert answer["steps"] == story.stopped_at + 3
    assert answer["resolved"]["world_size"] == 1
    events = [(line["event"], line["step"]) for line in read_metrics(story.run) if line["kind"] == "event"]
    assert events == [("stopped", story.stopped_at), ("resumed", story.stopped_at), ("finished", story.stopped_at + 3)]


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_when_a_rank_is_killed_the_job_ends_and_one_that_is_left_says_where_to_go_on(folder: Path, rank: int) -> None:
    with Job(folder, 2, *TRAIN, "--out", "run", *LONG) as job:
        job.wait_until(saved(folder / "run"))
        job.signal(rank, signal.SIGKILL)
        ended = job.end(timeout_s=30)
    assert ended.code != 0
    (line,) = ended.folio_lines
    told = re.fullmatch(
        r"folio: (?:rank 1: )?rank (\d) of 2 lost another rank: connection .+, after step (\d+); "
        r"the checkpoint of step (\d+) is whole",
        line,
    )
    assert told is not None, line
    assert int(told[1]) == 1 - rank
    assert list_checkpoints(folder / "run")[-1].step == int(told[3]) <= int(told[2])
    assert "Go on with: folio train --resume run" in ended.err
    assert says_nothing_of_its_insides(ended)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_when_a_rank_falls_silent_the_job_ends_with_a_word(folder: Path, rank: int) -> None:
    """Five seconds of waiting, and thirty that torchrun gives a process to end by itself before it uses force."""
    with Job(folder, 2, *TRAIN, "--out", "run", *LONG, "--train.rank-timeout-s", "5") as job:
        job.wait_until(saved(folder / "run"))
        job.signal(rank, signal.SIGSTOP)
        ended = job.end(timeout_s=90)
    (line,) = ended.folio_lines
    assert f"rank {1 - rank} of 2 lost another rank: it does not answer, after step" in line
    assert "Go on with: folio train --resume run" in ended.err
    assert says_nothing_of_its_insides(ended)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        ("text", "folio: rank 1: this rank cannot read the text"),
        ("memory", "folio: rank 1: out of memory"),
        ("bug", "folio: rank 1: this is a bug in folio; the lines above say where"),
    ],
)
def test_an_error_of_one_rank_alone_is_heard_with_its_rank(folder: Path, trouble: str, line: str) -> None:
    with Job(folder, 2, FAULTY, trouble, 5, "--", "train", "tiny.toml", "--out", "run") as job:
        ended = job.end(timeout_s=90)
    assert ended.code != 0
    assert line in ended.folio_lines
    assert len(ended.folio_lines) <= 2
    others = [other for other in ended.folio_lines if other != line]
    assert all("rank 0 of 2 lost another rank" in other and "step 4 is whole" in other for other in others)
    assert ("ZeroDivisionError" in ended.err) == (trouble == "bug")
    assert says_nothing_of_its_insides(ended) == (trouble != "bug")


@pytest.mark.slow
def test_generating_under_torchrun_is_refused_in_one_line(folder: Path) -> None:
    with Job(folder, 2, "-m", "folio", "generate", "run") as job:
        ended = job.end(timeout_s=60)
    assert ended.code != 0
    assert ended.folio_lines == ["folio: folio generate runs in one process"]
    assert says_nothing_of_its_insides(ended)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run of two ranks answers that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_recipe(folder)
    with Job(folder, 2, *TRAIN, *SIXTY, "--json") as job:
        ended = job.end()
    assert ended.code == 0, ended.err
    (line,) = ended.out.splitlines()
    answer: dict[str, Any] = json.loads(line)
    return answer


@pytest.mark.slow
def test_killed_twice_a_restarted_job_finds_its_run_and_ends_with_the_same_bits(
    folder: Path, undisturbed: dict[str, Any]
) -> None:
    """Nobody named its folder: among several it is known by the job that began it."""
    (folder / "runs" / "tiny").mkdir(parents=True)
    run = folder / "runs" / "tiny-2"
    with Job(folder, 2, *TRAIN, *SIXTY, "--json", flags=("--max-restarts", "2")) as job:
        for rank, step in ((1, 8), (0, 24)):
            job.wait_until(saved(run, step))
            job.signal(rank, signal.SIGKILL)
        ended = job.end()
    assert ended.code == 0, ended.err
    answer = json.loads(ended.out.splitlines()[-1])
    assert answer["weights_sha256"] == undisturbed["weights_sha256"]
    assert answer["validation"]["nats_per_token"] == undisturbed["validation"]["nats_per_token"]
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["tiny", "tiny-2"]
    events = [line["event"] for line in read_metrics(run) if line["kind"] == "event"]
    assert events == ["resumed", "resumed", "finished"]


@pytest.mark.slow
def test_or_resume_goes_on_with_a_run_that_was_cut_down_and_ends_with_the_same_bits(
    folder: Path, undisturbed: dict[str, Any]
) -> None:
    again = (*TRAIN, "--out", "run", "--or-resume", "--json", *SIXTY)
    with Job(folder, 2, *again) as job:
        job.wait_until(saved(folder / "run", 12))
        job.signal(0, signal.SIGKILL)
        assert job.end(timeout_s=60).code != 0
    with Job(folder, 2, *again) as job:
        ended = job.end()
    assert ended.code == 0, ended.err
    (line,) = ended.out.splitlines()
    assert json.loads(line)["weights_sha256"] == undisturbed["weights_sha256"]
