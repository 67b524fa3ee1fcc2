"""Tokenizers learnt from text, which is read as a stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from folio.errors import DataError
from folio.tokenizer.base import END_OF_TEXT, Tokenizer, well_formed
from folio.tokenizer.byte_level import ByteLevelTokenizer, from_ranked_tokens
from folio.tokenizer.characters import CharTokenizer
from folio.tokenizer.config import DEFAULT_BPE_SIZE, TokenizerConfig
from folio.tokenizer.merges import merges_of
from folio.tokenizer.patterns import GPT2_TIKTOKEN_PATTERN
from folio.tokenizer.pieces import LONGEST_SPACE, pieces
from folio.tokenizer.read_words import ReadWords
from folio.tokenizer.words import UNKNOWN, WordTokenizer, words_of

_PIECE_CHARACTERS = 100_000
_PIECES_AT_ONCE = 64
"""Text held while byte pairs are counted: these pieces, some 6 MB, whatever the corpus."""


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """The tokenizer that ``config`` asks for, learnt from ``texts``: give it the training texts alone.

    The same texts in the same order give the same tokenizer, bit for bit. :class:`DataError` if there is no text, or
    too little for ``vocab_size``. Kind "gpt2", and a ``path``, look at no text.
    """
    if config.path is not None:
        from folio.tokenizer.folder import load_tokenizer

        return load_tokenizer(config.path)
    if config.kind == "gpt2":
        from folio.tokenizer.gpt2 import gpt2_tokenizer

        return gpt2_tokenizer()
    texts = map(well_formed, texts)
    if config.kind == "char":
        return _train_characters(texts)
    if config.kind == "word":
        return _train_words(texts, config)
    return _train_byte_pairs(texts, config)


def _train_characters(texts: Iterable[str]) -> CharTokenizer:
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    if not characters:
        raise _no_text()
    return CharTokenizer.of(characters)


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word, mark and line break occurs, in order of first occurrence."""
    counts: Counter[str] = Counter()
    for text in texts:
        for piece in pieces(text):
            counts.update(words_of(piece))
    return counts


def _train_words(texts: Iterable[str], config: TokenizerConfig) -> WordTokenizer:
    """Words by falling count; among equal counts the one that occurs first in the texts comes first."""
    read = ReadWords(texts) if config.out_of_vocabulary == "nearest" else None
    counts = count_words(texts) if read is None else read.counts
    if not counts:
        raise _no_text()
    frequent = [word for word, count in counts.most_common() if count >= config.min_count]
    special = config.special_tokens
    if clash := {UNKNOWN, END_OF_TEXT, *counts}.intersection(special):
        raise DataError(f"the special token '{min(clash)}' is also an ordinary word", "Write it differently.")
    if config.vocab_size is not None:
        room = config.vocab_size - len(special) - len((UNKNOWN, END_OF_TEXT))
        if room > len(frequent):
            raise _too_little(config.vocab_size, config.vocab_size - room + len(frequent))
        frequent = frequent[: max(room, 0)]
    if read is None or not 0 < len(frequent) < len(counts):
        return WordTokenizer.of(frequent, special)
    return WordTokenizer.of(frequent, special, read.nearest(len(frequent), config.nearest))


def _train_byte_pairs(texts: Iterable[str], config: TokenizerConfig) -> ByteLevelTokenizer:
    """Byte pairs by rustbpe: highest count first; among equal counts the pair with the lower ids."""
    import rustbpe

    special = config.special_tokens
    wanted = (config.vocab_size or DEFAULT_BPE_SIZE) - len((*special, END_OF_TEXT))
    stream = _Nonempty(_training_pieces(texts))
    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(stream, wanted, buffer_size=_PIECES_AT_ONCE, pattern=GPT2_TIKTOKEN_PATTERN)
    if not stream.found:
        raise _no_text()
    tokens = [bytes(token) for token, _ in trainer.get_mergeable_ranks()]
    if len(tokens) < wanted:
        reserved = len((*special, END_OF_TEXT))
        raise _too_little(wanted + reserved, len(tokens) + reserved)
    return from_ranked_tokens(tokens, merges_of(tokens), special)


def _training_pieces(texts: Iterable[str]) -> Iterator[str]:
    """Texts in pieces that the trainer's regular expression can take; only a longer run of white space is cut."""
    for text in texts:
        for piece in pieces(text, _PIECE_CHARACTERS):
            yield from (piece[start : start + LONGEST_SPACE] for start in range(0, len(piece), LONGEST_SPACE))


class _Nonempty:
    """An iterator that remembers whether anything came."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self.found = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        piece = next(self._pieces)
        self.found = True
        return piece


def _no_text() -> DataError:
    return DataError("there is no text to train a tokenizer on", "Check the corpus: it is empty.")


def _too_little(wanted: int, reachable: int) -> DataError:
    return DataError(
        f"the text is too short for a vocabulary of {wanted:,}: it gives {reachable:,} ids at most",
        f"Set vocab_size to {reachable} or less, or train on more text.",
    )
