"""Runs whose embedding begins as word2vec's: of the training split alone, kept, told, reported, and resumed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rank_processes import Job
from real_runs import curve, folio, weights_sha256

from folio.checksums import read_sealed_json
from folio.cli import main
from folio.config import build
from folio.errors import ConfigError
from folio.tokenizer import load_tokenizer
from folio.tokenizer.vectors import load_vectors
from folio.training.checkpoint import list_checkpoints
from folio.training.embeddings import embedding_rows
from folio.training.movement import movements
from folio.verbs.action import Terminal
from folio.verbs.embeddings import learn, word_vectors
from folio.verbs.prepare import prepare
from folio.verbs.recipe import Recipe

QUIET = Terminal(quiet=True)
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
epochs = 4
show = ["wo1", "wo2", "the", "nowhere"]
[model]
block_size = 16
n_layer = 2
n_head = 2
n_embd = 16
[train]
steps = 8
batch_tokens = 256
micro_batch = 8
checkpoint_every = 2
keep_last = 9
precision = "fp32"
[train.optimizer]
kind = "muon"
learning_rate = 3e-3
"""


def write_texts(folder: Path, held: str | None = None) -> Path:
    """Two training texts of made-up words, many of them equally frequent, and one that is held out."""
    draw = random.Random(0)
    words = [f"wo{n}" for n in range(40)]
    folder.mkdir(parents=True)

    def text(size: int) -> str:
        return "".join(f"the {' '.join(draw.choices(words, k=6))} .\n" for _ in range(size))

    for name in ("one", "two"):
        (folder / f"{name}.txt").write_text(text(120))
    (folder / "held.txt").write_text(text(40) if held is None else held)
    return folder


def recipe_in(folder: Path, held: str | None = None) -> Path:
    texts = write_texts(folder / "texts", held)
    path = folder / "tiny.toml"
    path.write_text(RECIPE.replace("TEXTS", texts.as_posix()))
    return path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipe_in(tmp_path_factory.mktemp("word2vec"))


def run(recipe: Path, out: Path, *flags: str) -> dict[str, Any]:
    """Train in this process; ``config.json`` of the run."""
    assert main(["train", str(recipe), "--out", str(out), *flags]) == 0
    saved: dict[str, Any] = read_sealed_json(out / "config.json")
    return saved


@pytest.fixture(scope="module")
def warm(recipe: Path) -> Path:
    run(recipe, recipe.parent / "warm")
    return recipe.parent / "warm"


@pytest.fixture(scope="module")
def frozen(recipe: Path) -> Path:
    run(recipe, recipe.parent / "frozen", "--embeddings.mode", "frozen")
    return recipe.parent / "frozen"


def checkpoint_rows(run: Path) -> dict[int, np.ndarray]:
    return {one.step: embedding_rows(one.model) for one in list_checkpoints(run)}


def test_no_word_of_the_held_out_text_has_a_vector_or_any_influence(tmp_path: Path) -> None:
    """Two corpora that differ in what is held out, one of them in words that nothing else has, give the same bits."""
    vectors = []
    nearest = {"kind": "word", "min_count": 35, "out_of_vocabulary": "nearest", "nearest": {"width": 8, "epochs": 2}}
    for name, held in (("a", "the wo1 zebra zebra zebra .\n" * 60), ("b", "a wo39 of the unheard-of\n" * 50)):
        recipe = build(Recipe, {**_table(recipe_in(tmp_path / name, held)), "tokenizer": nearest})
        prepared = prepare(recipe, QUIET)
        assert not prepared.tokenizer.has("zebra")
        # learnt each for itself: what the cache keeps goes by the training text alone
        found = learn(recipe.embeddings, 16, prepared.tokenizer, prepared.shards, QUIET)
        vectors.append((prepared.shards.manifest.id, prepared.tokenizer.fingerprint, found))
    (one, our_ids, ours), (other, their_ids, theirs) = vectors
    assert one != other
    assert our_ids == their_ids
    assert "zebra" not in ours.words
    assert ours.words == theirs.words
    np.testing.assert_array_equal(ours.rows, theirs.rows)


def test_words_below_min_count_take_no_part(recipe: Path) -> None:
    asked = build(Recipe, _table(recipe))
    prepared = prepare(asked, QUIET)
    stream = prepared.shards.split("train")
    counts = np.bincount(stream.read(0, len(stream)), minlength=prepared.tokenizer.vocab_size)
    config = asked.embeddings.model_copy(update={"min_count": 36})
    found = learn(config, 8, prepared.tokenizer, prepared.shards, QUIET)
    often = [id for id in range(len(counts)) if counts[id] >= 36 and id != prepared.tokenizer.eot_id]
    assert list(found.words) == [prepared.tokenizer.token(id) for id in often]
    assert 5 < len(often) < len(counts) - 5


def _table(path: Path) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(path.read_text())


def test_each_word_of_the_run_has_its_own_vector_from_word_to_id_to_row(recipe: Path, warm: Path) -> None:
    """From the cache to the first rows by words, and from these to the ids of the run's own tokenizer."""
    asked = build(Recipe, _table(recipe))
    prepared = prepare(asked, QUIET)
    vectors = word_vectors(asked.embeddings, 16, prepared.tokenizer, prepared.shards, QUIET)
    assert vectors is not None
    first = load_vectors(warm / "embeddings")
    tokenizer = load_tokenizer(warm / "checkpoints" / "step-00000008" / "model")
    counts = [int((prepared.shards.split("train").read(0, 1000) == id).sum()) for id in range(tokenizer.vocab_size)]
    assert len(set(counts)) < len(counts)  # ties
    assert len(vectors.words) == tokenizer.vocab_size - 2  # all but <unk>, which does not occur, and end-of-text
    factor = np.float32(first.facts["factor"])
    for row, word in enumerate(vectors.words):
        id = tokenizer.encode(word)[0]
        assert first.words[id] == word == tokenizer.token(id)
        np.testing.assert_array_equal(first.rows[id], vectors.rows[row] * factor)
    assert first.facts["others"] == ["<unk>", "<|endoftext|>"]


def test_vectors_are_trained_once_for_the_same_text_and_settings(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, warm: Path
) -> None:
    asked = build(Recipe, _table(recipe))
    prepared = prepare(asked, QUIET)
    trained = []
    monkeypatch.setitem(word_vectors.__globals__, "learn", lambda *a: (trained.append(a[1]), learn(*a))[1])
    for changes, width in (({}, 16), ({"mode": "frozen", "scale": "vectors"}, 16), ({}, 8), ({"window": 3}, 16)):
        config = asked.embeddings.model_copy(update=changes)
        for _ in range(2):
            word_vectors(config, width, prepared.tokenizer, prepared.shards, QUIET)
    assert trained == [8, 16]


def test_the_time_it_took_is_kept_and_told(warm: Path, frozen: Path) -> None:
    for folder in (warm, frozen):
        facts = read_sealed_json(folder / "config.json")["resolved"]["word2vec"]
        assert facts["train_s"] > 0
        assert facts["train_s"] == load_vectors(folder / "embeddings").facts["train_s"]
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert "which is not part of the run" in page


def test_frozen_rows_are_the_first_rows_in_every_checkpoint_and_warm_ones_are_not(warm: Path, frozen: Path) -> None:
    for folder, stays in ((frozen, True), (warm, False)):
        first = load_vectors(folder / "embeddings").rows
        rows = checkpoint_rows(folder)
        assert list(rows) == [2, 4, 6, 8]
        assert [np.array_equal(one, first) for one in rows.values()] == [stays] * 4
    facts = read_sealed_json(frozen / "config.json")["resolved"]
    assert facts["parameters"] - facts["trainable"] == first.size
    assert "trainable" not in read_sealed_json(warm / "config.json")["resolved"]


def test_a_tied_head_is_frozen_with_the_rows_and_costs_less(frozen: Path, warm: Path) -> None:
    config = json.loads((frozen / "checkpoints" / "step-00000008" / "model" / "config.json").read_text())
    assert config["tie_word_embeddings"] is True
    ours, theirs = (read_sealed_json(one / "config.json")["resolved"] for one in (frozen, warm))
    assert theirs["flops_per_token"] - ours["flops_per_token"] == 2 * ours["vocab_size"] * 16


def test_movement_is_that_of_the_formula_over_the_words_that_were_learnt(warm: Path, frozen: Path) -> None:
    first, found = load_vectors(warm / "embeddings"), movements(warm)
    assert list(found) == [2, 4, 6, 8]
    learnt = slice(0, len(first.words) - 2)
    for step, rows in checkpoint_rows(warm).items():
        apart = np.linalg.norm(rows - first.rows, axis=1) / np.linalg.norm(first.rows, axis=1)
        assert found[step].p95 == pytest.approx(np.percentile(apart[learnt], 95), rel=1e-5)
        assert found[step].words == len(apart) - 2
    assert [one.largest for one in movements(frozen).values()] == [0.0] * 4


def test_the_report_shows_cosines_before_and_after_and_the_movement(warm: Path, frozen: Path) -> None:
    page = (warm / "report.html").read_text(encoding="utf-8")
    assert all(f">{title}</text>" in page for title in ("Cosines before training", "Cosines after training"))
    assert "95th percentile" in page
    assert "Not in the vocabulary: nowhere." in page
    still = (frozen / "report.html").read_text(encoding="utf-8")
    assert "Cosines after training" not in still
    assert "the largest movement in any checkpoint is 0.0" in still


def test_a_report_says_when_the_first_rows_are_damaged(warm: Path, tmp_path: Path) -> None:
    file = warm / "embeddings" / "words.json"
    content = file.read_bytes()
    file.write_bytes(content[:-2])
    try:
        assert main(["report", str(warm), "--to", str(tmp_path / "page.html")]) == 0
    finally:
        file.write_bytes(content)
    assert "The embeddings cannot be compared" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("mode", [pytest.param("warm", marks=pytest.mark.slow), "frozen"])
def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(
    mode: str, recipe: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    undisturbed: Path = request.getfixturevalue(mode)
    out = tmp_path / "run"
    killed = folio("train", recipe, "--out", out, "--embeddings.mode", mode, dying=("SIGKILL", 5))
    assert killed.returncode < 0, killed.stderr
    done = folio("train", "--resume", out)
    assert done.returncode == 0, done.stderr
    assert curve(out) == curve(undisturbed)
    for step, rows in checkpoint_rows(out).items():
        np.testing.assert_array_equal(rows, checkpoint_rows(undisturbed)[step])
    assert weights_sha256(done.stdout)
    assert load_vectors(out / "embeddings").words == load_vectors(undisturbed / "embeddings").words


def test_what_a_run_keeps_for_life_cannot_be_changed(warm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["train", "--resume", str(warm), "--train.steps", "10", "--embeddings.mode", "frozen"])
    assert code == 2
    assert "was begun with another embeddings.mode" in capsys.readouterr().err


def test_other_weights_begin_alike_whatever_the_embedding_begins_with(recipe: Path) -> None:
    from folio.verbs.pretraining import open_session

    asked = build(Recipe, _table(recipe))
    prepared = prepare(asked, QUIET)
    usual = asked.model_copy(update={"embeddings": asked.embeddings.model_copy(update={"init": "random"})})
    ours, theirs = (open_session(one, prepared).state.model for one in (asked, usual))
    differing = [n for n, p in ours.named_parameters() if not torch.equal(p, theirs.get_parameter(n))]
    assert differing == ["embed.weight"]


def test_random_rows_can_be_frozen_with_any_tokenizer(recipe: Path, tmp_path: Path) -> None:
    tables = _table(recipe)
    tables["tokenizer"] = {"kind": "char"}
    tables["embeddings"] = {"mode": "frozen"}
    from folio.verbs.pretraining import open_session

    asked = build(Recipe, tables)
    session = open_session(asked, prepare(asked, QUIET))
    assert not session.state.model.embed.weight.requires_grad
    assert session.first_rows is None


def test_nearest_words_reach_the_shards_and_the_model(recipe: Path, tmp_path: Path) -> None:
    flags = ("--tokenizer.min-count", "35", "--tokenizer.out-of-vocabulary", "nearest")
    saved = run(recipe, tmp_path / "run", *flags, "--tokenizer.nearest.width", "8", "--tokenizer.nearest.epochs", "2")
    tokenizer = load_tokenizer(tmp_path / "run" / "checkpoints" / "step-00000008" / "model")
    assert tokenizer.fingerprint == saved["tokenizer"]
    asked = build(Recipe, saved["recipe"])
    stream = prepare(asked, QUIET).shards.split("train")
    assert tokenizer.id_of("<unk>") not in stream.read(0, len(stream))
    assert 5 < len(tokenizer.nearest) < 40  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"tokenizer": {"kind": "bpe"}}, "embeddings.init 'word2vec' needs tokenizer.kind 'word', not 'bpe'"),
        ({"embeddings": {"init": "random", "window": 3}}, "embeddings.* but for mode are for embeddings.init"),
        ({"embeddings": {"init": "word2wec"}}, "embeddings.init"),
        ({"embeddings": {"init": "word2vec", "windw": 3}}, "window"),
    ],
)
def test_what_cannot_be_is_refused_by_name(recipe: Path, tables: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(Recipe, {**_table(recipe), **tables})
    assert said in str(refused.value)


def test_a_folder_with_another_kind_of_tokenizer_is_refused(recipe: Path, tmp_path: Path) -> None:
    from folio.tokenizer import TokenizerConfig, train_tokenizer

    train_tokenizer(["the wo1 .\n0123456789"], TokenizerConfig(kind="char")).save(tmp_path / "char")
    tables = {**_table(recipe), "tokenizer": {"path": str(tmp_path / "char")}}
    asked = build(Recipe, tables)
    prepared = prepare(asked, QUIET)
    with pytest.raises(ConfigError, match="this one is of kind char"):
        word_vectors(asked.embeddings, 16, prepared.tokenizer, prepared.shards, QUIET)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("mode", ["warm", "frozen"])
def test_two_ranks_begin_and_go_on_as_one(
    mode: str, optimizer: str, parallel: str, recipe: Path, tmp_path: Path
) -> None:
    flags = ("--embeddings.mode", mode, "--train.optimizer.kind", optimizer, "--train.micro-batch", "4")
    flags = (*flags, "--train.ema-decay", "0.5", "--train.parallel", parallel)
    flags = (*flags, "--train.schedule.kind", "constant")
    run(recipe, tmp_path / "alone", *flags)
    two = tmp_path / "two"
    for arguments in (
        ("train", recipe, "--out", two, *flags, "--train.steps", "4"),
        ("train", "--resume", two, "--train.steps", "8"),
    ):
        with Job(tmp_path, 2, "-m", "folio", *arguments) as job:
            ended = job.end(timeout_s=200)
        assert ended.code == 0, ended.err
    assert read_sealed_json(two / "config.json")["resolved"]["parallel"] == parallel
    ours, theirs = checkpoint_rows(two), checkpoint_rows(tmp_path / "alone")
    first = load_vectors(two / "embeddings").rows
    np.testing.assert_array_equal(first, load_vectors(tmp_path / "alone" / "embeddings").rows)
    for step, rows in ours.items():
        np.testing.assert_allclose(rows, theirs[step], rtol=1e-3, atol=2e-5)
        assert np.array_equal(rows, first) == (mode == "frozen")
