"""Folders: what is saved comes back the same, what others wrote is honoured or refused by name, damage is one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from play import PLAY
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from folio.artifacts import read_manifest
from folio.errors import ArtifactError
from folio.tokenizer import Tokenizer, TokenizerConfig, load_tokenizer, train_tokenizer

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
TEXT = "We KNOW'T 12345 --(e\u0301)\r\n\n  \t'tis 日本 🙂<|tool|> x<|end|>y"


def pretokenizer(pattern: str, behavior: str = "isolated", invert: bool = False) -> Any:
    split = pre_tokenizers.Split(Regex(pattern), behavior=behavior, invert=invert)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def others_folder(folder: Path, pre: Any, normalizer: Any = None, **model: Any) -> Path:
    """A tokenizer as other projects write it: trained and saved by ``tokenizers``, a special token and a plain one."""
    backend = Backend(models.BPE(**model))
    backend.pre_tokenizer, backend.decoder = pre, decoders.ByteLevel()
    if normalizer is not None:
        backend.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        [PLAY] * 3, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    )
    backend.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    backend.add_tokens([AddedToken("<|tool|>", special=False, normalized=False)])
    folder.mkdir(parents=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": {"content": "<|end|>"}, "chat_template": "x"})
    )
    return folder


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    change(spec)
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    return folder


def test_a_saved_tokenizer_comes_back_the_same(every_kind: list[Tokenizer], tmp_path: Path) -> None:
    for tokenizer in every_kind:
        tokenizer.save(tmp_path / tokenizer.kind)
        again = load_tokenizer(tmp_path / tokenizer.kind)
        assert (again.kind, again.fingerprint, again.eot_id) == (
            tokenizer.kind,
            tokenizer.fingerprint,
            tokenizer.eot_id,
        )
        assert again.encode(PLAY) == tokenizer.encode(PLAY)
        assert again.decode(again.encode(PLAY)) == tokenizer.decode(tokenizer.encode(PLAY))


def test_its_manifest_says_what_it_is(bpe: Tokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path / "bpe")
    manifest = read_manifest(tmp_path / "bpe", "tokenizer")
    assert manifest.config == {"kind": "bpe", "vocab_size": 340, "fingerprint": bpe.fingerprint}
    assert set(manifest.files) == {"tokenizer.json", "tokenizer_config.json"}


def test_fingerprints_tell_tokenizers_apart(every_kind: list[Tokenizer]) -> None:
    others = [train_tokenizer([PLAY], TokenizerConfig(kind="bpe", vocab_size=size)) for size in (300, 301)]
    assert len({tokenizer.fingerprint for tokenizer in [*every_kind, *others]}) == 5


@pytest.mark.parametrize(
    ("pre", "normalizer", "fast"),
    [
        (pre_tokenizers.ByteLevel(add_prefix_space=False), None, True),
        (pretokenizer(LLAMA3), None, True),
        (pretokenizer(QWEN2), normalizers.NFC(), True),
        (pretokenizer(LLAMA3, "removed", True), None, True),
        (pretokenizer(r"\d|\D+"), None, False),
        (pretokenizer(r"\w+"), None, False),
    ],
    ids=["gpt2", "llama3", "qwen2", "removed", "own-pattern", "pattern-with-gaps"],
)
def test_byte_level_bpe_of_others_gives_their_ids(tmp_path: Path, pre: Any, normalizer: Any, fast: bool) -> None:
    folder = others_folder(tmp_path / "theirs", pre, normalizer)
    ours, theirs = load_tokenizer(folder), Backend.from_file(str(folder / "tokenizer.json"))
    assert (ours.tiktoken_encoding is not None) == fast
    assert ours.encode(TEXT, allowed_special=True) == theirs.encode(TEXT, add_special_tokens=False).ids
    theirs.encode_special_tokens = True
    ids = theirs.encode(TEXT, add_special_tokens=False).ids
    assert ours.encode(TEXT) == ours.encode_array(TEXT).tolist() == ids
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)
    assert (ours.vocab_size, ours.eot_id) == (332, 330)


def test_what_others_set_survives_a_save(tmp_path: Path) -> None:
    ours = load_tokenizer(others_folder(tmp_path / "theirs", pretokenizer(LLAMA3)))
    ours.save(tmp_path / "ours")
    assert load_tokenizer(tmp_path / "ours").fingerprint == ours.fingerprint
    assert json.loads((tmp_path / "ours" / "tokenizer_config.json").read_text())["chat_template"] == "x"


def test_merges_that_ranks_do_not_decide_are_followed_exactly(tmp_path: Path) -> None:
    vocabulary = {char: id for id, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {"bc": 256, "abc": 257, "ab": 258}
    backend = Backend(models.BPE(vocabulary, [("b", "c"), ("a", "bc"), ("a", "b")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).tiktoken_encoding is not None
    changed(tmp_path, lambda spec: spec["model"].update(merges=[["a", "b"], ["b", "c"], ["a", "bc"]]))
    ours = load_tokenizer(tmp_path)
    assert ours.tiktoken_encoding is None
    assert ours.encode("abc") == Backend.from_file(str(tmp_path / "tokenizer.json")).encode("abc").ids


def test_transformers_own_gpt2_folder_opens(gpt2: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from folio.corpus import fetch

    vocabulary = fetch("gpt2")
    shutil.copy(vocabulary / "encoder.json", tmp_path / "vocab.json")
    shutil.copy(vocabulary / "vocab.bpe", tmp_path / "merges.txt")
    theirs = transformers.GPT2TokenizerFast.from_pretrained(tmp_path)
    theirs.save_pretrained(tmp_path / "saved")
    ours = load_tokenizer(tmp_path / "saved")
    assert (ours.kind, ours.fingerprint, ours.eot_id) == ("gpt2", gpt2.fingerprint, 50_256)
    assert ours.encode(TEXT) == gpt2.encode(TEXT)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda spec: spec["model"].update(byte_fallback=True), "SentencePiece style"),
        (lambda spec: spec["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix = '</w>'"),
        (lambda spec: spec["model"].update(type="Unigram"), "a Unigram tokenizer"),
        (lambda spec: spec["model"].update(type="WordPiece"), "a WordPiece tokenizer"),
        (lambda spec: spec.update(pre_tokenizer={"type": "Metaspace"}), "splits text by Metaspace"),
        (lambda spec: spec.update(pre_tokenizer=None), "splits text by nothing"),
        (lambda spec: spec["pre_tokenizer"].update(add_prefix_space=True), "adds a space before every text"),
        (lambda spec: spec.update(normalizer={"type": "Lowercase"}), "a normalizer Lowercase"),
        (
            lambda spec: spec.update(
                pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, spec["pre_tokenizer"]]}
            ),
            r"does not know \(Whitespace \+ ByteLevel\)",
        ),
        (
            lambda spec: spec.update(
                pre_tokenizer={
                    "type": "Sequence",
                    "pretokenizers": [
                        {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": False},
                        spec["pre_tokenizer"],
                    ],
                }
            ),
            r"does not know \(Split that removes \+ ByteLevel\)",
        ),
        (lambda spec: spec["added_tokens"][0].update(single_word=True), "whole words only"),
    ],
)
def test_what_would_not_be_read_faithfully_is_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], named: str
) -> None:
    folder = others_folder(tmp_path / "theirs", pre_tokenizers.ByteLevel(add_prefix_space=False))
    with pytest.raises(ArtifactError, match=named):
        load_tokenizer(changed(folder, change))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda spec: spec["model"]["vocab"].update({"Ġ": 5}), "share the id 5"),
        (lambda spec: spec["model"]["vocab"].update({"Ġ": -5}), "has the id -5"),
        (lambda spec: spec["model"]["merges"].append(["Ġ", "☃"]), "the merge 'Ġ' '☃' is not in the vocabulary"),
        (lambda spec: spec.pop("model"), "is damaged: KeyError"),
        (lambda spec: spec["model"].pop("vocab"), "is damaged: KeyError"),
        (lambda spec: spec.update(model=[]), "is damaged: AttributeError"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], named: str
) -> None:
    folder = others_folder(tmp_path / "theirs", pre_tokenizers.ByteLevel(add_prefix_space=False))
    with pytest.raises(ArtifactError, match=named) as caught:
        load_tokenizer(changed(folder, change))
    assert "\n" not in caught.value.problem
    assert str(folder / "tokenizer.json") in caught.value.problem


def test_a_truncated_file_is_refused(bpe: Tokenizer, tmp_path: Path) -> None:
    bpe.save_into(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(ArtifactError, match=r"tokenizer.json' is damaged"):
        load_tokenizer(tmp_path)


def test_a_flipped_bit_is_noticed(bpe: Tokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path / "bpe")
    file = tmp_path / "bpe" / "tokenizer.json"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match="its sha256 is not the manifest's"):
        load_tokenizer(tmp_path / "bpe")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"has no tokenizer\.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(ArtifactError, match="does not exist"):
        load_tokenizer(tmp_path / "nowhere")


def test_saving_over_something_else_is_refused(bpe: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="already exists and holds something else"):
        bpe.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_saving_over_a_tokenizer_replaces_it(bpe: Tokenizer, word: Tokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path / "t")
    word.save(tmp_path / "t")
    assert load_tokenizer(tmp_path / "t").kind == "word"
