"""Shards written by datatrove's executors on several nodes, by Ray and by jobs of SLURM: those of one machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from letters import ByteTokenizer, words
from pydantic import ValidationError

from folio.artifacts import read_manifest
from folio.corpus.quality import QualityConfig
from folio.corpus.sources import ByHash, open_source
from folio.errors import ArtifactError, ConfigError, DataError, RankLost
from folio.shards import ShardsConfig, write_shards
from folio.shards.machines.config import EngineConfig
from folio.shards.machines.engines import write_with
from folio.shards.machines.nodes import set_up
from folio.shards.parts.allotment import Allotment
from folio.shards.parts.journal import Journals, PartRecord, PartsJournal, SideRecord
from folio.shards.parts.merge import PartsProgress
from folio.shards.parts.refining import Refining
from folio.shards.parts.write import finish_writing
from folio.shards.parts.writing import Writing, plan_writing

HERE = Path(__file__).parent
RULE = ByHash(0.2)
BUDGET = 60_000


def quiet(progress: PartsProgress) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files, 20 row groups of five documents, the last ten documents twice: 180 kB of text."""
    root = tmp_path_factory.mktemp("source") / "texts"
    root.mkdir()
    texts = [words(300, seed % 90) for seed in range(100)]
    pq.write_table(pa.table({"text": texts[:60]}), root / "a.parquet", row_group_size=5)
    pq.write_table(pa.table({"text": texts[60:]}), root / "b.parquet", row_group_size=5)
    return root


def planned(folder: Path, to: Path, budget: int | None = None, duplicates: str = "keep", slow: float = 0.0) -> Writing:
    refining = Refining(open_source(str(folder)), QualityConfig(duplicates=duplicates))  # type: ignore[arg-type]
    tokenizer: Any = ByteTokenizer(seconds_per_call=slow)
    return plan_writing(refining, tokenizer, to, ShardsConfig(tokens_per_shard=30_007), RULE, budget)


def one_machine(folder: Path, to: Path, *what: Any) -> str:
    finish_writing(planned(folder, to, *what), 1, (), quiet)
    return read_manifest(to).id


NODE = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from test_machines import planned
from folio.artifacts import read_manifest
from folio.errors import DataError, UserError
from folio.shards.machines.config import EngineConfig
from folio.shards.machines.engines import write_with
engine = EngineConfig(kind="datatrove", tasks=4, nodes=2, node={node}, patience_s=60)
tell = lambda progress: print(progress.note, flush=True) if progress.note else None
try:
    written = write_with(planned({folder!r}, Path({to!r}), *{what!r}), engine, {workers}, (), tell)
    print(read_manifest(written.shards.path).id, written.counts.cleaning.kept)
except UserError as error:
    print('DataError' if isinstance(error, DataError) else type(error).__name__, error)
"""


def begin(folder: Path, to: Path, node: int, *what: Any, workers: int = 1) -> subprocess.Popen[str]:
    code = NODE.format(here=str(HERE), folder=str(folder), to=str(to), node=node, what=what, workers=workers)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=surroundings()
    )


def surroundings() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def encoded(to: Path) -> int:
    journals = to.with_name(to.name + ".partial").glob("parts-*/journal*.jsonl")
    return sum(path.read_bytes().count(b"\n") for path in journals)


def until(there: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert process is None or process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("what", [(None, "near"), (BUDGET, "keep")], ids=["duplicates", "budget"])
def test_two_nodes_begun_at_once_write_what_one_machine_writes(folder: Path, tmp_path: Path, what: Any) -> None:
    expected = one_machine(folder, tmp_path / "one", *what)
    nodes = [begin(folder, tmp_path / "two", node, *what) for node in (0, 1)]
    answers = [node.communicate(timeout=100)[0] for node in nodes]
    kept = str(finish_writing(planned(folder, tmp_path / "one", *what), 1, (), quiet).counts.cleaning.kept)
    assert [answer.splitlines()[-1].split() for answer in answers] == [[expected, kept]] * 2
    assert all(line.startswith("node ") for answer in answers for line in answer.splitlines()[:-1])
    assert not (tmp_path / "two.partial").exists()


def test_a_killed_node_ends_whole_and_goes_on_when_it_is_begun_again(folder: Path, tmp_path: Path) -> None:
    expected = one_machine(folder, tmp_path / "one")
    to = tmp_path / "two"
    nodes = [begin(folder, to, node, None, "keep", 0.05, workers=2) for node in (0, 1)]
    until(lambda: encoded(to) >= 3, nodes[1])
    nodes[1].kill()
    nodes[1].communicate()
    own = [to.with_name("two.partial") / f"parts-*/journal-0000{rank}.jsonl" for rank in (2, 3)]
    time.sleep(1.0)  # within which processes notice that their node is gone

    def left() -> int:
        return sum(path.read_bytes().count(b"\n") for each in own for path in each.parent.parent.glob(f"*/{each.name}"))

    before = left()
    time.sleep(1.0)
    assert left() == before < 10
    nodes[1] = begin(folder, to, 1, None, "keep", 0.05, workers=2)
    answers = [node.communicate(timeout=100)[0] for node in nodes]
    assert [answer.splitlines()[-1].split() for answer in answers] == [[expected, "100"]] * 2


@pytest.mark.slow
def test_a_share_whose_process_is_killed_is_told_and_done_again(folder: Path, tmp_path: Path) -> None:
    to = tmp_path / "two"
    node = begin(folder, to, 0, None, "keep", 0.05, workers=2)
    partial = to.with_name("two.partial")
    until(lambda: encoded(to) >= 1, node)
    until(lambda: bool(list(partial.glob("parts-*/rank-*.process"))), node)
    os.kill(int(next(partial.glob("parts-*/rank-*.process")).read_text()), signal.SIGKILL)
    answer, _ = node.communicate(timeout=60)
    assert "RankLost the process of share" in answer
    assert "what is done is kept" in answer
    assert encoded(to) >= 1
    nodes = [begin(folder, to, number) for number in (0, 1)]
    answers = [node.communicate(timeout=100)[0] for node in nodes]
    expected = one_machine(folder, tmp_path / "one")
    assert [answer.splitlines()[-1].split() for answer in answers] == [[expected, "100"]] * 2


def test_an_error_of_one_node_is_the_users_on_all(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "texts"
    root.mkdir()
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(15)]}), root / "a.parquet", row_group_size=5)
    (root / "b.jsonl").write_text('{"text": "fine"}\nnot JSON\n')
    nodes = [begin(root, tmp_path / "s", node) for node in (0, 1)]
    answers = [node.communicate(timeout=60)[0].splitlines() for node in nodes]
    for answer in answers:
        assert any(line.startswith("DataError") and "line 2 is not JSON" in line for line in answer), answer
        assert not any("Traceback" in line for line in answer)
    assert encoded(tmp_path / "s") == 3


def test_a_node_that_waits_in_vain_says_for_whom_and_keeps_its_work(folder: Path, tmp_path: Path) -> None:
    writing = planned(folder, tmp_path / "s")
    engine = EngineConfig(kind="datatrove", tasks=4, nodes=2, node=0, patience_s=3)
    with pytest.raises(RankLost, match="waiting for parts of other nodes") as told:
        write_with(writing, engine, 1, (), quiet)
    assert "\n" not in told.value.problem
    assert encoded(tmp_path / "s") == 10
    other = EngineConfig(kind="datatrove", tasks=4, nodes=2, node=1, patience_s=3)
    with pytest.raises(RankLost, match="waiting for node 0 to put all together"):
        write_with(writing, other, 1, (), quiet)
    written = write_with(writing, engine, 1, (), quiet)
    assert written is not None
    assert written.shards.manifest.id == one_machine(folder, tmp_path / "one")


@pytest.mark.slow
def test_files_that_are_gone_are_made_again_whatever_datatrove_noted(folder: Path, tmp_path: Path) -> None:
    writing = planned(folder, tmp_path / "s")
    engine = EngineConfig(kind="datatrove", tasks=4, nodes=2, node=0, patience_s=3)
    with pytest.raises(RankLost):
        write_with(writing, engine, 1, (), quiet)
    gone = sorted(writing.folder.glob("*.train.ids"))[2]
    gone.unlink()
    with pytest.raises(RankLost):
        write_with(writing, engine, 1, (), quiet)
    assert gone.exists()


def filtered(folder: Path, to: Path) -> dict[str, str]:
    """The same documents, filtered without datatrove."""
    source = open_source(str(folder))
    documents = [(part, each) for part in source.parts() for each in source.documents(part) if keeps(each.text)]
    splits = {
        side: (lambda side=side: (each for part, each in documents if RULE.side(part, each) == side))
        for side in ("train", "val")
    }
    tokenizer: Any = ByteTokenizer()
    write_shards(splits, tokenizer, to, ShardsConfig(tokens_per_shard=30_007, workers=1), source={})
    return bins(to)


def bins(to: Path) -> dict[str, str]:
    return {name: record.sha256 for name, record in read_manifest(to).files.items() if name.endswith(".bin")}


def keeps(text: str) -> bool:
    return text[0] not in "abcdef"


def test_blocks_carry_filters_of_others_between_them_under_their_name(folder: Path, tmp_path: Path) -> None:
    from datatrove.pipeline.filters import LambdaFilter

    from folio.shards.machines.blocks import PartsMerger, pipeline

    plain = planned(folder, tmp_path / "s")
    writing = plain.with_between("first letter from g on")
    set_up(writing)
    blocks = pipeline(writing, "encode", [LambdaFilter(lambda document: keeps(document.text))])
    with pytest.raises(ConfigError, match="Name what they do"):
        pipeline(plain, "encode", blocks[1:2])

    def run(blocks: list[Any], rank: int) -> int:
        data = None
        for block in blocks:
            data = block(data, rank, 3)
        return sum(1 for _ in data or ())

    read = [run(blocks, rank) for rank in (0, 1)]
    with pytest.raises(DataError, match="only the pipeline with 'first letter from g on' can do that"):
        run([PartsMerger(writing)], 0)
    read.append(run(blocks, 2))
    assert sum(read) == sum(keeps(words(300, seed % 90)) for seed in range(100)) < 100
    stats = blocks[-1].stats.to_dict()["stats"]
    assert stats["documents"]["total"] == sum(read)
    assert stats["tokens"]["total"] == stats["text_bytes"]["total"] + sum(read)
    run([PartsMerger(writing)], 0)
    assert bins(tmp_path / "s") == filtered(folder, tmp_path / "expected")
    assert read_manifest(tmp_path / "s").config["source"]["between"] == "first letter from g on"
    with pytest.raises(ArtifactError, match="already exists"):
        finish_writing(plain, 1, (), quiet)


def test_parts_of_which_a_filter_leaves_nothing_are_done(folder: Path, tmp_path: Path) -> None:
    from datatrove.pipeline.filters import LambdaFilter

    from folio.shards.machines.blocks import pipeline

    writing = planned(folder, tmp_path / "s").with_between("the last but one part")
    set_up(writing)
    data: Any = None
    for block in pipeline(writing, "encode", [LambdaFilter(lambda document: document.metadata["part"] == 18)]):
        data = block(data, 0, 1)
    assert sum(1 for _ in data) == 5
    records = Journals(writing.folder).look()
    assert sorted(records) == list(range(20))
    assert [number for number, record in records.items() if record.sides] == [18]
    assert all(record.cleaning["kept"] == 5 for record in records.values())


def test_a_block_between_that_changes_the_order_is_refused(folder: Path, tmp_path: Path) -> None:
    from folio.shards.machines.blocks import PartsEncoder, PartsRead, PartsReader

    writing = planned(folder, tmp_path / "s").with_between("reversed")
    set_up(writing)
    read = PartsRead()
    documents = list(PartsReader(writing, read).run())
    with pytest.raises(DataError, match="out of order"):
        list(PartsEncoder(writing, read).run(documents[::-1]))


SBATCH = """#!{python}
import json, pathlib, sys
jobs = pathlib.Path({jobs!r})
number = 100 + len(list(jobs.iterdir()))
(jobs / str(number)).write_text(json.dumps([sys.argv[1:-1], pathlib.Path(sys.argv[-1]).read_text()]))
print("Submitted batch job", number)
"""


def cluster(at: Path, **programs: str) -> Path:
    at.mkdir()
    (at / "jobs").mkdir()
    scripts = {"sbatch": SBATCH.format(python=sys.executable, jobs=str(at / "jobs")), **programs}
    for name, content in scripts.items():
        (at / name).write_text(content)
        (at / name).chmod(0o755)
    return at


def test_slurm_is_given_jobs_that_write_the_same_shards(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The jobs run here by hand: ``srun`` leaves its own options out and runs the command."""
    shell = {"srun": '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do [ "$1" = -n ] && shift; shift; done\nexec "$@"\n'}
    programs = cluster(tmp_path / "bin", **shell, scontrol="#!/bin/sh\necho here\n", squeue="#!/bin/sh\ncat QUEUED")
    (programs / "squeue").write_text(f"#!/bin/sh\ncat {tmp_path}/queued\n")
    (tmp_path / "queued").write_text("")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    engine = EngineConfig(kind="slurm", tasks=2, partition="cpu", account="lab", time="01:00:00", memory_gb=3)
    writing, told = planned(folder, tmp_path / "s"), list[PartsProgress]()
    assert write_with(writing, engine, 0, (), told.append) is None
    assert "folio-encode 100" in told[-1].note
    jobs = {path.name: json.loads(path.read_text()) for path in sorted((programs / "jobs").iterdir())}
    scripts = {number: script for number, (_, script) in jobs.items() if "launch_pickled_pipeline" in script}
    encode, merge = scripts
    for line in (
        "partition=cpu",
        "account=lab",
        "time=01:00:00",
        "mem-per-cpu=3G",
        "array=0-1",
        "job-name=folio-encode",
    ):
        assert f"#SBATCH --{line}" in scripts[encode]
    assert f"--dependency=afterok:{encode}" in jobs[merge][0]
    (tmp_path / "queued").write_text("100\n")
    with pytest.raises(ArtifactError, match=r"1 jobs that write .* are still queued or running: 100"):
        write_with(writing, engine, 0, (), quiet)
    for number, tasks in ((encode, 2), (merge, 1)):
        for task in range(tasks):
            given = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_NODELIST": "here", "SLURM_JOB_ID": number}
            script = ["bash", "-c", scripts[number]]
            done = subprocess.run(script, env={**surroundings(), **given}, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    assert read_manifest(tmp_path / "s").id == one_machine(folder, tmp_path / "one")
    assert not (tmp_path / "s.partial").exists()
    written = write_with(writing, engine, 0, (), quiet)
    assert written is not None
    assert written.counts.cleaning.kept == 100


def test_where_there_is_no_slurm_it_is_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no 'sbatch' here"):
        write_with(planned(folder, tmp_path / "s"), EngineConfig(kind="slurm", partition="cpu"), 0, (), quiet)
    assert not (tmp_path / "s.partial").exists()


def test_what_sbatch_refuses_is_told_in_its_words(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = cluster(tmp_path / "bin")
    (programs / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(ConfigError, match="exit status 1: sbatch: error: invalid partition"):
        write_with(planned(folder, tmp_path / "s"), EngineConfig(kind="slurm", partition="cpu"), 0, (), quiet)


@pytest.mark.slow
def test_ray_writes_what_one_machine_writes(folder: Path, tmp_path: Path) -> None:
    expected = one_machine(folder, tmp_path / "one", None, "near")
    engine = EngineConfig(kind="ray", tasks=2, memory_gb=1)
    written = write_with(planned(folder, tmp_path / "ray", None, "near"), engine, 2, (), quiet)
    assert written is not None
    assert written.shards.manifest.id == expected


def test_with_a_budget_no_more_is_encoded_than_it_is_expected_to_take(folder: Path, tmp_path: Path) -> None:
    from folio.shards.machines.blocks import pipeline

    writing = planned(folder, tmp_path / "s", BUDGET)
    set_up(writing)
    for rank in (0, 1):
        data: Any = None
        for block in pipeline(writing, "encode"):
            data = block(data, rank, 2)
        for _ in data:
            pass
    known = Journals(writing.folder).look()
    wanted = writing.allotment.parts_wanted(known, 20)
    assert set(range(wanted)) <= set(known)
    assert wanted == 7
    assert len(known) <= wanted + 2
    seen: list[PartsProgress] = []
    finish_writing(writing, 1, (), seen.append, alone=False)
    assert seen[-1].parts == len(known)
    assert read_manifest(tmp_path / "s").id == one_machine(folder, tmp_path / "one", BUDGET)


def test_files_of_a_node_that_may_still_encode_are_let_be(folder: Path, tmp_path: Path) -> None:
    writing = planned(folder, tmp_path / "s", BUDGET)
    set_up(writing)
    under_way = writing.folder / "00000017.train.ids.99.unfinished"
    under_way.write_bytes(b"half")
    (writing.folder / "rank-00017.process").write_text("1")
    seen: list[bool] = []
    finish_writing(writing, 1, (), lambda progress: seen.append(under_way.exists()))
    assert seen
    assert all(seen)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "datatrove", "nodes": 2, "node": 2}, "node is 2, and 2 nodes are 0 to 1"),
        ({"nodes": 2}, "nodes is for the kinds datatrove; the kind is local"),
        ({"kind": "ray", "partition": "cpu"}, "partition is for the kinds slurm; the kind is ray"),
        ({"kind": "slurm"}, "needs a partition"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EngineConfig(**given)


def test_nothing_loads_datatrove_before_it_is_needed() -> None:
    modules = (
        "folio.shards, folio.shards.machines.engines, folio.shards.machines.executors, folio.shards.machines.slurm"
    )
    check = f"import sys, {modules}; assert not {{'datatrove', 'ray', 'loguru', 'torch'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_without_datatrove_a_block_says_what_to_install() -> None:
    check = (
        "import sys; sys.modules['datatrove'] = None\n"
        "from folio.errors import MissingExtra\n"
        "from folio.shards.machines.blocks import PartsRead, PartsReader\n"
        "try: PartsReader(None, PartsRead())\n"
        "except MissingExtra as error: print(error)\n"
    )
    answer = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert "this needs the package 'datatrove'" in answer
    assert "folio-lm[data]" in answer


def record(number: int, tokens: int) -> PartRecord:
    sides = {"train": SideRecord(documents=1, tokens=tokens)}
    return PartRecord(number=number, part=str(number), sides=sides, cleaning={}, damaged=0, damaged_rows=0)


def test_a_budget_wants_the_first_parts_that_fill_it() -> None:
    allotment = Allotment(budget=100)
    assert allotment.parts_wanted({}, 50) == 50
    assert Allotment().parts_wanted({0: record(0, 1000)}, 50) == 50
    assert allotment.parts_wanted({number: record(number, 30) for number in range(4)}, 50) == 4
    assert allotment.parts_wanted({number: record(number, 30) for number in range(9)}, 50) == 4
    assert allotment.parts_wanted({7: record(7, 10)}, 50) == 11  # a twentieth more than ten
    assert allotment.parts_wanted({0: record(0, 10), 7: record(7, 1000)}, 50) == 2
    assert allotment.parts_wanted({0: record(0, 0)}, 50) == 50


def test_journals_are_read_on_from_where_they_were_read_to(tmp_path: Path) -> None:
    journals, first, other = Journals(tmp_path), *(PartsJournal(tmp_path / f"journal-{n}.jsonl") for n in (0, 1))
    first.add(record(3, 1))
    assert list(journals.look()) == [3]
    other.add(record(1, 1))
    with open(tmp_path / "journal-0.jsonl", "ab") as file:
        file.write(b'{"number": 5')
    assert sorted(journals.look()) == [1, 3]
    first.close()
    first = PartsJournal(tmp_path / "journal-0.jsonl")
    first.add(record(5, 1))
    assert sorted(journals.look()) == [1, 3, 5]
    first.close()
    other.close()
