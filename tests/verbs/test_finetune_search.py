"""``folio finetune --search.kind ...``: what is found is what the run goes by, also after a stop amid the search."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from finetuned_runs import BARE, Killed, command, data_of, finetune, lines_of, make_home, states_seen

from folio.checksums import read_sealed_json
from folio.finetuning.search.records import SEARCH, read_search
from folio.training.state import StepResult, TrainingState

TRAIN = ("--train.batch-tokens", 128, "--train.epochs", 4, "--train.validate-every", 4, "--lora.rank", 4)
RATES = ("--search.kind", "list", "--search.learning-rates", 1e-5, 1e-3, 2e-2, 5.0)
SEARCHING = (*RATES, "--search.budget-epochs", 2)
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("search"))


@pytest.fixture(scope="module")
def searched(home: Path) -> dict[str, Any]:
    """The answer of a run with a search before it, at ``home/searched``."""
    return finetune(*data_of(home), "--out", home / "searched", *BARE, *TRAIN, *SEARCHING)


@contextmanager
def ending_after(steps: int, how: signal.Signals | type[Killed] | None = None) -> Iterator[list[tuple[float, int]]]:
    """(rate, step) of each step of any training; after so many of them this process is sent a signal, or torn out."""
    seen: list[tuple[float, int]] = []
    train_step = TrainingState.train_step

    def watched(self: TrainingState, *arguments: Any) -> StepResult | None:
        if len(seen) == steps and how is Killed:
            raise Killed
        result = train_step(self, *arguments)
        if result is not None:
            seen.append((self.config.optimizer.learning_rate, self.step))
            if len(seen) == steps and isinstance(how, signal.Signals):
                os.kill(os.getpid(), how)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "train_step", watched)
        yield seen


def results_of(run: Path) -> list[tuple[int, int, int, float]]:
    record = read_search(run)
    assert record is not None
    return [(one.setting, one.rung, one.step, one.loss.nats) for one in record.results]


def test_the_run_goes_by_the_winner_and_says_why(home: Path, searched: dict[str, Any]) -> None:
    run = home / "searched"
    record = read_search(run)
    assert record is not None
    assert record.choice is not None
    winner = record.choice.values["train.optimizer.learning_rate"]
    assert winner == 2e-2
    config = read_sealed_json(run / "config.json")
    assert config["recipe"]["train"]["optimizer"]["learning_rate"] == winner
    assert config["search"]["reason"] == record.choice.reason
    assert "lowest validation loss" in config["search"]["reason"]
    assert 0.9 * winner < max(line["learning_rate"] for line in lines_of(run, "train")) <= winner
    assert (run / "search.svg").read_text().startswith("<svg")
    assert read_sealed_json(run / "search.json")["values"] == record.choice.values


def test_trials_are_halved_and_as_long_as_their_budget(home: Path, searched: dict[str, Any]) -> None:
    record = read_search(home / "searched")
    assert record is not None
    steps = searched["resolved"]["rows_per_epoch"]
    assert len(set(record.budgets)) == 1
    longest = record.budgets[0]
    assert longest * 2 == searched["steps"], steps
    assert [one.step for one in record.results] == [-(-longest // 2)] * 4 + [longest] * 2
    alone = [one for one in results_of(home / "searched") if one[2] == longest]
    assert {one[0] for one in alone} == {2, 3}


def test_trials_of_the_winner_do_not_change_the_run(home: Path, searched: dict[str, Any]) -> None:
    rate = ("--train.optimizer.learning-rate", 2e-2)
    typed = finetune(*data_of(home), "--out", home / "typed", *BARE, *TRAIN, *rate)
    assert typed["weights_sha256"] == searched["weights_sha256"]


@pytest.mark.parametrize(
    ("steps", "how", "finished"), [(1, signal.SIGTERM, 0), (3, Killed, 1), (8, signal.SIGINT, 3), (9, Killed, 5)]
)
def test_a_search_taken_up_again_repeats_no_finished_trial(
    home: Path, searched: dict[str, Any], tmp_path: Path, steps: int, how: Any, finished: int
) -> None:
    run = tmp_path / "run"
    arguments = ("finetune", *data_of(home), "--out", run, *BARE, *TRAIN, *SEARCHING)
    with ending_after(steps, how):
        if how is Killed:
            with pytest.raises(Killed):
                command(*arguments)
        else:
            code, _, err = command(*arguments)
            assert code == 3, err
            assert "of 6 trainings are finished and kept" in err
            assert f"Go on with: folio finetune --resume {run}" in err
    kept, whole = results_of(run), results_of(home / "searched")
    assert kept == whole[: len(kept)]
    assert len(kept) == finished
    assert not (run / "checkpoints").exists()
    with ending_after(0) as seen:
        answer = finetune("--resume", run)
    assert results_of(run) == whole
    over = {number for number, *_ in kept} - {number for number, rung, *_ in whole if rung == 2}
    assert {rate for rate, _ in seen}.isdisjoint({1: 1e-5, 4: 5.0}[number] for number in over)
    assert answer["weights_sha256"] == searched["weights_sha256"]


def test_a_finished_search_is_not_searched_again(home: Path, searched: dict[str, Any]) -> None:
    before = (home / "searched" / SEARCH).read_bytes()
    code, _, err = command("finetune", "--resume", home / "searched")
    assert code == 2, err
    assert (home / "searched" / SEARCH).read_bytes() == before
    longer = finetune("--resume", home / "searched", "--train.steps", searched["steps"] + 2)
    assert longer["resolved"]["epochs"] > searched["resolved"]["epochs"]
    assert (home / "searched" / SEARCH).read_bytes() == before
    assert "lowest validation loss" in read_sealed_json(home / "searched" / "config.json")["search"]["reason"]


def test_another_search_in_the_same_folder_is_refused(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with ending_after(1, signal.SIGTERM):
        assert command("finetune", *data_of(home), "--out", run, *BARE, *TRAIN, *SEARCHING)[0] == 3
    code, _, err = command("finetune", "--resume", run, "--search.learning-rates", 1e-3, 1e-2)
    assert code == 2
    assert "begun with another" in err
    assert "search.learning_rates" in err


def test_rank_batch_and_epochs_are_searched_too(home: Path, tmp_path: Path) -> None:
    lists = ("--search.learning-rates", 1e-3, 2e-2, "--search.rank", 2, 4, "--search.batch-tokens", 128, 256)
    run = tmp_path / "run"
    searching = ("--search.kind", "list", *lists, "--search.epochs", 1, 2)
    with ending_after(1, signal.SIGTERM):
        assert command("finetune", *data_of(home), "--out", run, *BARE, "--search.kind", "list", *searching[2:])[0] == 3
    finetune("--resume", run)
    recipe = read_sealed_json(run / "config.json")["recipe"]
    record = read_search(run)
    assert record is not None
    assert record.choice is not None
    values = record.choice.values
    assert recipe["train"]["optimizer"]["learning_rate"] == values["train.optimizer.learning_rate"]
    assert recipe["lora"]["rank"] == values["lora.rank"]
    assert recipe["train"]["batch_tokens"] == values["train.batch_tokens"]
    assert recipe["train"]["epochs"] == values["train.epochs"]
    winner = next(one for one in record.settings if one.keys() == values)
    assert recipe["train"]["steps"] == record.budgets[winner.number - 1]
    assert len(set(record.budgets)) > 1
    adapter = next(iter(sorted((run / "checkpoints").glob("step-*/adapter/adapter_config.json"))))
    assert json.loads(adapter.read_text())["r"] == values["lora.rank"]


def test_a_trial_has_the_runs_schedule_made_as_short_as_itself(home: Path, tmp_path: Path) -> None:
    with states_seen() as states:
        finetune(
            *data_of(home), "--out", tmp_path / "run", *BARE, *TRAIN, *SEARCHING, "--train.schedule.warmup-steps", 4
        )
    *trials, run = [(state.config.steps, state.config.schedule.warmup_steps) for state in states]
    assert run == (6, 4)
    assert trials == [(3, 2)] * 6


def test_random_rates_are_drawn_and_used(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    random = ("--search.kind", "random", "--search.count", 3, "--search.low", 1e-4, "--search.budget-steps", 2)
    finetune(*data_of(home), "--out", run, *BARE, *TRAIN, *random)
    record = read_search(run)
    assert record is not None
    rates = [one.rate for one in record.settings]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert read_sealed_json(run / "config.json")["recipe"]["train"]["optimizer"]["learning_rate"] in rates
    assert set(record.budgets) == {2}


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_a_sweep_decides_the_run(home: Path, tmp_path: Path, method: str) -> None:
    run = tmp_path / "run"
    ranged = ("--search.kind", "range", "--search.count", 40, "--search.high", 10)
    finetune(*data_of(home), "--out", run, "--method", method, *BARE, *TRAIN[:6], *ranged)
    record = read_search(run)
    assert record is not None
    assert record.sweep is not None
    rate = read_sealed_json(run / "config.json")["recipe"]["train"]["optimizer"]["learning_rate"]
    assert 1e-5 < rate < 1
    assert read_sealed_json(run / "config.json")["search"]["values"] == {"train.optimizer.learning_rate": rate}
    losses = [line["nats_per_token"] for line in lines_of(run, "validation")]
    assert losses[-1] < losses[0]


def test_preferences_are_searched_by_their_own_loss(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    data = ("--data", home / "pairs.jsonl", "--data.validation", home / "held_pairs.jsonl")
    finetune(home / "base", *data, "--out", run, *BARE, *TRAIN, *SEARCHING)
    config = read_sealed_json(run / "config.json")
    assert "nats/pair" in config["search"]["reason"]
    assert config["recipe"]["train"]["optimizer"]["learning_rate"] > 1e-5


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--method", "full", *SEARCHING, "--search.rank", 4, 8), "search.rank is for lora and qlora"),
        (("--method", "full", "--train.optimizer.kind", "muon", *SEARCHING), "muon_learning_rate"),
        ((*RATES, "--search.epochs", 1, 2, "--train.steps", 9), "leaves search.epochs nothing to decide"),
        ((*RATES, "--search.batch-tokens", 128, 100), "not a multiple"),
        (("--data.validation-fraction", 0, *SEARCHING), "no examples are held out"),
        (("--search.kind", "list"), "no learning_rates"),
        (("--search.kind", "range", "--search.rank", 4, 8), "belongs to kind list or random"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_written(
    home: Path, tmp_path: Path, arguments: tuple[object, ...], complaint: str
) -> None:
    data = data_of(home)[:3] if "--data.validation-fraction" in arguments else data_of(home)
    code, _, err = command("finetune", *data, "--out", tmp_path / "run", *BARE, *arguments)
    assert code == 2
    assert complaint in err
    assert not (tmp_path / "run").exists()
