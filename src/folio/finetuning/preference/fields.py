"""What a preference record may look like, brought to one of two forms: all three fields texts, or all three turns.

``prompt``, ``chosen`` and ``rejected`` may each be a text or a list of turns, and ``chosen`` and ``rejected`` may be
whole texts or conversations that begin alike; what they share is then the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from folio.errors import DataError
from folio.finetuning.fields import messages_of, text_of

Turns = tuple[dict[str, str], ...]


def preference_of(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``prompt``, ``chosen`` and ``rejected`` of a record: three texts, or three tuples of turns.

    Of turns the answers begin with one of the assistant. :class:`DataError` for what is neither text nor turns, and for
    answers without a prompt that both begin with.
    """
    given = {name: fields.get(name) for name in ("prompt", "chosen", "rejected")}
    if any(isinstance(value, list | tuple) for value in given.values()):
        return _of_turns(given, where)
    chosen, rejected = (text_of(given[name], name, where) for name in ("chosen", "rejected"))
    if given["prompt"] is not None:
        return {"prompt": text_of(given["prompt"], "prompt", where), "chosen": chosen, "rejected": rejected}
    place = _parting(chosen, rejected)
    return {"prompt": chosen[:place], "chosen": chosen[place:], "rejected": rejected[place:]}


def _parting(chosen: str, rejected: str) -> int:
    """Where two texts part: before the white space that stands before the first word in which they differ.

    Something is left of both. White space goes to the answers, as the tokens of most vocabularies have it.
    """
    shorter = min(len(chosen.rstrip()), len(rejected.rstrip()))
    shared = next((place for place in range(shorter) if chosen[place] != rejected[place]), shorter)
    last = min(shared, shorter - 1)
    for place in range(last, 0, -1):
        if chosen[place].isspace() and rejected[place].isspace() and not chosen[place - 1].isspace():
            return place
    return 0


def _of_turns(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    chosen, rejected = _answer(given["chosen"], "chosen", where), _answer(given["rejected"], "rejected", where)
    prompt = given["prompt"]
    if chosen[0]["role"] == rejected[0]["role"] == "assistant":
        if prompt is None:
            raise DataError(f"{where} has no prompt before its answers", "Give one as 'prompt'.")
        asked = ({"role": "user", "content": text_of(prompt, "prompt", where)},) if isinstance(prompt, str) else None
        return {
            "prompt": asked or messages_of(prompt, where, "prompt"),
            "chosen": chosen,
            "rejected": rejected,
        }
    place = _parting_turn(chosen, rejected)
    if not place:
        raise DataError(
            f"{where}: chosen and rejected do not begin with the same turns and then an assistant's",
            "Give conversations that part at an answer, or the answers alone and their prompt.",
        )
    _check_prompt(prompt, chosen[:place], where)
    return {"prompt": chosen[:place], "chosen": chosen[place:], "rejected": rejected[place:]}


def _answer(given: object, name: str, where: str) -> Turns:
    if isinstance(given, str):
        return ({"role": "assistant", "content": text_of(given, name, where)},)
    return messages_of(given, where, name)


def _parting_turn(chosen: Turns, rejected: Turns) -> int:
    """The number of turns that both begin with, up to an assistant's; 0 if there is none to part at."""
    shorter = min(len(chosen), len(rejected))
    shared = next((place for place in range(shorter) if chosen[place] != rejected[place]), shorter - 1)
    parting = (
        place for place in range(shared, 0, -1) if chosen[place]["role"] == rejected[place]["role"] == "assistant"
    )
    return next(parting, 0)


def _check_prompt(prompt: object, shared: Turns, where: str) -> None:
    """A prompt that stands beside whole conversations must be theirs."""
    if isinstance(prompt, str):
        if any(turn["content"].strip() == prompt.strip() for turn in shared):
            return
    elif prompt is None or messages_of(prompt, where, "prompt") == shared:
        return
    raise DataError(
        f"{where}: the conversations do not begin with the prompt", "Leave prompt out: what they share stands for it."
    )
