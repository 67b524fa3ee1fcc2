"""Which characters of a rendered conversation its assistant wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from folio.errors import DataError
from folio.finetuning.config_data import Learn
from folio.finetuning.templates import END, START, ChatTemplate, Messages
from folio.tokenizer import Tokenizer

PROBE = "\ufdd2"
"""A noncharacter, as START and END are."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text that is encoded on its own, and whether its tokens are learned."""

    text: str
    learned: bool


def turns(template: ChatTemplate, messages: Messages, learn: Learn, after: int = 0) -> list[Segment]:
    """The rendered conversation in pieces; the text of all together is what transformers renders.

    ``after``: answers among the first so many turns are not learned.

    Where the template has ``{% generation %}`` tags, an answer is what stands between them. Where it has none, it is
    what rendering one more turn adds to the text that generation would begin from; the mark that ends the turn belongs
    to it, white space after that mark does not. A template that renders earlier turns otherwise once later ones follow
    (Qwen3 takes their thoughts out) is refused with :class:`DataError` unless only the last answer is learned.
    """
    answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    answers = [place for place in answers if place >= after]
    if learn == "everything" or not answers:
        return [Segment(template.render(messages), learn == "everything")]
    if any(mark in message["content"] for mark in (START, END, PROBE) for message in messages):
        raise DataError("a turn holds U+FDD0, U+FDD1 or U+FDD2, which are no characters", "Remove them.")
    chosen = answers[-1:] if learn == "last" else answers
    marked = template.marked(messages)
    if START not in marked:
        return _cut(marked, [_span(template, messages, marked, place) for place in chosen])
    text, spans = _between_marks(marked)
    probed = _probed(template, messages, chosen[0] if after else chosen[-1])
    if learn == "last" or after:  # tags may cut a turn into several spans: all that end behind its content's beginning
        content = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, probed, strict=False)))
        spans = [span for span in spans if span[1] > content]
    return _cut(text, spans)


def refuse_special_tokens(messages: Messages, tokenizer: Tokenizer) -> None:
    """:class:`DataError` for one that a turn writes: it would be read as the template's own mark."""
    for message in messages:
        for token in tokenizer.special_ids:
            if token in message["content"]:
                raise DataError(
                    f"a turn of the {message['role']} writes the special token '{token}', which would act as one",
                    "Remove it from the text.",
                )


def _between_marks(marked: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without its marks, and where in it the answers stand."""
    parts = marked.split(START)
    text, spans = parts[0], []
    for part in parts[1:]:
        answer, _, after = part.partition(END)
        spans.append((len(text), len(text) + len(answer)))
        text += answer + after
    return text, spans


def _span(template: ChatTemplate, messages: Messages, text: str, place: int) -> tuple[int, int]:
    """Where in ``text``, the whole conversation, the answer at ``place`` stands."""
    before = template.render(messages[:place], add_generation_prompt=True)
    after = template.render(messages[: place + 1])
    if not after.startswith(before):
        raise DataError(
            f"template '{template.name}' does not begin turn {place + 1} as its generation prompt does",
            "Use a template that does, or one with {% generation %} tags.",
        )
    if not text.startswith(after):  # Phi-3 ends every text with an end-of-text, whatever the last turn is
        after = after.removesuffix(template.special_tokens.get("eos_token", ""))
    if not text.startswith(after):
        raise DataError(
            f"template '{template.name}' renders turn {place + 1} or one before it otherwise once others follow",
            "Set learn to last, or use a template that keeps turns as they are or has {% generation %} tags.",
        )
    ended = _probed(template, messages[: place + 1], place).rpartition(PROBE)[2].strip()
    return len(before), len(after.rstrip()) if ended else len(after)


def _probed(template: ChatTemplate, messages: Messages, place: int) -> str:
    """The rendered text with PROBE for the content of the answer at ``place``: what is around it shows."""
    probe = {"role": "assistant", "content": PROBE}
    text = template.render([*messages[:place], probe, *messages[place + 1 :]])
    if PROBE not in text:
        raise DataError(
            f"template '{template.name}' leaves out what turn {place + 1} says",
            "Use a template for turns of plain text.",
        )
    return text


def _cut(text: str, spans: Sequence[tuple[int, int]]) -> list[Segment]:
    segments, place = [], 0
    for start, end in spans:
        segments += [Segment(text[place:start], False), Segment(text[start:end], True)]
        place = end
    segments.append(Segment(text[place:], False))
    return [segment for segment in segments if segment.text]
