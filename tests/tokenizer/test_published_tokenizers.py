"""Small tokenizers of the kinds that published models have: the same ids and text as ``transformers``, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from play import PLAY
from published_kinds import (
    FAST,
    KINDS,
    LACKING,
    LLAMA3,
    QWEN,
    TURN,
    Kind,
    bytes_as,
    llama2_kind,
    mistral_kind,
    pattern,
    qwen_kind,
    sequence,
    trained,
    written,
)
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from folio.errors import ArtifactError, DataError
from folio.tokenizer import StreamDecoder, Tokenizer, load_tokenizer
from folio.tokenizer.byte_level import ByteLevelTokenizer

transformers = pytest.importorskip("transformers")

HARD = [
    "We KNOW'T, we'Ll, it'ſ; 12345 and 1,000.50  x\u00b2 ½ Ⅻ ٣٤ 𝟘𝟙",
    "  spaces   7 8  \t\n\n\r\n  \u00a0\u3000 \u2028a\u0085b  9",
    "e\u0301 \u00e9 A\u030a \u212b \u1100\u1161\u11a8 \uac01 ﬁ \u0958 n\u0303\u0323",
    "日本語のテキスト。한국어 нет العربية हिन्दी ไทย 🙂👩🏽‍💻🇩🇪 \ufeff\u200d\u200b",
    "def f(x):\n    return x**2  # <b>&amp;</b>\t{}\r\n\r\n\x00\x07\x7f",
    "ŉ 'S 'ſ ß ǰ ΐ İi ıI \U00011de1 \U00016ff5 \U0001e4f1 \U000e0041 \uffff",
    "",
    " ",
    "a<|im_end|>b <|endoftext|>  c<think> d",
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text(st.sampled_from("ab '\"sſé.,1٣\n\t \r\u0301🙂ll"))
Opened = dict[str, tuple[Any, Any]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("published")
    return {name: kind(root / name) for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def opened(folders: dict[str, Path]) -> Opened:
    """Each folder as Folio and as ``transformers`` open it."""
    return {name: (load_tokenizer(folder), in_transformers(folder)) for name, folder in folders.items()}


def in_transformers(folder: Path) -> Any:
    return transformers.PreTrainedTokenizerFast.from_pretrained(folder)


def assert_same(ours: Tokenizer, theirs: Any, text: str) -> None:
    if not any(token in text for token in ("<think>", "</think>", "<tool_call>")):
        # tokens added without being special are found by Folio in any text, by transformers only with the special ones
        plain = theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert ours.encode(text) == ours.encode_array(text).tolist() == plain
    ids = theirs.encode(text, add_special_tokens=False)
    assert ours.encode(text, allowed_special=True) == ids
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)
    stream = StreamDecoder(ours)
    assert "".join(map(stream.push, ids)) + stream.flush() == ours.decode(ids)


def lacks_a_byte(text: str) -> bool:
    return any(byte in LACKING for byte in text.encode())


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_text_are_those_of_transformers(kind: str, opened: Opened) -> None:
    ours, theirs = opened[kind]
    assert (ours.tiktoken_encoding is not None) == (kind in FAST)
    for text in [*HARD, PLAY, "\n".join(HARD)]:
        assert_same(ours, theirs, text)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=150)
@given(text=TEXTS)
def test_any_unicode_gives_their_ids(kind: str, opened: Opened, text: str) -> None:
    if kind != "smollm" or not lacks_a_byte(text):
        assert_same(*opened[kind], text)


PRE_TOKENIZERS = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "qwen": sequence(pattern(QWEN)),
    "smollm": sequence(pre_tokenizers.Digits(individual_digits=True), by_gpt2=True),
    "llama3": sequence(pattern(LLAMA3)),
}


@pytest.mark.parametrize("kind", PRE_TOKENIZERS)
def test_every_character_is_cut_from_its_neighbours_as_there(kind: str, tmp_path: Path) -> None:
    """Merges join what stands across the borders of characters before anything else, so that a cut shows in the ids.

    Of the large blocks of ideographs and syllables every 64th.
    """
    leads, ends = bytes_as([*range(0xC2, 0xF5)]), bytes_as([*range(0x80, 0xC0)])
    space, quote = bytes_as([0x20, 0x27])
    crossing = [(left, right) for left in (space, quote, "a", *ends) for right in (*leads, space, quote, "a")]
    alphabet = bytes_as([*range(256)])
    vocabulary = {token: id for id, token in enumerate([*alphabet, *map("".join, crossing)])}
    backend = Backend(models.BPE(vocabulary, crossing))
    backend.pre_tokenizer, backend.decoder = PRE_TOKENIZERS[kind], decoders.ByteLevel()
    ours = load_tokenizer(written(backend, tmp_path / kind))
    assert isinstance(ours, ByteLevelTokenizer)
    assert ours.tiktoken_encoding is not None
    blocks = [(0x3400, 0xA000), (0xAC00, 0xD7B0), (0xD800, 0xE000), (0x17000, 0x18D00), (0x20000, 0x110000)]
    large = {code for start, stop in blocks for code in range(start, stop)}
    points = [code for code in range(0x80, 0x20000) if code not in large]
    points += [code for code in sorted(large) if code % 64 == 7 and not 0xD800 <= code < 0xE000]
    differing = []
    for start in range(0, len(points), 500):
        text = "".join(f"a{c}a  {c}{c} '{c}a {c}  " for c in map(chr, points[start : start + 500]))
        if ours.encode(text) != backend.encode(text).ids:
            differing += [
                f"U+{code:04X}"
                for code in points[start : start + 500]
                for text in [f"a{chr(code)}a  {chr(code)}{chr(code)} '{chr(code)}a {chr(code)}  "]
                if ours.encode(text) != backend.encode(text).ids
            ]
    assert differing == []


def test_a_character_whose_byte_is_lacking_is_refused_by_name(opened: Opened) -> None:
    """``transformers`` drops it without a word."""
    ours, theirs = opened["smollm"]
    assert theirs.decode(theirs.encode("a\x0bb")) == "ab"
    for text, named in (
        ("we know\x0bwell", r"0x0b, which '\\x0b' \(U\+000B\) has, met after 'we know'"),
        ("\U00046131", "0xf1"),
    ):
        for encode in (ours.encode, ours.encode_array):
            with pytest.raises(DataError, match=named):
                encode(text)
    assert ours.encode("\U0001f642 \uffff") == theirs.encode("\U0001f642 \uffff")


def test_a_byte_that_no_text_has_may_be_lacking(tmp_path: Path) -> None:
    never = "".join(bytes_as([0xC0, 0xC1, *range(0xF5, 0x100)]))
    backend = trained(PRE_TOKENIZERS["gpt2"], ["<|endoftext|>"], without=never)
    ours = load_tokenizer(written(backend, tmp_path / "bpe"))
    everything = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000 and code % 7 == 3)
    assert ours.decode(ours.encode_array(everything)) == everything


@pytest.mark.parametrize("beside", [False, True])
def test_a_chat_template_survives(beside: bool, tmp_path: Path) -> None:
    """Wherever it lay: in ``tokenizer_config.json``, or in a file of its own, which counts before the other."""
    folder = qwen_kind(tmp_path / "theirs")
    if beside:
        (folder / "chat_template.jinja").write_text("beside " + TURN)
    load_tokenizer(folder).save(tmp_path / "artefact")
    (tmp_path / "model").mkdir()
    load_tokenizer(tmp_path / "artefact").save_into(tmp_path / "model")
    before, after = (in_transformers(path) for path in (folder, tmp_path / "model"))
    talk = [{"role": "user", "content": "We know\u0301't"}, {"role": "assistant", "content": "Don't go"}]
    shown = before.apply_chat_template(talk, tokenize=False)
    assert shown.startswith("beside ") is beside
    assert after.apply_chat_template(talk, tokenize=False) == shown
    ours = load_tokenizer(tmp_path / "model")
    assert ours.encode(shown, allowed_special=True) == after.encode(shown)
    for token in ("eos_token", "pad_token", "bos_token", "unk_token", "extra_special_tokens"):
        assert getattr(after, token) == getattr(before, token)


def test_the_tokens_that_end_and_begin_a_text_are_the_folders_own(opened: Opened) -> None:
    for kind, (ours, theirs) in opened.items():
        eos = {"gpt2": "<|endoftext|>"}.get(kind, theirs.eos_token)
        assert ours.token(ours.eot_id) == eos, kind
        assert ours.bos_id == theirs.bos_token_id, kind


def test_what_a_template_puts_before_every_text_is_left_out(opened: Opened) -> None:
    ours, theirs = opened["llama3"]
    assert theirs.encode("We know") == [ours.bos_id, *ours.encode("We know")]


def test_a_fingerprint_tells_rules_apart_and_survives_a_save(folders: dict[str, Path], tmp_path: Path) -> None:
    prints = set()
    for kind, folder in folders.items():
        ours = load_tokenizer(folder)
        ours.save(tmp_path / kind)
        assert load_tokenizer(tmp_path / kind).fingerprint == ours.fingerprint
        prints.add(ours.fingerprint)
    assert len(prints) == len(folders)


@pytest.mark.parametrize(
    ("kind", "named"), [(llama2_kind, r"SentencePiece style\) with byte_fallback"), (mistral_kind, "Metaspace")]
)
def test_sentencepiece_kinds_are_refused_by_name(kind: Kind, named: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=named) as caught:
        load_tokenizer(kind(tmp_path / "theirs"))
    assert "\n" not in caught.value.problem
    assert caught.value.remedy
