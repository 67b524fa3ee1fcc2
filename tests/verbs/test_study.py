"""``folio study``: cells trained by real processes; a study killed, stopped and extended ends with the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from real_runs import curve, write_recipe

from folio.cli import main
from folio.studies.running.records import CELLS
from folio.training.checkpoint import list_checkpoints
from folio.training.metrics import read_metrics
from folio.verbs.victim import descendants

STUDY = """
base = "tiny.toml"
seeds = [1, 2]
[axes]
width = { key = "model.n_embd", values = [32, 64] }
[recipe.train]
steps = 120
sample_every = 0
validate_every = 30
checkpoint_every = 10
[scales.short.recipe.train]
steps = 4
validate_every = 2
"""
Folio = Callable[..., tuple[int, str, str]]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_recipe(tmp_path)
    path = tmp_path / "widths.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture
def folio(capsys: pytest.CaptureFixture[str]) -> Folio:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def runs(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "cells").iterdir() if not path.name.startswith("."))


def weights(run: Path) -> str:
    return sha256((list_checkpoints(run)[-1].model / "model.safetensors").read_bytes()).hexdigest()


def told(folder: Path, kind: str) -> list[str]:
    return [line["cell"] for line in read_metrics(folder, CELLS) if line["kind"] == kind]


def test_a_study_is_trained_reported_extended_and_repeats_nothing(folio: Folio, study: Path, tmp_path: Path) -> None:
    study.write_text(study.read_text().replace("seeds = [1, 2]", "seeds = [1]"))
    out = tmp_path / "out"
    options = ("--scale", "short", "--out", out, "--workers", "2", "--threads", "1", "--json")
    code, said, err = folio("study", "run", study, *options)
    assert code == 0, err
    answer = json.loads(said)
    assert answer["counts"] == {"finished": 2}
    assert {path.name for path in out.iterdir()} >= {
        *("study.json", "cells.jsonl", "cells", "recipes", "logs", "report.html", "cells.csv", "means.md", "figures"),
    }
    first = {run.name: (run / "metrics.jsonl").stat().st_ctime_ns for run in runs(out)}
    assert set(answer["trained"]) == set(first)
    cell = runs(out)[0]
    assert json.loads((cell / "config.json").read_text())["verb"] == "train"
    assert (cell / "report.html").is_file()
    assert "validation" in (out / "logs" / f"{cell.name}.log").read_text()
    study.write_text(study.read_text().replace("seeds = [1]", "seeds = [1, 2]").replace("[32, 64]", "[32]"))
    code, said, err = folio("study", "run", study, *options)
    assert code == 0, err
    (added,) = json.loads(said)["trained"]
    assert "width=32_seed=2" in added
    assert {name: (out / "cells" / name / "metrics.jsonl").stat().st_ctime_ns for name in first} == first
    code, said, _ = folio("study", "report", out)
    assert code == 0
    code, said, _ = folio("study", "run", out)
    assert code == 0
    assert "1 more in the folder belongs to none" in said  # width 64


def test_a_name_is_of_content_and_not_of_where_the_text_lies(folio: Folio, study: Path, tmp_path: Path) -> None:
    def names() -> list[str]:
        code, said, err = folio("study", "run", study, "--dry-run", "--json", "--out", tmp_path / "out")
        assert code == 0, err
        return [cell["name"] for cell in json.loads(said)["cells"]]

    before = names()
    base = tmp_path / "tiny.toml"
    moved = tmp_path / "elsewhere" / "text.txt"
    moved.parent.mkdir()
    (tmp_path / "text.txt").rename(moved)
    base.write_text(base.read_text().replace((tmp_path / "text.txt").as_posix(), moved.as_posix()))
    assert names() == before
    moved.write_text(moved.read_text() + "abc")
    other = names()
    assert not set(other) & set(before)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_failure_is_kept_shown_and_tried_again_only_if_asked(folio: Folio, study: Path, tmp_path: Path) -> None:
    """One cell's measurement needs a file that is not there: the other is trained, and the command says so."""
    text = tmp_path / "held.txt"
    study.write_text(
        study.read_text().replace("seeds = [1, 2]", "seeds = 1")
        + f"[[conditions]]\nwhen = 'width == 32'\nset = {{ 'evaluation.texts' = ['{text.as_posix()}'] }}"
    )
    options = ("--scale", "short", "--out", tmp_path / "out", "--threads", "1")
    code, _, err = folio("study", "run", study, *options)
    assert code == 2
    assert "one cell failed: width=32" in err
    assert "held.txt" in err
    assert "--retry" in err
    assert "1 failed" in (tmp_path / "out" / "report.html").read_text()
    assert len(told(tmp_path / "out", "finished")) == 1
    assert folio("study", "run", study, *options)[0] == 2
    assert len(told(tmp_path / "out", "began")) == 2
    text.write_text("abc def ghi " * 50)
    code, out, err = folio("study", "run", study, *options, "--retry")
    assert code == 0, err
    assert "[2/2] width 32" in out


@contextmanager
def started(study: Path, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "folio", "study", "run", str(study), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--workers", "2", "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        for pid in [*descendants(process.pid), process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.communicate()


def under_way(out: Path, step: int, but: set[str]) -> bool:
    """Whether a run that is not among those left out is beyond ``step`` and not finished."""
    for run in (out / "cells").glob("*"):
        try:
            lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        except (OSError, ValueError):
            continue
        if run.name not in but and lines and step <= lines[-1]["step"] < 100:
            return True
    return False


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 200
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_killed_twice_ends_with_the_same_bits_and_runs_no_finished_cell_twice(
    study: Path, tmp_path: Path
) -> None:
    quiet, disturbed = tmp_path / "quiet", tmp_path / "disturbed"
    with started(study, quiet) as process:
        assert process.wait(200) == 0, process.communicate()
    with started(study, disturbed) as process:  # everything dies at once, as in a power cut
        wait_until(lambda: under_way(disturbed, 15, set()), process)
        os.kill(process.pid, signal.SIGSTOP)
        for pid in [*descendants(process.pid), process.pid]:
            os.kill(pid, signal.SIGKILL)
    with started(study, disturbed) as process:  # the study's own group dies, its cells save and leave

        def late() -> bool:
            return bool(told(disturbed, "finished")) and under_way(disturbed, 5, set(told(disturbed, "finished")))

        wait_until(late, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done = {
            name: (disturbed / "cells" / name / "metrics.jsonl").stat().st_ctime_ns
            for name in told(disturbed, "finished")
        }
        again = subprocess.run(
            [sys.executable, "-m", "folio", "study", "run", str(disturbed), "--workers", "2", "--threads", "1"],
            capture_output=True,
            timeout=200,
            check=False,
        )
        assert again.returncode == 0, again
    assert [run.name for run in runs(disturbed)] == [run.name for run in runs(quiet)]
    for one, other in zip(runs(quiet), runs(disturbed), strict=True):
        assert weights(one) == weights(other)
        assert curve(one) == curve(other)
    assert sorted(told(disturbed, "finished")) == sorted(set(told(disturbed, "finished")))
    for name, changed in done.items():
        assert (disturbed / "cells" / name / "metrics.jsonl").stat().st_ctime_ns == changed
    lines = read_metrics(disturbed, CELLS)
    for name in done:
        kinds = [line["kind"] for line in lines if line["cell"] == name]
        assert kinds[-1] == "finished"
        assert kinds.count("finished") == 1
    resumed = [run for run in runs(disturbed) if '"resumed"' in (run / "metrics.jsonl").read_text()]
    assert resumed  # the kills did hit what was under way


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_the_cells_save_and_the_study_says_how_to_go_on(
    study: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    with started(study, out) as process:
        wait_until(lambda: under_way(out, 12, set()), process)
        process.send_signal(number)
        _, err = process.communicate(timeout=100)
    assert process.returncode == 3
    assert f"stopped by {number.name}: " in err.decode()
    assert f"Go on with: folio study run {out}" in err.decode()
    stopped = told(out, "stopped")
    assert stopped
    for name in stopped:
        lines = read_metrics(out / "cells" / name)
        assert lines[-1]["event"] == "stopped"
        assert list_checkpoints(out / "cells" / name)[-1].step == lines[-1]["step"]


@pytest.mark.slow
def test_the_shipped_study_runs_whole_at_its_smallest_though_two_cells_are_killed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "folio", "study", "run", "learning-rates", "--scale", "ci", "--out", str(out)]
    process = subprocess.Popen([*command, "--workers", "2", "--json"], stdout=subprocess.PIPE)
    killed: set[int] = set()
    while len(killed) < 2 and process.poll() is None:
        for pid in descendants(process.pid):
            if pid not in killed and len(killed) < 2 and (out / "cells").is_dir():
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(0.2)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "2 cells failed" in json.loads(said)["error"]
    again = subprocess.run([*command, "--retry", "--json"], capture_output=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    answer: dict[str, Any] = json.loads(again.stdout)
    assert answer["counts"] == {"finished": 8}
    assert len(told(out, "finished")) == 8
    assert answer["best"]["values"] == {"width": 64, "learning_rate": 0.01}


@pytest.mark.slow
def test_the_study_of_first_embeddings_shows_every_figure_at_its_smallest(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "folio", "study", "run", "efficient-shakespeare", "--scale", "ci"]
    done = subprocess.run(
        [*command, "--workers", "2", "--out", out, "--json"], capture_output=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["counts"] == {"finished": 14}
    assert {one["axis"] for one in answer["answers"]} == {"embeddings", "grid"}
    page = (out / "report.html").read_text()
    for words in ("shows nothing", "no cell has measured", "has not judged"):
        assert words not in page
    names = {path.stem for path in (out / "figures").glob("*.svg")}
    for number in range(1, 7):
        assert any(name.startswith(f"own-{number}-") for name in names), names
    assert {"words-coverage", "words-vocabulary", "words-lines", "curves"} <= names
    assert {f"words-cosines-{start}" for start in ("word2vec", "warm", "random")} <= names
