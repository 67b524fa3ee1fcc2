"""Items of a benchmark planted in a training text are found, exactly those, whatever the text is cut into."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from letters import documents

from folio.corpus.document import Document
from folio.corpus.ngrams import NgramIndex, words_of
from folio.errors import DataError
from folio.evaluation.contamination import processes
from folio.evaluation.contamination.passages import DocumentText, ShardText
from folio.evaluation.contamination.search import Findings, SoFar, Source, index_of, question_texts, search
from folio.evaluation.tasks import Question
from folio.shards import ShardsConfig, write_shards
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

ITEM = "the quick brown fox jumps over the lazy dog and then it sleeps all day"
KINDS = ["bpe", "char", "word"]
Documents = Callable[[], Iterator[Document]]


@pytest.fixture(autouse=True)
def processes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' few portions are to reach the processes too."""
    monkeypatch.setattr(processes, "TASKS_BEFORE_PROCESSES", 1)


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    text = f"{ITEM} o'clock — don’t “quote” café's naïve\n: a b c d e ,.;!? 'tis o' the-end हिन्दी\t" * 3 + ITEM.upper()
    sizes = {"bpe": 300, "char": None, "word": None}
    return {kind: train_tokenizer([text], TokenizerConfig(kind=kind, vocab_size=sizes[kind])) for kind in KINDS}  # type: ignore[arg-type]


def shard_text(
    texts: list[str], tokenizer: Tokenizer, to: Path, *, per_shard: int = 97, portion: int = 61, passage: int = 23
) -> ShardText:
    """Texts in shards whose files, portions and passages all end in the middle of things."""
    shards = write_shards(
        {"train": documents(*texts)}, tokenizer, to, ShardsConfig(tokens_per_shard=per_shard, workers=1), source={}
    )
    return ShardText(shards.split("train").paths, tokenizer, portion, passage)


def found(findings: Findings) -> list[tuple[int, int, int]]:
    return [(item.grams, item.found, item.occurrences) for item in findings.items()]


def by_definition(index: NgramIndex, texts: list[str]) -> tuple[list[tuple[int, int, int]], int]:
    """Grams, those found and how often, for each item, and the documents hit: by looking everywhere."""
    lines = [" " + " ".join(words_of(text)) + " " for text in texts]
    counts = [sum(count(line, f" {index.words(gram)} ") for line in lines) for gram in range(index.grams)]
    items = []
    for item in range(index.items):
        own = [counts[gram] for gram in index.pair_grams[index.pair_texts == item]]
        items.append((len(own), sum(number > 0 for number in own), sum(own)))
    hit = sum(any(f" {index.words(gram)} " in line for gram in range(index.grams)) for line in lines)
    return items, hit


def count(line: str, wanted: str) -> int:
    return sum(line.startswith(wanted, at) for at in range(len(line)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_shards_agree_with_brute_force_wherever_they_are_cut(
    seed: int, kind: str, tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    draw = random.Random(seed)
    tokenizer = tokenizers[kind]
    pieces = [
        "a",
        "b",
        "a b",
        "b-c",
        "don’t",
        "o' the",
        "café",
        "’tis",
        "'",
        "b" + "'" * 40 + "c",
        "—",
        "\n",
        ", ",
        "हिन्दी",
        "“",
        "”",
        "c a",
    ]

    def text(most: int) -> str:
        return "".join(draw.choice(pieces) + draw.choice([" ", " ", " ", ""]) for _ in range(draw.randint(1, most)))

    items = [[text(8)] for _ in range(12)]
    texts = [text(draw.choice([3, 30, 300])) for _ in range(20)]
    index = NgramIndex(items, n=draw.randint(1, 5), min_words=1)
    source = shard_text(texts, tokenizer, tmp_path / "s")
    read = [tokenizer.decode(tokenizer.encode(text)) for text in texts]  # word tokens do not keep every space
    findings = search(index, source)
    wanted, hit = by_definition(index, read)
    assert found(findings) == wanted
    assert (findings.documents, findings.documents_hit) == (len(texts), hit)
    if kind != "word":
        assert findings.text_bytes == sum(len(text.encode()) for text in texts)
    assert sum(item.found > 0 for item in findings.items()) > 0


@pytest.mark.parametrize("seed", range(6))
def test_documents_agree_with_brute_force_wherever_they_are_cut(seed: int) -> None:
    draw = random.Random(seed)

    def text(most: int) -> str:
        return "".join(
            draw.choice(["a", "b", "c", "b-c", "don’t"]) + draw.choice([" ", "  ", "\n", "", "."])
            for _ in range(draw.randint(1, most))
        )

    texts = [text(draw.choice([3, 30, 300])) for _ in range(20)]
    index = NgramIndex([[text(8)] for _ in range(12)], n=draw.randint(1, 5), min_words=1)
    source = DocumentText(documents(*texts), index.overlap, portion_characters=53, passage_characters=17)
    findings = search(index, source)
    wanted, hit = by_definition(index, texts)
    assert found(findings) == wanted
    assert (findings.documents, findings.documents_hit) == (len(texts), hit)


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_item_is_found_with_its_place(kind: str, tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    texts = ["a b c " * 40, f"e d c, {ITEM}. a b", f"a {ITEM} b {ITEM}", "e e e " * 30]
    tokenizer = tokenizers[kind]
    source = shard_text(texts, tokenizer, tmp_path / "s")
    index = index_of([[ITEM], ["a a b b c c d d e e a a b"]], 13, 8)
    planted, other = search(index, source).items()
    assert (planted.grams, planted.found, planted.occurrences, planted.state) == (3, 3, 9, "contaminated")
    assert (planted.document, planted.gram) == (1, " ".join(ITEM.split()[:13]))
    assert (other.state, other.found, other.gram, other.document, other.offset) == ("clean", 0, None, None, None)
    assert planted.offset is not None
    ids = source.stream.read(planted.offset, 30)
    assert tokenizer.decode(ids).strip().startswith("the quick brown fox")
    before = source.stream.read(0, planted.offset)
    assert int((before == tokenizer.eot_id).sum()) == 2


def test_of_several_texts_of_an_item_the_one_of_which_most_is_there_counts() -> None:
    index = index_of([[f"work: {ITEM}", ITEM, f"{ITEM} or all night long"], [], ["x " * 20, "y " * 5]], 13, 8)
    item, none, other = search(index, DocumentText(documents(f"a {ITEM}. {ITEM}"), index.overlap)).items()
    assert (item.grams, item.found, item.occurrences) == (3, 3, 6)
    assert (none.grams, none.state) == (0, "too short")
    assert (other.grams, other.found, other.state) == (1, 0, "clean")


def test_the_place_in_a_document_is_a_character() -> None:
    texts = ["a b c " * 40, "d e " * 50 + ITEM]
    for portion, passage in [(53, 17), (10_000, 10_000)]:
        source = DocumentText(documents(*texts), 12, portion, passage)
        (planted,) = search(index_of([[ITEM]], 13, 8), source).items()
        assert (planted.document, planted.offset) == (1, 200)


@pytest.mark.parametrize(
    "text",
    [
        ITEM.upper(),
        ITEM.title().replace(" ", "\n  "),
        f"“{ITEM.replace(' ', ', ').replace('dog', 'dog—')}!”",
        ITEM.replace(" ", "\u00a0"),
    ],
)
def test_case_punctuation_and_white_space_do_not_hide_it(
    text: str, tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    source = shard_text(["a b", text, "c"], tokenizers["bpe"], tmp_path / "s")
    assert found(search(index_of([[ITEM]], 13, 8), source)) == [(3, 3, 3)]


@pytest.mark.parametrize(
    "texts",
    [
        [" ".join(ITEM.split()[:7]), " ".join(ITEM.split()[7:])],  # over two documents
        [" ".join(ITEM.split()[:12]), " ".join(ITEM.split()[3:])],  # one word less than n
        [ITEM.replace("lazy", "very lazy")],
        [ITEM.replace("lazy dog", "lazydog")],
    ],
)
def test_what_only_looks_like_it_is_not_found(
    texts: list[str], tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    for kind in ("bpe", "char"):
        findings = search(index_of([[ITEM]], 13, 8), shard_text(texts, tokenizers[kind], tmp_path / kind))
        assert (findings.documents_hit, found(findings)) == (0, [(3, 0, 0)])
    source = DocumentText(documents(*texts), 12, 20, 10)
    assert found(search(index_of([[ITEM]], 13, 8), source)) == [(3, 0, 0)]


def test_an_item_over_the_end_of_a_file_is_found_at_every_position(
    tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    tokenizer = tokenizers["bpe"]
    index = index_of([[ITEM]], 13, 8)
    size = len(tokenizer.encode(ITEM))
    for shift in range(0, size, 3):
        source = shard_text(["a " * (60 - shift) + ITEM], tokenizer, tmp_path / str(shift), per_shard=60, portion=60)
        assert len(source.paths) > 1
        assert found(search(index, source)) == [(3, 3, 3)], shift


def test_shards_without_a_first_end_of_text_or_without_any(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    """As others write them: the ids before the first end-of-text are a document, and ids without any are one."""
    tokenizer = tokenizers["char"]
    source = shard_text([f"b {ITEM}", f"c {ITEM}"], tokenizer, tmp_path / "s", per_shard=10_000)
    path = source.paths[0]
    content = bytearray(path.read_bytes())
    content[1024:1026] = int(tokenizer.id_of("a")).to_bytes(2, "little")
    path.write_bytes(content)
    findings = search(index_of([[ITEM]], 13, 8), source)
    (item,) = findings.items()
    assert (findings.documents, findings.documents_hit, item.document, item.offset) == (2, 2, 0, 3)
    tokenizer.eot_id, kept = None, tokenizer.eot_id
    try:
        whole = search(index_of([[ITEM]], 13, 8), ShardText(source.paths, tokenizer, 61, 23))
    finally:
        tokenizer.eot_id = kept
    assert (whole.documents, whole.documents_hit, whole.items()[0].occurrences) == (1, 1, 6)


def test_any_number_of_processes_finds_the_same(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    draw = random.Random(0)
    texts = [" ".join(draw.choices("abcde", k=draw.choice([5, 200]))) + f" {ITEM}" * (n == 9) for n in range(20)]
    index = index_of([[ITEM], *([" ".join(draw.choices("abcde", k=9))] for _ in range(20))], 4, 3)
    sources: list[Callable[[], Source]] = [
        lambda: ShardText(shards.paths, shards.tokenizer, 211, 50),
        lambda: DocumentText(documents(*texts), index.overlap, 400, 100),
    ]
    shards = shard_text(texts, tokenizers["bpe"], tmp_path / "s")
    for source in sources:
        seen: list[list[SoFar]] = [[], []]
        one, two = (search(index, source(), workers, seen[workers - 1].append) for workers in (1, 2))
        assert one.items() == two.items()
        assert one.counts.tolist() == two.counts.tolist()
        assert (one.documents, one.documents_hit) == (two.documents, two.documents_hit)
        assert seen[0] == seen[1]
        assert len(seen[0]) > 5
        assert seen[0][-1].items_found == sum(item.found > 0 for item in one.items())


def test_a_mistake_in_another_process_is_told_as_in_this_one(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    source = shard_text(["a b c " * 100], tokenizers["char"], tmp_path / "s", per_shard=10_000)
    content = bytearray(source.paths[0].read_bytes())
    content[-2:] = b"\xff\xff"
    source.paths[0].write_bytes(content)
    with pytest.raises(DataError, match="id 65535 is not in the vocabulary"):
        search(index_of([[ITEM]], 13, 8), ShardText(source.paths, source.tokenizer, 61, 23), 2)


def test_items_that_are_all_too_short_are_refused() -> None:
    with pytest.raises(DataError, match=r"none of the 2 items has 8 words \(the longest has 4\)"):
        index_of([["a b c d"], ["a"]], 13, 8)


def question(contexts: tuple[str, ...], endings: tuple[str, ...], label: int) -> Question:
    return Question("q", contexts, endings, label, tuple(map(len, endings)))


def test_which_text_of_a_question_is_looked_for() -> None:
    completion = question(("A man",), (" runs.", " sits."), 1)
    harness = question(("Sport: A man",), (" runs.", " sits."), 1)
    assert question_texts([completion, harness], "right") == ("A man sits.", "Sport: A man sits.")
    assert question_texts([completion], "all") == ("A man runs.", "A man sits.")
    assert question_texts([completion], "none") == ("A man",)
    blank = question(("Ann", "Bob"), (" went.", " went."), 1)
    assert question_texts([blank], "right") == ("Bob went.",)
    assert question_texts([question(("Ann", "Bob"), (" went.",), 0)], "all") == ("Ann went.", "Bob went.")
