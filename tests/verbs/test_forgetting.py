"""What fine-tuning forgot: on the base's own text for both, paired, and kept in the run and its report."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from evaluated_runs import RIDDLES, SCENES
from page_checker import check
from tuned_runs import OTHER, TEXT, train_base, tuned_run

from folio.checksums import read_sealed_json
from folio.errors import ConfigError, UserError
from folio.evaluation.results import read_evaluation
from folio.reports.run import run_report
from folio.verbs import action
from folio.verbs.action import Terminal
from folio.verbs.compare import CompareOptions, compare
from folio.verbs.finetune.forgetting import ForgettingConfig, base_task, forgetting

QUIET = Terminal(quiet=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, the same model as a run of its own, and one tuned on quite another text; both as adapters too."""
    home = tmp_path_factory.mktemp("forgetting")
    base = train_base(home)
    tuned_run(base, home / "same", OTHER * 20, 0)
    tuned_run(base, home / "other", OTHER * 20, 40)
    tuned_run(base, home / "untrained-adapter", OTHER * 20, 0, rank=4)
    tuned_run(base, home / "adapter", OTHER * 20, 40, rank=4)
    (home / "items.jsonl").write_text("".join(json.dumps(scene) + "\n" for scene in SCENES))
    (home / "riddles.toml").write_text(RIDDLES)
    (home / "some.txt").write_text(TEXT * 60)
    return home


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def measured(home: Path, run: str, **config: Any) -> dict[str, Any]:
    place = home / run
    shutil.rmtree(place / "evaluations", ignore_errors=True)
    options = base_task(str(home / "base"), place, ForgettingConfig(**config), QUIET, device="cpu")
    assert options is not None
    return forgetting(str(home / "base"), place, options, QUIET)


def of(found: dict[str, Any], metric: str) -> dict[str, Any]:
    (one,) = (one for one in found["comparisons"] if one["metric"] == metric)
    return dict(one)


def test_a_model_forgot_nothing_of_itself(home: Path) -> None:
    found = measured(home, "same", tasks=("loss", str(home / "riddles.toml")), data=(str(home / "items.jsonl"),))
    assert {one["metric"] for one in found["comparisons"]} == {"nats_per_token", "bits_per_byte", "acc"}
    for one in found["comparisons"]:
        assert one["difference"] == 0.0
        assert one["first_value"] == one["second_value"]
        assert one["verdict"]["outcome"] == "cannot tell"


def test_a_model_tuned_on_other_text_is_worse_on_what_the_base_held_out(home: Path) -> None:
    found = measured(home, "other")
    nats = of(found, "nats_per_token")
    assert nats["first"] == "base"
    assert nats["second"] == "other"
    assert 0 < nats["low"] < nats["difference"] < nats["high"]
    assert nats["verdict"]["outcome"] == "worse"
    assert nats["n"] >= 3
    before, after = (read_evaluation(home / "other" / place) for place in found["evaluations"])
    assert nats["first_value"] == before.measurements["loss"].score("nats_per_token").value
    assert nats["second_value"] == after.measurements["loss"].score("nats_per_token").value
    assert before.measurements["loss"].facts["split"] == "val"
    assert before.measurements["loss"].facts["sha256"] == after.measurements["loss"].facts["sha256"]
    assert before.measurements["loss"].facts["tokens"] < 0.12 * len((home / "text.txt").read_text())
    assert found["text"] == "what base held out, the first 100,000 tokens"
    assert not Path("evaluations").exists()
    assert not Path("comparisons").exists()


def test_an_adapter_is_measured_on_top_of_its_base(home: Path) -> None:
    untrained, trained = (of(measured(home, run), "nats_per_token") for run in ("untrained-adapter", "adapter"))
    assert untrained["difference"] == 0.0
    assert trained["low"] > 0
    assert trained["verdict"]["outcome"] == "worse"


def test_the_numbers_are_those_of_folio_compare(home: Path) -> None:
    found = measured(home, "other", text=str(home / "some.txt"))
    models = (str(home / "base"), str(home / "other"))
    outcome = compare(CompareOptions(models=models, text=str(home / "some.txt"), max_tokens=100_000), QUIET)
    assert json.loads(json.dumps(outcome.data["comparisons"])) == found["comparisons"]


def test_it_is_kept_in_the_run_and_shown_in_its_report(home: Path) -> None:
    found = measured(home, "other", max_tokens=500)
    run = home / "other"
    assert read_sealed_json(run / "forgetting.json") == found
    kept = [run / "forgetting.json", *(run / "evaluations").rglob("*.json")]
    assert len(kept) == 5
    for file in kept:
        assert str(home) not in file.read_text(), "no path of this machine"
        assert os.environ["FOLIO_CACHE"] not in file.read_text()
    assert sorted(path.name for path in (run / "evaluations").iterdir()) == ["base", "other"]
    text = "".join(check(run_report(run).read_text()).text)
    assert "Forgetting" in text
    nats = of(found, "nats_per_token")
    assert f"{nats['first_value']:.4f}" in text
    assert f"{nats['second_value']:.4f}" in text
    assert nats["verdict"]["words"] in text
    assert "another seed of training" in text
    again = measured(home, "other", max_tokens=500)
    assert again == found


def test_the_table_is_readable_in_a_narrow_terminal(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action, "PLAIN_WIDTH", 80)
    options = base_task(str(home / "base"), home / "other", ForgettingConfig(max_tokens=900), QUIET, device="cpu")
    assert options is not None
    found = forgetting(str(home / "base"), home / "other", options, Terminal())
    printed = capsys.readouterr().out
    table = printed[printed.index("What base could do") :]
    words = table.split()
    assert max(map(len, table.splitlines())) <= 80
    assert {"difference", "verdict", "nats/token"} <= set(words), "no word is broken"
    assert of(found, "nats_per_token")["verdict"]["outcome"] in table
    assert "bits/byte" not in words, "it has the verdict of nats, and is on the page"
    assert "bits/byte" in run_report(home / "other").read_text()


def test_measuring_again_takes_the_place_of_what_was_measured(home: Path) -> None:
    measured(home, "other", max_tokens=500)
    options = base_task(str(home / "base"), home / "other", ForgettingConfig(max_tokens=900), QUIET, device="cpu")
    assert options is not None
    found = forgetting(str(home / "base"), home / "other", options, QUIET)
    assert "first 900" in found["text"]
    assert len(list((home / "other" / "evaluations").iterdir())) == 2


def test_a_checkpoint_within_the_run_is_the_base_too(home: Path) -> None:
    (checkpoint,) = (home / "base" / "checkpoints").iterdir()
    for place in (checkpoint, checkpoint / "model"):
        assert base_task(str(place), home / "other", ForgettingConfig(), QUIET, device="cpu") is not None


def test_without_a_text_of_its_own_nothing_is_measured_unless_asked(home: Path) -> None:
    import folio

    folio.load(home / "base").save(home / "plain")
    for base in (str(home / "plain"), str(home / "same")):  # no run, and one whose held-out text are examples
        assert base_task(base, home / "other", ForgettingConfig(), QUIET) is None
        with pytest.raises(ConfigError, match=r"names loss, and .* held out text"):
            base_task(base, home / "other", ForgettingConfig(tasks=("loss",)), QUIET)
        assert base_task(base, home / "other", ForgettingConfig(text=str(home / "some.txt")), QUIET) is not None
    assert base_task(str(home / "base"), home / "other", ForgettingConfig(measure=False), QUIET) is None


def test_a_base_whose_text_is_gone_is_told_of_and_stops_nothing(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLIO_CACHE", str(tmp_path / "empty"))
    (home / "text.txt").rename(home / "moved.txt")
    try:
        assert base_task(str(home / "base"), home / "other", ForgettingConfig(), Terminal()) is None
        assert "forgetting will not be measured: " in capsys.readouterr().out
        with pytest.raises(UserError, match=r"text\.txt"):
            base_task(str(home / "base"), home / "other", ForgettingConfig(tasks=("loss",)), Terminal())
    finally:
        (home / "moved.txt").rename(home / "text.txt")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"data": ("items.jsonl",)}, "--data says how benchmarks are asked"),
        ({"tasks": ("hellaswagg",)}, "hellaswag"),
        ({"text": "absent.txt"}, "absent.txt"),
        ({"text": "a.txt", "corpus": "shakespeare"}, "three ways to say one thing"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(home: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        base_task(str(home / "base"), home / "new", ForgettingConfig(**config), QUIET)
    assert not (home / "new").exists()
