"""Figures that a study file asks for: refused early where they cannot be, drawn on one range, true to the cells."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median, stdev

import pytest
from page_checker import check
from two_grids import COUNTS, STARTS, STUDY, WIDTHS, bits, change_config, judge, nats, placed, score, tell_tokenizers

from folio.errors import ConfigError
from folio.reports.study.own_figures import refuse_figures
from folio.reports.study.page import study_report
from folio.studies.grid.cells import Cell, cells_of
from folio.studies.grid.study_file import read_study
from folio.studies.running.records import StudyFolder
from folio.verbs.study.opening import recipe_keys

MakeStudy = Callable[..., StudyFolder]
STUDENT_2 = 4.302652729749462
"""Student's t with two degrees of freedom at 97.5 %, from a table."""


def figure(**keys: str) -> str:
    return "[[figures]]\n" + "".join(f'{key} = "{value}"\n' for key, value in {"title": "Mine", **keys}.items())


def drawn(folder: StudyFolder) -> list[str]:
    """The panels of the study's own figures as files, in order."""
    study_report(folder)
    paths = (folder.path / "figures").glob("own-*.svg")
    return [
        path.read_text() for path in sorted(paths, key=lambda path: [int(one) for one in re.findall(r"\d+", path.stem)])
    ]


def tips(svg: str) -> dict[str, str]:
    """What shows under the pointer, by what it is of."""
    found = re.findall(r"<g><title>([^<]*): ([^<]*)</title>", svg)
    return dict(found)


def frame(svg: str) -> tuple[list[str], list[str]]:
    """Where the gridlines lie and what stands beside and below them."""
    marks = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(?:end|middle)"[^>]*>([^<]*)<', svg)
    return [f"{x} {y} {text}" for x, y, text in marks], re.findall(r'x1="([\d.]+)" x2="([\d.]+)"', svg)


def made(make_study: MakeStudy, *figures: str, came: Callable[[Cell], float | None] = nats) -> StudyFolder:
    folder = make_study(STUDY + "".join(figures), came)
    tell_tokenizers(folder)
    judge(folder)
    return folder


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"x": "widht"}, "figure 'Mine': x is 'widht', which no cell has. Did you mean width?"),
        ({"x": "width", "lines": "embedings"}, "lines is 'embedings', which no cell has. Did you mean embeddings?"),
        ({"x": "width", "panels": "mincount"}, "panels is 'mincount', which no cell has. Did you mean min_count?"),
        ({"x": "width", "lines": "parameters"}, "lines is 'parameters', which no cell has. Axes are: grid, width"),
        ({"x": "paramters"}, "Did you mean parameters?"),
        ({"x": "width", "panels": "width"}, "'width' is both x and panels. Leave it to one of them."),
    ],
)
def test_a_figure_that_cannot_be_is_refused_before_training(tmp_path: Path, keys: dict[str, str], told: str) -> None:
    (tmp_path / "s.toml").write_text(STUDY + figure(measure="bits_per_byte", **keys))
    study, known = read_study(str(tmp_path / "s.toml")), recipe_keys()
    with pytest.raises(ConfigError) as caught:
        refuse_figures(study, cells_of(study, known, known))
    assert told in f"{caught.value.problem}. {caught.value.remedy}"


def test_a_figure_over_an_axis_a_number_or_a_score_is_none_of_these(tmp_path: Path) -> None:
    known = recipe_keys()
    for keys in ({"x": "width", "lines": "grid"}, {"x": "seconds_per_step"}, {"x": "hellaswag.completion.acc"}):
        (tmp_path / "s.toml").write_text(STUDY + figure(measure="not.known.yet", **keys))
        study = read_study(str(tmp_path / "s.toml"))
        refuse_figures(study, cells_of(study, known, known))


def test_means_and_bands_are_those_of_the_seeds_in_panels_of_one_range(make_study: MakeStudy) -> None:
    asked = figure(measure="oracle.log_probability", x="width", lines="min_count", panels="embeddings")
    panels = drawn(made(make_study, asked))
    assert len(panels) == len(STARTS)
    for start, svg in zip(STARTS, panels, strict=True):
        assert f"Mine: embeddings {start}</title>" in svg
        found = tips(svg)
        assert len(found) == len(WIDTHS) * (len(COUNTS) + 1)  # characters, in every panel
        for width in WIDTHS:
            for line, has in [*((f"min count {one}", start) for one in COUNTS), ("characters", None)]:
                scores = [score({"width": width, "embeddings": has}, seed) for seed in (1337, 1338, 1339)]
                half = STUDENT_2 * stdev(scores) / math.sqrt(3)
                told = found[f"{line}, width {width}"]
                numbers = [float(one) for one in re.findall(r"-?\d+\.?\d*", told.replace("95 %", ""))]
                exact = [fmean(scores), fmean(scores) - half, fmean(scores) + half]
                assert numbers == pytest.approx(exact, rel=1e-3)
        assert 'class="level"' in svg
        assert "real text: -3" in svg
    assert len({str(frame(svg)) for svg in panels}) == 1


def test_a_mean_over_other_axes_is_judged_by_the_seeds(make_study: MakeStudy) -> None:
    def came(cell: Cell) -> float:
        return {1: 1.0, 3: 9.0}.get(cell.values.get("min_count", 0), 5.0) + 0.5 * (cell.seed % 3)

    (svg,) = drawn(made(make_study, figure(measure="nats_per_token", x="width", lines="embeddings"), came=came))
    half = STUDENT_2 * 0.5 / math.sqrt(3)
    for line in (*(f"embeddings {one}" for one in STARTS), "characters"):
        assert tips(svg)[f"{line}, width 64"] == f"5.5 (95 % {5.5 - half:.3f} to {5.5 + half:.3f})"


def test_a_place_is_drawn_when_all_that_it_is_a_mean_of_is_measured(make_study: MakeStudy) -> None:
    def came(cell: Cell) -> float | None:
        waiting = cell.values.get("min_count") == 3 and cell.values["width"] == 128
        return None if waiting and cell.values["embeddings"] == "warm" else nats(cell)

    (svg,) = drawn(made(make_study, figure(measure="bits_per_byte", x="width", lines="embeddings"), came=came))
    places = {place for place in tips(svg) if place.startswith("embeddings warm")}
    assert places == {"embeddings warm, width 64", "embeddings warm, width 256"}
    assert "embeddings frozen, width 128" in tips(svg)


def test_cells_without_the_axis_of_x_are_left_out(make_study: MakeStudy) -> None:
    means = figure(measure="bits_per_byte", x="min_count", lines="embeddings")
    dots = figure(measure="bits_per_byte", x="embeddings", kind="dots")
    folder = made(make_study, means, dots)
    first, second = drawn(folder)
    assert set(tips(first)) == {f"embeddings {start}, min count {count}" for start in STARTS for count in COUNTS}
    of_words = sum(values["grid"] == "words" for values, _ in placed(folder).values())
    assert second.count("<circle") == of_words
    assert {tip.rpartition(" at ")[2] for tip in tips(second).values()} == set(STARTS)


def test_dots_are_cells_and_lines_their_medians(make_study: MakeStudy) -> None:
    asked = figure(measure="bits_per_byte", x="seconds_per_step", lines="embeddings", kind="dots")
    folder = made(make_study, asked)
    for name, (values, _) in placed(folder).items():
        lines = (folder.run(name) / "metrics.jsonl").read_text()
        (folder.run(name) / "metrics.jsonl").write_text(
            lines.replace('"step_time_s": 0.1', f'"step_time_s": {values["width"] / 64}')
        )
    (svg,) = drawn(folder)
    assert svg.count("<circle") == len(placed(folder))
    assert svg.count('class="middle"') == len(STARTS) + 1
    results = study_report(folder)[0].results
    for cell in results.cells:
        where = ", ".join(f"{axis.replace('_', ' ')} {cell.values[axis]}" for axis in list(cell.values)[1:])
        words = f"{cell.values['grid']}, {where}, seed {cell.seed}"
        assert tips(svg)[words].endswith(f" at {cell.values['width'] // 64}")
        assert float(tips(svg)[words].split()[0]) == pytest.approx(bits(cell), rel=1e-3)  # type: ignore[arg-type]
    dots = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="4" fill="([^"]*)"', svg)
    for line, colour in re.findall(r'class="middle" points="([^"]*)" fill="none" stroke="([^"]*)"', svg):
        for x, y in (place.split(",") for place in line.split()):
            assert float(y) == pytest.approx(
                median(float(cy) for cx, cy, fill in dots if (cx, fill) == (x, colour)), abs=0.1
            )
        assert len(line.split()) == len(WIDTHS)


def test_of_many_lines_eight_have_names(make_study: MakeStudy) -> None:
    text = 'axes.clip = { key = "train.clip_norm", values = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] }\nseeds = 2\n'
    text += "axes.model.n_embd = [12, 24]\n" + figure(measure="nats_per_token", x="n_embd", lines="clip")
    (svg,) = drawn(make_study(text, lambda cell: 2.0 + cell.values["clip"] + 0.1 * (cell.seed % 2)))
    named = re.findall(r'font-weight="600" fill="[^"]*">(clip \d+)<', svg)
    assert len(named) == 8
    assert {"clip 1", "clip 11"} <= set(named)
    assert svg.count('class="band"') == 8
    assert len(tips(svg)) == 11 * 2


def test_a_number_that_no_cell_has_is_told_in_place_of_the_figure(make_study: MakeStudy) -> None:
    folder = made(make_study, figure(measure="perplexty", x="width"), figure(measure="nats_per_token", x="width"))
    _, wrote = study_report(folder)
    text = " ".join(check(wrote[0].read_text()).text)
    assert "Figure 'Mine' shows nothing: no cell has measured perplexty; did you mean perplexity?" in text
    assert [path.stem for path in (folder.path / "figures").glob("own-*")] == ["own-2-mine-1"]


def test_grids_that_lack_an_axis_are_called_by_their_name(make_study: MakeStudy) -> None:
    folder = made(make_study)
    _, wrote = study_report(folder)
    page = wrote[0].read_text()
    assert not re.search(r"(embeddings|min count) (none|None)", page)
    names = {path.stem.rpartition("-")[0] for path in (folder.path / "figures").glob("*-by-*-[0-9].svg")}
    assert names == {f"bits_per_byte_spelled-by-{axis}" for axis in ("width", "min_count", "embeddings")}
    counts = [len(list((folder.path / "figures").glob(f"*-by-{axis}-*"))) for axis in ("width", "embeddings")]
    assert counts == [len(COUNTS) + 1, len(WIDTHS)]
    cost = (folder.path / "figures" / "bits_per_byte_spelled-by-seconds.svg").read_text()
    assert re.findall(r'font-weight="600" fill="var[^"]*-\d, [^"]*">([^<]*)<', cost) == [
        *(f"embeddings {start}" for start in STARTS),
        "characters",
    ]
    with open(folder.path / "cells.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["grid"] == "characters"]
    assert {(row["min_count"], row["embeddings"]) for row in rows} == {("", "")}


def test_sizes_and_times_are_means_over_seeds(make_study: MakeStudy) -> None:
    folder = made(make_study)
    for name, (values, seed) in placed(folder).items():
        if values.get("embeddings") == "frozen":
            facts = {"trainable": 60, "word2vec": {"train_s": 1.0 + seed % 3}}
            change_config(folder.run(name), lambda config, facts=facts: config["resolved"].update(facts))
    study_report(folder)
    with open(folder.path / "sizes.csv", newline="") as file:
        rows = {(row["grid"], row["width"], row["min count"], row["embeddings"]): row for row in csv.DictReader(file)}
    assert len(rows) == len(WIDTHS) * (len(COUNTS) * len(STARTS) + 1)
    row = rows["words", "64", "1", "frozen"]
    assert (row["parameters"], row["trained parameters"], row["seeds"]) == ("100", "60", "3")
    times = [float(row[key]) for key in ("s/step", "seconds", "word2vec, s", "seconds with word2vec")]
    assert times == pytest.approx([0.1, 4, 2, 6])
    assert rows["characters", "64", "", ""]["word2vec, s"] == ""
    assert median(float(row["tokens/s"]) for row in rows.values()) == 40960
