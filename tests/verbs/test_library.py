"""The Python twin: open, ask, write, score, save; and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import folio
from folio.artifacts import verify
from folio.errors import ArtifactError, ConfigError, DataError, Unreachable
from folio.model.config import GPTConfig
from folio.model.folder import load_model, save_model
from folio.model.gpt import GPT
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from folio.verbs.library import Model, as_dtype

TEXT = "To be, or not to be, that is the question: " * 6


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], TokenizerConfig(kind="bpe", vocab_size=270))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    path = tmp_path_factory.mktemp("library") / "model"
    path.mkdir()
    shape = GPTConfig(vocab_size=tokenizer.vocab_size, block_size=16, n_layer=2, n_head=2, n_embd=32)
    model = GPT(shape).initialize(0)
    with torch.no_grad():
        model.embed.weight[: tokenizer.vocab_size].mul_(10)
    save_model(model, path, eos_id=tokenizer.eot_id, tokenizer_files=tokenizer.save_into)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return folio.load(folder, device="cpu")


def test_ids_give_logits_over_the_true_vocabulary(model: Model, folder: Path) -> None:
    ids = torch.randint(0, 260, (2, 9), generator=torch.Generator().manual_seed(0))
    logits = model(ids)
    assert logits.shape == (2, 9, model.tokenizer.vocab_size)
    assert logits.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(logits, load_model(folder)(ids))
    assert torch.equal(model(ids.tolist()), logits)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bf16", 0.05), (torch.bfloat16, 0.05), ("int8", 0.05)])
def test_other_dtypes_give_comparable_logits(
    model: Model, folder: Path, dtype: str | torch.dtype, tolerance: float
) -> None:
    ids = torch.arange(12)[None]
    logits = folio.load(folder, dtype=dtype, device="cpu")(ids)
    assert logits.dtype == torch.float32
    assert (logits - model(ids)).std() < tolerance * model(ids).std()


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_every_dtype_writes_and_scores(model: Model, folder: Path, dtype: str) -> None:
    other = folio.load(folder, dtype=dtype, device="cpu")  # type: ignore[arg-type]
    assert other.generate("To be", max_new_tokens=20, temperature=1.0, seed=1)
    assert other.score("To be", ", or not") == pytest.approx(model.score("To be", ", or not"), rel=0.02)


def test_generate_is_the_stream_and_repeats_with_its_seed(model: Model) -> None:
    settings = {"max_new_tokens": 30, "temperature": 1.0, "top_k": 50, "seed": 3}
    text = model.generate("To be", **settings)
    assert text
    assert text == model.generate("To be", **settings)
    assert "".join(model.stream("To be", **settings)) == text
    assert text != model.generate("To be", **{**settings, "seed": 4})


def test_score_is_the_sum_of_log_probabilities_of_the_continuation(model: Model) -> None:
    prompt, continuation = "To be", ", or not"
    ids = model.tokenizer.encode(prompt) + model.tokenizer.encode(continuation)
    log_p = model(torch.tensor([ids]))[0].log_softmax(-1)
    start = len(model.tokenizer.encode(prompt))
    expected = sum(float(log_p[i - 1, ids[i]]) for i in range(start, len(ids)))
    assert math.isclose(model.score(prompt, continuation), expected, rel_tol=1e-5)
    assert model.score(prompt, "") == 0.0
    assert model.score("", prompt) < 0


def test_score_beyond_the_context_counts_every_id_once(model: Model) -> None:
    ids = model.tokenizer.encode(TEXT)
    assert len(ids) > 3 * 16
    whole = model.tokenizer.encode("T") + ids
    expected, start = 0.0, 1
    while start < len(whole):  # the same windows, one forward pass each, written plainly
        stop = min(len(whole), 17 if start == 1 else start + 8)
        log_p = model([whole[max(0, stop - 17) : stop - 1]])[0].log_softmax(-1)
        expected += sum(float(log_p[i - stop, whole[i]]) for i in range(start, stop))
        start = stop
    assert math.isclose(model.score("T", TEXT), expected, rel_tol=1e-5)


def test_a_saved_model_opens_with_the_same_logits(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "copy")
    again = folio.load(tmp_path / "copy", device="cpu")
    ids = torch.arange(10)[None]
    assert torch.equal(again(ids), model(ids))
    assert again.tokenizer.fingerprint == model.tokenizer.fingerprint
    assert verify(tmp_path / "copy", "model")
    model.save(tmp_path / "copy")  # its own kind may be replaced


def test_transformers_opens_a_saved_model(model: Model, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model.save(tmp_path / "copy")
    ids = torch.arange(10)[None]
    with torch.no_grad():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "copy")(ids).logits
    torch.testing.assert_close(theirs, model(ids), atol=1e-5, rtol=1e-5)


def test_save_refuses_a_folder_that_holds_something_else(model: Model, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="holds something else"):
        model.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_int8_is_not_saved(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="int8"):
        folio.load(folder, dtype="int8", device="cpu").save(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8"])
def test_as_dtype_is_a_copy_that_computes_the_same(model: Model, dtype: str) -> None:
    ids = torch.arange(10)[None]
    with torch.no_grad():
        logits = as_dtype(model.gpt, dtype)(ids).float()
    assert (logits - model(ids)).std() < 0.05 * model(ids).std()
    assert model.gpt.embed.weight.dtype == torch.float32


def test_load_tokenizer_takes_any_folder_that_has_one(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "model").symlink_to(folder)
    for path in (folder, tmp_path / "tokenizer", str(tmp_path / "checkpoint")):
        assert folio.load_tokenizer(path).fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m: m.generate("t", temprature=1), ConfigError, "temperature"),
        (lambda m: m.generate("t", top_k=0), ConfigError, "top_k"),
        (lambda m: m(torch.arange(5)), ValueError, "shape"),
        (lambda m: m([[270]]), ValueError, "270"),
        (lambda m: folio.load(m.folder, dtype="in8"), ConfigError, "int8"),
        (lambda m: folio.load(m.folder, dtype=torch.int8), ConfigError, "torch.int8"),
        (lambda m: folio.load(m.folder, device="quantum"), ConfigError, "quantum"),
        (lambda m: folio.load(m.folder / "absent"), ArtifactError, "absent"),
        (lambda m: folio.load("no-such-organization/no-such-model"), Unreachable, "no-such-model"),
    ],
)
def test_what_cannot_be_is_refused(model: Model, call: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        call(model)  # type: ignore[operator]
    assert "\n\n" not in str(caught.value)


def test_a_path_below_an_existing_folder_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    with pytest.raises(ArtifactError, match="does not exist"):
        folio.load("runs/demo")


def test_a_missing_character_is_refused_by_name(tmp_path: Path) -> None:
    characters = train_tokenizer(["abc"], TokenizerConfig(kind="char"))
    gpt = GPT(GPTConfig(vocab_size=characters.vocab_size, block_size=8, n_layer=1, n_head=1, n_embd=8)).initialize(0)
    with pytest.raises(DataError, match="z"):
        Model(gpt, tmp_path, characters).generate("az")
