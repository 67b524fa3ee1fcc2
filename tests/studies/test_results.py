"""What is read of the cells of a study: each number is that of the run, the oracle's of its own folder."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from two_grids import STUDY, UNKNOWN, bits, change_config, judge, nats, placed, score, tell_tokenizers

from folio.cli import main
from folio.reports.records import read_run
from folio.studies.findings.numbers import numbers_of
from folio.studies.findings.results import read_results
from folio.studies.running.records import StudyFolder
from folio.training.checkpoint import list_checkpoints
from folio.training.metrics import read_metrics
from folio.training.movement import movements

MakeStudy = Callable[..., StudyFolder]
FACTS = {"parameters": 1, "training_flops": 1}
WORDS = [f"wo{n}" for n in range(30)]
RECIPE = """
[corpus]
path = "TEXTS/*.txt"
split = "list"
validation_documents = ["held.txt"]
[tokenizer]
kind = "word"
min_count = 2
[embeddings]
init = "word2vec"
epochs = 2
[model]
block_size = 16
n_layer = 1
n_head = 2
n_embd = 16
[train]
steps = 6
batch_tokens = 256
micro_batch = 8
validate_every = 3
checkpoint_every = 3
keep_last = 9
sample_every = 0
precision = "fp32"
[train.optimizer]
learning_rate = 3e-3
"""


def lines_of(count: int, words: list[str], draw: random.Random) -> str:
    return "".join(f"{' '.join(draw.choices(words, k=7))} .\n" for _ in range(count))


@pytest.fixture(scope="module")
def warm_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that began with word2vec; its held-out text has unknown words in its second half alone."""
    folder, draw = tmp_path_factory.mktemp("warm"), random.Random(0)
    (folder / "texts").mkdir()
    (folder / "texts" / "one.txt").write_text(lines_of(200, WORDS, draw))
    half = lines_of(30, WORDS, draw)
    (folder / "texts" / "held.txt").write_text(half + "zyzzyva étui .\n" * 20 + lines_of(10, WORDS, draw))
    (folder / "recipe.toml").write_text(RECIPE.replace("TEXTS", (folder / "texts").as_posix()))
    train(folder, "run")
    return folder / "run"


def train(folder: Path, name: str, *flags: object) -> Path:
    arguments = ["train", folder / "recipe.toml", "--out", folder / name, *flags]
    assert main([str(one) for one in arguments]) == 0
    return folder / name


def spelled_above_plain(run: Path) -> float:
    line = [line for line in read_metrics(run) if line["kind"] == "validation"][-1]
    return line["bits_per_byte_spelled"] - line["bits_per_byte"]


def test_bits_spelled_are_what_evaluate_says_of_the_same_text(
    warm_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = warm_run.parent / "texts" / "held.txt"
    by_hand = 8 * 20 * len("zyzzyvaétui".encode()) / len(text.read_bytes())
    assert spelled_above_plain(warm_run) == pytest.approx(by_hand, rel=1e-12)
    capsys.readouterr()
    to = warm_run.parent / "scores"
    assert main(["evaluate", str(warm_run), "--text", str(text), "--to", str(to), "--json"]) == 0
    capsys.readouterr()
    (measured,) = json.loads((to / "scores.json").read_text())
    values = {one["metric"]: one["value"] for one in measured["scores"]}
    assert values["bits_per_byte_spelled"] - values["bits_per_byte"] == pytest.approx(by_hand, rel=1e-12)
    run = numbers_of(read_run(warm_run), FACTS, "last")[0]
    assert run["bits_per_byte_spelled"] == pytest.approx(values["bits_per_byte_spelled"], rel=5e-3)  # the first id


def test_unknown_words_count_of_the_part_that_is_validated_alone(warm_run: Path) -> None:
    part = train(warm_run.parent, "part", "--train.validation-tokens", 160, "--train.steps", 1)
    assert spelled_above_plain(part) == 0


def test_how_far_rows_moved_is_of_the_step_that_counts(warm_run: Path, tmp_path: Path) -> None:
    def moved(run: Path, at: Any = "last") -> float | None:
        numbers = numbers_of(read_run(run), FACTS, at)[0]
        assert "nats_per_token" in numbers
        return numbers.get("movement_p95")

    run = tmp_path / "run"
    shutil.copytree(warm_run, run)
    by_step = movements(run)
    best = read_run(run).best_validation
    assert best is not None
    assert 0 < by_step[3].p95 < by_step[6].p95
    assert (moved(run), moved(run, "best")) == (by_step[6].p95, by_step[best["step"]].p95)
    weights = list_checkpoints(run)[-1].model / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert moved(run) is None
    shutil.rmtree(weights.parents[1])
    assert moved(run) is None
    change_config(run, lambda config: config["recipe"]["embeddings"].update(mode="frozen"))
    assert moved(run) is None
    change_config(run, lambda config: config["recipe"]["embeddings"].update(init="random"))
    assert moved(run) is None


def test_the_time_of_word2vec_and_what_is_trained_are_told(warm_run: Path) -> None:
    resolved = read_run(warm_run).config["resolved"]
    numbers, _ = numbers_of(read_run(warm_run), FACTS, "last")
    assert numbers["word2vec_seconds"] == resolved["word2vec"]["train_s"] > 0
    assert numbers["seconds_in_all"] == numbers["seconds"] + numbers["word2vec_seconds"]
    assert numbers["trained_parameters"] == resolved["parameters"]
    frozen = train(warm_run.parent, "frozen", "--embeddings.mode", "frozen", "--train.steps", 1)
    numbers, _ = numbers_of(read_run(frozen), FACTS, "last")
    assert numbers["trained_parameters"] == resolved["parameters"] - resolved["vocab_size"] * 16


def test_one_measure_is_there_for_words_and_for_characters(make_study: MakeStudy) -> None:
    folder = make_study(STUDY, nats)
    assert not any("bits_per_byte_spelled" in cell.numbers for cell in read_results(folder).cells)  # not known
    tell_tokenizers(folder)
    results = read_results(folder)
    expected = {(cell.name): cell.values for cell in results.cells}
    assert len(expected) == 3 * (3 * 2 * 3 + 3)
    for cell in results.cells:
        unknown = UNKNOWN.get(cell.values.get("min_count", 1), 0)
        assert cell.score("bits_per_byte_spelled") == pytest.approx(bits(cell) + 8 * unknown)  # type: ignore[arg-type]
        assert cell.curve_of("bits_per_byte_spelled")[-1] == (40, cell.score("bits_per_byte_spelled"))
        assert cell.curve_of("nats_per_token")[-1] == (40, cell.score("nats_per_token"))
    assert results.lower_is_better("bits_per_byte_spelled")


def test_the_plateau_is_the_mean_of_the_last_tenth(make_study: MakeStudy) -> None:
    results = read_results(make_study("seeds = 2", lambda cell: 3.0))
    cell = results.cells[0]
    last = [3 + 5 * math.exp(-step / 50) for step in (37, 38, 39, 40)]
    assert cell.score("plateau_nats_per_token") == pytest.approx(sum(last) / 4)
    assert cell.score("seconds_per_step") == 0.1
    assert math.isnan(cell.score("word2vec_seconds"))
    assert cell.score("seconds_in_all") == cell.score("seconds") == 4.0


def test_the_oracle_has_a_score_and_a_z_for_each_cell_and_one_for_the_real_text(make_study: MakeStudy) -> None:
    folder = make_study(STUDY, nats)
    assert read_results(folder).reference == {}
    judge(folder, real=-2.5)
    results = read_results(folder)
    for cell in results.cells:
        assert cell.score("oracle.log_probability") == pytest.approx(score(cell.values, cell.seed))
        assert cell.score("oracle.z") == pytest.approx(score(cell.values, cell.seed) + 0.5)
    assert results.reference == {"oracle.log_probability": pytest.approx(-2.5)}
    assert not results.lower_is_better("oracle.log_probability")
    assert results.missing == ("no cell has measured bits_per_byte_spelled; did you mean bits_per_byte?",)


def test_a_damaged_score_of_the_oracle_is_told_and_breaks_nothing_else(make_study: MakeStudy) -> None:
    folder = make_study(STUDY, nats)
    judge(folder)
    first, second = list(placed(folder))[:2]
    (folder.path / "oracle" / first / "scores.json").write_text("[]")
    (folder.path / "oracle" / "z_scores.jsonl").write_text('{"id": "1"}\n')
    results = read_results(folder)
    numbers = {cell.name: cell.numbers for cell in results.cells}
    assert "oracle.log_probability" not in numbers[first]
    assert "oracle.log_probability" in numbers[second]
    assert not any("oracle.z" in one for one in numbers.values())
    told = " ".join(results.missing)
    assert f"score of {first} cannot be read" in told
    assert "z-scores cannot be read" in told
