"""``folio lr``: a rate that trains well, how it was found, the flags that give it; nothing finished is done twice."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_checker import check
from real_runs import write_recipe

from folio.checksums import read_sealed_json
from folio.cli import main
from folio.training.state import StepResult, TrainingState
from folio.verbs.lr.asked import RefineConfig, rates_around, steps_of_trial
from folio.verbs.lr.plan import at_rate, bare, flags_of, rates_of
from folio.verbs.recipe import Recipe, load_recipe

QUICK = ("--low", "1e-4", "--high", "1", "--steps", "24", "--train.device", "cpu", "--train.precision", "fp32")
REFINED = ("--refine.rates", "3", "--refine.steps", "8", "--seeds", "2")


def command(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def found(*arguments: object) -> dict[str, Any]:
    """What ``folio lr`` answers under ``--json``; it must end well."""
    code, out, err = command("lr", *arguments, "--json")
    assert code == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    """``answer`` but for what a clock says, and where it lies."""
    plain = json.loads(json.dumps(answer))
    del plain["cost"]["seconds"], plain["wrote"], plain["next"]
    for one in (plain["refinement"] or {"results": []})["results"]:
        del one["elapsed_s"]
    return plain


@contextlib.contextmanager
def stopped_after(steps: int) -> Iterator[list[float]]:
    """The rates of the steps that are taken; after so many of them this process is sent Ctrl-C."""
    taken: list[float] = []
    train_step = TrainingState.train_step

    def watched(self: TrainingState, *arguments: Any) -> StepResult | None:
        result = train_step(self, *arguments)
        if result is not None:
            taken.append(result.learning_rate)
            if len(taken) == steps:
                os.kill(os.getpid(), signal.SIGINT)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "train_step", watched)
        yield taken


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def answered(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The answer of two sweeps and three trainings, and their folder."""
    folder = tmp_path_factory.mktemp("answered") / "rates"
    return found(recipe, *QUICK, *REFINED, "--out", folder), folder


def test_the_answer_says_the_rate_its_spread_its_cost_and_the_flags(answered: tuple[dict[str, Any], Path]) -> None:
    answer, folder = answered
    sweeps = answer["sweeps"]
    assert list(sweeps["seeds"]) == ["1337", "1338"]
    assert sweeps["low"] <= sweeps["rate"] <= sweeps["high"]
    assert {sweeps["low"], sweeps["high"]} == {one["rate"] for one in sweeps["seeds"].values()}
    tried = [one["learning_rate"] for one in answer["refinement"]["settings"]]
    assert answer["rate"] in tried
    assert tried[1] == sweeps["rate"]
    assert answer["rates"]["train.optimizer.learning_rate"] == answer["rate"]
    cost = answer["cost"]
    assert cost["forward_passes"] == 48
    assert cost["tokens"] == 512 * (cost["steps"] + 48)
    assert cost["share"] == pytest.approx((cost["steps"] + 16) / 24)
    assert cost["seconds"] > 0
    flags = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in answer["rates"].items())
    assert answer["command"].endswith(flags)
    assert answer["next"][0] == answer["command"]
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "sweeps.jsonl", "search.jsonl", "search.json", "lr.json", "report.html"),
    }


def test_its_files_hold_the_curves_and_a_page_with_the_figures(answered: tuple[dict[str, Any], Path]) -> None:
    answer, folder = answered
    saved = read_sealed_json(folder / "lr.json")
    assert {key: saved[key] for key in ("rate", "rates", "why", "command")} == {
        key: answer[key] for key in ("rate", "rates", "why", "command")
    }
    for curve in saved["curves"].values():
        counts = {len(curve[key]) for key in ("learning_rates", "nats_per_token", "smoothed_nats_per_token")}
        assert len(counts) == 1
        assert curve["learning_rates"][0] == pytest.approx(1e-4)
        assert len(curve["untouched_nats_per_token"]) == 24
    checker = check(html := (folder / "report.html").read_text())
    assert checker.tags.count("svg") == 2
    assert answer["command"].partition(" --train")[2] in html.replace("&#x27;", "'")
    for words in ("seed 1337", "seed 1338", "suggested"):
        assert words in html


def test_muon_moves_along_in_its_ratio(answered: tuple[dict[str, Any], Path], recipe: Path) -> None:
    answer, _ = answered
    optimizer = load_recipe(str(recipe)).train.optimizer
    ratio = optimizer.muon_learning_rate / optimizer.learning_rate
    assert answer["rates"]["train.optimizer.muon_learning_rate"] == pytest.approx(answer["rate"] * ratio, rel=1e-2)
    _, out, _ = command("lr", recipe, *QUICK, "--low", "1e-12", "--high", "1e-11", "--out", recipe.parent / "none")
    assert f"Muon's moves along: {ratio:.4g} times as high" in out


def test_its_command_is_one_that_train_takes(answered: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    answer, _ = answered
    words = answer["command"].split()
    assert words[:2] == ["folio", "train"]
    assert "--train.device cpu" in answer["command"], "a flag that was given is given again"
    run = tmp_path / "run"
    code, _, err = command(*words[1:], "--out", run, "--train.steps", "2", "--train.schedule.warmup-steps", "0")
    assert code == 0, err
    optimizer = read_sealed_json(run / "config.json")["recipe"]["train"]["optimizer"]
    assert {f"train.optimizer.{key}": optimizer[key] for key in ("learning_rate", "muon_learning_rate")} == answer[
        "rates"
    ]


@pytest.mark.parametrize("steps", [10, 30, 55, 68])
def test_a_search_that_was_stopped_goes_on_to_the_same_answer(
    recipe: Path, answered: tuple[dict[str, Any], Path], tmp_path: Path, steps: int
) -> None:
    """Amid the first sweep, the second, and trainings."""
    folder = tmp_path / "rates"
    with stopped_after(steps):
        code, _, err = command("lr", recipe, *QUICK, *REFINED, "--out", folder)
    assert code == 3, err
    assert f"folio lr --resume {folder}" in err
    kept = (folder / "sweeps.jsonl").read_text() if (folder / "sweeps.jsonl").exists() else ""
    trained = (folder / "search.jsonl").read_text() if (folder / "search.jsonl").exists() else ""
    assert kept.count("\n") == (0 if steps < 25 else 1 if steps < 50 else 2)
    assert without_times(found("--resume", folder)) == without_times(answered[0])
    assert (folder / "sweeps.jsonl").read_text().startswith(kept)
    assert (folder / "search.jsonl").read_text().startswith(trained)


def test_more_seeds_and_a_refinement_may_be_asked_for_later(
    recipe: Path, answered: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "rates"
    first = found(recipe, *QUICK, "--out", folder)
    assert first["refinement"] is None
    assert any("with Muon" in note for note in first["notes"])
    assert first["next"][1] == f"folio lr --resume {folder} --refine.rates 5"
    kept = (folder / "sweeps.jsonl").read_text()
    assert without_times(found("--resume", folder, *REFINED)) == without_times(answered[0])
    assert (folder / "sweeps.jsonl").read_text().startswith(kept)
    with stopped_after(0) as taken:
        again = found("--resume", folder)
    assert taken == []
    assert without_times(again) == without_times(answered[0])


def test_a_best_rate_at_the_end_of_those_tried_is_pointed_out(recipe: Path, tmp_path: Path) -> None:
    answer = found(recipe, *QUICK, "--refine.rates", "2", "--refine.steps", "4", "--out", tmp_path / "rates")
    assert any("that was tried: a" in note for note in answer["notes"])
    low = found(recipe, *QUICK, "--low", "1e-4", "--high", "4e-3", "--out", tmp_path / "low")
    assert any("ended too low" in note for note in low["notes"])


def test_where_nothing_can_be_suggested_the_curve_is_kept_and_the_code_is_2(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rates"
    code, _, err = command("lr", recipe, *QUICK, "--low", "1e-12", "--high", "1e-11", "--out", folder)
    assert code == 2
    assert "cannot suggest a learning rate: the loss never fell" in err
    assert read_sealed_json(folder / "lr.json")["rate"] is None
    check((folder / "report.html").read_text())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("TINY", "--low", "1", "--high", "0.1"), "low is 1 and high is 0.1; low must be the lower one"),
        (("TINY", "--low", "0.1", "--high", "0.1"), "low must be the lower one"),
        (("TINY", "--low", "0"), "--low '0': must be greater than 0"),
        (("TINY", "--steps", "5"), "steps is 5: a sweep of fewer than 20 steps shows no curve"),
        (("TINY", "--seeds", "0"), "--seeds '0'"),
        (("TINY", "--refine.rates", "1"), "rates is 1, so nothing is to be chosen"),
        (("TINY", "--refine.steps", "9"), "give refine.rates too"),
        (("no-such-preset",), "no preset 'no-such-preset'"),
        ((), "no recipe was named"),
        (("--resume", "nowhere"), "is not a run"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_writes_nothing(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command("lr", *(recipe if one == "TINY" else one for one in arguments))
    assert (code, out) == (2, "")
    assert complaint in err.splitlines()[0]
    assert len(err.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


def test_another_question_is_not_put_into_the_same_folder(
    recipe: Path, answered: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    _, folder = answered
    for flags, complaint in (
        (("--low", "1e-5"), "was begun with another low"),
        (("--train.batch-tokens", "1024"), "was begun with another train.batch_tokens"),
        (("--refine.factor", "3"), "now other trainings are asked for"),
        (("--out", tmp_path / "x"), "--resume writes into the folder it goes on with"),
    ):
        code, _, err = command("lr", "--resume", folder, *flags)
        assert code == 2
        assert complaint in err
    code, _, err = command("lr", recipe, "--out", folder)
    assert code == 2
    assert "already exists" in err
    code, _, err = command("train", "--resume", folder)
    assert code == 2
    assert f"folio lr --resume {folder}" in err


def test_it_runs_in_one_process(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "2"),
                        ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "29999")):  # fmt: skip
        monkeypatch.setenv(name, value)
    code, _, err = command("lr", recipe)
    assert code == 2
    assert "folio lr runs in one process" in err


def test_rates_stand_around_the_suggestion_by_one_factor() -> None:
    assert rates_around(1e-3, RefineConfig(rates=5)) == [2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3]
    assert rates_around(1e-3, RefineConfig(rates=2, factor=3.0)) == [1e-3, 3e-3]
    assert steps_of_trial(RefineConfig(rates=2), 5000) == 500
    assert steps_of_trial(RefineConfig(rates=2), 300) == 100
    assert steps_of_trial(RefineConfig(rates=2, steps=400), 300) == 300


def test_a_trial_is_the_recipe_made_short() -> None:
    recipe = load_recipe("tiny-shakespeare-char")
    short = bare(recipe, seed=7, steps=140).train
    assert (short.steps, short.seed, short.schedule.warmup_steps, short.sample_every) == (140, 7, 2, 0)
    assert short.schedule.decay_fraction == recipe.train.schedule.decay_fraction
    assert short.batch_tokens == recipe.train.batch_tokens
    moved = at_rate(recipe, 0.01).train.optimizer
    assert (moved.learning_rate, moved.muon_learning_rate) == (0.01, 0.02)
    adamw = Recipe()
    assert list(rates_of(adamw, 0.01)) == ["train.optimizer.learning_rate"]


def test_flags_repeat_what_differs_from_the_preset() -> None:
    recipe = load_recipe("shakespeare")
    train = recipe.train.model_copy(update={"recompute": True, "micro_batch": None, "save_best": False, "steps": 9})
    model = recipe.model.model_copy(update={"n_kv_head": 1, "bias": not recipe.model.bias})
    flags = " ".join(flags_of(recipe.model_copy(update={"train": train, "model": model}), "shakespeare", 3e-4))
    for text in ("--train.recompute", "--train.no-save-best", "--train.steps 9", "--model.n-kv-head 1"):
        assert text in flags
    assert "--train.optimizer.learning-rate 0.0003" in flags
    assert "batch-tokens" not in flags


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_suggestion_is_near_the_best_of_a_real_grid(recipe: Path, tmp_path: Path) -> None:
    flags = ("--train.optimizer.kind", "adamw", "--train.steps", "300", "--model.dropout", "0")
    answer = found(recipe, *flags, "--train.device", "cpu", "--train.precision", "fp32", "--out", tmp_path / "rates")
    losses = {}
    for rate in (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1):
        run = tmp_path / f"{rate:g}"
        more = ("--train.optimizer.learning-rate", rate, "--train.device", "cpu", "--train.precision", "fp32")
        code, out, err = command("train", recipe, *flags, *more, "--out", run, "--train.validate-every", 0, "--json")
        assert code == 0, err
        losses[rate] = json.loads(out)["best"]["nats_per_token"]
    best = min(losses, key=lambda rate: losses[rate])
    assert best / 5 <= answer["rate"] <= best * 5, (answer["rate"], losses)
