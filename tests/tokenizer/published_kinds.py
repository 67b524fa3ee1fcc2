"""Folders of small tokenizers of the kinds that published models have, learnt from a few lines by ``tokenizers``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from play import PLAY
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from folio.tokenizer.alphabet import CHAR_OF

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace("{1,3}", "")
DEEPSEEK = [
    (Regex(r"[\r\n]"), "isolated"),
    (Regex(r"\s?\p{L}+"), "isolated"),
    (Regex(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), "isolated"),
    (Regex(r"[一-龥ࠀ-一가-퟿]+"), "isolated"),
]
TURN = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
LACKING = [0x0B, 0xF1]
"""Bytes of UTF-8 that the tokenizer of SmolLM's kind has no id for."""


def bytes_as(values: list[int]) -> list[str]:
    return [CHAR_OF[value] for value in values]


def sequence(*cuts: Any, by_gpt2: bool = False) -> Any:
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=by_gpt2)
    return pre_tokenizers.Sequence([*cuts, last])


def pattern(text: str) -> Any:
    return pre_tokenizers.Split(Regex(text), behavior="isolated")


def trained(pre: Any, special: list[str], normalizer: Any = None, without: str = "") -> Backend:
    """BPE of a few lines whose special tokens come first, as SmolLM's do; ``without`` some of the byte alphabet."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre, decoders.ByteLevel()
    backend.normalizer = normalizer
    alphabet = [char for char in pre_tokenizers.ByteLevel.alphabet() if char not in without]
    trainer = trainers.BpeTrainer(
        vocab_size=360, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    backend.train_from_iterator([PLAY] * 3, trainer)
    return backend


def written(backend: Backend, folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **config})
    )
    return folder


def gpt2_kind(folder: Path) -> Path:
    backend = trained(pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"])
    return written(backend, folder, model_max_length=1024)


def qwen_kind(folder: Path) -> Path:
    """NFC, one pattern, its many added tokens after the vocabulary, some of them not special."""
    backend = trained(sequence(pattern(QWEN)), [], normalizers.NFC())
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|vision_{n}|>" for n in range(12))]
    backend.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in names])
    backend.add_tokens([AddedToken(f"<{name}>", normalized=False) for name in ("tool_call", "think", "/think")])
    decoder = {str(backend.token_to_id(name)): {"content": name, "special": True} for name in names}
    return written(
        backend,
        folder,
        added_tokens_decoder=decoder,
        additional_special_tokens=names[1:],
        bos_token=None,
        chat_template=TURN,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
    )


def smollm_kind(folder: Path) -> Path:
    """Digits one by one, special tokens first, an alphabet that lacks bytes, among them some of ordinary UTF-8."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"]
    digits = pre_tokenizers.Digits(individual_digits=True)
    lacking = "".join(bytes_as([*LACKING, 0xC0, 0xC1, *range(0xF5, 0x100)]))
    backend = trained(sequence(digits, by_gpt2=True), special, without=lacking)
    return written(backend, folder, bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<|endoftext|>")


def llama3_kind(folder: Path) -> Path:
    """One pattern, and a template that puts a token before every text."""
    backend = trained(sequence(pattern(LLAMA3)), [])
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    backend.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in names])
    first = backend.token_to_id("<|begin_of_text|>")
    template = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair=None, special_tokens=[("<|begin_of_text|>", first)]
    )
    backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    spec = json.loads(backend.to_str())
    spec["model"]["ignore_merges"] = True
    backend = Backend.from_str(json.dumps(spec))
    return written(backend, folder, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")


def deepseek_kind(folder: Path) -> Path:
    """Several patterns, one after the other, and digits."""
    cuts = [pre_tokenizers.Split(regex, behavior=behavior) for regex, behavior in DEEPSEEK]
    backend = trained(sequence(*cuts, pre_tokenizers.Digits(individual_digits=True)), ["<|endoftext|>"])
    return written(backend, folder, eos_token="<|endoftext|>")


def llama2_kind(folder: Path) -> Path:
    """SentencePiece's BPE as Llama 2 and TinyLlama have it: a mark for a space, bytes where a character is lacking."""
    vocabulary = {
        token: id
        for id, token in enumerate(["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "a", "▁a"])
    }
    backend = Backend(models.BPE(vocabulary, [("▁", "a")], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return written(backend, folder, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def mistral_kind(folder: Path) -> Path:
    """The same with the mark set by a pre-tokenizer, and no byte to fall back on."""
    backend = Backend(models.BPE({"▁": 0, "a": 1, "▁a": 2}, [("▁", "a")]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return written(backend, folder)


Kind = Callable[[Path], Path]
KINDS: dict[str, Kind] = {
    "gpt2": gpt2_kind,
    "qwen": qwen_kind,
    "smollm": smollm_kind,
    "llama3": llama3_kind,
    "deepseek": deepseek_kind,
}
FAST = {"gpt2", "qwen", "smollm", "llama3"}
"""Those that tiktoken encodes."""
