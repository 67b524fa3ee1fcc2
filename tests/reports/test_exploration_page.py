"""The page of an exploration: clouds without overlaps, pages that hold what was found, alone and side by side."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_checker import check

from folio.corpus.document import Document
from folio.corpus.exploring import Drawn, Exploration, Look, Material, compared_words, explore
from folio.corpus.statistics import Lengths
from folio.reports.exploration import exploration_page, word_cloud
from folio.reports.exploration.cloud import Placed, font_size, layout
from folio.reports.exploration.lengths import Side, length_chart
from folio.shards.packing_statistics import packing_statistics

SVG = "{http://www.w3.org/2000/svg}"
SENTENCE = "The boat went out to sea, and <b>nobody</b> saw it again & again. "


def made(name: str, texts: list[str], look: Look | None = None) -> Exploration:
    """An exploration of texts made up, with the packing that the command adds."""
    material = Material(
        name,
        "source",
        {"from": name, "fingerprint": "0"},
        look or Look(population=len(texts)),
        lambda: (Drawn(Document(f"{name}:{n}", text, name), n) for n, text in enumerate(texts)),
        row_groups=((10, 5000), (12, 7000)) if len(texts) > 20 else (),
    )
    found = explore(material, lambda text: len(text.split()))
    lengths = found.statistics.encoded_lengths.counts
    sizes = (64, 512, 1024, 2048)
    found.record["packing"] = [one.record() for size in sizes if (one := packing_statistics(lengths, size))]
    found.record["packing_shown"] = [512, 1024, 2048]
    return found


def html_of(*explorations: Exploration) -> str:
    comparison = None
    if len(explorations) > 1:
        one, other = explorations
        comparison = {
            **compared_words(one.statistics, other.statistics),
            "documents": one.copies.shared_with(other.copies),
        }
    return exploration_page(explorations, comparison).html()


def overlaps(placed: list[Placed]) -> list[tuple[str, str]]:
    """Pairs of words whose boxes share some area, counted out."""
    found = []
    for at, one in enumerate(placed):
        for other in placed[:at]:
            wide = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
            tall = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
            if wide > 0 and tall > 0:
                found.append((one.word, other.word))
    return found


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(st.text(min_size=1, max_size=30), st.integers(1, 5000), max_size=60),
    st.sampled_from([(1080, 380), (528, 330), (200, 60)]),
)
def test_no_two_words_overlap_and_none_leaves_the_canvas(words: dict[str, int], canvas: tuple[int, int]) -> None:
    width, height = canvas
    placed = layout(list(words.items()), width, height)
    assert overlaps(placed) == []
    for word in placed:
        assert 0 <= word.left <= word.left + word.width <= width + 1e-6
        assert 0 <= word.top <= word.top + word.height <= height + 1e-6
    assert [word.count for word in placed] == sorted((word.count for word in placed), reverse=True)


def test_an_overlap_would_be_seen() -> None:
    one = Placed("a", 1, 10, 0, 0, 50, 10)
    assert overlaps([one, Placed("b", 1, 10, 49, 9, 50, 10)]) == [("b", "a")]
    assert overlaps([one, Placed("c", 1, 10, 50, 0, 50, 10)]) == []


def test_a_cloud_of_a_real_number_of_words_is_dense_quick_and_always_the_same() -> None:
    words = [(f"word{'x' * (n % 7)}{n}", 5000 // (n + 1) + 10) for n in range(120)]
    placed = layout(words, 1080, 380)
    assert len(placed) >= 100
    assert overlaps(placed) == []
    assert placed[0].word == "word0"
    assert placed[0].size > 3 * placed[-1].size
    assert word_cloud(words, title="t") == word_cloud(list(reversed(words)), title="t")


def test_drawn_words_are_as_wide_as_their_boxes() -> None:
    """``textLength`` makes a renderer keep to the width that was reckoned with, whatever its fonts."""
    root = ElementTree.fromstring(word_cloud([("boat & <sea>", 30), ("sail", 10)], title="Words"))
    boxes = {word.word: word for word in layout([("boat & <sea>", 30), ("sail", 10)], 1080, 366)}
    drawn = [text for text in root.iter(f"{SVG}text") if "textLength" in text.attrib]
    assert len(drawn) == 2
    for text in drawn:
        name = "".join(text.itertext()).rpartition(": ")[2].lstrip("0123456789,")
        assert float(text.attrib["textLength"]) < boxes[name].width
    assert ElementTree.fromstring(word_cloud([], title="none")).findtext(f"{SVG}title") == "none"


def test_size_goes_by_the_count() -> None:
    sizes = [font_size(count, 100, 1) for count in (1, 25, 50, 100)]
    assert sizes == sorted(set(sizes))
    assert font_size(7, 7, 7) > 0


def test_a_page_of_many_documents_holds_every_section() -> None:
    html = html_of(made("boats", [SENTENCE * (1 + n % 9) + str(n // 2) for n in range(60)]))
    checker = check(html)
    text = " ".join(checker.text)
    for part in ("What it speaks of", "Vocabulary coverage", "copies of another document", "English (en)"):
        assert part in text
    for part in ("Bytes of a row group", "What a block size costs", "Random documents", "Characters of a document"):
        assert part in text
    assert "<b>nobody</b>" not in html
    assert "b" not in checker.tags


@pytest.mark.parametrize("texts", [["one"], ["", "x"][1:] * 3, ["ünïcødé 漢字 \x00 \u202e"], ["1 2 3"]])
def test_a_page_of_hardly_anything_is_a_page(texts: list[str]) -> None:
    check(html_of(made("little", texts)))
    check(html_of(made("little", texts), made("other", [SENTENCE])))


def test_two_texts_stand_side_by_side() -> None:
    one = made("boats", [SENTENCE * (1 + n % 9) + str(n) for n in range(60)])
    other = made("trains", [f"A train left town with {n} people in it.\n" * (1 + n % 5) for n in range(40)])
    text = " ".join(check(html_of(one, other)).text)
    for part in ("boats against trains", "Most boats's own", "Most trains's own", "Words of boats", "Words of trains"):
        assert part in text
    assert "documents whose exact text the other has" in text
    assert "standard error" not in text, "both were read whole"


def test_a_sample_shows_its_errors() -> None:
    look = Look("sample", population=5000, wanted=60, seed=3, places=0)
    sampled = made("boats", [SENTENCE * (1 + n % 9) + str(n) for n in range(60)], look)
    text = " ".join(check(html_of(sampled)).text)
    for part in ("A sample: 60 of 5,000 documents", "standard error", "bytes of the whole", "95 %"):
        assert part in text
    assert "standard error" in " ".join(check(html_of(sampled, made("other", [SENTENCE]))).text)


@pytest.mark.parametrize("change", ["languages", "packing"])
def test_what_was_not_found_is_said_in_a_line(change: str) -> None:
    found = made("boats", [SENTENCE + str(n) for n in range(30)])
    found.record[change] = None if change == "languages" else []
    text = " ".join(check(html_of(found)).text)
    assert {"languages": "needs py3langid", "packing": "--tokenizer gpt2"}[change] in text


def lengths_of(*values: int) -> Lengths:
    found = Lengths()
    for value in values:
        found.add(value)
    return found


@pytest.mark.parametrize(
    "sides",
    [
        [lengths_of(1)],
        [lengths_of(*range(1, 500), 100_000)],
        [lengths_of(), lengths_of(5)],
        [lengths_of(*range(50)), lengths_of(*range(20, 90))],
        [lengths_of(7), lengths_of(7)],
        [lengths_of(0, 0), lengths_of(3, 1000, 90_000)],
    ],
)
def test_any_lengths_can_be_drawn(sides: list[Lengths]) -> None:
    named = [Side(str(n), lengths, n) for n, lengths in enumerate(sides)]
    svg = length_chart(named, title="t", unit="tokens", of="documents")
    assert ElementTree.fromstring(svg).attrib["role"] == "img"


def test_an_outline_holds_every_document() -> None:
    from folio.reports.exploration.lengths import _edges, _steps

    lengths = lengths_of(1, 1, 2, 9, 40, 41, 1000)
    for log in (False, True):
        _, ys = _steps(lengths, _edges(1, 1000, log))
        assert sum(ys[1:-1:2]) == pytest.approx(100)
