"""The regular expressions that cut text into pre-tokens, in the two dialects that read them.

``tokenizer.json`` is read by Oniguruma (Hugging Face ``tokenizers``), bulk encoding and training use Rust's
``fancy-regex`` (tiktoken, rustbpe). Each pattern here covers every text without a gap: tiktoken drops what a pattern
leaves out, so a pattern that is not listed is encoded by ``tokenizers`` alone.
"""

from __future__ import annotations

GPT2_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
"""GPT-2's own (Radford et al. 2019), which the ``ByteLevel`` pre-tokenizer has built in and llama.cpp knows."""

GPT2_TIKTOKEN_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
"""The same cuts without needless backtracking: quicker."""

DIGITS_PATTERN = r"""\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"""
"""Each digit by itself, and GPT-2's cuts between them (SmolLM, StarCoder): two rules in the file, one here."""

_DIGIT = r"\p{N}" "\U00011de0-\U00011de9\U00016ff4-\U00016ff6"
"""What the ``Digits`` rule takes for one: it knows a later Unicode than the regular expressions' ``\\p{N}``."""

_DIGITS_TIKTOKEN_PATTERN = (
    rf"""[{_DIGIT}]|'(?:[sdmt]|ll|ve|re)| ?\p{{L}}++| ?[^\s\p{{L}}{_DIGIT}]++|\s++$|\s+(?![^\s{_DIGIT}])|\s"""
)

_LLAMA3_PATTERN = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
_QWEN2_PATTERN = _LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")

TIKTOKEN_PATTERNS = {
    GPT2_PATTERN: GPT2_TIKTOKEN_PATTERN,
    DIGITS_PATTERN: _DIGITS_TIKTOKEN_PATTERN,
    _LLAMA3_PATTERN: _LLAMA3_PATTERN,
    _QWEN2_PATTERN: _QWEN2_PATTERN,
}
"""Pattern in the file -> pattern for tiktoken that makes the same cuts and covers every text."""

WORD_PATTERN = r"\w+|[^\w\s]|[\n\t\r\f\v]"
CHARACTER_PATTERN = r"[\s\S]"
