"""Items of benchmarks planted in documents are found, each of them and no others, and go as was asked."""

from __future__ import annotations

import json
import pickle
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from folio.corpus import Document
from folio.corpus.ngrams import words_of
from folio.corpus.quality import Contamination, ContaminationConfig, QualityConfig, QualityReport, QualitySteps
from folio.corpus.quality.contamination import _widened
from folio.errors import DataError

VOCABULARY = [f"{first}{middle}{last}" for first in "bdfgklmn" for middle in "aeiou" for last in "lnrst"]
CUT = ContaminationConfig(action="cut")


def prose(seed: int, words: int) -> str:
    """Sentences of words drawn anew: two runs of 13 are equal once in 10^30 times."""
    draw = random.Random(seed)
    drawn = [draw.choice(VOCABULARY) for _ in range(words)]
    return " ".join(
        word.capitalize() + "." * (number % 9 == 8) if number % 9 in (0, 8) else word
        for number, word in enumerate(drawn)
    )


def inside(text: str, planted: str) -> str:
    words = text.split(" ")
    return " ".join([*words[: len(words) // 2], planted, *words[len(words) // 2 :]])


ITEMS = {f"q{number}": [prose(1000 + number, 30)] for number in range(40)}
BENCHMARK = Contamination({"quiz": ITEMS})
DISGUISES: dict[str, Callable[[str], str]] = {
    "verbatim": lambda text: text,
    "capitals": str.upper,
    "without punctuation": lambda text: text.replace(".", "").lower(),
    "quoted, with dashes": lambda text: "“" + text.replace(" ", " — ") + "”",
    "one word a line": lambda text: "\r\n\t".join(text.split()),
    "thirteen words of it": lambda text: " ".join(text.split()[9:22]),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_every_planted_item_goes_and_no_other_document(disguise: str) -> None:
    planted = {f"d{3 * number}": item for number, item in enumerate(ITEMS)}
    documents = []
    for number in range(150):
        text = prose(number, 2000 if number % 2 else 40)
        if item := planted.get(f"d{number}"):
            text = inside(text, DISGUISES[disguise](ITEMS[item][0]))
        documents.append(Document(f"d{number}", text, "here"))
    report = QualityReport()
    kept = [one.id for one in QualitySteps(QualityConfig(), BENCHMARK).walk(lambda: documents, report)]
    assert kept == [one.id for one in documents if one.id not in planted]
    assert report.met == {"quiz": set(ITEMS)}
    assert {key: tally.documents for key, tally in report.dropped.items()} == {
        ("contamination", "holds items of quiz"): len(ITEMS)
    }


def test_near_misses_stay() -> None:
    """Twelve words of thirteen; thirteen with one changed, left out, put in, or cut in two; all in another order."""
    words = ITEMS["q0"][0].split()
    misses = {
        "twelve": words[:12],
        "changed": [*words[:12], "other", *words[13:24]],
        "left out": [*words[:12], *words[13:24]],
        "put in": [*words[:12], "other", *words[12:24]],
        "cut": [*words[:12], words[12][:2], words[12][2:], *words[13:24]],
        "reversed": words[::-1],
    }
    for name, miss in misses.items():
        assert BENCHMARK.fault(inside(prose(0, 100), " ".join(miss))) is None, name
    assert BENCHMARK.fault(inside(prose(0, 100), " ".join(words[:13]))) is not None


def test_a_fault_names_benchmark_items_gram_and_place() -> None:
    text = inside(prose(0, 3000), ITEMS["q7"][0])
    fault = BENCHMARK.fault(text)
    assert fault is not None
    assert fault.reason == "holds items of quiz"
    assert fault.found == f"q7: '{' '.join(words_of(ITEMS['q7'][0])[:13])}'"
    assert text[fault.at :].startswith(ITEMS["q7"][0])


def test_items_that_share_what_was_found_are_all_met_and_benchmarks_kept_apart() -> None:
    shared = prose(5, 20)
    both = Contamination({"one": {"a": [shared], "b": [shared + " " + prose(6, 5)]}, "two": {"a": [shared]}})
    verdict = both.verdict(f"First {shared}")
    assert verdict.met == (("one", "a"), ("one", "b"), ("two", "a"))
    assert verdict.fault is not None
    assert verdict.fault.reason == "holds items of one"
    assert verdict.fault.found.startswith("a, b: ")


def test_a_question_is_found_with_its_own_answer_alone() -> None:
    """Neither part is long enough by itself, and grams do not run from one text into the next."""
    question, right, wrong = prose(1, 9), prose(2, 7), prose(3, 7)
    benchmark = Contamination({"quiz": {"1": [f"{question} {right}"]}})
    assert benchmark.fault(f"{question} {right}") is not None
    assert benchmark.fault(f"{question} {wrong}") is None
    assert benchmark.fault(f"{right} {question}") is None


def test_short_items_are_counted_and_a_benchmark_of_none_but_them_is_refused() -> None:
    benchmark = Contamination({"quiz": {"1": [prose(1, 9)], "2": ["too short"]}})
    about = benchmark.describe()["benchmarks"]["quiz"]
    assert about == {"items": 2, "too_short": 1, "grams": 1}
    assert benchmark.fault("x " + prose(1, 9)) is not None
    with pytest.raises(DataError, match="none of the 1 items of 'quiz' has 8 words"):
        Contamination({"fine": {"1": [prose(1, 9)]}, "quiz": {"2": ["too short"]}})


def test_the_fingerprint_is_of_what_decides_and_survives_being_sent() -> None:
    sent = pickle.loads(pickle.dumps(BENCHMARK))
    text = inside(prose(0, 300), ITEMS["q3"][0])
    assert sent.verdict(text) == BENCHMARK.verdict(text)
    assert sent.fingerprint == BENCHMARK.fingerprint == Contamination({"quiz": dict(ITEMS)}).fingerprint
    others = [
        Contamination({"quiz": {**ITEMS, "more": [prose(1, 9)]}}),
        Contamination({"other": ITEMS}),
        *(Contamination({"quiz": ITEMS}, ContaminationConfig(**one)) for one in ({"n": 12}, {"min_words": 7})),
        Contamination({"quiz": ITEMS}, CUT),
    ]
    assert len({BENCHMARK.fingerprint, *(other.fingerprint for other in others)}) == 6
    assert json.loads(json.dumps(BENCHMARK.describe())) == BENCHMARK.describe()


def test_cutting_takes_out_what_was_found_and_200_characters_around() -> None:
    before, after = prose(1, 200), prose(2, 200)
    verdict = Contamination({"quiz": ITEMS}, CUT).verdict(f"{before}\n{ITEMS['q1'][0]}\n{after}")
    assert verdict.fault is None
    assert verdict.met == (("quiz", "q1"),)
    assert [(change.reason, change.hits) for change in verdict.changes] == [("passage with items of quiz", 1)]
    first, second = verdict.text.split("\n\n")
    assert before.startswith(first)
    assert after.endswith(second)
    assert before[len(first)].isspace()
    assert after[-len(second) - 1].isspace()
    for lost in (len(before) - len(first), len(after) - len(second)):
        assert 200 <= lost < 200 + 10  # to the next white space
    assert verdict.changes[0].at == len(first)


def test_cutting_drops_short_pieces_and_documents_of_many() -> None:
    cut = Contamination({"quiz": ITEMS}, CUT)
    item, long, short = ITEMS["q1"][0], prose(1, 300), prose(2, 120)
    assert 400 < len(short) < 600
    kept = cut.verdict(f"{long} {item} {short} {item} {long}")
    assert kept.text.count("\n\n") == 1  # of the middle fewer than 200 characters would be left
    assert kept.changes[0].hits == 2
    ten, eleven = (f" {item} ".join([long] * pieces) for pieces in (10, 11))
    assert cut.verdict(ten).text.count("\n\n") == 9
    assert cut.fault(ten) is None
    assert cut.fault(eleven) is not None
    assert cut.fault(f"{short[:300]} {item}") is not None


def test_what_is_cut_out_overlaps_in_any_way() -> None:
    text = "word " * 2000
    assert _widened(text, [(1000, 4000), (1500, 1600), (4300, 4400), (9900, 9995)]) == [(800, 4604), (9700, 10_000)]


def test_nothing_that_is_cut_out_is_left_or_made() -> None:
    """Where the pieces meet there may be an item again; then the document goes."""
    item = ITEMS["q1"][0]
    halves = item.split()[:8], item.split()[8:16]
    cut = Contamination({"quiz": ITEMS}, CUT)
    faults = 0
    for words in range(60, 75):
        filled = [*halves[0], *["la"] * words, ITEMS["q2"][0], *["la"] * words, *halves[1]]
        verdict = cut.verdict(" ".join([prose(1, 100), *filled, prose(4, 100)]))
        assert verdict.fault is not None or cut.fault(verdict.text) is None
        faults += verdict.fault is not None
    assert 0 < faults < 15


def test_steps_and_benchmarks_follow_the_same_settings() -> None:
    with pytest.raises(AssertionError):
        QualitySteps(QualityConfig(contamination=CUT), BENCHMARK)


@pytest.mark.slow
def test_real_items_in_real_novels(shared_data: Callable[[str], Path]) -> None:
    """Of 5,000 HellaSwag items 50 are planted in one of ten novels: those are met, and no novel goes without one."""
    records = [json.loads(line) for line in shared_data("hellaswag_val_0-4999.jsonl").read_text().splitlines()]
    items = {str(one["ind"]): [f"{one['ctx']} {one['endings'][int(one['label'])]}"] for one in records}
    benchmark = Contamination({"hellaswag": items})
    novels = []
    with tarfile.open(shared_data("novels.tar.xz")) as archive:
        for member in archive:
            if member.name.endswith(".txt") and (file := archive.extractfile(member)) and len(novels) < 10:
                novels.append(file.read().decode())
    assert [novel for novel in novels if benchmark.fault(novel)] == []
    planted = list(items)[::100]
    text = novels[0]
    for number, item in enumerate(planted):
        at = text.index(" ", 2000 * (number + 1))
        text = text[:at] + "\n" + items[item][0].upper().replace(" ", "\n ") + "\n" + text[at:]
    own = {gram for item in planted for gram in zip(*(words_of(items[item][0])[at:] for at in range(13)), strict=False)}
    sharing = {
        item
        for item, (one,) in items.items()
        if own & set(zip(*(words_of(one)[at:] for at in range(13)), strict=False))
    }
    assert {id for _, id in benchmark.verdict(text).met} == sharing >= set(planted)
