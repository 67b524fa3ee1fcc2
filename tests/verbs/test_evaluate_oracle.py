"""``folio evaluate oracle``: char, word and BPE models write, a trained oracle judges, and everything is on disk."""

from __future__ import annotations

import json
import random
import re
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oracle_runs import made_up_play, save_random, train

import folio
from folio.artifacts import read_manifest
from folio.cli import main
from folio.errors import UserError
from folio.evaluation.oracle.judge import FolioJudge, judged
from folio.evaluation.oracle.prompts import sample_seed
from folio.evaluation.oracle.scores import bootstrapped, difference, prompt_means
from folio.evaluation.results import read_evaluation
from folio.verbs.evaluate import continuing
from folio.verbs.evaluate.oracle_scores import places

PROMPTS = ("--prompts", "6", "--samples", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``runs/char``, ``runs/word``, ``runs/bpe`` and the oracle ``runs/judge``, all of one play."""
    folder = tmp_path_factory.mktemp("oracle")
    text = folder / "play.txt"
    text.write_text(made_up_play(0, 600))
    for kind in ("char", "word", "bpe"):
        train(folder / "runs" / kind, text, kind, 15)
    train(folder / "runs" / "judge", text, "bpe", 60)
    return folder


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with those runs in it."""
    (tmp_path / "runs").symlink_to(home / "runs")
    shutil.copy(home / "play.txt", tmp_path / "play.txt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer_of(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert main(["evaluate", "oracle", *arguments, "--json"]) == code
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path, "items", "oracle.jsonl").read_text().splitlines()]


def test_every_kind_of_model_is_judged_on_the_same_prompts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ("runs/char", "runs/word", "runs/bpe")
    answer = answer_of(capsys, *models, "--oracle", "runs/judge", *PROMPTS, "--reference")
    home = Path("evaluations/oracle-judge")
    assert answer["wrote"] == [str(home / name) for name in ("prompts.jsonl", "char", "word", "bpe", "reference")]
    prompts = [json.loads(line) for line in (home / "prompts.jsonl").read_text().splitlines()]
    assert len({prompt["text"] for prompt in prompts}) == 6
    held_out = Path("play.txt").read_text()
    held_out = held_out[int(len(held_out) * 0.9) :]
    assert all(prompt["text"] in held_out for prompt in prompts)
    assert [row["model"] for row in answer["models"]] == [*models, "reference"]
    for row, path in zip(answer["models"], answer["wrote"][1:], strict=True):
        found = read_evaluation(Path(path)).measurements["oracle"]
        without = {*found.facts["prompts_without_score"]}
        assert [item["id"] for item in found.items] == [p["id"] for p in prompts if p["id"] not in without]
        by_hand = bootstrapped([item["log_probability"] for item in found.items])
        assert (row["score"]["value"], row["score"]["low"]) == (
            pytest.approx(by_hand.value),
            pytest.approx(by_hand.low),
        )
        assert found.score("log_probability").as_dict() == row["score"]
    zs = [row["z"]["value"] for row in answer["models"][:3]]
    assert sum(zs) == pytest.approx(0, abs=1e-9)
    assert answer["models"][3]["z"] is None
    assert len(answer["differences"]) == 6
    parents = [(parent.kind, parent.id) for parent in read_manifest(home / "char").parents]
    checkpoints = [next(Path("runs", name, "checkpoints").iterdir()) for name in ("char", "judge")]
    assert parents == [("checkpoint", read_manifest(checkpoint).id) for checkpoint in checkpoints]
    assert str(here) not in (home / "char" / "manifest.json").read_text()


def test_lines_hold_what_the_model_wrote_and_what_the_oracle_makes_of_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = answer_of(capsys, "runs/word", "--oracle", "runs/judge", *PROMPTS, "--seed", "5", "--ratio", "1.5")
    model, judge = folio.load("runs/word", device="cpu"), folio.load("runs/judge", device="cpu")
    for item in lines(answer["wrote"][1]):
        length = round(1.5 * len(model.tokenizer.encode(item["prompt"])))
        for number, sample in enumerate(item["samples"]):
            assert sample["seed"] == sample_seed(5, item["id"], number)
            text = model.generate(item["prompt"], max_new_tokens=length, temperature=1.0, seed=sample["seed"])
            assert sample["text"] == text
            assert sample["tokens"] <= length
            assert sample["oracle_tokens"] == len(judge.tokenizer.encode(sample["text"]))
            if sample["text"]:
                alone = judge.score(item["prompt"], sample["text"])
                assert sample["log_likelihood"] == pytest.approx(alone, rel=1e-5)
        means = [s["log_likelihood"] / s["oracle_tokens"] for s in item["samples"] if s["text"]]
        assert item["log_probability"] == pytest.approx(sum(means) / len(means))


def test_a_model_writes_the_same_whoever_else_is_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = answer_of(capsys, "runs/bpe", "--oracle", "runs/judge", *PROMPTS, "--to", "alone")
    among = answer_of(capsys, "runs/char", "runs/bpe", "--oracle", "runs/judge", *PROMPTS, "--to", "among")
    assert alone["wrote"][1] == "alone/bpe"
    assert [[sample["text"] for sample in item["samples"]] for item in lines("alone/bpe")] == [
        [sample["text"] for sample in item["samples"]] for item in lines("among/bpe")
    ]
    assert alone["models"][0]["score"]["value"] == pytest.approx(among["models"][1]["score"]["value"], rel=1e-6)


def test_the_terminal_shows_scores_differences_and_counts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = ("--text", "play.txt", "--tail", "0.2", "--max-words", "12")
    assert main(["evaluate", "oracle", "runs/char", "runs/word", "--oracle", "runs/judge", *PROMPTS, *text]) == 0
    out = capsys.readouterr().out
    assert "prompts  6 of 120 passages of play.txt (the last 0.2 of its lines)" in out
    assert "of more than 12 words" in out
    assert "runs/word - runs/char" in out
    assert "2 samples a prompt, temperature 1, 3 times the prompt's tokens, seed 0" in out
    assert "folio compare evaluations/oracle-judge/char evaluations/oracle-judge/word" in out


def test_better_text_is_ranked_above_worse_by_an_oracle_of_a_few_seconds(
    tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    whole = shared_data("tinyshakespeare.txt").read_text(encoding="utf-8")
    text = tmp_path / "plays.txt"
    text.write_text(whole[:200_000])
    model = folio.load(train(tmp_path / "judge", text, "char", 150, n_embd=48), device="cpu")
    draw = random.Random(0)
    letters = sorted(set(whole[:180_000]))
    held_out = [
        text for text in whole[200_000:400_000].split("\n\n")[1:-1] if len(text) > 120 and set(text) <= {*letters}
    ]
    prompts = [passage[:60] for passage in held_out[:30]]
    planted = []
    for passage in held_out[:30]:
        real = passage[60:160]
        misspelt = re.sub(r"\w+", lambda word: "".join(draw.sample(word[0], len(word[0]))), real)
        planted.append([real, misspelt, "".join(draw.choices(letters, k=100))])
    rows = judged(FolioJudge(model.tokenizer, lambda: model.gpt), prompts, planted)
    real, misspelt, noise = (prompt_means([[row[i]] for row in rows]) for i in range(3))
    for worse, better in ((misspelt, real), (noise, misspelt)):
        gap = difference(worse, better)
        assert gap is not None
        assert gap.low > 0.1


def test_silence_has_no_score_and_is_counted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_random(here / "silent", Path("play.txt").read_text(), silent=True)
    answer = answer_of(capsys, "silent", "runs/char", "--oracle", "runs/judge", *PROMPTS)
    silent, char = answer["models"]
    assert (silent["score"], char["z"]) == (None, None)
    assert char["score"]["n"] >= 4, "a model of a few steps may end a text at once now and then"
    assert (silent["facts"]["continuations"], silent["facts"]["empty"], silent["facts"]["ended_early"]) == (12, 12, 12)
    assert (silent["z"], answer["differences"]) == (None, [])
    assert answer["wrote"] == [f"evaluations/oracle-judge/{name}" for name in ("prompts.jsonl", "char")]
    three = answer_of(capsys, "silent", "runs/char", "runs/bpe", "--oracle", "runs/judge", *PROMPTS)["models"]
    assert three[1]["z"]["value"] == pytest.approx(-three[2]["z"]["value"]), (
        "a silent model takes no part, and stands in no one's way"
    )
    failure = answer_of(capsys, "silent", "--oracle", "runs/judge", "--text", "play.txt", *PROMPTS, code=2)
    assert "no continuation of 'silent' has a score" in failure["error"]


def test_what_one_model_cannot_encode_is_a_prompt_of_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_random(here / "few", Path("play.txt").read_text().replace("C", "").replace("5", ""))
    answer = answer_of(capsys, "runs/bpe", "few", "--oracle", "runs/judge", *PROMPTS)
    texts = [json.loads(line)["text"] for line in Path(answer["wrote"][0]).read_text().splitlines()]
    assert len(texts) == 6
    assert not any({"C", "5"} & set(text) for text in texts)
    assert answer["prompts"]["left_out"]["that 'few' cannot encode"] > 0
    save_random(here / "none", "xyz")
    failure = answer_of(capsys, "runs/bpe", "none", "--oracle", "runs/judge", *PROMPTS, code=2)
    assert "gives 0 prompts" in failure["error"]
    assert "that 'none' cannot encode" in failure["error"]


def test_prompts_fit_every_context(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_random(here / "narrow", Path("play.txt").read_text(), block_size=50)
    answer = answer_of(capsys, "runs/bpe", "narrow", "--oracle", "runs/judge", *PROMPTS)
    assert all(len(item["prompt"]) <= 50 for item in lines(answer["wrote"][1]))
    assert answer["prompts"]["left_out"]["longer than the context of 'narrow' (50 tokens)"] > 0


def test_an_oracle_of_another_kind_judges_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = folio.load_tokenizer("runs/bpe")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.GPTNeoXConfig(vocab_size=tokenizer.vocab_size, max_position_embeddings=128, **shape)
    transformers.GPTNeoXForCausalLM(config).save_pretrained("neox")
    tokenizer.save_into(here / "neox")
    answer = answer_of(capsys, "runs/char", "--oracle", "neox", *PROMPTS)
    assert answer["models"][0]["score"]["n"] >= 4
    Path("neox", "model.safetensors").unlink()
    assert "no safetensors" in answer_of(capsys, "runs/char", "--oracle", "neox", *PROMPTS, code=2)["error"]


def test_a_damaged_oracle_of_ours_is_not_opened_another_way(
    here: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(Path("runs/judge"), "damaged")
    path = next(Path("damaged").rglob("model/tokenizer.json"))
    path.write_text(path.read_text() + " ")
    assert "tokenizer.json" in answer_of(capsys, "runs/char", "--oracle", "damaged", *PROMPTS, code=2)["error"]
    assert not Path("evaluations").exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("runs/char", "--ratio", "0"), "--ratio"),
        (("runs/char", "runs/char"), "named twice"),
        (("runs/char", "--tail", "0.1"), "--tail cuts a --text"),
        (("runs/char", "--text", "play.txt", "--corpus", "shakespeare"), "two ways"),
        (("runs/char", "--prompts", "4000"), "4,000 were asked for"),
        (("runs/absent",), "does not exist"),
        ((), "MODELS is required"),
        (("runs/char", "--oracle", "runs/absent"), "does not exist"),
        (("runs/char", "--oracle", "no-such-organization/no-such-model"), "hub cannot be reached"),
        (("runs/char", "--to", "."), "holds something else"),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_writes(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], error: str
) -> None:
    (here / "char").mkdir()
    (here / "char" / "notes.txt").touch()
    oracle = () if "--oracle" in arguments else ("--oracle", "runs/judge")
    assert error in answer_of(capsys, *arguments, *oracle, code=2)["error"]
    assert not Path("evaluations").exists()


def test_a_model_without_a_run_needs_a_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("play.txt").read_text()
    save_random(here / "loose", text)
    arguments = ("loose", "--oracle", "runs/judge", *PROMPTS)
    assert "not in a run" in answer_of(capsys, *arguments, code=2)["error"]
    assert answer_of(capsys, *arguments, "--text", "play.txt")["prompts"]["text"] == "play.txt (all of it)"
    (here / "loose" / "tokenizer.json").unlink()
    assert "tokenizer" in answer_of(capsys, *arguments, "--text", "play.txt", code=2)["error"]


def test_runs_that_held_out_different_text_are_asked_which(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "other.txt").write_text(made_up_play(1, 200))
    train(here / "other", here / "other.txt", "char", 2)
    failure = answer_of(capsys, "runs/char", "other", "--oracle", "runs/judge", *PROMPTS, code=2)
    assert "were trained on different text" in failure["error"]


def test_models_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    found = places(tmp_path, ["x/model", "y/model", "organization/name"])
    assert [path.relative_to(tmp_path).as_posix() for path in found.values()] == ["model-1", "model-2", "name"]
    own = places(tmp_path, ["x/prompts.jsonl", "continuations", "p/base", "q/base", "r/base-1"])
    assert [path.name for path in own.values()] == [
        "prompts.jsonl-1", "continuations-1", "base-2", "base-3", "base-1",
    ]  # fmt: skip


def test_scores_by_two_oracles_are_not_compared_and_those_by_one_under_two_names_are(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "again").symlink_to(here / "runs" / "judge")
    shutil.copytree(here / "runs" / "bpe", here / "elsewhere" / "judge")
    for to, judge, model, more in (
        ("a", "runs/judge", "runs/char", ()),
        ("same", "again", "runs/bpe", ()),
        ("b", "elsewhere/judge", "runs/bpe", ()),
        ("colder", "runs/judge", "runs/bpe", ("--temperature", "0.5")),
        ("shorter", "runs/judge", "runs/bpe", ("--ratio", "2")),
        ("drawn", "runs/judge", "runs/bpe", ("--seed", "9")),
        ("more", "runs/judge", "runs/bpe", ("--samples", "3")),
        ("rounded", "runs/judge", "runs/bpe", ("--oracle-dtype", "bf16")),
    ):
        answer_of(capsys, model, "--oracle", judge, *PROMPTS, "--to", to, *more)

    def compared(other: str) -> int:
        return main(["compare", "a/char", f"{other}/bpe", "--to", "page.html"])

    assert compared("same") == 0
    capsys.readouterr()
    for other, words in (
        ("b", "differ in the oracle (other weights"),
        ("colder", "how continuations were drawn"),
        ("shorter", "length of continuations"),
        ("drawn", "how prompts were drawn"),
        ("more", "number of continuations"),
        ("rounded", "dtype of the oracle"),
    ):
        assert compared(other) == 2
        assert words in capsys.readouterr().err


def test_z_scores_of_every_prompt_are_kept(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ("runs/char", "runs/word", "runs/bpe")
    answer = answer_of(capsys, *models, "--oracle", "runs/judge", *PROMPTS, "--reference", "--to", "out")
    rows = [json.loads(line) for line in Path("out/z_scores.jsonl").read_text().splitlines()]
    scores = [
        {item["id"]: item["log_probability"] for item in lines(f"out/{name}")} for name in ("char", "word", "bpe")
    ]
    assert [row["id"] for row in rows] == [key for key in scores[0] if key in scores[1] and key in scores[2]]
    for row in rows:
        by_hand = [score[row["id"]] for score in scores]
        middle, spread = statistics.mean(by_hand), statistics.pstdev(by_hand)
        assert list(row["z"]) == ["char", "word", "bpe"]
        assert list(row["z"].values()) == pytest.approx([(one - middle) / spread for one in by_hand])
    means = [statistics.mean(row["z"][name] for row in rows) for name in ("char", "word", "bpe")]
    assert means == pytest.approx([row["z"]["value"] for row in answer["models"][:3]])


def test_a_file_in_the_place_of_the_folder_is_refused_before_a_model_writes(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("folio.verbs.evaluate.continuing.continued", lambda *_, **__: pytest.fail("written"))
    Path("notes.txt").write_text("mine")
    for to in ("notes.txt", "notes.txt/deeper"):
        arguments = ("runs/char", "--oracle", "runs/judge", *PROMPTS, "--to", to)
        assert "'notes.txt' is a file" in answer_of(capsys, *arguments, code=2)["error"]
    assert Path("notes.txt").read_text() == "mine"


def test_an_oracle_whose_weights_cannot_be_read_fails_before_a_model_writes(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("folio.verbs.evaluate.continuing.continued", lambda *_, **__: pytest.fail("written"))
    shutil.copytree(Path("runs/judge"), "damaged")
    path = next(Path("damaged").rglob("model.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "damaged" in answer_of(capsys, "runs/char", "--oracle", "damaged", *PROMPTS, code=2)["error"]


def test_what_a_model_wrote_is_kept_at_once_and_not_written_again(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("runs/char", "runs/bpe", "--oracle", "runs/judge", *PROMPTS, "--to", "out")
    real, wrote = continuing.continued, []

    def counted(writer: Any, *given: Any, **named: Any) -> Any:
        wrote.append(writer.name)
        if len(wrote) == 2:
            raise UserError("stopped while the second writes")
        return real(writer, *given, **named)

    monkeypatch.setattr(continuing, "continued", counted)
    answer_of(capsys, *arguments, code=2)
    assert [path.name for path in Path("out/continuations").iterdir()] == ["char.jsonl"]
    resumed = answer_of(capsys, *arguments)
    assert wrote == ["runs/char", "runs/bpe", "runs/bpe"]
    monkeypatch.setattr(continuing, "continued", real)
    fresh = answer_of(capsys, *arguments[:-1], "fresh")
    assert resumed["models"] == fresh["models"]
    assert lines("out/char") == lines("fresh/char")
    wrote.clear()
    wrote += ["", ""]
    monkeypatch.setattr(continuing, "continued", counted)
    answer_of(capsys, *arguments, "--temperature", "0.7")
    assert wrote[2:] == ["runs/char", "runs/bpe"], "other settings, other text"
    Path("out/continuations/char.jsonl").write_text("no json")
    answer_of(capsys, *arguments, "--temperature", "0.7")
    assert wrote[4:] == ["runs/char"]
