"""Questions: items as texts to score under one convention, with few-shot examples in front where asked for."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from folio.errors import ConfigError, DataError
from folio.evaluation.tasks.description import Convention
from folio.evaluation.tasks.items import Item
from folio.evaluation.tasks.template import Template, clean


@dataclass(frozen=True)
class Question:
    """What a model is given and what is scored after it.

    ``contexts`` is one for all endings or one per ending. ``endings`` are as scored, leading space included, and
    ``lengths`` their characters without it: what acc_norm divides by under "characters".
    """

    id: str
    contexts: tuple[str, ...]
    endings: tuple[str, ...]
    label: int
    lengths: tuple[int, ...]


def questions_of(
    items: Sequence[Item], convention: Convention, num_fewshot: int, shots: Sequence[Item] | None, seed: int
) -> list[Question]:
    """The items' questions, in order.

    The examples of an item depend on the seed, its number in its file and the number of ``shots``; of items in between
    that are not asked, the draws are made and thrown away. Only where one of those fills the shots so often that it
    would be drawn for again (see :func:`_draws`), which its record alone tells, are later examples other than in the
    whole file. :class:`ConfigError` if there can be no examples, :class:`DataError`, naming the item's place, for one
    that makes an ending of no characters.
    """
    if num_fewshot < 0:
        raise ConfigError(f"num_fewshot = {num_fewshot}: must be 0 or more")
    if not num_fewshot:
        return [_question(item, convention, "") for item in items]
    if convention.shots == "none":
        raise ConfigError(f"convention '{convention.name}' has no few-shot examples", "Leave --num-fewshot at 0.")
    needed = num_fewshot + (convention.shots == "others")
    if shots is None or len(shots) < needed:
        problem = f"{num_fewshot} few-shot examples are drawn from at least {needed} items, not {len(shots or ()):,}"
        raise ConfigError(problem, "Give a file with more of them: --shots-from FILE, or ask for fewer.")
    drawn = dict(_draws(items, shots, convention, num_fewshot, seed))
    examples = {index: _shot(shots[index], convention) for index in set().union(*drawn.values())}
    return [_question(item, convention, "".join(examples[index] for index in drawn[item.number])) for item in items]


def _draws(
    items: Sequence[Item], shots: Sequence[Item], convention: Convention, count: int, seed: int
) -> Iterator[tuple[int, list[int]]]:
    """For each item's number the shots drawn for it, one stream of random numbers for the whole file.

    "others" compares whole records. If the item is among the shots more than once, so that too few are left, it is
    drawn again from all shots that differ.
    """
    rng = random.Random(seed)
    by_number: Mapping[int, Item] = {item.number: item for item in items}
    for number in range(max(by_number) + 1):
        picked = rng.sample(range(len(shots)), count + (convention.shots == "others"))
        item = by_number.get(number)
        if item is None:
            continue
        if convention.shots == "others":
            picked = [index for index in picked if shots[index].record != item.record][:count]
            if len(picked) < count:
                others = [index for index, shot in enumerate(shots) if shot.record != item.record]
                if len(others) < count:
                    raise DataError(
                        f"{item.place}: only {len(others)} few-shot examples differ from this item, {count} are needed",
                        "Give other examples: --shots-from FILE.",
                    )
                picked = rng.sample(others, count)
        yield number, picked


def _question(item: Item, convention: Convention, opening: str) -> Question:
    endings = _render(item, convention.ending)
    lengths = tuple(len(ending.removeprefix(" ")) for ending in endings)
    for number, ending in enumerate(endings):
        if not ending.strip():
            which = f"ending {number} (from 0)" if item.endings else "the last word"
            raise DataError(f"{item.place}: {which} is empty under '{convention.name}'", "Mend or remove the line.")
    contexts = tuple(opening + context for context in _contexts(item, convention))
    return Question(item.id, contexts, endings, item.label, lengths)


def _shot(item: Item, convention: Convention) -> str:
    """One example: the item with its right ending."""
    context = _contexts(item, convention)[item.label if convention.context_per_ending else 0]
    values = {"context": context, "ending": _render(item, convention.ending)[item.label]}
    return Template.parse(convention.shot).render(values)


def _contexts(item: Item, convention: Convention) -> tuple[str, ...]:
    rendered = _render(item, convention.context)
    cleaned = tuple(clean(context, convention.clean) for context in rendered)
    return cleaned if convention.context_per_ending else cleaned[:1]


def _render(item: Item, text: str) -> tuple[str, ...]:
    """The template for each ending in turn, or once where there are none."""
    template = Template.parse(text)
    try:
        return tuple(template.render({**item.texts, "ending": ending}) for ending in item.endings or ("",))
    except ValueError as error:
        raise DataError(f"{item.place}: {error}", "Mend or remove the line.") from None
