"""Runs side by side: scores, overlaid curves, and what differs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import validation_line, write_preference_run
from page_checker import check

from folio.errors import ArtifactError, UserError
from folio.finetuning.samples import Sample, as_lines
from folio.reports.compare import compare_report
from folio.training.metrics import MetricsLog

MakeRun = Callable[..., Path]


def rows(html: str, table: int) -> list[list[str]]:
    tables = re.findall(r"<tbody>(.*?)</tbody>", html)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", tables[table])]


def charts(html: str) -> dict[str, Any]:
    """What each chart of curves shows under the pointer, by its title."""
    found = re.findall(r'data-points="([^"]*)"><title>([^<]*)</title>', html)
    return {title: json.loads(points.replace("&quot;", '"')) for points, title in found}


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
    drawn = charts(html)
    assert len(drawn) == 12
    for title, chart in drawn.items():
        labels = [one["label"] for one in chart["series"]]
        assert labels[:3] == ["a", "b", "c"], title
        assert labels[3:] in ([], ["a, validation", "b, validation", "c, validation"])
        assert len({one["colour"] for one in chart["series"]}) == 3


def test_training_and_validation_of_a_run_share_its_colour(make_run: MakeRun, tmp_path: Path) -> None:
    html = compare_report([make_run("a"), make_run("b")], tmp_path / "cmp.html").read_text()
    colours = {one["label"]: one["colour"] for one in charts(html)["Train against validation"]["series"]}
    assert colours["a"] == colours["a, validation"] != colours["b"] == colours["b, validation"]


def test_scores_have_their_intervals(make_run: MakeRun, tmp_path: Path) -> None:
    html = compare_report([make_run("a"), make_run("b", steps=50)], tmp_path / "cmp.html").read_text()
    best = validation_line(100)["nats_per_token"]
    ends = (f"{best - 1.96 * 0.0042:.4g}", f"{best + 1.96 * 0.0042:.4g}")
    assert f"{best:.4g}: {ends[0]} to {ends[1]}" in html
    assert "Best validation, nats/token" in html


def test_of_other_tokenizers_the_intervals_are_in_bits(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(kind, config={"tokenizer": {"kind": kind}}) for kind in ("char", "bpe")]
    html = compare_report(runs, tmp_path / "cmp.html").read_text()
    assert "Best validation, bits/byte" in html
    line = validation_line(100)
    bits, error = line["bits_per_byte"], 0.0042 * line["bits_per_byte"] / line["nats_per_token"]
    assert f"{bits:.4g}: {bits - 1.96 * error:.4g} to {bits + 1.96 * error:.4g}" in html


def test_the_last_samples_stand_side_by_side_by_prompt(make_run: MakeRun, tmp_path: Path) -> None:
    one, two = make_run("a"), make_run("b", steps=50)
    tuned = make_run("tuned", every=0)
    texts = [Sample(9, 1.0, "ROMEO:\n", "too warm", "length", 3, 0), Sample(9, 0.5, "ROMEO:\n", "cool", "length", 1, 0)]
    (tuned / "samples.jsonl").write_text(as_lines(texts))
    html = compare_report([one, two, tuned], tmp_path / "cmp.html").read_text()
    (row,) = re.findall(r'<div class="beside">(.*?)</div></div>', html.replace("\n", " "))
    titles = re.findall(r'sample-title">(.*?)</div>', row)
    assert titles == ["a, step 100", "b, step 50", "tuned, step 9, temperature 0.5"]
    for text in ("But soft, step 100!", "But soft, step 50!", "cool"):
        assert text in row
    assert "step 75!" not in row
    assert "too warm" not in html


def test_the_wait_for_data_is_told_where_it_is_known(make_run: MakeRun, tmp_path: Path) -> None:
    waiting = make_run("waiting")
    with MetricsLog(waiting / "metrics.jsonl") as log:
        log.log(kind="train", step=101, tokens=4096, nats_per_token=3.0, data_wait_s=1.25, step_time_s=2.0)
        log.log(kind="train", step=102, tokens=4096, nats_per_token=3.0, data_wait_s=0.25, step_time_s=2.0)
    html = compare_report([make_run("a"), waiting], tmp_path / "cmp.html").read_text()
    assert [row[-1] for row in rows(html, 0)] == ["–", "1.5 s"]
    assert "Time waited for data" in charts(html)
    assert "waited" not in compare_report([make_run("b"), make_run("c")], tmp_path / "cmp.html").read_text()


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
    labels = {title: {one["label"] for one in chart["series"]} for title, chart in charts(html).items()}
    assert labels["Validation loss, tokens"] == {"text"}
    assert labels["Validation loss, pairs"] == labels["Pairs in order"] == {"dpo"}
    assert labels["Learning rate"] == {"text", "dpo"}


def test_the_curves_of_a_run_of_preferences_are_drawn_beside_others(make_run: MakeRun, tmp_path: Path) -> None:
    preferred = write_preference_run(tmp_path / "dpo")
    html = compare_report([make_run("text"), preferred, make_run("more")], tmp_path / "cmp.html").read_text()
    check(html)
    drawn = charts(html)
    for title in ("Training loss, each step", "Training loss, smoothed", "Validation loss", "Train against validation"):
        (dpo,) = (one for one in drawn[f"{title}, pairs"]["series"] if one["label"] == "dpo")
        assert len(dpo["points"]) == (4 if title == "Validation loss" else 20)
        assert [one["label"] for one in drawn[f"{title}, tokens"]["series"]][:2] == ["text", "more"]
    shown = {one["label"]: one["colour"] for one in drawn["Gradient norm"]["series"]}
    assert list(shown) == ["text", "dpo", "more"]
    assert drawn["Pairs in order"]["series"][0]["colour"] == shown["dpo"], "a run has one colour everywhere"


def test_what_cannot_be_compared_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two runs or more"):
        compare_report([make_run("a")], tmp_path / "cmp.html")
    with pytest.raises(ArtifactError, match="is not a run"):
        compare_report([tmp_path / "a", tmp_path], tmp_path / "cmp.html")
    assert not (tmp_path / "cmp.html").exists()
