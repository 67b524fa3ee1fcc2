"""``folio evaluate contamination`` from files to a table, a folder and JSON; and every mistake in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from folio.artifacts import verify
from folio.checksums import sha256_of
from folio.cli import perform
from folio.corpus.document import Document
from folio.errors import ArtifactError, ConfigError, DataError, Unreachable, UserError
from folio.evaluation.estimates import proportion
from folio.evaluation.results import Measurement, Score, write_evaluation
from folio.shards import ShardsConfig, write_shards
from folio.tokenizer import TokenizerConfig, train_tokenizer
from folio.verbs.evaluate.contamination import ACTION

CONTEXT = "A man with a red hat is standing on a ladder near the old barn. He"
RIGHT = "takes a brush and paints the door in a bright colour."
OTHERS = ["eats", "sings", "sleeps"]
SHORT = 7


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a benchmark of 20 items, of which items 4 and 9 are in the shards, in part and whole."""
    monkeypatch.chdir(tmp_path)
    lines = []
    for number in range(20):
        words = [f"w{number}x{place}" for place in range(2 if number == SHORT else 20)]
        record = {"ind": number, "activity_label": "Work", "ctx": " ".join(words), "label": 1}
        lines.append(record | {"endings": ["eats", RIGHT if number == 9 else "goes", "sings", "sleeps"]})
    lines[9]["ctx"] = CONTEXT
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, lines)))
    texts = [
        "nothing of it " * 50,
        f"so: {' '.join(lines[4]['ctx'].upper().split()[:14])}! and so on",
        f"{CONTEXT.replace(' ', '  ')}, {RIGHT}",
        "the end",
    ]
    tokenizer = train_tokenizer(texts, TokenizerConfig(kind="bpe", vocab_size=300))
    tokenizer.save(tmp_path / "tokenizer")
    write_shards(
        {"train": lambda: (Document(str(n), text, "here") for n, text in enumerate(texts))},
        tokenizer,
        tmp_path / "shards",
        ShardsConfig(tokens_per_shard=100, workers=1),
        source={},
    )
    for number, text in enumerate(texts):
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{number}.txt").write_text(text)
    return tmp_path


ITEMS = ("--tasks", "hellaswag", "--data", "hellaswag=items.jsonl")
SHARDS = ("--shards", "shards", "--tokenizer", "tokenizer", "--workers", "1")


def answer(*args: str) -> dict[str, Any]:
    """What ``--json`` prints, through JSON."""
    given: dict[str, Any] = json.loads(json.dumps(perform(ACTION, list(args), quiet=True), allow_nan=False))
    return given


def evaluated(path: Path, sha256: str) -> None:
    """An evaluation in which the contaminated items are right and every second clean one."""
    items = [{"id": str(n), "acc": int(n in (4, 9) or n % 2)} for n in range(20)]
    estimate = proportion([item["acc"] for item in items])
    score = Score.of(
        estimate,
        task="hellaswag",
        convention="completion",
        metric="acc",
        unit="items",
        better="higher",
        numerator="acc",
    )
    measurement = Measurement("hellaswag.completion", (score,), items, {"sha256": sha256})
    write_evaluation(path, [measurement], {"model": "mine"})


def test_planted_items_are_found_in_shards_and_listed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(*ITEMS, *SHARDS)
    (task,) = found["tasks"]
    assert (task["items"], task["contaminated"], task["clean"], task["too_short"]) == (20, 2, 17, 1)
    assert task["sha256"] == sha256_of(place / "items.jsonl")
    assert (found["n"], found["text"]["documents"], found["text"]["documents_hit"]) == (13, 4, 2)
    assert found["wrote"] == [
        "evaluations/contamination-hellaswag/contamination.json",
        "evaluations/contamination-hellaswag/items/hellaswag.jsonl",
    ]
    written, listed = (place / path for path in found["wrote"])
    kept = json.loads(written.read_text())
    assert {name: found[name] for name in kept} == kept
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [line["id"] for line in lines if line["state"] == "contaminated"] == ["4", "9"]
    assert [line["id"] for line in lines if line["state"] == "too short"] == [str(SHORT)]
    assert (lines[4]["found"], lines[4]["occurrences"], lines[4]["document"]) == (2, 2, 1)
    assert lines[4]["gram"] == " ".join(f"w4x{place}" for place in range(13))
    manifest = verify(place / "evaluations" / "contamination-hellaswag", "contamination")
    assert manifest.parents[0].id == verify(place / "shards", "shards").id
    assert str(place) not in (place / "evaluations/contamination-hellaswag/manifest.json").read_text() + str(kept)
    capsys.readouterr()
    perform(ACTION, [*ITEMS, *SHARDS], quiet=False)
    printed = capsys.readouterr().out
    assert "hellaswag 4: 2 of " in printed
    assert "'w4x0 w4x1 w4x2" in printed


def test_shards_files_and_a_plain_shard_folder_agree(place: Path) -> None:
    def states(*source: str) -> list[tuple[str, str, int]]:
        listed = Path(answer(*ITEMS, *source)["wrote"][1])
        lines = map(json.loads, listed.read_text().splitlines())
        return [(line["id"], line["state"], line["found"]) for line in lines]

    by_shards = states(*SHARDS)
    assert [id for id, state, _ in by_shards if state == "contaminated"] == ["4", "9"]
    assert states("--text", "texts", "--to", "from-files") == by_shards
    assert states(*SHARDS, "--workers", "2") == by_shards
    (place / "shards" / "manifest.json").unlink()
    assert states(*SHARDS) == by_shards


def test_what_is_not_there_is_not_found(place: Path) -> None:
    for name in ("1.txt", "2.txt"):
        (place / "texts" / name).write_text("something else altogether")
    (task,) = answer(*ITEMS, "--text", "texts")["tasks"]
    assert (task["contaminated"], task["grams_found"], task["occurrences"], task["clean"]) == (0, 0, 0, 19)


def test_several_benchmarks_are_looked_for_at_once(place: Path) -> None:
    record = {"goal": CONTEXT.rpartition(" ")[0], "sol1": "Buy a ladder that is long enough", "sol2": "x", "label": 0}
    (place / "piqa.jsonl").write_text(json.dumps(record))
    found = answer(
        "--tasks", "hellaswag,piqa", "--data", "hellaswag=items.jsonl", "piqa=piqa.jsonl", *SHARDS, "--to", "two"
    )
    assert [(task["task"], task["items"], task["contaminated"]) for task in found["tasks"]] == [
        ("hellaswag", 20, 2),
        ("piqa", 1, 1),
    ]
    assert found["text"]["documents_hit"] == 2
    (line,) = map(json.loads, (place / "two/items/piqa.jsonl").read_text().splitlines())
    assert (line["document"], line["gram"]) == (2, "a man with a red hat is standing on a ladder near the")
    one = answer("--tasks", "hellaswag", "--data", "items.jsonl", *SHARDS)["tasks"][0]
    assert one == found["tasks"][0]


def test_n_the_least_words_and_the_answers_are_the_users(place: Path) -> None:
    (task,) = answer(*ITEMS, *SHARDS, "--n", "15")["tasks"]
    assert task["contaminated"] == 1  # of item 4 fourteen words are there
    (task,) = answer(*ITEMS, *SHARDS, "--min-words", "3")["tasks"]
    assert task["too_short"] == 0
    (task,) = answer(*ITEMS, *SHARDS, "--answers", "none", "--n", "17", "--min-words", "17")["tasks"]
    assert (task["contaminated"], task["too_short"]) == (0, 1)
    right = answer(*ITEMS, *SHARDS)["tasks"][0]["grams"]
    assert answer(*ITEMS, *SHARDS, "--answers", "all")["tasks"][0]["grams"] > right


def test_scores_with_and_without_the_items_found(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(place / "scored", sha256_of(place / "items.jsonl"))
    (score,) = answer(*ITEMS, *SHARDS, "--scores", "scored")["scores"]
    clean = proportion([n % 2 for n in range(20) if n not in (4, 9, SHORT)])
    assert (score["clean"]["value"], score["clean"]["n"]) == (pytest.approx(clean.value), 17)
    assert (score["contaminated"]["value"], score["contaminated"]["n"]) == (1.0, 2)
    assert score["difference"]["value"] == pytest.approx(1 - clean.value)
    assert score["difference"]["low"] < score["difference"]["value"] < score["difference"]["high"]
    perform(ACTION, [*ITEMS, *SHARDS, "--scores", "scored"], quiet=False)
    assert "contaminated - clean" in capsys.readouterr().out


def test_scores_of_another_file_are_refused_before_the_search(place: Path) -> None:
    evaluated(place / "scored", "0" * 64)
    with pytest.raises(ArtifactError, match=r"measured hellaswag\.completion on another file"):
        answer(*ITEMS, *SHARDS, "--scores", "scored")
    assert not (place / "evaluations").exists()


@pytest.mark.parametrize(
    ("args", "kind", "problem"),
    [
        ([*ITEMS, *SHARDS, "--n", "0"], ConfigError, "--n"),
        ([*ITEMS, *SHARDS, "--min-words", "0"], ConfigError, "--min-words"),
        ([*ITEMS], ConfigError, "--shards, --corpus or --text"),
        ([*ITEMS, *SHARDS, "--text", "texts"], ConfigError, "--shards, --corpus or --text"),
        ([*ITEMS, "--text", "texts", "--tokenizer", "tokenizer"], ConfigError, "--tokenizer belongs to --shards"),
        ([*ITEMS, "--text", "texts", "--split", "train"], ConfigError, "--split is that of shards or of a corpus"),
        (["--tasks", "hellaswag", "--data", "items.jsonl", "items.jsonl", *SHARDS], ConfigError, "two files"),
        ([*ITEMS, "--shards", "shards"], ArtifactError, "were made by a tokenizer of kind bpe"),
        ([*ITEMS, "--shards", "nowhere"], ArtifactError, "'nowhere' does not exist"),
        ([*ITEMS, "--shards", "texts"], ArtifactError, "is not a shards folder"),
        ([*ITEMS, *SHARDS, "--split", "val"], DataError, "no split 'val'"),
        ([*ITEMS, "--corpus", "shakespear"], ConfigError, "shakespear"),
        ([*ITEMS, "--text", "nowhere.txt"], UserError, "nowhere.txt"),
        (["--tasks", "helaswag", *SHARDS], ConfigError, "there is no task 'helaswag'"),
        (["--tasks", "hellaswag,hellaswag", *ITEMS[2:], *SHARDS], ConfigError, "twice"),
        (["--tasks", "hellaswag,piqa", "--data", "items.jsonl", *SHARDS], ConfigError, "does not say whose file"),
        (["--tasks", "hellaswag", "--data", "piqa=items.jsonl", *SHARDS], DataError, "'piqa=items.jsonl'"),
        (["--tasks", ",", *SHARDS], ConfigError, "no benchmark"),
        (["--tasks", "piqa", "--data", "piqa=items.jsonl", *SHARDS], DataError, "items.jsonl', line 1"),
        (["--tasks", "hellaswag", "--data", "hellaswag=no.jsonl", *SHARDS], DataError, "'no.jsonl'"),
        ([*ITEMS, *SHARDS, "--to", "texts"], ArtifactError, "holds something else"),
        ([*ITEMS, *SHARDS, "--scores", "texts"], ArtifactError, "is not an evaluation folder"),
        (SHARDS, ConfigError, "--tasks"),
    ],
)
def test_mistakes_are_one_line(args: list[str], kind: type[UserError], problem: str, place: Path) -> None:
    with pytest.raises(kind) as told:
        answer(*args)
    assert problem in told.value.problem
    assert "\n" not in told.value.problem.strip() or kind is ConfigError
    assert not (place / "evaluations").exists()


def test_shards_of_another_tokenizer_and_damaged_ones_are_refused(place: Path) -> None:
    train_tokenizer(["abc"], TokenizerConfig(kind="char")).save(place / "other")
    with pytest.raises(ArtifactError, match="made by another tokenizer"):
        answer(*ITEMS, "--shards", "shards", "--tokenizer", "other")
    file = place / "shards" / "train_000001.bin"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"train_000001.bin' is damaged"):
        answer(*ITEMS, *SHARDS)


def test_plain_shards_without_a_tokenizer_are_refused(place: Path) -> None:
    (place / "shards" / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="do not say which tokenizer"):
        answer(*ITEMS, "--shards", "shards")


def test_items_that_are_all_too_short_are_refused(place: Path) -> None:
    record = {"ind": 0, "activity_label": "a", "ctx": "他走了，然后", "label": 0, "endings": ["停", "坐", "跑", "看"]}
    (place / "items.jsonl").write_text(json.dumps(record))
    with pytest.raises(DataError, match="none of the 1 items has 8 words"):
        answer(*ITEMS, *SHARDS)


def test_a_benchmark_that_is_nowhere_is_told_with_what_to_do(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLIO_CACHE", str(place / "cache"))
    with pytest.raises(Unreachable) as told:
        answer("--tasks", "winogrande", *SHARDS)
    assert "--data winogrande=FILE" in told.value.remedy


def test_real_items_are_found_in_a_real_play_only_if_planted(
    shared_data: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    items = shared_data("hellaswag_val_0-4999.jsonl")
    play = shared_data("tinyshakespeare.txt").read_text()
    record = json.loads(items.read_text().splitlines()[4321])
    middle = play.index("\n", len(play) // 2)
    planted = f"{play[:middle]}\n{record['ctx']} {record['endings'][record['label']]}{play[middle:]}"
    (tmp_path / "play.txt").write_text(play)
    (tmp_path / "planted.txt").write_text(planted)
    args = ("--tasks", "hellaswag", "--data", f"hellaswag={items}", "--workers", "1")
    (clean,) = answer(*args, "--text", "play.txt", "--to", "clean")["tasks"]
    assert (clean["items"], clean["contaminated"]) == (5000, 0)
    answer(*args, "--text", "planted.txt", "--to", "found")
    lines = [json.loads(line) for line in (tmp_path / "found/items/hellaswag.jsonl").read_text().splitlines()]
    found = [line for line in lines if line["found"]]
    assert str(record["ind"]) in [line["id"] for line in found]
    assert len(found) < 4  # those that share the context among them
    whole = next(line for line in found if line["id"] == str(record["ind"]))
    assert whole["found"] == whole["grams"] > 0
    assert middle <= whole["offset"] <= middle + 2
