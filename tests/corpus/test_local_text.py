"""Own text: every kind, packing, folder and glob gives its documents, and every fault names its place."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from folio.corpus import Corpus
from folio.corpus.files import find_files
from folio.errors import DataError, MissingExtra

MakeCorpus = Callable[..., Corpus]
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: zstandard.ZstdCompressor().compress(content),
}


def jsonl(*records: object) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


def parquet(columns: dict[str, list[object]], rows_per_group: int = 2) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, row_group_size=rows_per_group)
    return out.getvalue()


def ids_and_texts(corpus: Corpus) -> list[tuple[str, str]]:
    return [(document.id, document.text) for document in corpus.documents()]


@pytest.mark.parametrize("packing", PACK)
def test_txt_is_one_document_however_packed(corpus_of: MakeCorpus, packing: str) -> None:
    name = f"poem.txt{packing}"
    assert ids_and_texts(corpus_of({name: PACK[packing]("Ça va?\nOui.\n".encode())})) == [(name, "Ça va?\nOui.\n")]


@pytest.mark.parametrize("packing", PACK)
def test_jsonl_is_a_document_a_line_however_packed(corpus_of: MakeCorpus, packing: str) -> None:
    content = jsonl({"body": "eins"}) + b"\n" + jsonl({"body": "zwei", "id": "b-2"}, {"body": "drei", "id": 3})
    corpus = corpus_of({f"a.jsonl{packing}": PACK[packing](content)}, text_field="body")
    assert ids_and_texts(corpus) == [(f"a.jsonl{packing}:1", "eins"), ("b-2", "zwei"), ("3", "drei")]


def test_parquet_is_a_document_a_row_across_row_groups(corpus_of: MakeCorpus) -> None:
    rows = parquet({"content": ["a", "b", None, "c", "d"], "score": [1, 2, 3, 4, 5]})
    corpus = corpus_of({"a.parquet": rows}, text_field="content")
    assert ids_and_texts(corpus) == [(f"a.parquet:{n}", text) for n, text in ((1, "a"), (2, "b"), (4, "c"), (5, "d"))]
    assert corpus.counts().empty == 1


def test_folder_is_searched_in_order_without_hidden_and_foreign_files(corpus_of: MakeCorpus) -> None:
    files = {"b/2.txt": "two", "a.txt": "one", "b/.draft.txt": "no", ".git/x.txt": "no", "c.png": "no", "z.jsonl": b""}
    assert ids_and_texts(corpus_of(files)) == [("a.txt", "one"), ("b/2.txt", "two")]


def test_glob_is_sorted_and_names_count_from_its_fixed_part(corpus_of: MakeCorpus, tmp_path: Path) -> None:
    files = {"b/2.txt": "two", "b/1.txt": "one", "c/3.md": "no", "c/d/4.txt": "four"}
    corpus = corpus_of(files, path=f"{tmp_path}/texts/**/*.txt")
    assert ids_and_texts(corpus) == [("b/1.txt", "one"), ("b/2.txt", "two"), ("c/d/4.txt", "four")]


def test_byte_order_mark_is_dropped(corpus_of: MakeCorpus) -> None:
    corpus = corpus_of({"a.txt": b"\xef\xbb\xbfone", "b.jsonl": b"\xef\xbb\xbf" + jsonl({"text": "two"})})
    assert [text for _, text in ids_and_texts(corpus)] == ["one", "two"]


@pytest.mark.parametrize("packing", PACK)
def test_bytes_that_are_not_utf8_are_named_with_file_and_offset(corpus_of: MakeCorpus, packing: str) -> None:
    corpus = corpus_of({f"latin.txt{packing}": PACK[packing](b"caf\xe9 noir")})
    with pytest.raises(DataError, match=rf"latin\.txt{packing}' is not UTF-8: byte 3 is 0xe9"):
        list(corpus.documents())


def test_offset_of_a_bad_byte_counts_all_lines_before(corpus_of: MakeCorpus) -> None:
    content = jsonl({"text": "été"}) + b'{"text": "\xff"}\n'
    with pytest.raises(DataError, match=rf"byte {content.index(0xFF)} is 0xff"):
        list(corpus_of({"a.jsonl": content}).documents())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "cut of', r"line 2 is not JSON: Invalid control character at \(column 17\)"),
        (b'["text"]', r"line 2 holds list, not an object"),
        (b'{"txet": "x"}', r"line 2 has no field 'text'"),
        (b'{"text": 7}', r"line 2: 'text' is int, not text"),
        (b'{"text": "\\ud800"}', r"line 2 holds half a surrogate pair"),
    ],
)
def test_malformed_line_is_named_with_file_and_line(corpus_of: MakeCorpus, line: bytes, message: str) -> None:
    corpus = corpus_of({"a.jsonl": jsonl({"text": "fine"}) + line + b"\n"})
    documents = corpus.documents()
    assert next(documents).text == "fine"
    with pytest.raises(DataError, match=rf"a\.jsonl', {message}"):
        list(documents)


def test_missing_column_is_answered_with_the_nearest(corpus_of: MakeCorpus) -> None:
    with pytest.raises(DataError, match=r"a\.parquet' has no column 'text'") as caught:
        list(corpus_of({"a.parquet": parquet({"texts": ["a"], "url": ["b"]})}).documents())
    assert "Did you mean 'texts'?" in caught.value.remedy
    with pytest.raises(DataError, match="column 'text' holds int64, not text"):
        list(corpus_of({"a.parquet": parquet({"text": [1]})}).documents())


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.xz", "a.txt.zst", "a.parquet"])
def test_truncated_file_is_named(corpus_of: MakeCorpus, name: str) -> None:
    text = "".join(chr(33 + n * n % 90) for n in range(5000))
    whole = parquet({"text": [text]}) if name == "a.parquet" else PACK[Path(name).suffix](text.encode())
    with pytest.raises(DataError, match=rf"{name}' is damaged"):
        list(corpus_of({name: whole[: len(whole) // 2]}).documents())


def test_zstandard_frames_follow_one_another(corpus_of: MakeCorpus) -> None:
    pack = PACK[".zst"]
    corpus = corpus_of({"a.txt.zst": pack(b"first ") + pack(b"") + pack(b"second " * 200_000) + pack(b"third")})
    assert ids_and_texts(corpus)[0][1] == "first " + "second " * 200_000 + "third"


def test_file_that_vanishes_is_named(corpus_of: MakeCorpus, tmp_path: Path) -> None:
    corpus = corpus_of({"a.txt": "one", "b.txt": "two"})
    documents = corpus.documents()
    next(documents)
    (tmp_path / "texts" / "b.txt").unlink()
    with pytest.raises(DataError, match=r"b\.txt' was there and is gone"):
        next(documents)
    with pytest.raises(DataError, match=r"b\.txt"):
        _ = corpus.fingerprint


def test_paths_that_lead_to_no_text_say_why(tmp_path: Path) -> None:
    (tmp_path / "notes.doc").write_bytes(bz2.compress(b"x"))
    (tmp_path / "table.parquet.gz").write_bytes(b"x")
    for given, message in (
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "*.txt", "nothing matches"),
        (tmp_path / "*.doc", "holds no text"),
        (tmp_path, "holds no text"),
        (tmp_path / "notes.doc", "no kind of text"),
        (tmp_path / "table.parquet.gz", "no kind of text"),
    ):
        with pytest.raises(DataError, match=message):
            find_files(str(given))


@pytest.mark.parametrize(("name", "package"), [("a.txt.zst", "zstandard"), ("a.parquet", "pyarrow")])
def test_missing_package_is_named_with_its_extra(
    corpus_of: MakeCorpus, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    def absent(module: str) -> None:
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    monkeypatch.setattr("folio.errors.importlib.import_module", absent)
    with pytest.raises(MissingExtra, match=package) as caught:
        list(corpus_of({name: b"x"}).documents())
    assert "folio-lm[data]" in caught.value.remedy


READ_ALL = """
import resource, sys
from folio.corpus import CorpusConfig, open_corpus

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

few, many = (open_corpus(CorpusConfig(path=path)) for path in sys.argv[1:])
assert sum(1 for _ in few.documents()) == 20
before = peak()
assert sum(1 for _ in many.documents()) == 6_000
print(peak() - before)
"""


@pytest.mark.parametrize("kind", ["jsonl.gz", "parquet"])
def test_memory_is_bounded_by_a_document_not_by_the_file(tmp_path: Path, kind: str) -> None:
    for name, count in (("few", 20), ("many", 6_000)):
        texts = [f"{n} " + "x" * 10_000 for n in range(count)]
        (tmp_path / name).mkdir()
        if kind == "parquet":
            (tmp_path / name / "a.parquet").write_bytes(parquet({"text": texts}, rows_per_group=20))
        else:
            content = gzip.compress(jsonl(*({"text": text} for text in texts)), 1)
            (tmp_path / name / "a.jsonl.gz").write_bytes(content)
    command = [sys.executable, "-c", READ_ALL, str(tmp_path / "few"), str(tmp_path / "many")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (
        grown < 20_000_000
    )  # of 60 MB of text; other threads allocate too, which a tracer in here would have to survive
