"""The steps together: their order, what they count, that they stream, and that reports of processes join."""

from __future__ import annotations

import gc
import json
import pickle
from collections.abc import Iterator
from functools import reduce
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.config import build, to_toml
from folio.corpus import Document
from folio.corpus.quality import (
    C4Config,
    Contamination,
    ContaminationConfig,
    QualityConfig,
    QualityReport,
    QualitySteps,
    joined,
)
from folio.corpus.quality.report import COLUMNS, EXAMPLE_COLUMNS, EXAMPLES
from folio.corpus.quality.steps import ORDER
from folio.errors import ConfigError

PROSE = "It is said that the best of times be with those to have them, and number {} of the old books agrees."
THREE_WORDS = ContaminationConfig(n=3, min_words=3)
BENCHMARK = Contamination({"riddles": {"r1": ["holds an item"], "r2": ["is nowhere here"]}}, THREE_WORDS)
EVERYTHING = QualityConfig(
    min_words=5,
    languages=("en",),
    gopher_repetition=True,
    c4=C4Config(terminal_punctuation=True, curly_bracket=True),
    contamination=THREE_WORDS,
    scrub_emails=True,
    scrub_ips=True,
    duplicates="exact",
)


def documents(count: int = 60) -> Iterator[Document]:
    """Of ten documents six stay, two of them changed."""
    for number in range(count):
        text = PROSE.format(number)
        texts = {
            1: "too short",
            2: "Es war die beste aller Zeiten, und niemand wusste, welche es war.",
            3: text + " {",
            4: f"{text}\nMenu\nWrite to jane@doe.org or 8.8.8.8 and to joe@doe.org.",
            5: PROSE.format("one"),
            6: PROSE.format("one"),
            7: f"{text} It holds an item.",
        }
        yield Document(str(number), texts.get(number % 10, text), f"file-{number % 3}")


def run(config: QualityConfig = EVERYTHING, count: int = 60) -> tuple[list[Document], QualityReport]:
    report = QualityReport()
    steps = QualitySteps(config, contaminated=BENCHMARK)
    return list(steps.walk(lambda: documents(count), report)), report


def test_every_document_is_kept_or_counted_under_one_reason() -> None:
    kept, report = run()
    dropped = {key: tally.documents for key, tally in report.dropped.items()}
    assert dropped == {
        ("length", "too few words"): 6,
        ("language", "other language"): 6,
        ("c4", "curly bracket"): 6,
        ("contamination", "holds items of riddles"): 6,
        ("duplicates", "duplicate"): 11,
    }
    assert report.met == {"riddles": {"r1"}}
    assert report.documents == 60 == report.kept + report.dropped_documents
    assert report.kept == len(kept) == 25
    assert report.characters == sum(len(document.text) for document in documents())
    assert report.kept_characters == sum(len(document.text) for document in kept)
    lost = sum(tally.characters for tallies in (report.dropped, report.changed) for tally in tallies.values())
    assert report.characters == report.kept_characters + lost


def test_changes_are_made_and_counted() -> None:
    kept, report = run()
    changed = {key: (tally.documents, tally.hits) for key, tally in report.changed.items()}
    assert changed == {
        ("c4", "line without terminal punctuation"): (6, 6),
        ("personal", "e-mail address"): (6, 12),
        ("personal", "IPv4 address"): (6, 6),
    }
    text = next(document.text for document in kept if document.id == "4")
    assert text == f"{PROSE.format(4)}\nWrite to email@example.com or 192.0.2.1 and to email@example.com."


def test_without_a_step_documents_pass_as_they_are() -> None:
    report = QualityReport()
    given = list(documents())
    kept = list(QualitySteps(QualityConfig()).walk(lambda: given, report))
    assert all(one is other for one, other in zip(kept, given, strict=True))
    assert (report.steps, report.dropped, report.changed) == ((), {}, {})


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        ({"max_characters": 9}, "length"),
        ({"languages": ("en",)}, "language"),
        ({"gopher": True}, "gopher"),
        ({"gopher_repetition": True}, "repetition"),
        ({"c4": C4Config(javascript=True)}, "c4"),
        ({"scrub_ips": True}, "personal"),
        ({"duplicates": "near"}, "duplicates"),
    ],
)
def test_each_setting_turns_its_step_on_alone(settings: dict[str, Any], step: str) -> None:
    assert QualitySteps(QualityConfig(**settings)).names == (step,)


def test_steps_stand_in_the_documented_order() -> None:
    steps = QualitySteps(EVERYTHING.model_copy(update={"gopher": True}), BENCHMARK)
    assert steps.names == ORDER


def test_a_document_that_is_dropped_takes_no_duplicate_with_it() -> None:
    long = PROSE.format(1) + " " + PROSE.format(2)
    given = [Document("long", long + " Yet more is here.", "x"), Document("short", long + " Yet more is.", "x")]
    config = QualityConfig(max_characters=len(long) + 15, duplicates="near")
    assert [one.id for one in QualitySteps(config).walk(lambda: given, QualityReport())] == ["short"]


@pytest.mark.parametrize("duplicates", ["exact", "near"])
def test_documents_are_walked_one_at_a_time(duplicates: str) -> None:
    """However many there are, no more than two are alive while the walk is under way."""
    read = 0

    def counted() -> Iterator[Document]:
        nonlocal read
        for document in documents(400):
            read += 1
            yield document

    def alive() -> int:
        return sum(type(held) is Document for held in gc.get_objects())

    gc.collect()
    before = alive()
    steps = QualitySteps(EVERYTHING.model_copy(update={"duplicates": duplicates}))
    most = 0
    for number, _ in enumerate(steps.walk(counted, QualityReport())):
        if number % 25 == 0:
            most = max(most, alive() - before)
        if duplicates == "exact" and number == 0:
            assert read == 1
    assert read == 400 * (1 if duplicates == "exact" else 3)
    assert most <= 2


def test_a_report_holds_a_few_examples_however_many_documents() -> None:
    small, large = run(count=60)[1], run(count=600)[1]
    for report in (small, large):
        tallies = [*report.dropped.values(), *report.changed.values()]
        assert {len(tally.examples) for tally in tallies} == {EXAMPLES}
    assert small.dropped.keys() == large.dropped.keys()


def shares(workers: int) -> list[QualityReport]:
    """Reports of processes that share the documents out; all but the search for duplicates."""
    config = EVERYTHING.model_copy(update={"duplicates": "keep"})
    reports = []
    for worker in range(workers):
        reports.append(QualityReport())
        given = (document for number, document in enumerate(documents()) if number % workers == worker)
        steps = QualitySteps(config, BENCHMARK)
        assert list(steps.walk(lambda given=given: given, reports[-1])) is not None  # type: ignore[misc]
    return reports


def test_reports_of_any_number_of_processes_join_to_the_same() -> None:
    (alone,) = shares(1)
    for order in permutations(shares(3)):
        assert joined(order) == alone
    one, two, three = shares(3)
    assert (one + two) + three == one + (two + three) == reduce(lambda left, right: right + left, (one, two, three))
    assert QualityReport() + alone == alone + QualityReport() == alone


def test_a_report_survives_json_and_pickle() -> None:
    report = run()[1]
    assert QualityReport.from_record(json.loads(json.dumps(report.record()))) == report
    assert pickle.loads(pickle.dumps(report)) == report


def test_rows_for_a_terminal_and_a_page() -> None:
    report = run()[1]
    rows = report.rows()
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert rows[0][:4] == ("read", "", "60", "100.00%")
    assert rows[-1][:4] == ("kept", "", "25", "41.67%")
    assert ("repetition", "nothing", "0", "0.00%", "0", "") in rows
    assert [row[0] for row in rows[1:-1]] == sorted((row[0] for row in rows[1:-1]), key=ORDER.index)
    examples = report.example_rows()
    assert {len(row) for row in examples} == {len(EXAMPLE_COLUMNS)}
    assert ("length", "dropped: too few words", "file-1: 1", "2 words", "too short") in examples


def test_examples_show_no_address_that_the_text_is_scrubbed_of() -> None:
    given = [Document("1", "Ask jane@doe.org at 8.8.8.8 {", "x"), Document("2", "Ask joe@doe.org again.", "x")]
    config = QualityConfig(c4=C4Config(curly_bracket=True), scrub_emails=True, scrub_ips=True)
    report = QualityReport()
    list(QualitySteps(config).walk(lambda: given, report))
    shown = " ".join(row[-1] for row in report.example_rows())
    assert "doe.org" not in shown
    assert "8.8.8.8" not in shown
    assert "Ask email@example.com at 192.0.2.1 {" in shown


@given(st.lists(st.text(max_size=200), max_size=8))
def test_any_text_passes_through_every_step(texts: list[str]) -> None:
    config = EVERYTHING.model_copy(update={"min_words": 0, "languages": (), "gopher": True, "duplicates": "near"})
    report = QualityReport()
    given = [Document(str(number), text, "x") for number, text in enumerate(texts)]
    kept = list(QualitySteps(config).walk(lambda: given, report))
    assert report.documents == len(texts) == len(kept) + report.dropped_documents


def test_a_recipe_says_what_is_wrong_with_it() -> None:
    assert build(QualityConfig, {"duplicates": "near", "near": {"bands": 14, "rows": 8}}).near.bands == 14
    with pytest.raises(ConfigError, match="did you mean gopher_repetition"):
        build(QualityConfig, {"gopher_repetitions": True})
    assert to_toml(EVERYTHING).count("[") >= 3
