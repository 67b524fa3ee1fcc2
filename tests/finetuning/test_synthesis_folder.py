"""What a folder of examples says after a kill, and which folders are refused."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from faulty_endpoint import spec_text

from folio.errors import ArtifactError
from folio.finetuning.synthesis.budget import Bound, Usage
from folio.finetuning.synthesis.cells import cells
from folio.finetuning.synthesis.opening import opened_folder
from folio.finetuning.synthesis.spec import Spec, check_spec

BOUND = Bound(Usage(50, 60))


def spec_of(**request: object) -> Spec:
    data = tomllib.loads(spec_text(5, values=3))
    data["output"] = {"begin": "<X>", "end": "</X>"}
    return check_spec({**data, "request": {**data["request"], **request}})


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A kept answer, a filtered one, a failure that may have cost, a refusal, and a request on its way at the end."""
    path = tmp_path / "set"
    with opened_folder(path, spec_of()) as folder:
        first, second, third, *_ = cells(spec_of())
        for index, (cell, used) in enumerate(((first, Usage(9, 20)), (second, Usage(9, 30)), (third, None))):
            folder.budget.reserve(BOUND)
            attempt = folder.send(cell, BOUND)
            if used is not None:
                reason = "empty" if index else None
                folder.answer(cell, attempt, used, reason, text="moss", model="m", finish="stop")
        for used in (BOUND.usage, Usage()):
            folder.budget.reserve(BOUND)
            folder.fail(folder.send(third, BOUND), used, "status 500")
    return path


def test_every_request_counts_as_what_it_used_or_in_full(made: Path) -> None:
    with opened_folder(made, spec_of()) as folder:
        assert folder.budget.spent == Usage(9 + 9 + 50 + 50, 20 + 30 + 60 + 60)
        assert folder.budget.reserved == Usage()
        assert (folder.kept, folder.attempts, len(folder.done)) == (1, 5, 2)
        assert folder.filtered == {"empty": 1}
        assert folder.failures == {"status 500": 2, "unfinished": 1}


@pytest.mark.parametrize("name", ["examples.jsonl", "filtered.jsonl", "journal.jsonl"])
def test_half_a_line_at_the_end_is_cut_off_and_a_whole_one_kept(made: Path, name: str) -> None:
    file = made / name
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"id": "torn", "text": "half of')
    with opened_folder(made, spec_of()):
        assert file.read_bytes() == whole
    file.write_bytes(whole[:-1])
    with opened_folder(made, spec_of()) as folder:
        assert file.read_bytes() == whole
        assert folder.budget.spent.total == 288


def test_an_answer_whose_line_was_torn_counts_in_full(made: Path) -> None:
    file = made / "examples.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    with opened_folder(made, spec_of()) as folder:
        assert folder.kept == 0
        assert folder.budget.spent.total == 288 - 29 + 110
        assert next(cells(spec_of())).id not in folder.done


def test_what_an_endpoint_taught_is_known_after_a_kill(made: Path) -> None:
    with opened_folder(made, spec_of()) as folder:
        folder.budget.reserve(BOUND)
        cell = next(cells(spec_of(temperature=0.1)))
        folder.answer(cell, folder.send(cell, BOUND), Usage(80, 60), None, text="x", model="m", finish="stop")
        assert folder.budget.excess == Usage(30, 0)
    with opened_folder(made, spec_of()) as folder:
        assert folder.budget.excess == Usage(30, 0)
        bound = folder.budget.bound(50, 60)
        folder.budget.reserve(bound)
        folder.fail(folder.send(cell, bound), bound.usage, "timed out")
    with opened_folder(made, spec_of()) as folder:
        assert folder.budget.excess == Usage(30, 0), "a worst case that held teaches nothing"


@pytest.mark.parametrize(
    "line", ['{"id": 3}', "[]", '{"id": "x", "text": "y", "attempt": "z", "usage": 3}', "not json", ""]
)
@pytest.mark.parametrize("name", ["examples.jsonl", "journal.jsonl"])
def test_a_damaged_line_is_named(made: Path, name: str, line: str) -> None:
    file = made / name
    file.write_text(line + "\n" + file.read_text())
    with (
        pytest.raises(ArtifactError, match=f"{name}' is damaged: line 1 is not a JSON object with"),
        opened_folder(made, spec_of()),
    ):
        pass


def test_an_id_that_stands_twice_is_named(made: Path) -> None:
    file = made / "examples.jsonl"
    file.write_text(file.read_text() * 2)
    with pytest.raises(ArtifactError, match=r"holds the id [0-9a-f]{16} twice"), opened_folder(made, spec_of()):
        pass


def test_another_spec_and_other_folders_are_refused(made: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(ArtifactError, match=r"another spec: request.temperature, request.max_tokens differ\n"),
        opened_folder(made, spec_of(temperature=0.5, max_tokens=9)),
    ):
        pass
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(ArtifactError, match="holds something else"), opened_folder(tmp_path / "mine", spec_of()):
        pass
    with pytest.raises(ArtifactError, match="is a file"), opened_folder(tmp_path / "mine" / "thesis.txt", spec_of()):
        pass
    (made / "spec.json").write_text("[]")
    with pytest.raises(ArtifactError, match=r"spec.json' is damaged"), opened_folder(made, spec_of()):
        pass


def test_amounts_limits_and_budget_may_change_as_a_folder_grows(made: Path) -> None:
    data = spec_of(stream=True).model_dump()
    data |= {"amount": {**data["amount"], "count": 9, "repeats": 3}, "limits": {}, "budget": {"tokens": 999}}
    with opened_folder(made, check_spec(data)) as folder:
        assert folder.kept == 1


def test_a_folder_in_which_nothing_was_asked_for_is_removed(tmp_path: Path) -> None:
    with opened_folder(tmp_path / "new", spec_of()):
        assert (tmp_path / "new" / "spec.json").exists()
    assert not (tmp_path / "new").exists()


def test_finishing_writes_text_with_marks_and_a_manifest_of_the_files(made: Path) -> None:
    from folio.artifacts import verify
    from folio.finetuning.config_data import DataConfig
    from folio.finetuning.formats import read_examples

    with opened_folder(made, spec_of()) as folder:
        wrote = folder.finish()
    assert [path.name for path in wrote] == ["examples.jsonl", "examples.txt"]
    assert (made / "examples.txt").read_text() == "<X>\nmoss\n</X>\n"
    manifest = verify(made, "examples")
    assert {"examples.jsonl", "filtered.jsonl", "journal.jsonl", "spec.json"} <= set(manifest.files)
    assert json.loads((made / "summary.json").read_text())["examples"] == 1
    for path in wrote:
        (record,) = read_examples(str(path), DataConfig(path=str(path))).records
        assert record.fields["text"].strip() == "moss"
