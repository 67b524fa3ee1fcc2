"""The plays come out as speakers, speech, and bracketed directions, with nothing of their Markdown left."""

from __future__ import annotations

import re

from folio.corpus import Corpus
from folio.corpus.plays import plain_play
from folio.corpus.table import NAMED


def test_each_kind_of_block_has_its_form() -> None:
    markdown = """# A Play

## ACT I

### SCENE I. A wood. Three lords and

a bear.

_Enter ANNA, with
BEN_

**ANNA**~~
_\\[Aside to BEN]_
One verse,~~
and another.

**Second Lord**~~
__\\[Awaking]_
'Who?'\\--said he.

_Exit_
""".replace("~", " ")
    assert plain_play(markdown) == (
        "[ACT I]\n\n[SCENE I. A wood. Three lords and a bear.]\n\n[Enter ANNA, with BEN]\n\n"
        "ANNA:\n[Aside to BEN]\nOne verse,\nand another.\n\n"
        "Second Lord:\n[Awaking]\n'Who?'--said he.\n\n[Exit]\n"
    )


def test_speech_that_goes_on_after_a_direction_stays_one_turn() -> None:
    assert plain_play("**ANNA**  \nFirst.\n\n_Thunder_\n\nSecond.\n\n**BEN**  \nThird.\n") == (
        "ANNA:\nFirst.\n[Thunder]\nSecond.\n\nBEN:\nThird.\n"
    )


def test_slips_of_the_source_are_repaired() -> None:
    assert plain_play("BISHOP\n\n**OF WINCHESTER**  \nI sha$l, &amp; c.\n") == "BISHOP OF WINCHESTER:\nI shall, &c.\n"
    assert plain_play("**ANNA**  \nOne.  \nMaster-Gunner Two.\n") == "ANNA:\nOne.\n\nMaster-Gunner:\nTwo.\n"
    assert (
        plain_play("**ANNA**  \n[_[Within]_  \nNay — go; and ever _\\[ ]_\n") == "ANNA:\n[Within]\nNay--go; and ever\n"
    )
    assert plain_play("**ANNA**  \nOne.\n\nCYMBELINE\n\n### SCENE II. Rome.\n") == "ANNA:\nOne.\n\n[SCENE II. Rome.]\n"


def test_38_real_plays_are_clean(plays: Corpus) -> None:
    documents = list(plays.documents())
    text = "".join(document.text for document in documents)
    assert len(documents) == 38
    assert len(text) == 4_996_806
    assert len(set(text)) == 78
    assert text.isascii()
    assert not set("_*#\\$") & set(text)
    assert [document.id for document in documents] == sorted(document.id for document in documents)


def test_real_plays_are_turns_and_brackets(plays: Corpus) -> None:
    turn = re.compile(r"[^\n:\[\]]+:\n[^\n]|\[[^\[\]]*\]$")
    strays = [
        paragraph
        for document in plays.documents()
        for paragraph in document.text.rstrip("\n").split("\n\n")
        if not turn.match(paragraph)
    ]
    assert len(strays) < 10  # soliloquies whose speaker the source does not name
    for document in plays.documents():
        assert "[" not in re.sub(r"\[[^\[\]]*\]", "", document.text), document.id
        assert not re.search(r" $|\n\n\n", document.text, re.MULTILINE), document.id


def test_a_comedy_a_tragedy_a_history_and_a_romance_are_held_out(plays: Corpus) -> None:
    held_out = list(plays.documents("val"))
    assert tuple(document.id for document in held_out) == NAMED["shakespeare"].validation
    kinds = {document.source.split("/")[-2] for document in held_out}
    assert kinds == {"comedies", "tragedies", "histories", "romances"}
    train = sum(len(document.text) for document in plays.documents("train"))
    val = sum(len(document.text) for document in held_out)
    assert 0.09 < val / (train + val) < 0.11
