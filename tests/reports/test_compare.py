"""Runs side by side: scores, overlaid curves, and what differs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_runs import validation_line
from page_checker import check

from folio.errors import ArtifactError, UserError
from folio.reports.compare import compare_report
from folio.training.metrics import MetricsLog

MakeRun = Callable[..., Path]


def rows(html: str, table: int) -> list[list[str]]:
    tables = re.findall(r"<tbody>(.*?)</tbody>", html)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", tables[table])]


def test_scores_stand_side_by_side_with_n_and_error(make_run: MakeRun, tmp_path: Path) -> None:
    html = compare_report([make_run("a"), make_run("b", steps=50)], tmp_path / "cmp.html").read_text()
    check(html)
    first, second = rows(html, 0)
    assert first[0] == "a"
    assert second[0] == "b"
    assert first[4] == f"{validation_line(100)['nats_per_token']:.4f}"
    assert first[5] == "0.0042"
    assert first[8] == "181,233"
    assert second[2:4] == ["50", "204,800"]


def test_every_run_is_in_every_figure(make_run: MakeRun, tmp_path: Path) -> None:
    html = compare_report([make_run(name) for name in "abc"], tmp_path / "cmp.html").read_text()
    charts = re.findall(r'data-points="([^"]*)"', html)
    assert len(charts) == 4
    for chart in charts:
        series = json.loads(chart.replace("&quot;", '"'))["series"]
        assert [one["label"] for one in series] == ["a", "b", "c"]
        assert len({one["colour"] for one in series}) == 3


def test_only_what_differs_is_listed(make_run: MakeRun, tmp_path: Path) -> None:
    one = make_run("a", config={"model": {"n_layer": 4, "bias": False}, "train": {"steps": 5}})
    two = make_run("b", config={"model": {"n_layer": 6, "bias": False}, "train": {"steps": 5, "ema": 0.9}})
    html = compare_report([one, two], tmp_path / "cmp.html").read_text()
    assert rows(html, 1) == [["model.n_layer", "4", "6"], ["train.ema", "absent", "0.9"]]


def test_equal_configurations_are_said_to_be_equal(make_run: MakeRun, tmp_path: Path) -> None:
    html = compare_report([make_run("a"), make_run("b")], tmp_path / "cmp.html").read_text()
    assert "The configurations are equal." in html


def test_other_tokenizers_are_warned_about(make_run: MakeRun, tmp_path: Path) -> None:
    one = make_run("a", config={"tokenizer": {"kind": "char"}})
    two = make_run("b", config={"tokenizer": {"kind": "bpe"}})
    assert "do not share a tokenizer" in compare_report([one, two], tmp_path / "cmp.html").read_text()


def test_runs_of_one_name_are_told_apart_by_their_paths(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("x/run"), make_run("y/run")]
    html = compare_report(runs, tmp_path / "cmp.html").read_text()
    assert [row[0] for row in rows(html, 0)] == [str(run) for run in runs]


def test_a_run_without_validation_is_compared_with_dashes(make_run: MakeRun, tmp_path: Path) -> None:
    html = compare_report([make_run("a", every=0), make_run("b", steps=1)], tmp_path / "cmp.html").read_text()
    check(html)
    assert rows(html, 0)[0][4:9] == ["–"] * 5


def test_a_run_of_preferences_has_its_own_loss_and_no_error_without_one(make_run: MakeRun, tmp_path: Path) -> None:
    preferred = make_run("dpo", steps=1, every=0)
    line = {"kind": "validation", "step": 1, "nats_per_pair": 0.25, "standard_error_nats": 0.0123, "accuracy": 0.8,
            "pairs": 40, "tokens": 900, "elapsed_s": 1.0}  # fmt: skip
    with MetricsLog(preferred / "metrics.jsonl") as log:
        log.log(**line)
    html = compare_report([make_run("text"), preferred], tmp_path / "cmp.html").read_text()
    check(html)
    heads = [re.findall(r"<th[^>]*>(.*?)</th>", head) for head in re.findall(r"<thead>(.*?)</thead>", html)]
    assert "nats/pair" not in heads[0]
    assert [row[0] for row in rows(html, 0)] == ["text"]
    (row,) = rows(html, 1)
    found = dict(zip(heads[1], row, strict=True))
    assert [found[name] for name in ("run", "nats/pair", "± s.e.", "preferred", "n (pairs)")] == [
        "dpo", "0.25", "0.0123", "80.0%", "40",
    ]  # fmt: skip
    assert "a nat per token and a nat per pair do not compare" in html
    charts = [json.loads(chart.replace("&quot;", '"')) for chart in re.findall(r'data-points="([^"]*)"', html)]
    assert [[one["label"] for one in chart["series"]] for chart in charts] == [["text"]] * 4 + [["dpo"]] * 4


def test_what_cannot_be_compared_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two runs or more"):
        compare_report([make_run("a")], tmp_path / "cmp.html")
    with pytest.raises(ArtifactError, match="is not a run"):
        compare_report([tmp_path / "a", tmp_path], tmp_path / "cmp.html")
    assert not (tmp_path / "cmp.html").exists()
