"""A study's folder: what became of each cell is known after any end, and nothing damaged is taken for a result."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable

import pytest

from folio.errors import ArtifactError
from folio.studies.findings.results import read_results
from folio.studies.grid.spec import Study
from folio.studies.running.records import CELLS, STUDY, CellLog, StudyFolder
from folio.studies.running.watching import RunWatch, ending_of

MakeStudy = Callable[..., StudyFolder]
TWO = "axes.model.n_embd = [12, 24]"


def names(folder: StudyFolder) -> list[str]:
    return list(folder.read()[1])


def test_the_run_is_believed_where_records_were_lost(make_study: MakeStudy) -> None:
    folder = make_study(TWO, lambda cell: 3.0 if cell.values["n_embd"] == 12 else math.inf)
    (folder.path / CELLS).unlink()
    assert [state.status for state in folder.states(names(folder)).values()] == ["finished", "diverged"]


def test_a_run_that_is_gone_is_to_be_trained_again(make_study: MakeStudy) -> None:
    folder = make_study(TWO, lambda cell: 3.0)
    first = names(folder)[0]
    with CellLog(folder) as log:
        log.tell("finished", first, 40)
    assert folder.states([first])[first].status == "finished"
    shutil.rmtree(folder.run(first))
    assert folder.states([first])[first].status == "waiting"


def test_a_run_without_its_last_checkpoint_is_not_finished(make_study: MakeStudy) -> None:
    folder = make_study(TWO, lambda cell: 3.0)
    run = folder.run(names(folder)[0])
    assert ending_of(run) == ("finished", "")
    shutil.rmtree(run / "checkpoints")
    assert ending_of(run) is None
    assert folder.states([run.name])[run.name].status == "begun"


def test_failures_are_kept_until_tried_again(make_study: MakeStudy) -> None:
    folder = make_study(TWO, lambda cell: "no room")
    first = names(folder)[0]
    state = folder.states([first])[first]
    assert (state.status, state.error, state.attempts) == ("failed", "no room", 1)
    with CellLog(folder) as log:
        log.tell("began", first, threads=2)
    assert folder.states([first])[first].status == "waiting"  # killed before it wrote anything


def test_half_a_line_is_ignored_and_a_damaged_one_told(make_study: MakeStudy) -> None:
    folder = make_study(TWO, lambda cell: 3.0)
    before = folder.states(names(folder))
    with open(folder.path / CELLS, "a") as file:
        file.write('{"kind": "fini')
    assert folder.states(names(folder)) == before
    (folder.path / CELLS).write_text('{"kind": "odd", "step": 1}\n')
    with pytest.raises(ArtifactError, match="damaged"):
        folder.states(names(folder))


def test_damage_and_strangers_are_told_in_a_line(make_study: MakeStudy) -> None:
    folder = make_study(TWO, lambda cell: 3.0)
    study, cells = folder.read()
    folder.refuse_another(study)
    with pytest.raises(ArtifactError, match="holds the study made-up at scale whole, not other"):
        folder.refuse_another(study.model_copy(update={"name": "other"}))
    with pytest.raises(ArtifactError, match="something else than a study"):
        StudyFolder(folder.path / "cells").refuse_another(study)
    with pytest.raises(ArtifactError, match="does not exist"):
        StudyFolder(folder.path / "nothing").read()
    assert folder.strangers(list(cells)[:1]) == list(cells)[1:]
    path = folder.path / STUDY
    path.write_text(path.read_text().replace("made-up", "made-on"))
    with pytest.raises(ArtifactError, match="damaged"):
        folder.read()


def test_damaged_metrics_of_a_cell_are_told(make_study: MakeStudy) -> None:
    folder = make_study(TWO, lambda cell: 3.0)
    metrics = folder.run(names(folder)[0]) / "metrics.jsonl"
    metrics.write_text("rubbish\n" + metrics.read_text())
    with pytest.raises(ArtifactError, match="line 1"):
        read_results(folder)


def test_a_study_comes_back_from_its_folder_as_it_was(make_study: MakeStudy) -> None:
    text = """
    seeds = [3, 4]
    [axes]
    width = { key = "model.n_embd", values = [12, 24] }
    [grids.a]
    derived."model.n_head" = "width / 12"
    [grids.b]
    [[grids.b.conditions]]
    when = "width > 12"
    leave_out = true
    """
    folder = make_study(text, lambda cell: 3.0)
    again, _ = folder.read()
    assert isinstance(again, Study)
    assert again.grid_tables().keys() == {"a", "b"}
    folder.write(again, {})
    assert folder.read()[0] == again


@pytest.mark.parametrize(("at", "nats", "accuracy", "judged"), [("best", 2.0, 0.5, -1.5), ("last", 2.6, 0.4, -1.5)])
def test_scores_are_of_the_best_validation_or_the_last(
    make_study: MakeStudy, at: str, nats: float, accuracy: float, judged: float
) -> None:
    """What was not measured at the best step counts as it was last measured."""
    folder = make_study(f'scores_at = "{at}"\nmeasures = ["quiz.acc"]\n{TWO}', lambda cell: 3.0)
    metrics = folder.run(names(folder)[0]) / "metrics.jsonl"
    *lines, ending = metrics.read_text().splitlines()
    for step, loss, share in ((39, 2.0, 0.5), (40, 2.6, 0.4)):
        score = {"acc": {"value": share, "better": "higher"}}
        lines.append(json.dumps({"kind": "validation", "step": step, "nats_per_token": loss, "tokens_seen": 1}))
        lines.append(json.dumps({"kind": "evaluation", "step": step, "name": "quiz", "scores": score}))
    score = {"mean": {"value": judged, "better": "higher"}, "odd": {"value": None, "better": "higher"}}
    lines.append(json.dumps({"kind": "evaluation", "step": 40, "name": "oracle", "scores": score}))
    metrics.write_text("\n".join([*lines, ending]) + "\n")
    results = read_results(folder)
    cell = results.cells[0]
    found = {name: cell.numbers[name] for name in ("nats_per_token", "quiz.acc", "oracle.mean")}
    assert found == {"nats_per_token": nats, "quiz.acc": accuracy, "oracle.mean": judged}
    assert "oracle.odd" not in cell.numbers
    assert results.measure == "quiz.acc"
    assert not results.lower_is_better("quiz.acc")
    assert results.lower_is_better("bits_per_byte")


def test_one_study_at_a_time_in_a_folder(make_study: MakeStudy) -> None:
    folder = make_study(TWO, lambda cell: 3.0)
    with (
        folder.alone(),
        pytest.raises(ArtifactError, match="another process is running the study"),
        StudyFolder(folder.path).alone(),
    ):
        pass


def test_progress_is_read_from_the_end_of_the_metrics(make_study: MakeStudy) -> None:
    folder = make_study(TWO, lambda cell: 2.5)
    watch = RunWatch(folder.run(names(folder)[0]))
    watch.look()
    assert (watch.step, watch.validation_nats) == (40, 2.5)
    nowhere = RunWatch(folder.path / "nothing")
    nowhere.look()
    assert nowhere.step == 0
