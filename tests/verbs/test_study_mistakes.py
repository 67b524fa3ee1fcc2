"""Whatever is wrong with a study is told in a line, with exit code 2, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from real_runs import write_recipe

from folio.cli import main
from folio.studies.grid.study_file import read_study
from folio.studies.running.records import StudyFolder

GOOD = 'base = "tiny.toml"\naxes.model.n_embd = [32, 64]\n'
Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """What ``folio study run`` says of a study file with this text; it must have written nothing."""
    write_recipe(tmp_path)

    def run(text: str, *flags: object, out: str = "out") -> str:
        (tmp_path / "study.toml").write_text(text)
        before = set(tmp_path.rglob("*"))
        arguments = ["study", "run", tmp_path / "study.toml", "--out", tmp_path / out, *flags]
        assert main([str(one) for one in arguments]) == 2
        assert {path for path in tmp_path.rglob("*") if path.name != ".studying"} == before
        err = capsys.readouterr().err
        assert err.startswith("folio: ")
        assert "Traceback" not in err
        return err

    return run


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("axes.model.n_emdb = [1]", "did you mean model.n_embd?"),
        ("axes.model.n_embd = []", "the grid is empty"),
        ("axes.model.n_embd = [12, 24]\nseeds = [1, 1]", "seed 1 is given twice"),
        ("axes.model.n_embd = [12, 24]\nseed = 2", "unknown key seed; did you mean seeds?"),
        ("axes.model.n_embd = ['a', 24]", "cell (n_embd a, seed 1337): model.n_embd = 'a': must be a valid integer"),
        ("axes.model.n_embd = [12, 24", "it is not TOML"),
        ("base = 'shakespear'\naxes.model.n_embd = [12, 24]", "Did you mean shakespeare?"),
    ],
)
def test_a_file_that_is_no_study(refused: Refused, text: str, says: str) -> None:
    assert says in refused(text)


def test_cells_that_are_the_same_run_name_both(refused: Refused) -> None:
    said = refused(GOOD + "axes.free = { values = [1, 2] }")
    assert "two cells are the same run: (n_embd 32, free 1, seed 1337) and (n_embd 32, free 2, seed 1337)" in said
    assert 'equal_cells = "merge"' in said


def test_a_folder_with_something_else(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert "holds something else than a study" in refused(GOOD)


def test_a_folder_with_another_study(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(GOOD)
    StudyFolder(tmp_path / "out").write(read_study(str(tmp_path / "other.toml")), {})
    assert "holds the study other at scale whole, not study" in refused(GOOD)


def test_a_damaged_folder(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.json").write_text("{}")
    assert "study.json' is damaged" in refused(GOOD)


def test_a_scale_that_is_not_there(refused: Refused) -> None:
    assert "Did you mean small?" in refused(GOOD + "[scales.small]\nseeds = 1", "--scale", "smal")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[rates]\nfor_each = ['n_emb']",
            "rates.for_each names 'n_emb', which is no axis\n       Did you mean n_embd?",
        ),
        ("[rates.search]\nstep = 50", "rates.search: unknown key step; did you mean steps?"),
        ("[rates.search]\nsteps = 3", "a sweep of fewer than"),
        (
            "axes.train.optimizer.learning_rate = [0.1, 0.2]\n[rates]\nfor_each = ['learning_rate']",
            "rates finds train.optimizer.learning_rate, and axis learning_rate varies it",
        ),
        (
            "axes.train.optimizer.kind = ['adamw', 'muon']\n[rates]\nfor_each = ['n_embd']",
            "which have other optimizers",
        ),
        ("[oracle]\nmodel = 'gone'\nmin_words = 9\nmax_words = 3", "max_words is 3, fewer than min_words, 9"),
        ("measures = ['nats_per_tokn']", "which no cell measures\n       Did you mean nats_per_token?"),
        ("measures = ['oracle.z']", "measures asks for oracle.z, and there is no [oracle]"),
        ("measures = ['hellaswag.acc']", "measures asks for hellaswag.acc, which no cell measures"),
        (
            "[[figures]]\ntitle = 'A'\nx = 'n_embd'\nmeasure = 'loss'",
            "figure 'A' asks for loss, which no cell measures",
        ),
        ("[[figures]]\nx = 'n_embd'\nmeasure = 'seconds'", "figures.title is required"),
        ("[[contrasts]]\naxes = 'n_embd'\nreference = 32", "unknown key contrasts.axes; did you mean contrasts.axis?"),
        ("[oracle]\nprompts = 3", "either a model that is there, or a base and recipe"),
        ("[oracle]\nmodel = 'gone'\nbase = 'shakespeare'", "either a model that is there, or a base and recipe"),
        ("scores_at = 'last'\n[oracle]\nmodel = 'gone'", "judges the best checkpoint of a cell"),
        ("[oracle]\nmodel = 'gone'", "the oracle cannot judge: 'gone' does not exist"),
        ("[oracle.recipe]\nmodel.n_embed = 3", "did you mean model.n_embd?"),
        ("[oracle]\nmodel = '.'", "the oracle cannot judge: '.' is neither a run"),
        ("axes.corpus.validation_fraction = [0.1, 0.2]\n[oracle]\nmodel = 'gone'", "hold out different text"),
        ("recipe.source.path = 'x.jsonl'\n[oracle]\nmodel = 'gone'", "reads shards or a source"),
    ],
)
def test_rates_and_oracles_that_cannot_be(refused: Refused, text: str, says: str) -> None:
    assert says in refused(GOOD + text)


def test_two_scales_at_once(refused: Refused) -> None:
    small = GOOD + "[scales.small]\nseeds = 1\n[scales.ci]\nseeds = 1"
    assert "--small and --scale ci are two scales" in refused(small, "--scale", "ci", "--small")


def test_flags_that_say_nothing(refused: Refused) -> None:
    assert "are for Ray" in refused(GOOD, "--gpus-per-cell", "1")


@pytest.mark.parametrize(
    ("given", "says"),
    [("learning-rate", "Did you mean learning-rates?"), ("nowhere/at/all", "cannot read"), ("runs", "study.json")],
)
def test_a_study_that_is_not_there(
    given: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for action in ("run", "report"):
        assert main(["study", action, given]) == 2
        assert says in capsys.readouterr().err


def test_a_report_before_anything_was_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.toml").write_text("axes.model.n_embd = [12, 24]")
    assert main(["study", "report", str(tmp_path / "study.toml"), "--out", str(tmp_path / "out")]) == 2
    assert "does not exist" in capsys.readouterr().err
