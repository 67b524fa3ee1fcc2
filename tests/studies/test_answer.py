"""The answer of a study's page: sentences that the planted numbers support, and no others."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from page_checker import check

from folio.reports.study.answer import answer_lines, answer_words, detail_words
from folio.reports.study.answer_tables import answer_data
from folio.reports.study.page import study_report
from folio.studies.findings.answers import answers_of
from folio.studies.findings.results import read_results
from folio.studies.findings.statistics import groups_of
from folio.studies.grid.cells import Cell
from folio.studies.running.records import StudyFolder
from folio.verbs.action import json_value

MakeStudy = Callable[..., StudyFolder]
Chance = Callable[[Cell], float]
STUDY = """
question = "Does a warm start help?"
seeds = 3
[axes]
width = { key = "model.n_embd", values = [64, 128] }
[variants.start]
cold = { "train.clip_norm" = 2 }
warm = { "train.clip_norm" = 1 }
hot = { "train.clip_norm" = 3 }
[[contrasts]]
axis = "start"
reference = "cold"
others = ["warm", "hot"]
by = ["width"]
"""


def fallen(chance: Chance, ahead: Mapping[str, float], lift: Mapping[str, float]) -> Callable[[Cell], dict[int, float]]:
    def losses(cell: Cell) -> dict[int, float]:
        start = cell.values["start"]
        above = lift.get(start, 0.0) - cell.values["width"] / 256 + chance(cell)
        return {step: 2 + 3 * math.exp(-(step + ahead.get(start, 0)) / 40) + above for step in range(5, 101, 5)}

    return losses


def told(folder: StudyFolder) -> str:
    results = read_results(folder)
    answers = answers_of(results, groups_of(results))
    return " ".join(words for one in answers for words in (*answer_words(one), *detail_words(one)))


def test_what_is_better_worse_and_neither_is_told_apart(make_study: MakeStudy, chance: Chance) -> None:
    text = told(make_study(STUDY, fallen(chance, {"warm": 40}, {"hot": 0.5})))
    assert "Start warm comes out better than cold in nats/token: lower by 0.1" in text
    assert "Start hot comes out worse than cold in nats/token: higher by 0.4" in text
    assert "In bits/byte: better (lower by" in text
    assert "Behind it are 6 pairs of cells: 2 combinations of width with 3 seeds" in text
    assert "By width: at 64 better (lower by" in text
    same = told(make_study(STUDY, fallen(chance, {}, {}), "same"))
    assert "Whether start warm is better or worse than cold in nats/token cannot be told: the difference is" in same
    assert "comes out" not in same


def test_training_is_told_by_who_leads_when_and_by_how_many_steps(make_study: MakeStudy, chance: Chance) -> None:
    text = told(make_study(STUDY, fallen(lambda cell: chance(cell) / 10, {"warm": 20}, {"warm": 0.15})))
    assert "Early in training, to step 25 of 100, it is ahead: nats/token is on average lower by" in text
    assert "its nats/token is lower from step 5 to step" in text
    assert "It comes to the loss that cold has half-way" in text
    assert "It never comes to the loss that cold has at the end." in text
    assert "word2vec" not in text


def test_a_start_that_took_time_is_paid_for(make_study: MakeStudy, chance: Chance) -> None:
    def facts(cell: Cell) -> dict[str, Any]:
        return {"resolved": {"word2vec": {"train_s": 0.5}}} if cell.values["start"] == "warm" else {}

    tiny = fallen(lambda cell: chance(cell) / 100, {"warm": 30}, {})
    text = told(make_study(STUDY, tiny, facts_of=facts))
    assert "Its start by word2vec takes as long as 5.0 steps of cold" in text
    assert "with that paid it is there 25 steps sooner" in text


def test_one_seed_claims_nothing_of_seeds(make_study: MakeStudy, chance: Chance) -> None:
    text = told(make_study(STUDY.replace("seeds = 3", "seeds = 1"), fallen(chance, {"warm": 40}, {})))
    assert "with one seed; differences are judged over combinations, so that chance between seeds" in text
    alone = STUDY.replace("seeds = 3", "seeds = 1").replace("[64, 128]", "[64]").replace('by = ["width"]', "")
    text = told(make_study(alone, fallen(chance, {"warm": 40}, {}), "alone"))
    assert "in the only pair, and nothing says how much of it is chance." in text
    assert "Early in training" not in text
    assert "comes out" not in text


def test_what_diverged_or_is_not_finished_is_told(make_study: MakeStudy, chance: Chance) -> None:
    def nats(cell: Cell) -> float | None:
        where = (cell.values["start"], cell.values["width"], cell.seed)
        return {("warm", 64, 1338): math.inf, ("hot", 128, 1339): None}.get(where, 3 + chance(cell))

    text = told(make_study(STUDY, nats))
    assert "One combination takes no part, for want of a seed on one of the sides." in text
    assert "One cell with start warm diverged, and no difference holds it." in text
    nothing = told(make_study(STUDY, lambda cell: None, "nothing"))
    assert nothing.startswith("Nothing can be said yet of start warm against cold.")


def test_the_answer_stands_right_behind_the_question(make_study: MakeStudy, chance: Chance) -> None:
    folder = make_study(STUDY, fallen(chance, {"warm": 40}, {}))
    _, wrote = study_report(folder)
    page = check(wrote[0].read_text())
    text = " ".join(page.text)
    assert (
        text.index("Does a warm start help?")
        < text.index("Start warm comes out better")
        < text.index("The best of all is")
    )
    names = {path.stem for path in (folder.path / "figures").glob("answer-*.svg")}
    assert names == {
        *("answer-1-nats_per_token", "answer-1-bits_per_byte", "answer-1-while-training"),
        *("answer-1-while-training-width-64", "answer-1-while-training-width-128"),
    }
    panel = (folder.path / "figures" / "answer-1-while-training.svg").read_text()
    assert panel.count('class="band"') == 2
    assert 'class="level"' in panel
    with open(folder.path / "contrasts.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 2
    assert {row["at"] for row in rows} == {"all", "width 64", "width 128"}


def test_a_study_without_contrasts_has_no_answer(make_study: MakeStudy, chance: Chance) -> None:
    folder = make_study(STUDY[: STUDY.index("[[contrasts]]")], fallen(chance, {}, {}))
    _, wrote = study_report(folder)
    assert "Answer" not in " ".join(check(wrote[0].read_text()).text)
    assert not (folder.path / "contrasts.csv").exists()


def test_programs_get_the_same_numbers(make_study: MakeStudy, chance: Chance) -> None:
    results = read_results(make_study(STUDY, fallen(chance, {"warm": 40}, {})))
    answers = answers_of(results, groups_of(results))
    (data,) = json.loads(json.dumps(json_value(answer_data(answers)), allow_nan=False))
    first = data["contrasts"][0]
    assert (first["other"], first["by"], first["end"]["nats_per_token"]["verdict"]) == ("warm", None, "better")
    end = answers[0].contrasts[0].ends["nats_per_token"].estimate
    assert first["end"]["nats_per_token"]["difference"]["value"] == pytest.approx(end.value)
    assert first["training"]["steps"] == list(range(5, 101, 5))
    assert [start["goal"] for start in first["training"]["head_starts"]] == [0.5, 1.0]
    assert {(one["other"], one["by"], one["from"], one["to"]) for one in data["changes"]} == {
        ("warm", "width", 64, 128), ("hot", "width", 64, 128),
    }  # fmt: skip
    lines = answer_lines(answers)
    assert lines[0].startswith("Start warm comes out better than cold")
    assert len(lines) == 4
