"""Preferences in any of their forms become pairs of answers to one prompt; nothing is lost uncounted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from play import PLAY
from preference_pairs import sets_of, write

from folio.errors import ConfigError, DataError, UserError
from folio.finetuning.config_data import DataConfig
from folio.finetuning.example_sets import example_sets
from folio.finetuning.preference.fields import preference_of
from folio.finetuning.preference.pair_sets import pair_sets
from folio.finetuning.preference.pairs import Pair
from folio.generation.engine import prompt_ids
from folio.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


USER, GOOD, BAD = turn("user", "Who?"), turn("assistant", "Romeo."), turn("assistant", "Nobody.")
SYSTEM, MORE = turn("system", "Speak."), turn("user", "And then?")
TEXTS = {"prompt": "Who?", "chosen": " Romeo.", "rejected": " Nobody."}
TURNS = {"prompt": (USER,), "chosen": (GOOD,), "rejected": (BAD,)}
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "texts": (TEXTS, TEXTS),
    "whole texts": ({"chosen": "Who? Romeo.", "rejected": "Who? Nobody."}, TEXTS),
    "turns": ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, TURNS),
    "a prompt in turns, answers in text": ({"prompt": [USER], "chosen": "Romeo.", "rejected": "Nobody."}, TURNS),
    "a prompt in text, answers in turns": ({"prompt": "Who?", "chosen": [GOOD], "rejected": [BAD]}, TURNS),
    "conversations": ({"chosen": [USER, GOOD], "rejected": [USER, BAD]}, TURNS),
    "conversations and their prompt": ({"prompt": "Who?", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, TURNS),
    "conversations and their turns": ({"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]}, TURNS),
    "a long conversation": (
        {"chosen": [SYSTEM, USER, BAD, MORE, GOOD], "rejected": [SYSTEM, USER, BAD, MORE, BAD]},
        {"prompt": (SYSTEM, USER, BAD, MORE), "chosen": (GOOD,), "rejected": (BAD,)},
    ),
    "parted at a question": (
        {"chosen": [USER, GOOD, USER, GOOD], "rejected": [USER, GOOD, MORE, BAD]},
        {"prompt": (USER,), "chosen": (GOOD, USER, GOOD), "rejected": (GOOD, MORE, BAD)},
    ),
    "equal conversations": (
        {"chosen": [USER, GOOD], "rejected": [USER, GOOD]},
        {"prompt": (USER,), "chosen": (GOOD,), "rejected": (GOOD,)},
    ),
}


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_tokenizer([PLAY] * 3, TokenizerConfig(kind="bpe", vocab_size=340))


def answers_of(pair: Pair, tokenizer: Tokenizer) -> tuple[str, str]:
    return tuple(tokenizer.decode(e.ids[e.learned].tolist()) for e in (pair.chosen, pair.rejected))  # type: ignore[return-value]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_preference_is_read(form: str) -> None:
    given, expected = FORMS[form]
    assert preference_of(given, "here") == expected


@settings(max_examples=300, deadline=None)
@given(st.text("ab \n", max_size=8), st.text("ab \n", max_size=6), st.text("ab \n", max_size=6))
def test_whole_texts_part_between_words_with_something_left_of_both(start: str, one: str, other: str) -> None:
    chosen, rejected = start + one, start + other
    found = preference_of({"chosen": chosen, "rejected": rejected}, "here")
    assert (found["prompt"] + found["chosen"], found["prompt"] + found["rejected"]) == (chosen, rejected)
    if found["prompt"]:
        assert not found["prompt"][-1].isspace()
        for answer in (found["chosen"], found["rejected"]):
            assert answer[0].isspace()
            assert answer.strip()


def test_answers_are_learned_with_their_end_and_their_prompt_is_what_generation_reads(
    bpe: Tokenizer, tmp_path: Path
) -> None:
    (pair,) = sets_of(tmp_path, [TEXTS], bpe).train
    assert pair.prompt_ids.tolist() == prompt_ids(bpe, "Who?")
    assert answers_of(pair, bpe) == (" Romeo.<|endoftext|>", " Nobody.<|endoftext|>")
    assert pair.chosen.ids[-1] == pair.rejected.ids[-1] == bpe.eot_id
    assert pair.length == len(pair.chosen.ids) + len(pair.rejected.ids) - 2


def test_without_a_prompt_answers_follow_an_end_of_text(bpe: Tokenizer, tmp_path: Path) -> None:
    (pair,) = sets_of(tmp_path, [{"prompt": "", "chosen": "Ay", "rejected": "No"}], bpe).train
    assert pair.prompt_ids.tolist() == [bpe.eot_id]
    assert answers_of(pair, bpe) == ("Ay<|endoftext|>", "No<|endoftext|>")


def test_turns_are_rendered_and_only_those_after_the_prompt_are_learned(bpe: Tokenizer, tmp_path: Path) -> None:
    record = FORMS["a long conversation"][0]
    sets = sets_of(tmp_path, [record], bpe, context=200)
    (pair,) = sets.train
    assert sets.template is not None
    assert sets.statistics.template == "plain"
    prompt = sets.template.render([SYSTEM, USER, BAD, MORE], add_generation_prompt=True)
    assert pair.prompt_ids.tolist() == bpe.encode(prompt, allowed_special=True)
    assert answers_of(pair, bpe) == (" Romeo.<|endoftext|>", " Nobody.<|endoftext|>")


TAGGED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}Assistant:{% generation %} {{ m.content }}"
    "{{ eos_token }}{% endgeneration %}{% else %}User: {{ m.content }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


@pytest.mark.parametrize("tagged", [False, True])
def test_of_turns_only_what_the_assistant_says_after_the_prompt_is_learned(
    bpe: Tokenizer, tmp_path: Path, tagged: bool
) -> None:
    (tmp_path / "tagged.jinja").write_text(TAGGED)
    template = str(tmp_path / "tagged.jinja") if tagged else None
    records = [FORMS["parted at a question"][0], FORMS["a long conversation"][0]]
    several, last = sets_of(tmp_path, records, bpe, context=200, template=template).train
    end = "<|endoftext|>"
    assert answers_of(several, bpe) == (f" Romeo.{end} Romeo.{end}", f" Romeo.{end} Nobody.{end}")
    assert answers_of(last, bpe) == (f" Romeo.{end}", f" Nobody.{end}")


def test_parquet_and_packed_files_give_the_same_pairs(bpe: Tokenizer, tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    records = [FORMS["conversations"][0], FORMS["a long conversation"][0]]
    expected = [pair.chosen.ids.tolist() for pair in sets_of(tmp_path, records, bpe, context=200).train]
    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "pairs.jsonl").read_bytes()))
    for name in ("a.parquet", "a.jsonl.gz"):
        sets = pair_sets(DataConfig(path=str(tmp_path / name), validation_fraction=0), bpe, 200)
        assert [pair.chosen.ids.tolist() for pair in sets.train] == expected


def many(count: int, answers: int) -> list[dict[str, str]]:
    return [
        {"prompt": f"Ask {n}", "chosen": f" Ay {answer}", "rejected": f" No {answer}"}
        for n in range(count)
        for answer in range(answers)
    ]


def test_a_prompt_is_on_one_side_only(bpe: Tokenizer, tmp_path: Path) -> None:
    sets = sets_of(tmp_path, many(60, 3), bpe, validation_fraction=0.3, test_fraction=0.2)
    prompts = [
        {bpe.decode(pair.prompt_ids.tolist()) for pair in side} for side in (sets.train, sets.validation, sets.test)
    ]
    assert sum(map(len, prompts)) == len(set.union(*prompts)) == 60
    assert all(prompts)
    assert [len(side) for side in (sets.train, sets.validation, sets.test)] == [3 * len(one) for one in prompts]


def test_of_files_given_apart_a_prompt_that_is_held_out_leaves_training(bpe: Tokenizer, tmp_path: Path) -> None:
    held = write(tmp_path / "held.jsonl", [{**TEXTS, "chosen": " Another."}])
    sets = sets_of(tmp_path, [TEXTS, *many(2, 1)], bpe, validation=str(held))
    assert [len(sets.train), len(sets.validation)] == [2, 1]
    assert sets.statistics.duplicates_across == 1
    kept = sets_of(tmp_path, [TEXTS, *many(2, 1)], bpe, validation=str(held), deduplicate=False)
    assert len(kept.train) == 3
    assert kept.statistics.duplicates_across == 1


def test_whatever_is_left_out_or_cut_is_counted(bpe: Tokenizer, tmp_path: Path) -> None:
    records = [
        *many(3, 1),
        {**TEXTS, "rejected": " "},
        {**TEXTS, "rejected": TEXTS["chosen"]},
        {**TEXTS, "chosen": " Romeo." * 30},
        {**TEXTS, "prompt": "Who? " * 30},
        {"prompt": "", "chosen": " Romeo." * 30 + " Ay", "rejected": " Romeo." * 30 + " No"},
        TEXTS,
        {**TEXTS, "prompt": " Who?  "},
    ]
    sets = sets_of(tmp_path, records, bpe, context=24)
    (side,) = sets.statistics.sides
    assert (side.documents, side.duplicates, side.empty, side.equal) == (9, 1, 1, 1)
    assert (side.pairs, side.truncated, side.dropped) == (5, 1, 2)
    assert len(sets.train) == 5
    cut = next(pair for pair in sets.train if pair.chosen.length == 24)
    assert cut.chosen.ids[-1] != bpe.eot_id
    assert cut.rejected.ids[-1] == bpe.eot_id
    assert side.tokens == sum(pair.length for pair in sets.train)
    assert side.learned_tokens == sum(int(p.chosen.learned.sum() + p.rejected.learned.sum()) for p in sets.train)
    (dropped,) = sets_of(tmp_path, records, bpe, context=24, too_long="drop").statistics.sides
    assert (dropped.pairs, dropped.truncated, dropped.dropped, dropped.cut_off_tokens) == (4, 0, 3, 0)
    (whole,) = sets_of(tmp_path, [records[5]], bpe, context=400).statistics.sides
    assert 0 < side.cut_off_tokens == whole.tokens - cut.length
    (facts,) = sets.statistics.facts()
    assert (facts["side"], facts["pairs"], facts["tokens"]) == ("train", 5, side.tokens)
    table = sets.statistics.rows()
    assert all(len(row) == len(sets.statistics.header()) == 2 for row in table)
    assert ["equal answers, left out", "1"] in table


def test_answers_may_be_held_shorter_than_the_context(bpe: Tokenizer, tmp_path: Path) -> None:
    record = {**TEXTS, "chosen": " Romeo." * 8}
    short = sets_of(tmp_path, [record], bpe, block_size=24, context=200)
    assert short.statistics.block_size == short.train[0].chosen.length == 24
    assert sets_of(tmp_path, [record], bpe, context=200).statistics.sides[0].truncated == 0
    with pytest.raises(ConfigError, match="block_size is 400"):
        sets_of(tmp_path, [record], bpe, block_size=400, context=200)


def test_an_empty_answer_in_turns_is_empty_whatever_was_answered_before(bpe: Tokenizer, tmp_path: Path) -> None:
    record = {"prompt": [USER, GOOD, MORE], "chosen": [GOOD], "rejected": [turn("assistant", " ")]}
    sets = sets_of(tmp_path, [record, TURNS], bpe, context=200)
    assert (len(sets.train), sets.statistics.sides[0].empty) == (1, 1)


def test_characters_that_a_char_tokenizer_lacks_are_refused_or_counted(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["Who? Romeo."], TokenizerConfig(kind="char"))
    with pytest.raises(DataError, match=r"pairs.jsonl', line 1: .*'N'"):
        sets_of(tmp_path, [TEXTS], tokenizer)
    sets = sets_of(tmp_path, [TEXTS], tokenizer, unknown_characters="drop")
    assert sets.statistics.sides[0].unknown_characters == len("Nbdy")
    assert answers_of(sets.train[0], tokenizer)[1] == " oo.<|endoftext|>"


BAD_RECORDS: dict[str, tuple[Any, str]] = {
    "no rejected answer": ({"prompt": "a", "chosen": "b"}, "line 2 has no field 'rejected'"),
    "a misspelt field": ({"prompt": "a", "chosen": "b", "rejectd": "c"}, "line 2 has no field 'rejected'"),
    "a number": ({"prompt": "a", "chosen": "b", "rejected": 3}, "line 2: 'rejected' is int, not text"),
    "null": ({"prompt": "a", "chosen": None, "rejected": "c"}, "line 2: 'chosen' is null, not text"),
    "an unknown role": ({"prompt": "a", "chosen": [turn("bot", "b")], "rejected": "c"}, "the role 'bot' is not known"),
    "turns among texts": (TURNS, "line 2 holds turns, 'pairs.jsonl', line 1 texts"),
    "no prompt for turns": ({"chosen": [GOOD], "rejected": [BAD]}, "line 2 has no prompt before its answers"),
    "nothing shared": ({"chosen": [USER, GOOD], "rejected": [MORE, BAD]}, "do not begin with the same turns"),
    "half a conversation": ({"chosen": [USER, GOOD], "rejected": [BAD]}, "do not begin with the same turns"),
    "another prompt": ({"prompt": "Why?", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, "begin with the prompt"),
    "another format": ({"text": "a"}, "line 2 has no field 'chosen'; it looks like text, the first like preference"),
}


@pytest.mark.parametrize("fault", BAD_RECORDS)
def test_a_bad_record_is_one_clear_line_with_its_place(bpe: Tokenizer, tmp_path: Path, fault: str) -> None:
    record, message = BAD_RECORDS[fault]
    with pytest.raises(DataError) as caught:
        sets_of(tmp_path, [TEXTS, record], bpe)
    assert message in caught.value.problem.replace(f"{tmp_path}/", "")
    assert "pairs.jsonl', line 2" in caught.value.problem
    assert caught.value.remedy
    assert "\n" not in caught.value.problem


REFUSED: dict[str, tuple[list[Any], dict[str, Any], type[UserError], str]] = {
    "only equal answers": ([{**TEXTS, "rejected": " Romeo."}], {}, DataError, "no pair is left for train: of 1 0 have"),
    "prompts as long as the context": (
        [{**TEXTS, "prompt": "Who? " * 90}],
        {},
        DataError,
        "1 do not fit a context of 48",
    ),
    "an unknown template": ([TURNS], {"template": "chatlm"}, ConfigError, "there is no template 'chatlm'"),
    "a template for texts": ([TEXTS], {"template": "chatml"}, DataError, "are texts, not turns"),
    "another thing to learn": ([TEXTS], {"learn": "last"}, ConfigError, "learn is last"),
    "answers that see each other": ([TEXTS], {"attend_across": True}, ConfigError, "never see each other"),
    "rows without packing": ([TEXTS], {"packing": False}, ConfigError, "each pair is a row of its own"),
    "no preferences": ([{"text": "Who?"}], {}, DataError, "holds text records, not preferences"),
    "nothing to hold out": ([TEXTS], {"validation_fraction": 0.1}, DataError, "no document falls to"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_leaves_nothing_to_learn_or_makes_no_sense_is_refused(bpe: Tokenizer, tmp_path: Path, case: str) -> None:
    records, options, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message) as caught:
        sets_of(tmp_path, records, bpe, **options)
    assert caught.value.remedy


def test_preferences_are_not_examples_to_imitate(bpe: Tokenizer, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [TEXTS])
    with pytest.raises(DataError, match="holds preferences"):
        example_sets(DataConfig(path=str(path), validation_fraction=0), bpe, 48)
    chat = write(tmp_path / "b.jsonl", [{**json.loads(json.dumps(TURNS)), "messages": [USER, GOOD]}])
    named = DataConfig(path=str(chat), format="chat", validation_fraction=0)
    assert len(example_sets(named, bpe, 48).train) == 1


def test_statistics_tell_how_often_the_longer_answer_is_preferred(bpe: Tokenizer, tmp_path: Path) -> None:
    long, short = " Romeo, Romeo.", " Ay."
    records = [{"prompt": f"{n}", "chosen": long, "rejected": short} for n in range(3)]
    records.append({"prompt": "last", "chosen": short, "rejected": long})
    (side,) = sets_of(tmp_path, records, bpe).statistics.sides
    assert side.chosen_longer == 0.75
    lengths = [len(bpe.encode(text)) + 1 for text in (long, short)]
    assert (side.median_chosen, side.median_rejected) == tuple(map(float, lengths))
    assert np.isclose(side.median_prompt, 1.0)
