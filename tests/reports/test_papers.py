"""Figures for papers: every one as a file of the format and size asked for; numbers as CSV."""

from __future__ import annotations

import csv
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from made_up_runs import write_preference_run

from folio.errors import MissingExtra
from folio.reports.figures import TrainingFigure, training_figures
from folio.reports.papers import write_curves, write_figures
from folio.reports.records import read_run
from folio.training.metrics import MetricsLog

MakeRun = Callable[..., Path]
EIGHT = (
    "loss", "loss-smoothed", "learning-rate", "gradient-norm", "step-time", "tokens-per-second", "validation",
    "train-against-validation",
)  # fmt: skip


def figures_of(*runs: Path) -> list[TrainingFigure]:
    return training_figures([run.name for run in runs], [read_run(run) for run in runs])


def drawn(*runs: Path, to: Path, **options: Any) -> dict[str, Path]:
    pytest.importorskip("matplotlib")
    return {path.name: path for path in write_figures(figures_of(*runs), to, **options)}


def texts(svg: Path) -> str:
    return " ".join(
        "".join(node.itertext()) for node in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    )


@pytest.mark.parametrize("names", ["a", "ab", "abcdefghij"])
def test_the_eight_figures_are_drawn_of_one_run_and_of_several(make_run: MakeRun, tmp_path: Path, names: str) -> None:
    files = drawn(*(make_run(name) for name in names), to=tmp_path / "figures")
    assert {f"{name}.svg" for name in EIGHT} <= set(files)
    for path in files.values():
        assert path.parent == tmp_path / "figures"
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    named = texts(files["loss-smoothed.svg"])
    assert all(re.search(rf"\b{name}\b", named) for name in names) == (len(names) > 1)
    assert "training loss (nats per token)" in named


@pytest.mark.parametrize(("columns", "inches"), [(1, (3.3, 2.2)), (2, (7.0, 3.0))])
def test_files_have_the_format_and_the_size_asked_for(
    make_run: MakeRun, tmp_path: Path, columns: int, inches: tuple[float, float]
) -> None:
    files = drawn(make_run(), to=tmp_path, formats=("svg", "png", "pdf"), columns=columns)
    head = files["loss.png"].read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    assert struct.unpack(">II", head[16:]) == tuple(round(300 * side) for side in inches)
    root = ElementTree.parse(files["loss.svg"]).getroot()
    assert [float(root.attrib[side].removesuffix("pt")) for side in ("width", "height")] == pytest.approx(
        [72 * side for side in inches]
    )
    assert files["loss.pdf"].read_bytes().startswith(b"%PDF")


def test_text_stays_text_or_becomes_paths(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    assert "step" in texts(drawn(run, to=tmp_path / "text")["loss.svg"])
    assert texts(drawn(run, to=tmp_path / "paths", fonts="paths")["loss.svg"]) == ""


def test_equal_numbers_give_equal_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    first, second = (drawn(run, to=tmp_path / name)["validation.svg"].read_bytes() for name in "ab")
    assert first == second


def test_a_run_without_validation_has_the_figures_of_training_alone(make_run: MakeRun) -> None:
    names = [figure.name for figure in figures_of(make_run(every=0))]
    assert [name for name in EIGHT if name not in names] == ["validation"]
    (against,) = (figure for figure in figures_of(make_run("b", every=0)) if figure.name == EIGHT[-1])
    assert "validation" not in against.labels


def test_runs_of_preferences_stand_beside_others_in_figures_of_their_own(make_run: MakeRun, tmp_path: Path) -> None:
    dpo = write_preference_run(tmp_path / "dpo")
    alone = {figure.name for figure in figures_of(dpo)}
    assert {*EIGHT, "accuracy"} <= alone
    figures = {figure.name: figure for figure in figures_of(make_run("text"), dpo)}
    for name in ("loss", "loss-smoothed", "validation", "train-against-validation"):
        assert figures[f"{name}-tokens"].labels == ["text"]
        assert figures[f"{name}-pairs"].labels == ["dpo"]
    assert figures["step-time"].labels == ["text", "dpo"]
    files = drawn(make_run("more"), dpo, to=tmp_path / "figures")
    assert "dpo" in texts(files["validation-pairs.svg"])


def test_a_value_that_is_no_number_leaves_a_gap(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    with MetricsLog(run / "metrics.jsonl") as log:
        log.log(kind="train", step=101, nats_per_token=float("nan"), grad_norm=float("inf"), learning_rate=0.0)
        log.log(kind="train", step=102, nats_per_token=3.0, grad_norm=0.0, learning_rate=0.0)
    assert "gradient-norm.svg" in drawn(run, to=tmp_path / "figures")


def test_a_name_with_markup_in_it_is_written_as_it_is(make_run: MakeRun, tmp_path: Path) -> None:
    files = drawn(make_run("a<b>$x_1$"), make_run("_plain"), to=tmp_path / "figures")
    named = texts(files["loss.svg"])
    assert "a<b>$x_1$" in named
    assert "_plain" in named


def test_without_matplotlib_the_extra_is_named(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra) as raised:
        write_figures(figures_of(make_run()), tmp_path / "figures")
    assert "folio-lm[study]" in raised.value.remedy
    assert not (tmp_path / "figures").exists()


def test_every_number_is_in_the_table(make_run: MakeRun, tmp_path: Path) -> None:
    one, two = make_run("a", steps=10, every=5), write_preference_run(tmp_path / "dpo", steps=5)
    to = write_curves(["a", "dpo"], [read_run(one), read_run(two)], tmp_path / "curves.csv")
    with open(to, newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(line["run"], line["kind"]) for line in lines].count(("a", "train")) == 10
    assert len(lines) == 12 + 6
    record = read_run(one)
    assert [float(line["nats_per_token"]) for line in lines if line["run"] == "a"] == [
        line["nats_per_token"] for line in record.lines if line["kind"] in ("train", "validation")
    ]
    assert {line["nats_per_pair"] for line in lines if line["run"] == "a"} == {""}
    assert lines[0]["step"] == "1"
