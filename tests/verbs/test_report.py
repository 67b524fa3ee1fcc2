"""``folio report`` writes the page and gives the numbers."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import pytest
from made_up_evaluations import choices, write

from folio.cli import main
from folio.errors import UserError
from folio.training.metrics import MetricsLog
from folio.verbs.action import Terminal
from folio.verbs.report import ACTIONS, ReportOptions, report


def make_run(folder: Path) -> Path:
    folder.mkdir()
    with MetricsLog(folder / "metrics.jsonl") as log:
        log.log(kind="train", step=1, tokens=64, nats_per_token=4.0, elapsed_s=1.0)
        log.log(kind="validation", step=1, nats_per_token=3.5, bits_per_byte=1.7, tokens=1000, standard_error_nats=0.1)
    return folder


def test_one_run_gives_its_report_and_its_scores(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    outcome = report(ReportOptions(runs=(run,)), Terminal(quiet=True))
    assert outcome.wrote == (run / "report.html",)
    assert outcome.wrote[0].is_file()
    (score,) = outcome.data["runs"]
    assert (score["nats_per_token"], score["tokens"], score["standard_error_nats"]) == (3.5, 1000, 0.1)
    json.dumps(dict(outcome.data), allow_nan=False)


def test_several_runs_are_compared_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = (make_run(tmp_path / "a"), make_run(tmp_path / "b"))
    to = tmp_path / "out" / "cmp.html"
    assert report(ReportOptions(runs=runs, to=to), Terminal(quiet=True)).wrote == (to,)
    monkeypatch.chdir(tmp_path)
    assert report(ReportOptions(runs=runs), Terminal(quiet=True)).wrote == (Path("comparison.html"),)
    assert os.path.getsize("comparison.html") > 1000


def test_preferences_are_printed_with_their_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "dpo"
    run.mkdir()
    with MetricsLog(run / "metrics.jsonl") as log:
        log.log(kind="validation", step=1, nats_per_pair=0.25, accuracy=0.8, pairs=9, standard_error_nats=0.0123)
    outcome = report(ReportOptions(runs=(make_run(tmp_path / "run"), run)), Terminal())
    printed = capsys.readouterr().out
    assert "nats/pair" in printed
    assert "preferred" in printed
    assert (outcome.data["runs"][1]["nats_per_pair"], outcome.data["runs"][1]["accuracy"]) == (0.25, 0.8)


def test_the_scores_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(ReportOptions(runs=(make_run(tmp_path / "run"),)), Terminal())
    printed = capsys.readouterr().out
    assert "3.5" in printed
    assert "nats/token" in printed


def test_no_run_at_all_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="no run was named"):
        report(ReportOptions(runs=()), Terminal(quiet=True))


def test_the_verb_has_one_action_with_examples() -> None:
    assert list(ACTIONS) == [""]
    assert all(example.startswith("folio report ") for example in ACTIONS[""].examples)


def test_an_evaluation_gives_its_page_and_its_scores_with_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "eval", choices([1] * 30 + [0] * 70), model="runs/a")
    outcome = report(ReportOptions(runs=(folder,)), Terminal())
    assert outcome.wrote == (folder / "report.html",)
    printed = capsys.readouterr().out
    assert "0.2189" in printed, "the low end of Wilson's interval"
    (score,) = outcome.data["scores"]["quiz.plain"]
    assert (score["value"], score["n"], outcome.data["model"]) == (0.3, 100, "runs/a")
    with pytest.raises(UserError, match="folio compare"):
        report(ReportOptions(runs=(folder, make_run(tmp_path / "run"))), Terminal(quiet=True))


def folio(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def test_figures_and_numbers_lie_where_asked(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run, figures, curves = make_run(tmp_path / "run"), tmp_path / "figures", tmp_path / "curves.csv"
    code, out, err = folio("report", run, "--figures", figures, "--format", "svg,png", "--columns", 2, "--csv", curves)
    assert code == 0, err
    assert {path.suffix for path in figures.iterdir()} == {".svg", ".png"}
    assert "loss.svg" in {path.name for path in figures.iterdir()}
    assert curves.read_text().startswith("run,kind,step,")
    for path in (run / "report.html", figures, curves):
        assert f"wrote {path}\n" in out


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--format", "gif", "--figures", "f"), "--format 'gif': must be 'svg', 'png' or 'pdf'"),
        (("--format", "png"), "format is of figures for papers"),
        (("--columns", "3", "--figures", "f"), "--columns '3'"),
        (("--fonts", "paths"), "fonts is of figures for papers"),
    ],
)
def test_what_cannot_be_written_is_one_line(tmp_path: Path, flags: tuple[str, ...], complaint: str) -> None:
    run = make_run(tmp_path / "run")
    code, _, err = folio("report", run, *flags)
    assert code == 2
    assert complaint in err
    assert len(err.splitlines()) == 1
    assert not (run / "report.html").exists()


def test_an_evaluation_has_no_figures_of_training(tmp_path: Path) -> None:
    folder = write(tmp_path / "eval", choices([1, 0]), model="runs/a")
    code, _, err = folio("report", folder, "--csv", tmp_path / "curves.csv")
    assert code == 2
    assert "no curves of training" in err


def test_without_matplotlib_the_page_is_not_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run = make_run(tmp_path / "run")
    code, _, err = folio("report", run, "--figures", tmp_path / "figures")
    assert code == 2
    assert "folio-lm[study]" in err
    assert [path.name for path in run.iterdir()] == ["metrics.jsonl"]
