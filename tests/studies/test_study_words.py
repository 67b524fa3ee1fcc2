"""The words of a study in its report: what texts and runs say, and no more than that."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from page_checker import check

from folio.artifacts import write_manifest
from folio.checksums import sealed_json
from folio.config import build
from folio.corpus import CorpusConfig
from folio.model.config import GPTConfig
from folio.model.folder import save_model
from folio.model.gpt import GPT
from folio.reports.page import Page
from folio.reports.study.page import study_report
from folio.reports.study.words import show_words
from folio.studies.findings.results import CellResult, read_results
from folio.studies.findings.vocabulary import write_texts
from folio.studies.running.records import StudyFolder
from folio.tokenizer import TokenizerConfig
from folio.tokenizer.vectors import WordVectors

MakeStudy = Callable[..., StudyFolder]
STUDY = """
seeds = 2
[axes]
width = { key = "model.n_embd", values = [8, 16, 24] }
[variants.embeddings]
frozen = { "embeddings.init" = "word2vec", "embeddings.mode" = "frozen" }
warm = { "embeddings.init" = "word2vec" }
random = { "train.clip_norm" = 2 }
"""
SHAPE = {"vocab_size": 4, "block_size": 8, "n_layer": 1, "n_head": 1, "n_embd": 8}
VOCABULARY = ("love", "war", "God", "<unk>")
FACTS = {"others": ["<unk>"]}


def rows_at(width: int, *places: float) -> np.ndarray:
    """A row for each of ``places``, an angle in quarter turns from that of "love"."""
    rows = np.zeros((len(places), width), dtype=np.float32)
    rows[:, 0], rows[:, 1] = np.cos(np.array(places) * np.pi / 2), np.sin(np.array(places) * np.pi / 2)
    return rows


START, RANDOM = (0.0, 1.0, 2.0, 0.5), (0.0, 0.0, 1.0, 0.5)


def save_checkpoint(run: Path, step: int, rows: np.ndarray) -> None:
    model = GPT(build(GPTConfig, {**SHAPE, "n_embd": rows.shape[1]}))
    with torch.no_grad():
        model.embed.weight[:4] = torch.from_numpy(rows)
    checkpoint = run / "checkpoints" / f"step-{step:08}"
    shutil.rmtree(checkpoint, ignore_errors=True)
    (checkpoint / "model").mkdir(parents=True)
    save_model(model, checkpoint / "model")
    write_manifest(checkpoint, "checkpoint", {"step": step})


def dress(folder: StudyFolder, cell: CellResult, *, kept: tuple[int, ...] = (20, 40)) -> None:
    """Make a made-up cell one of words: a warm one's rows grow by a hundredth of themselves each step, a thousandth for
    each number of width above 8, and half as much for the second seed."""
    run, kind, width = folder.run(cell.name), cell.values["embeddings"], cell.values["width"]
    recipe = {
        "corpus": {"name": "plays"},
        "tokenizer": {"kind": "word", "min_count": 3},
        "model": {**SHAPE, "n_embd": width},
        "embeddings": {"init": "random" if kind == "random" else "word2vec", "show": ["love", "war", "God", "nowhere"]},
    }
    recipe["embeddings"]["mode"] = "frozen" if kind == "frozen" else "warm"  # type: ignore[index]
    (run / "config.json").write_text(sealed_json({"recipe": recipe}))
    first = rows_at(width, *START)
    if kind != "random":
        WordVectors(VOCABULARY, first, FACTS).save(run / "embeddings")
    for step in kept:
        grown = 1 + step * (0.01 + 0.001 * (width - 8)) * (1 if cell.seed == 1337 else 0.5)
        now = {"frozen": first, "warm": first * grown, "random": rows_at(width, *RANDOM)}[kind]
        save_checkpoint(run, step, now)


@pytest.fixture
def study(make_study: MakeStudy) -> StudyFolder:
    folder: StudyFolder = make_study(STUDY, lambda cell: 3.0 if cell.values["width"] < 24 else "no room")
    for cell in read_results(folder).finished:
        dress(folder, cell)
    return folder


def shown(folder: StudyFolder) -> tuple[dict[str, str], str]:
    page = Page("A study")
    figures = show_words(page, folder, read_results(folder))
    return figures, unescape(page.html())


def points(svg: str, label: str) -> list[Any]:
    found = re.search(r'data-points="([^"]*)"', svg)
    assert found is not None
    series = json.loads(unescape(found[1]))["series"]
    return [one["points"] for one in series if one["label"] == label]


def test_cosines_are_those_of_the_rows_before_and_after_of_cells_alike_in_all_else(study: StudyFolder) -> None:
    figures, page = shown(study)
    maps = [name for name in figures if "cosines" in name]
    assert maps == ["words-cosines-word2vec", "words-cosines-warm", "words-cosines-random"]
    for name in maps[:2]:
        assert "love and war: 0.0000" in figures[name]
        assert "love and God: −1.0000" in figures[name]
    assert "love and war: 1.0000" in figures[maps[2]]
    assert "love and God: 0.0000" in figures[maps[2]]
    assert "step 40" in figures[maps[1]]
    assert "Cells of width 16, min_count 3 and seed 1337." in page  # 24 failed
    assert "Not in the vocabulary: nowhere." in page


def test_a_start_that_a_frozen_cell_alone_has_kept_is_shown_beside_the_random_one(study: StudyFolder) -> None:
    for cell in read_results(study).finished:
        if cell.values["embeddings"] == "warm":
            shutil.rmtree(study.run(cell.name) / "checkpoints")
        if cell.values["embeddings"] == "warm" or (cell.values["width"] == 16 and cell.seed == 1337):
            (study.run(cell.name) / "config.json").write_text(sealed_json({"recipe": {"model": SHAPE}}))
            shutil.rmtree(study.run(cell.name) / "embeddings", ignore_errors=True)
    figures, page = shown(study)
    assert list(figures) == ["words-cosines-word2vec", "words-cosines-random"]
    assert "Cells of width 16, min_count 3 and seed 1338." in page


def test_movement_is_the_mean_over_seeds_at_each_checkpoint_from_nothing_on(study: StudyFolder) -> None:
    figures, _ = shown(study)
    for name in ("words-moved-median", "words-moved-p95"):
        (narrow,), (wide,) = points(figures[name], "width 8"), points(figures[name], "width 16")
        assert np.allclose(narrow, [[0, 0], [20, 0.15], [40, 0.3]], atol=1e-6)
        assert np.allclose(wide, [[0, 0], [20, 0.27], [40, 0.54]], atol=1e-6)


def test_movement_is_not_drawn_where_cells_have_kept_no_two_steps_in_common(study: StudyFolder) -> None:
    for cell in read_results(study).finished:
        shutil.rmtree(study.run(cell.name) / "checkpoints" / "step-00000020")
        if cell.seed == 1337:
            dress(study, cell, kept=(30,))
    assert not any("moved" in name for name in shown(study)[0])


def test_the_text_is_told_with_the_vocabularies_of_the_study_and_the_context(
    study: StudyFolder, tmp_path: Path
) -> None:
    (tmp_path / "plays").mkdir()
    (tmp_path / "plays" / "one.txt").write_text("the cat sat .\n" * 60 + "a bird sang .\n" * 2)
    (tmp_path / "plays" / "two.txt").write_text("the bird sat .\n" * 9 + "two\n")
    corpus = CorpusConfig(path=str(tmp_path / "plays"), validation_documents=("two.txt",))
    asked = [(corpus, TokenizerConfig(kind="word", min_count=least)) for least in (1, 3)]
    write_texts(study, asked)
    figures, page = shown(study)
    assert [name for name in figures if "cosines" not in name and "moved" not in name] == [
        *("words-coverage", "words-vocabulary", "words-lines")
    ]
    (every,), (own,) = points(figures["words-vocabulary"], ""), points(figures["words-vocabulary"], "in this study")
    assert [at for at, _ in every] == list(range(1, 11))
    assert own == [every[0], every[2]]
    assert "context: 8<" in figures["words-lines"]
    assert figures["words-lines"].count("stroke-dasharray") == 5
    assert "holds about 1.6 such lines with their ends" in page
    (reached,) = points(figures["words-coverage"], "held-out")
    assert np.allclose(reached[0], [1, 100 * 46 / 47])
    assert np.allclose(reached[2], [3, 100 * 37 / 47])
    rows = [re.findall(r">([\d.]+)</td>", row) for row in page.split("<tr>")]
    # the cat sat . a bird sang and the line break; of the held-out words all but "two", and then all but "bird"
    assert rows[2:4] == [["1", "8", "100.00", "97.87"], ["3", "5", "98.06", "78.72"]]


def test_figures_are_files_and_the_section_is_one_of_the_page(study: StudyFolder) -> None:
    for _ in range(2):
        _, wrote = study_report(study)
        assert (study.path / "figures" / "words-cosines-warm.svg").is_file()
    page = check(wrote[0].read_text())
    assert "The words" in page.text


def test_a_study_without_words_has_no_such_section(make_study: MakeStudy) -> None:
    folder = make_study(STUDY, lambda cell: 3.0)
    figures, page = shown(folder)
    assert figures == {}
    assert "The words" not in page


@pytest.mark.parametrize("damaged", ["embeddings/words.json", "checkpoints/step-00000040/model/model.safetensors"])
def test_what_is_damaged_is_said_and_the_rest_is_shown(damaged: str, study: StudyFolder, tmp_path: Path) -> None:
    (tmp_path / "play.txt").write_text("the cat sat .\n" * 60)
    write_texts(study, [(CorpusConfig(path=str(tmp_path / "play.txt")), TokenizerConfig(kind="word"))])
    for cell in read_results(study).finished:
        file = study.run(cell.name) / damaged
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-2] + b"?!")
    figures, page = shown(study)
    assert "Something of the words is missing" in page
    assert "words-coverage" in figures
    assert not any("cosines" in name for name in figures)
    (study.path / "texts" / "play.txt.json").write_text("{}")
    figures, page = shown(study)
    assert not figures
    assert "play.txt.json' is damaged" in page
