"""``folio train``: from a file of text to a run folder, and every refusal in one line with nothing half-written."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from real_runs import weights_sha256, write_recipe

from folio.artifacts import read_manifest
from folio.cli import main
from folio.corpus.mirrors import cache_folder
from folio.model.gpt import GPT
from folio.training.checkpoint import list_checkpoints
from folio.training.metrics import read_metrics


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path)


Folio = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folio(capsys: pytest.CaptureFixture[str]) -> Folio:
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


SHORT = ("--train.steps", "6", "--train.schedule.warmup-steps", "0", "--train.precision", "fp32")


def test_a_run_folder_holds_what_the_design_says(folio: Folio, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, out, err = folio("train", recipe, "--out", run, *SHORT, "--train.sample-every", "3")
    assert code == 0, err
    assert "batch      512 tokens a step = 8 sequences x 2 accumulated x 32 tokens" in out
    assert {path.name for path in run.iterdir()} == {
        *("config.json", "metrics.jsonl", "checkpoints", "samples.md", "report.html"),
    }
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"]["train"]["steps"] == 6
    assert config["resolved"]["precision"] == "fp32"
    kinds = [line["kind"] for line in read_metrics(run)]
    assert [kinds.count(kind) for kind in ("train", "validation", "sample")] == [6, 1, 2]
    (checkpoint,) = list_checkpoints(run)
    assert {path.name for path in checkpoint.model.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert re.search(r"validation \d\.\d{4} ± \d\.\d{4} nats/token.* bits/byte over 640 tokens", out)
    assert f"folio generate {run}" in out
    assert (run / "samples.md").read_text().count("## Step") == 2


def test_shards_made_by_others_can_be_trained_on(folio: Folio, recipe: Path, tmp_path: Path) -> None:
    """llm.c's files carry no manifest: neither documents nor a source are written down."""
    assert folio("train", recipe, "--out", tmp_path / "run", *SHORT)[0] == 0
    (checkpoint,) = list_checkpoints(tmp_path / "run")
    plain = tmp_path / "plain"
    plain.mkdir()
    made_from = json.loads((tmp_path / "run" / "config.json").read_text())["parents"][0]["id"]
    for manifest in cache_folder().glob("shards/*/manifest.json"):
        if read_manifest(manifest.parent).id == made_from:
            for file in manifest.parent.glob("*.bin"):
                (plain / file.name).write_bytes(file.read_bytes())
    flags = ("--shards.path", plain, "--tokenizer.path", checkpoint.model)
    code, _, err = folio("train", recipe, "--out", tmp_path / "other", *SHORT, *flags)
    assert code == 0, err
    (other,) = list_checkpoints(tmp_path / "other")
    assert "shards of unnamed text" in (other.model / "README.md").read_text()
    assert other.loss == pytest.approx(checkpoint.loss)


def test_its_model_and_tokenizer_open_in_transformers(folio: Folio, recipe: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    run = tmp_path / "run"
    assert folio("train", recipe, "--out", run, *SHORT)[0] == 0
    (checkpoint,) = list_checkpoints(run)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(checkpoint.model, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.model)

    ours = folio_model(checkpoint.model)
    text = (tmp_path / "text.txt").read_text()[:30]
    ids = torch.tensor([tokenizer.encode(text)])
    assert tokenizer.decode(ids[0]) == text
    with torch.no_grad():
        difference = (ours(ids) - theirs(ids).logits).abs().max()
    assert difference < 1e-5 * ours(ids).std().item()


def folio_model(path: Path) -> GPT:
    from folio.model.folder import load_model

    return load_model(path).eval().requires_grad_(False)


def test_json_prints_one_object(folio: Folio, recipe: Path, tmp_path: Path) -> None:
    code, out, _ = folio("train", recipe, "--out", tmp_path / "run", "--json", *SHORT)
    answer = json.loads(out)
    assert code == 0
    assert answer["steps"] == 6
    assert len(answer["weights_sha256"]) == 64
    assert answer["validation"]["tokens"] == 640


REFUSED = {
    "unknown key": (["--train.stepz", "5"], "steps"),
    "impossible shape": (["--model.n-head", "3"], "n_head 3 does not divide n_embd 32"),
    "tokens that do not divide": (["--train.batch-tokens", "500"], "The nearest values that are: 480 or 512"),
    "a micro-batch that does not divide": (["--train.micro-batch", "5"], "The nearest values that do: 4 or 8"),
    "fp16 on a cpu": (["--train.device", "cpu", "--train.precision", "fp16"], "precision fp16 needs a GPU"),
    "no such device": (["--train.device", "abacus"], "there is no device 'abacus'"),
    "a validation split below one window": (
        ["--model.block-size", "2048", "--train.batch-tokens", "2048", "--train.micro-batch", "1"],
        "one window of block_size 2048 needs 2049",
    ),
    "another vocabulary": (["--model.vocab-size", "99"], "model.vocab_size is 99; the tokenizer has"),
    "a prompt the tokenizer cannot spell": (["--train.sample-prompt", "Ω"], "Ω"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(
    case: str, folio: Folio, recipe: Path, tmp_path: Path
) -> None:
    flags, told = REFUSED[case]
    run = tmp_path / "run"
    code, _, err = folio("train", recipe, "--out", run, *flags)
    assert code == 2
    assert told in err
    assert err.count("folio: ") == 1
    assert "Traceback" not in err
    assert not run.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what is to be missing")
def test_cuda_where_there_is_none_is_refused(folio: Folio, recipe: Path, tmp_path: Path) -> None:
    code, _, err = folio("train", recipe, "--out", tmp_path / "run", "--train.device", "cuda")
    assert code == 2
    assert err.startswith("folio: device 'cuda' is not available on this machine")
    assert not (tmp_path / "run").exists()


def test_a_sink_that_is_not_installed_is_refused_before_anything_is_written(
    folio: Folio, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    code, _, err = folio("train", recipe, "--out", tmp_path / "run", "--train.track", "wandb")
    assert code == 2
    assert "pip install 'folio-lm[track]'" in err
    assert not (tmp_path / "run").exists()


def test_an_occupied_folder_is_refused_and_left_alone(folio: Folio, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "thesis.txt").write_text("years of work")
    code, _, err = folio("train", recipe, "--out", run)
    assert code == 2
    assert "already exists and holds something else" in err
    assert [path.name for path in run.iterdir()] == ["thesis.txt"]


def test_a_run_without_a_folder_of_its_own_takes_the_next_free_one(
    folio: Folio, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "tiny-2"):
        assert folio("train", "tiny.toml", *SHORT)[0] == 0
        assert list_checkpoints(tmp_path / "runs" / name)


def stopped_run(folio: Folio, recipe: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of which only step 4 of 24 was saved before the process died."""
    from folio.training.saving import Saver

    save = Saver.save

    class Died(Exception):
        pass

    def save_and_die(*arguments: Any, **options: Any) -> Any:
        save(*arguments, **options)
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(Saver, "save", save_and_die)
        assert folio("train", recipe, "--out", run, "--train.precision", "fp32")[0] == 1


def test_a_finished_run_is_not_resumed(folio: Folio, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert folio("train", recipe, "--out", run, *SHORT)[0] == 0
    code, _, err = folio("train", "--resume", run)
    assert code == 2
    assert "is finished: it has done all 6 steps" in err
    assert "--train.steps 12" in err


def test_a_finished_run_trains_longer_if_asked_and_remembers(folio: Folio, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert folio("train", recipe, "--out", run, *SHORT)[0] == 0
    assert folio("train", "--resume", run, "--train.steps", "9")[0] == 0
    assert json.loads((run / "config.json").read_text())["recipe"]["train"]["steps"] == 9
    assert [line["step"] for line in read_metrics(run) if line["kind"] == "train"] == list(range(1, 10))
    assert "is finished" in folio("train", "--resume", run)[2]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["shakespeare"], "goes on with the run's own recipe"),
        (["--model.n-layer", "3"], "was begun with another model.n_layer"),
        (["--model.dropout", "0.5"], "was begun with another model.dropout"),
        (["--train.seed", "3", "--train.batch-tokens", "1024"], "another train.batch_tokens and train.seed"),
        (["--train.optimizer.kind", "adamw"], "another optimizer"),
        (["--corpus.validation-fraction", "0.2"], "begun with other"),
        (["--out", "elsewhere"], "--resume writes into the run's own folder"),
    ],
)
def test_a_run_is_not_resumed_by_another_recipe(
    flags: list[str], told: str, folio: Folio, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    stopped_run(folio, recipe, run, monkeypatch)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, _, err = folio("train", "--resume", run, *flags)
    assert code == 2, err
    assert told in err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_is_not_resumed_on_other_text(
    folio: Folio, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_run(folio, recipe, tmp_path / "run", monkeypatch)
    text = tmp_path / "text.txt"
    text.write_text(text.read_text() * 2)
    code, _, err = folio("train", "--resume", tmp_path / "run")
    assert code == 2
    assert "was begun with other shards than its recipe gives now" in err


def test_a_damaged_newest_checkpoint_is_passed_over_with_a_word(folio: Folio, recipe: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    keep = ("--train.keep-last", "9", "--train.precision", "fp32")
    _, undisturbed, _ = folio("train", recipe, "--out", other, *keep)
    assert folio("train", recipe, "--out", run, *keep)[0] == 0
    for name in ("step-00000024/manifest.json", "step-00000020/model/model.safetensors"):
        (run / "checkpoints" / name).write_bytes(b"")
    code, out, err = folio("train", "--resume", run)
    assert code == 0, err
    assert out.count("passed over: ") == 2
    assert f"resume     {run}/checkpoints/step-00000018" in out
    assert weights_sha256(out) == weights_sha256(undisturbed)
    assert [c.step for c in list_checkpoints(run)] == [c.step for c in list_checkpoints(other)]


def test_what_is_no_run_is_not_resumed(folio: Folio, tmp_path: Path) -> None:
    code, _, err = folio("train", "--resume", tmp_path)
    assert code == 2
    assert "is not a run: it has no config.json" in err
    (tmp_path / "config.json").write_text("{")
    assert "is damaged" in folio("train", "--resume", tmp_path)[2]


def test_a_loss_that_is_no_number_ends_with_what_happened_and_what_to_try(
    folio: Folio, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from folio.training.state import TrainingState

    step = TrainingState.train_step

    def poisoned(self: TrainingState, *arguments: Any) -> Any:
        if self.step == 6:
            with torch.no_grad():
                self.model.embed.weight.fill_(float("nan"))
        return step(self, *arguments)

    monkeypatch.setattr(TrainingState, "train_step", poisoned)
    run = tmp_path / "run"
    code, _, err = folio("train", recipe, "--out", run)
    assert code == 2
    assert "the weights are no longer numbers at step 8" in err
    assert "Lower the learning rate" in err
    assert list_checkpoints(run)[-1].step == 6
    assert all(torch.isfinite(p).all() for p in folio_model(list_checkpoints(run)[-1].model).parameters())
    monkeypatch.undo()
    assert folio("train", "--resume", run)[0] == 0


def test_a_validation_of_one_block_has_no_standard_error_and_no_crash(
    folio: Folio, recipe: Path, tmp_path: Path
) -> None:
    code, out, err = folio("train", recipe, "--out", tmp_path / "run", *SHORT, "--train.validation-tokens", "32")
    assert code == 0, err
    assert re.search(r"validation \d\.\d{4} nats/token", out)


def test_looking_more_often_changes_no_bit(folio: Folio, recipe: Path, tmp_path: Path) -> None:
    digests = []
    for name, every in (("rarely", "0"), ("often", "1")):
        flags = ("--train.validate-every", every, "--train.sample-every", every, "--train.checkpoint-every", every)
        code, out, err = folio("train", recipe, "--out", tmp_path / name, *SHORT, *flags)
        assert code == 0, err
        digests.append(weights_sha256(out))
    assert digests[0] == digests[1]


def test_overfit_learns_a_batch_by_heart_and_writes_nothing(folio: Folio, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert folio("train", recipe, "--overfit", "--out", run)[0] == 2
    code, out, err = folio("train", recipe, "--overfit", "--model.dropout", "0")
    assert code == 0, err
    assert "learned by heart: 4 sequences, 150 steps: loss 2." in out
    assert not run.exists()


def test_overfit_fails_a_model_that_cannot_learn(folio: Folio, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one would that never sees its own past."""
    from folio.model.layers import Attention

    monkeypatch.setattr(Attention, "forward", lambda self, x, rotary, cache=None: torch.zeros_like(x))
    monkeypatch.setattr(GPT, "hidden", lambda self, ids, cache=None: self.norm(self.embed(ids)))
    code, _, err = folio("train", recipe, "--overfit", "--model.dropout", "0")
    assert code == 2
    assert "the model did not learn one batch by heart" in err


def test_nothing_to_train_and_a_misspelt_preset_are_refused(folio: Folio) -> None:
    assert "nothing to train" in folio("train")[2]
    code, _, err = folio("train", "tiny-shakespear-chr-fast")
    assert code == 2
    assert "Did you mean tiny-shakespeare-char-fast?" in err
