"""Each rung changes one thing; what this machine cannot do is left out with a reason."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from ladder_world import CPU

from folio.errors import ConfigError
from folio.studies.ladder.machine import Machine, machine_of
from folio.studies.ladder.rungs import BOTTOM, RUNGS, Settings, Step, in_speed_part, steps_on

H200 = Machine(
    "cuda", "a GPU", gpus=8, capability=(9, 0), threads=16, bf16=True, onednn=True, pages=True, memory=10**11
)


def changed(before: Settings, after: Settings) -> list[str]:
    return [one.name for one in fields(Settings) if getattr(before, one.name) != getattr(after, one.name)]


@pytest.mark.parametrize("machine", [CPU, H200, replace(H200, gpus=1, capability=(7, 5), bf16=False)])
def test_each_rung_changes_exactly_one_thing_on_top_of_the_last(machine: Machine) -> None:
    below = Settings()
    for step in steps_on(machine)[1:]:
        if step.refused:
            assert step.settings == below, step.name
            continue
        assert changed(below, step.settings) == [step.rung.field], step.name
        if step.kept:
            below = step.settings


def test_every_setting_has_its_rung() -> None:
    assert {rung.field for rung in RUNGS} == {one.name for one in fields(Settings)}
    assert len({rung.name for rung in RUNGS}) == len(RUNGS)


def by_name(steps: list[Step]) -> dict[str, Step]:
    return {step.name: step for step in steps}


def test_a_cpu_has_no_place_for_what_needs_a_gpu_and_says_why() -> None:
    steps = by_name(steps_on(CPU))
    assert {name for name, step in steps.items() if step.refused} == {"gpu", "tf32", "fp8"}
    assert "CUDA" in steps["tf32"].refused
    assert "fp8" in steps["fp8"].refused
    assert {name for name, step in steps.items() if not step.kept} == {"compile", "ddp"}
    assert not steps["qknorm"].settings.compile
    assert steps["ddp"].settings.ranks == 2
    assert steps["muon"].settings.ranks == 1


def test_a_gpu_has_no_place_for_what_is_for_cpus() -> None:
    steps = by_name(steps_on(H200))
    assert {name for name, step in steps.items() if step.refused} == {"onednn", "pages", "products"}
    assert all(step.kept for step in steps.values())
    top = steps["fp8"].settings
    assert (top.device, top.ranks, top.compile, top.attention) == ("cuda", 8, True, "fused")
    assert steps[BOTTOM].settings.device == "cpu"


def test_lesser_machines_lose_the_rungs_they_lack() -> None:
    plain = replace(CPU, threads=1, bf16=False, onednn=False, pages=False, compiles="no C++ compiler on this machine")
    refused = {step.name: step.refused for step in steps_on(plain) if step.refused}
    assert refused.keys() == {"gpu", "tf32", "onednn", "bf16", "pages", "compile", "ddp", "fp8"}
    assert refused["compile"] == "no C++ compiler on this machine"
    assert all(refused.values())


def test_rungs_that_are_not_asked_for_are_climbed_all_the_same() -> None:
    some = by_name(steps_on(CPU, ["chunked", "muon"]))
    assert list(some) == [BOTTOM, "chunked", "muon"]
    assert some["muon"].settings == by_name(steps_on(CPU))["muon"].settings


def test_an_unknown_rung_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no rung 'bf61'") as caught:
        steps_on(CPU, ["bf61"])
    assert caught.value.remedy == "Did you mean bf16?"


def test_the_speed_part_ends_where_the_step_or_the_model_changes() -> None:
    assert in_speed_part(BOTTOM)
    assert in_speed_part("chunked")
    assert not in_speed_part("accumulate")
    changing = {"accumulate", "ranks", "optimizer", "schedule", "position", "norm", "activation", "grouped", "qk_norm"}
    assert {rung.field for rung in RUNGS if not in_speed_part(rung.name)} - {"fp8"} == changing


def test_a_machine_is_read_back_as_it_was_written() -> None:
    assert machine_of(H200.as_dict()) == H200
