"""``folio compare`` on real runs of a few steps, and on evaluations whose answer is known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_evaluations import choices, losses, write
from page_checker import check
from real_runs import write_recipe

import folio
from folio.config import read_toml
from folio.errors import ArtifactError, ConfigError, UserError
from folio.evaluation.results import read_evaluation, write_evaluation
from folio.verbs import evaluate as evaluate_verb
from folio.verbs.action import Terminal
from folio.verbs.arms import arm_names, given_arms
from folio.verbs.compare import ACTIONS, CompareOptions, compare
from folio.verbs.options import parse

QUIET = Terminal(quiet=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recipes that differ in their learning rate, two seeds of each, and each with two checkpoints."""
    home = tmp_path_factory.mktemp("compared")
    recipe = read_toml(write_recipe(home))
    for name, learning_rate in (("slow", 1e-5), ("fast", 3e-3)):
        for seed in (1, 2):
            train = {
                **recipe["train"], "seed": seed, "steps": 8, "validate_every": 4, "keep_last": 9, "sample_every": 0,
                "optimizer": {"kind": "adamw", "learning_rate": learning_rate},
            }  # fmt: skip
            folio.train({**recipe, "train": train}, home / f"{name}-{seed}")
    return home


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def quizzes(tmp_path: Path) -> list[str]:
    """Evaluation folders: the second far better than the first, the third like it in all but a few answers."""
    right = (np.random.default_rng(0).random(500) < 0.3).astype(int)
    better, like = right.copy(), right.copy()
    better[:120] = 1
    like[:10] = 1 - right[:10]
    return [str(write(tmp_path / name, choices(x))) for name, x in (("old", right), ("new", better), ("like", like))]


def found(outcome: Any) -> list[tuple[str, str, str, str]]:
    return [(x["first"], x["second"], x["metric"], x["verdict"]["outcome"]) for x in outcome.data["comparisons"]]


def test_two_checkpoints_of_one_run_are_evaluated_and_compared(runs: Path) -> None:
    early, late = (runs / "fast-1" / "checkpoints" / step for step in ("step-00000004", "step-00000008"))
    outcome = compare(CompareOptions(models=(str(early), str(late)), text=str(runs / "text.txt")), QUIET)
    assert {one[2] for one in found(outcome)} == {"nats_per_token", "bits_per_byte"}
    (nats,) = (one for one in outcome.data["comparisons"] if one["metric"] == "nats_per_token")
    assert nats["difference"] < 0, "more training, less loss"
    for side, arm in zip(("first_value", "second_value"), outcome.data["arms"], strict=True):
        (evaluated,) = arm["evaluations"]
        stored = read_evaluation(Path(evaluated["evaluation"]))
        assert nats[side] == pytest.approx(stored.measurements["loss"].score("nats_per_token").value)


def test_models_of_two_tokenizers_compare_by_bits_per_byte(runs: Path, tmp_path: Path) -> None:
    recipe = read_toml(runs / "tiny.toml")
    train = {**recipe["train"], "steps": 4, "sample_every": 0}
    folio.train({**recipe, "tokenizer": {"kind": "bpe", "vocab_size": 300}, "train": train}, tmp_path / "bpe")
    models = (str(runs / "fast-1"), str(tmp_path / "bpe"))
    outcome = compare(CompareOptions(models=models, text=str(runs / "text.txt")), QUIET)
    assert [one[2] for one in found(outcome)] == ["bits_per_byte"]
    assert any("other tokenizers" in note for note in outcome.data["notes"])


def test_seeds_of_one_recipe_become_one_arm(runs: Path) -> None:
    models = [str(runs / name) for name in ("slow-1", "fast-1", "slow-2", "fast-2")]
    outcome = compare(CompareOptions(models=tuple(models), seeds=True, text=str(runs / "text.txt")), QUIET)
    assert [arm["name"] for arm in outcome.data["arms"]] == ["slow (2 seeds)", "fast (2 seeds)"]
    assert [[one["model"] for one in arm["evaluations"]] for arm in outcome.data["arms"]] == [
        ["slow-1", "slow-2"],
        ["fast-1", "fast-2"],
    ]
    assert all(one["seeds"] == (2, 2) for one in outcome.data["comparisons"])
    lists = (",".join(models[::2]), ",".join(models[1::2]))
    by_hand = compare(CompareOptions(models=lists, text=str(runs / "text.txt")), QUIET)
    assert found(by_hand) == found(outcome)
    assert by_hand.data["comparisons"] == outcome.data["comparisons"]


def test_what_is_no_two_seeds_is_refused_before_anything_is_evaluated(runs: Path, quizzes: list[str]) -> None:
    def refusal(*models: Path | str) -> str:
        with pytest.raises(UserError) as caught:
            compare(CompareOptions(models=tuple(map(str, models)), seeds=True), QUIET)
        return str(caught.value)

    assert "the 2 models are all seeds of one recipe" in refusal(runs / "slow-1", runs / "slow-2")
    assert "'old', which is no run here" in refusal(*quizzes)
    assert "is no run" in refusal(runs / "slow-1", "gpt2")
    copy = shutil.copytree(runs / "slow-1", "copy")
    assert "one recipe and one seed (1)" in refusal(runs / "fast-1", runs / "slow-1", copy)
    assert not Path("evaluations").exists()


def test_evaluation_folders_are_compared_as_they_are(quizzes: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    outcome = compare(CompareOptions(models=tuple(quizzes)), Terminal())
    assert found(outcome) == [("old", "new", "acc", "better"), ("old", "like", "acc", "cannot tell")]
    printed = capsys.readouterr().out
    assert "new against old (n counts items)" in printed
    table = printed[: printed.index("(n counts items)")]
    assert "against old" in table, "what is the same in all rows stands in the title"
    assert "p, corrected" in table
    assert "cannot tell, would need" in " ".join(table.split())
    assert "better with n = 500: difference +" in printed
    assert "you would need about n = " in printed
    page, numbers = outcome.wrote
    assert page == Path("comparisons/old-against-new-and-1-more.html")
    assert "better with n = 500" in " ".join(check(page.read_text(encoding="utf-8")).text)
    stored = json.loads(numbers.read_text(encoding="utf-8"))
    assert stored["comparisons"][0]["verdict"]["outcome"] == "better"
    assert len(compare(CompareOptions(models=tuple(quizzes), all_pairs=True), QUIET).data["comparisons"]) == 3


@pytest.mark.parametrize(("to", "page"), [("out/p.html", "out/p.html"), ("out", "out/comparison.html")])
def test_the_page_goes_where_it_is_asked_with_the_numbers_beside_it(to: str, page: str, quizzes: list[str]) -> None:
    outcome = compare(CompareOptions(models=tuple(quizzes), to=Path(to)), QUIET)
    assert outcome.wrote == (Path(page), Path(page).with_suffix(".json"))
    assert all(path.is_file() for path in outcome.wrote)


def test_the_same_draws_give_the_same_interval_and_other_draws_another(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    size = draw.integers(50, 400, 40)
    folders = [str(write(tmp_path / name, losses(size * draw.normal(3, 0.2, 40), size, 4 * size))) for name in "ab"]
    low = [
        compare(CompareOptions(models=tuple(folders), resampling_seed=seed), QUIET).data["comparisons"][0]["low"]
        for seed in (0, 0, 1)
    ]
    assert low[0] == low[1] != low[2]


def test_only_what_is_not_evaluated_yet_is_evaluated_and_by_the_options_given(
    quizzes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def evaluate_models(models: Sequence[str], options: Any, terminal: Terminal) -> list[Any]:
        asked.append((tuple(models), options))
        return [read_evaluation(Path(quizzes[1])) for _ in models]

    monkeypatch.setattr(evaluate_verb, "evaluate_models", evaluate_models)
    options = parse(CompareOptions, [quizzes[0], "runs/x", "--tasks", "quiz", "--limit", "7", "--to", "page.html"])
    assert [one[:2] for one in found(compare(options, QUIET))] == [("old", "x")]
    ((models, given),) = asked
    assert models == given.models == ("runs/x",)
    assert (given.tasks, given.limit, given.to) == (("quiz",), 7, None), "--to is the page's, not an evaluation's"


def test_a_second_comparison_does_not_take_the_place_of_the_first(quizzes: list[str]) -> None:
    first, second, third = (compare(CompareOptions(models=tuple(quizzes[:2])), QUIET).wrote for _ in range(3))
    assert [page.name for page, _ in (first, second, third)] == [
        "old-against-new.html", "old-against-new-2.html", "old-against-new-3.html",
    ]  # fmt: skip
    assert all(path.is_file() for path in (*first, *second, *third))


def test_a_model_is_measured_as_the_evaluation_beside_it_was(
    tmp_path: Path, quizzes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def evaluate_models(models: Sequence[str], options: Any, terminal: Terminal) -> list[Any]:
        asked.append(options)
        return [read_evaluation(Path(quizzes[1])) for _ in models]

    monkeypatch.setattr(evaluate_verb, "evaluate_models", evaluate_models)

    def stored(name: str, **options: Any) -> str:
        config = {"model": name, "options": {**options, "device": "cuda:7"}}
        return str(write_evaluation(tmp_path / name, [choices([0, 1] * 250)], config))

    asked_so = stored("asked", tasks=["quiz"], convention=["plain"], limit=7, text="a.txt")
    compare(CompareOptions(models=(asked_so, "runs/b")), QUIET)
    compare(parse(CompareOptions, [asked_so, "runs/b", "--limit", "3", "--corpus", "x"]), QUIET)
    compare(parse(CompareOptions, [asked_so, "runs/b", "--tasks", "loss"]), QUIET)
    assert [(one.tasks, one.convention, one.limit, one.text, one.device) for one in asked] == [
        (("quiz",), ("plain",), 7, "a.txt", "auto"),
        (("quiz",), ("plain",), 3, None, "auto"),
        (("loss",), (), None, None, "auto"),
    ]
    asked.clear()
    with pytest.raises(ConfigError, match="does not say by which options"):
        compare(CompareOptions(models=(quizzes[0], "runs/b")), QUIET)
    with pytest.raises(ConfigError, match="were made by other options"):
        compare(CompareOptions(models=(asked_so, stored("else", tasks=["loss"]), "runs/b")), QUIET)
    assert not asked


def test_options_of_evaluation_are_not_read_and_ignored(quizzes: list[str]) -> None:
    with pytest.raises(ConfigError, match="--limit says how to evaluate, and all that is compared is evaluated"):
        compare(CompareOptions(models=tuple(quizzes), limit=3), QUIET)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "none was named"),
        (("a",), "got one, 'a'"),
        (("a,b",), "got one, 'a,b'"),
        (("a", "b", "a"), "'a' is named twice"),
        (("a,c", "c"), "'c' is named twice"),
        (("a,", "b"), "an empty name"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(given: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        compare(CompareOptions(models=given), QUIET)


def test_a_model_under_another_path_is_still_the_same(quizzes: list[str]) -> None:
    with pytest.raises(UserError, match="is named twice"):
        given_arms([quizzes[0], "./old"])


def test_a_damaged_evaluation_is_told_of_and_not_taken_for_a_model(quizzes: list[str]) -> None:
    items = Path(quizzes[0]) / "items" / "quiz.plain.jsonl"
    items.write_text(items.read_text().replace('"acc": 0', '"acc": 1', 1))
    with pytest.raises(ArtifactError, match="is damaged"):
        compare(CompareOptions(models=tuple(quizzes)), QUIET)
    (Path(quizzes[0]) / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        compare(CompareOptions(models=tuple(quizzes)), QUIET)


def test_arms_are_named_by_what_their_seeds_share_and_never_alike() -> None:
    assert arm_names([["runs/base-1", "runs/base-2"], ["runs/new-1", "runs/new-2"]]) == [
        "base (2 seeds)",
        "new (2 seeds)",
    ]
    assert arm_names([["x/a"], ["y/a"], ["b"]]) == ["x/a", "y/a", "b"]
    assert arm_names([["x", "y"], ["z"]]) == ["x and 1 more", "z"]


def test_the_verb_has_one_action_with_examples() -> None:
    assert list(ACTIONS) == [""]
    assert all(example.startswith("folio compare ") for example in ACTIONS[""].examples)
