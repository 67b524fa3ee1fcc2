"""What a ladder comes to: ratios within rounds, losses after equal steps and in equal time, paired errors."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from ladder_world import CPU, findings, pretend, speed_of

from folio.errors import ArtifactError, UserError
from folio.studies.ladder.budget import (
    FEWEST_STEPS,
    FirstTiming,
    StepTime,
    learning_s,
    plan_speed,
    plan_steps,
    speed_s,
)
from folio.studies.ladder.folder import LadderFolder, loss_name, time_name
from folio.studies.ladder.losses import steps_in_equal_time, trainings_of
from folio.studies.ladder.machine import Machine
from folio.studies.ladder.measuring import WINDOWS, refuse_another
from folio.studies.ladder.results import Loss, harmed
from folio.studies.ladder.rungs import BOTTOM, steps_on
from folio.studies.ladder.shapes import ON_CPU, accumulation_of, shape_of

STEP = StepTime(1.3, 0.7)
FIRST = FirstTiming(4, STEP, STEP, muon_s=2.2, peak_bytes=37 * 10**8, start_s=3.0, learning_s=(0.03, 0.05))
"""As on two cores of Zen 5: GPT-2 124M, sequences of 256 tokens."""
LOSSES_S = 90.0


def test_ratios_are_taken_within_rounds_so_that_a_slow_one_does_not_count(tmp_path: Path) -> None:
    found = findings(pretend(tmp_path))
    flash, chunked = found.row("flash"), found.row("chunked")
    assert flash.to_below is not None
    assert flash.to_below.low == pytest.approx(flash.to_below.high) == pytest.approx(1.1**2)
    assert flash.on == "pages", "compile was taken out again"
    assert chunked.to_bottom is not None
    number = [row.name for row in found.rows if row.state != "not here"].index("chunked")
    assert chunked.to_bottom.middle == pytest.approx(1.1**number)
    assert chunked.tokens_per_s == pytest.approx(speed_of(number))
    assert found.row(BOTTOM).tokens_per_s == pytest.approx(1000)


def test_a_rung_has_its_share_of_the_peak(tmp_path: Path) -> None:
    found = findings(pretend(tmp_path, replace(CPU, peaks={"cpu": 1e9})))
    plain, tied = found.row(BOTTOM), found.row("tied")
    assert plain.mfu is not None
    assert tied.mfu == pytest.approx(1.1 * plain.mfu)
    parameters, context = 2 * 12 * 64**2 + 79 * 64, 64
    assert plain.mfu == pytest.approx(6 * parameters * 1000 / 1e9, rel=0.1), context


def test_equal_time_is_the_share_of_steps_that_the_speed_allows(tmp_path: Path) -> None:
    work = pretend(tmp_path)
    steps = steps_in_equal_time(work, 100)
    kept = [step for step in work.measured if step.kept]
    highest = work.measured.index(kept[-1])
    assert steps[kept[-1].name] == 100
    assert steps[BOTTOM] == max(1, round(100 / 1.1**highest))
    found = findings(work)
    bottom = found.row(BOTTOM)
    assert bottom.equal_time is not None
    assert bottom.loss is not None
    assert bottom.equal_time.steps == steps[BOTTOM]
    assert bottom.equal_time.nats > bottom.loss.nats


def test_an_error_holds_what_windows_and_what_a_seed_alone_change(tmp_path: Path) -> None:
    work = pretend(tmp_path / "one")
    found = findings(work)
    middle, top = found.row("bf16").loss, found.row("qknorm").loss
    assert middle is not None
    assert top is not None
    spread = 0.001  # of the three seeds of the bottom and of both tops; the noise of windows is the same for all
    assert middle.standard_error == pytest.approx(0.1 / math.sqrt(WINDOWS), rel=0.3)
    assert middle.above_bottom == pytest.approx(-0.04 - 0.001), "seed 0 against the mean of seeds 0 to 2"
    assert middle.above_bottom_error == pytest.approx(spread * math.sqrt(1 + 1 / 3))
    assert top.above_bottom_error == pytest.approx(spread * math.sqrt(2 / 3))
    assert [row.loss.seeds for row in found.rows if row.loss and row.loss.seeds > 1] == [3, 3, 3]
    several = findings(pretend(tmp_path / "three", seeds=4), seeds=4).row("bf16").loss
    assert several is not None
    assert several.seeds == 4
    assert several.above_bottom == pytest.approx(-0.04)


def test_windows_count_where_rungs_differ_from_window_to_window(tmp_path: Path) -> None:
    work = pretend(tmp_path)
    file = work.folder.read(loss_name("bf16", 0))
    assert file is not None
    nats = [x + (0.2 if index % 2 else -0.2) for index, x in enumerate(file["nats"])]
    work.folder.write(loss_name("bf16", 0), {**file, "nats": nats})
    loss = findings(work).row("bf16").loss
    assert loss is not None
    assert loss.above_bottom_error == pytest.approx(0.2 / math.sqrt(WINDOWS), rel=0.05)


def test_harmed_is_more_than_two_standard_errors_above() -> None:
    assert harmed(Loss(2.0, 0.1, 10, above_bottom=0.03, above_bottom_error=0.01))
    assert not harmed(Loss(2.0, 0.1, 10, above_bottom=0.01, above_bottom_error=0.01))


def test_the_ends_that_are_judged_are_trained_from_three_seeds() -> None:
    measured = [step for step in steps_on(CPU) if not step.refused]
    assert [step.name for step in measured if trainings_of(step, measured, 1) == 3] == [BOTTOM, "chunked", "qknorm"]
    assert trainings_of(measured[3], measured, 2) == 2
    low = [step for step in steps_on(CPU, ["bf16", "compile"]) if not step.refused]
    assert [step.name for step in low if trainings_of(step, low, 1) == 3] == [BOTTOM, "bf16"]


def test_what_failed_is_shown_and_the_ladder_goes_on(tmp_path: Path) -> None:
    found = findings(pretend(tmp_path, failing=("bf16",)))
    row = found.row("bf16")
    assert (row.state, row.reason, row.tokens_per_s) == ("failed", "out of memory", None)
    assert found.row("pages").on == "onednn"
    assert found.top.name == "qknorm"
    summary = json.loads(json.dumps(found.as_dict()))["summary"]
    assert summary["top_of_speed"]["rung"] == "chunked"
    assert summary["top_of_speed"]["learning_harmed"] is False


def planned(minutes: float, **more: float) -> tuple[int, int, int]:
    steps = steps_on(CPU)
    rounds, memory = int(more.get("rounds", 0)), int(more.get("memory", 22e9))
    plan = plan_speed(FIRST, ON_CPU["124m"], steps, minutes, rounds, memory, LOSSES_S, spent_s=30.0)
    assert plan.expected_s < 0.65 * 60 * minutes
    assert plan.expected_s + LOSSES_S + 30 < 60 * minutes
    return plan.sequences, plan.rounds, plan.together


def test_more_time_buys_sequences_then_rounds_and_memory_neighbours() -> None:
    assert planned(15)[0] < planned(40)[0] == 4
    assert planned(600)[1] == 9
    assert planned(600, rounds=20)[1] == 20
    assert planned(60, memory=1e10)[2] == 1
    assert planned(60, memory=1e12)[2] == 6


def test_the_default_time_holds_the_whole_ladder_on_two_cores() -> None:
    sequences, rounds, _ = planned(15)
    assert sequences >= 1
    assert rounds >= 3


def test_no_more_sequences_than_there_was_memory_for() -> None:
    steps = steps_on(replace(CPU, device="cuda", gpus=1))
    first = replace(FIRST, most=4)
    assert plan_speed(first, shape_of("124m", "cuda"), steps, 600, 0, 10**11, LOSSES_S).sequences == 4


def test_too_little_time_names_what_would_do() -> None:
    with pytest.raises(UserError, match=r"--minutes 2 is too little for 25 rungs of shape '124m'") as caught:
        planned(2)
    enough = int(caught.value.remedy.split()[2].strip(","))
    assert 2 < enough <= 15
    assert planned(enough)
    with pytest.raises(UserError, match="too little"):
        planned(enough - 1.5)


def test_processes_are_started_once_and_groups_cost_turns_of_the_bottom_alone() -> None:
    measured = [step for step in steps_on(CPU) if not step.refused]
    few = speed_s(FIRST, ON_CPU["124m"], measured, 2, 3, together=6)
    many = speed_s(FIRST, ON_CPU["124m"], measured, 2, 3, together=2)
    more_groups = 12 - 4
    assert many - few < more_groups * 3 * (FIRST.bottom.of(2) + 4.5)
    slower = replace(FIRST, start_s=FIRST.start_s + 1)
    assert speed_s(slower, ON_CPU["124m"], measured, 2, 3, 2) - many == pytest.approx(1 + 0.6 * 25)


def test_the_losses_take_the_time_that_is_left() -> None:
    measured = [step for step in steps_on(CPU) if not step.refused]
    once, thrice = [1] * len(measured), [3] * len(measured)
    steps = plan_steps((0.03, 0.05), measured, 360, once)
    assert 330 < learning_s((0.03, 0.05), measured, steps, once) <= 360
    assert plan_steps((0.03, 0.05), measured, 360, thrice) < steps / 2.5
    assert plan_steps((0.03, 0.05), measured, 360, once, learners=2) > 1.6 * steps
    assert plan_steps((0.03, 0.05), measured, 1, once) == FEWEST_STEPS


def test_the_gpus_step_is_half_a_million_tokens() -> None:
    model = shape_of("124m", "cuda").speed
    assert accumulation_of(model, 8) * 8 * model.block_size == 524_288
    assert shape_of("124m", "cpu").learning.n_layer == 4


def test_a_folder_keeps_to_what_it_was_begun_with(tmp_path: Path) -> None:
    folder = LadderFolder(tmp_path / "ladder")
    folder.begin({"shape": "tiny", "rounds": 3})
    assert folder.begin({"shape": "tiny", "rounds": 3})["options"]["rounds"] == 3
    with pytest.raises(ArtifactError, match="was begun with --rounds 3, not 5"):
        folder.begin({"shape": "tiny", "rounds": 5})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(ArtifactError, match="holds something else"):
        LadderFolder(tmp_path / "other").begin({})


def test_a_damaged_measurement_is_not_believed(tmp_path: Path) -> None:
    work = pretend(tmp_path)
    file = tmp_path / "measured" / f"{time_name('bf16')}.json"
    file.write_text(file.read_text().replace("512", "513"))
    with pytest.raises(ArtifactError, match="damaged"):
        findings(work)


def test_another_machine_does_not_go_on() -> None:
    refuse_another(CPU, replace(CPU, peaks={"cpu": 2e12}, memory=5))
    with pytest.raises(ArtifactError, match="threads 2, here 8"):
        refuse_another(CPU, replace(CPU, threads=8))
    assert Machine("cpu").refusal("ddp") == "one core"
