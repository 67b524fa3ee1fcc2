"""``folio check`` counts what a recipe would build, and reads no text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from folio.cli import main
from folio.config import preset_paths


def checked(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, object]:
    assert main(["check", *args, "--json"]) == 0
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


@pytest.mark.parametrize(
    ("preset", "parameters", "saved_as"),
    [
        ("gpt2", 124_439_808, "GPT2LMHeadModel"),
        ("gpt2-medium", 354_823_168, "GPT2LMHeadModel"),
        ("gpt2-large", 774_030_080, "GPT2LMHeadModel"),
        ("gpt2-xl", 1_557_611_200, "GPT2LMHeadModel"),
        ("modern-124m", 123_552_768, "Qwen3ForCausalLM"),
        ("modern-350m", 353_506_304, "Qwen3ForCausalLM"),
        ("gpt2-124m-fineweb-edu", 124_439_808, "GPT2LMHeadModel"),
    ],
)
def test_presets_have_the_parameters_of_their_names(
    preset: str, parameters: int, saved_as: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = checked(capsys, preset)
    assert answer["counts"]["parameters"] == parameters
    assert answer["saved_as"] == saved_as
    assert answer["next"] == [f"folio train {preset}"]


def test_it_prints_what_it_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "gpt2"]) == 0
    printed = capsys.readouterr().out
    for words in ("124,439,808", "GPT2LMHeadModel", "flops per token", "GiB", "precision", "threads", "torch"):
        assert words in printed


@pytest.mark.parametrize("preset", preset_paths())
def test_every_preset_can_be_checked(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = checked(capsys, preset)
    parts = answer["training_memory"]
    assert parts["peak_bytes"] >= parts["weights_bytes"] + parts["optimizer_bytes"] + parts["gradients_bytes"]


def test_flags_change_what_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    plain = checked(capsys, "gpt2")
    changed = checked(capsys, "gpt2", "--model.n-layer", "6", "--train.recompute", "--train.micro-batch", "1")
    assert changed["counts"]["parameters"] < plain["counts"]["parameters"]
    assert changed["training_memory"]["activations_bytes"] < 0.2 * plain["training_memory"]["activations_bytes"]


def test_auto_shows_what_would_fit_and_calls_it_an_estimate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("folio.training.micro_batch.available_memory", lambda device: 8 * 2**30)
    auto = ("gpt2", "--train.micro-batch", "auto", "--train.batch-tokens", "65536")
    answer = checked(capsys, *auto)
    found = answer["counts"]["micro_batch"]
    assert 1 < found < 64
    assert answer["micro_batch_fit"].startswith(f"{found} of 64 sequences fit: ")
    assert "of 8.0 GiB (estimate); " in answer["micro_batch_fit"]
    assert answer["training_memory"] == checked(capsys, *auto, "--train.micro-batch", str(found))["training_memory"]
    assert checked(capsys, *auto, "--train.recompute")["counts"]["micro_batch"] > found
    assert main(["check", *auto]) == 0
    assert "estimate" in capsys.readouterr().out
    monkeypatch.setattr("folio.training.micro_batch.available_memory", lambda device: 2**30)
    assert main(["check", *auto]) == 2
    assert "not even one sequence of 1024 tokens fits in memory" in capsys.readouterr().err


def test_without_auto_nothing_is_said_to_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(capsys, "gpt2")["micro_batch_fit"] is None


@pytest.mark.parametrize(
    ("table", "size", "words"),
    [
        ('kind = "bpe"\nvocab_size = 1000', 1000, "1,000 ids"),
        ('kind = "bpe"', 4096, "4,096 ids"),
        ('kind = "char"', 128, "assumed"),
        ('kind = "gpt2"', 50257, "50,257 ids"),
    ],
)
def test_the_vocabulary_is_the_tokenizers(
    table: str, size: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(f"[tokenizer]\n{table}\n[model]\nn_layer = 1\nblock_size = 64\n")
    answer = checked(capsys, str(recipe))
    assert answer["shape"]["vocab_size"] == size
    assert words in answer["vocabulary"]


def test_an_impossible_shape_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "gpt2", "--model.n-head", "7"]) == 2
    assert "n_head 7 does not divide n_embd 768" in capsys.readouterr().err


def test_a_misspelt_preset_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "gpt2-mediun"]) == 2
    assert "Did you mean gpt2-medium?" in capsys.readouterr().err


def test_time_and_cost_are_told_with_all_that_they_assume(capsys: pytest.CaptureFixture[str]) -> None:
    rented = checked(capsys, "gpt2-124m-fineweb-edu")["rented"]
    # a token is 265,956,864 operations forward; 76 validations, one every 250 steps, and one at the end
    assert rented["training_flops"] == 3 * 265_956_864 * 524_288 * 19_073
    assert rented["validation_flops"] == 265_956_864 * 10_485_760 * 77
    assert (rented["mfu"], rented["scaling_efficiency"], rented["precision"]) == (0.4, 1.0, "bf16")
    runs = {(run["gpus"], run["gpu"]): run for run in rented["runs"]}
    assert set(runs) == {(gpus, gpu) for gpus in (1, 8) for gpu in ("A100", "H100", "H200")}
    one = runs[1, "A100"]
    assert one["hours"] == pytest.approx(18.236, abs=0.001)  # 8.1932e18 / (312e12 x 0.4) / 3600
    assert one["usd"] == pytest.approx(1.8 * one["hours"])
    assert runs[8, "H100"]["hours"] == pytest.approx(8.193236e18 / (989e12 * 0.4 * 8) / 3600, rel=1e-5)
    assert main(["check", "gpt2-124m-fineweb-edu"]) == 0
    printed = capsys.readouterr().out
    for words in ("1 x A100", "8 x H200", "18.2", "40% MFU", "--mfu", "A100 1.80", "of 141 GB"):
        assert words in printed


def test_assumptions_are_flags(capsys: pytest.CaptureFixture[str]) -> None:
    plain = checked(capsys, "gpt2")["rented"]["runs"]
    given = ("--mfu", "0.2", "--scaling-efficiency", "0.5", "--usd-per-hour.h100", "6")
    changed = checked(capsys, "gpt2", *given)["rented"]
    for before, now in zip(plain, changed["runs"], strict=True):
        slower = 2 if now["gpus"] == 1 else 4
        dearer = 2 if now["gpu"] == "H100" else 1
        assert now["hours"] == pytest.approx(slower * before["hours"])
        assert now["usd"] == pytest.approx(slower * dearer * before["usd"])
    assert main(["check", "gpt2", "--mfu", "1.5"]) == 2
    assert "--mfu" in capsys.readouterr().err


def test_what_is_not_reckoned_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    odd = ("gpt2", "--train.batch-tokens", "4096")
    rented = checked(capsys, *odd)["rented"]
    assert {run["gpus"] for run in rented["runs"]} == {1}
    assert rented["problems"] == ["8 GPUs: batch_tokens 4,096 is not a multiple of block_size 1024 times 8 ranks"]
    assert main(["check", *odd, "--train.precision", "fp32"]) == 0
    printed = capsys.readouterr().out
    assert "Not reckoned: 8 GPUs: batch_tokens 4,096" in printed
    assert "Not reckoned: train.precision is fp32, which is slower than bf16" in printed


@pytest.mark.parametrize("preset", ["gpt2-124m-fineweb-edu", "modern-124m", "modern-350m"])
def test_the_page_about_recipes_quotes_what_check_prints(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    section = page.split(f"### {preset}\n")[1].split("\n##")[0]
    rented = checked(capsys, preset)["rented"]
    assert f"{rented['training_flops']:.3e} in training and {rented['validation_flops']:.3e} in validation" in section
    assert main(["check", preset]) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    quoted = [line.replace("|", " ").split() for line in section.splitlines() if line[:5] in ("| 1 x", "| 8 x")]
    assert len(quoted) == 6
    for cells in quoted:
        *upto_usd, memory, of, whole, unit = cells
        assert [*upto_usd, "32", memory, of, whole, unit, "yes"] in printed
