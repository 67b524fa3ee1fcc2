"""What an endpoint's response says. Its client checks no types, so anything may be anything here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from folio.finetuning.synthesis.budget import Usage


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    text: str
    finish: str
    """The endpoint's word for why it stopped: stop, length, content_filter."""
    model: str
    usage: Usage | None
    """As reported; None if it was not, or not believably."""
    hidden: str = ""
    """Reasoning beside the text, which is paid for too."""

    def mapped(self, change: Callable[[str], str]) -> Answer:
        """The same with ``change`` made to all that will be written down."""
        return replace(
            self,
            text=change(self.text),
            finish=change(self.finish),
            model=change(self.model),
            hidden=change(self.hidden),
        )


def whole_answer(given: Any) -> Answer:
    """The answer of a response that came in one piece; whatever Python raises on the way if it is none."""
    content = _content(given)
    if not content.get("choices"):
        raise ValueError(f"it has no choices, but says {content.get('error') or 'nothing'!s}")
    choice = content["choices"][0]
    message = choice["message"]
    return Answer(
        _text(message.get("content")),
        str(choice.get("finish_reason") or "stop"),
        str(content.get("model") or ""),
        _usage(content.get("usage")),
        _text(message.get("reasoning_content")),
    )


async def streamed_answer(given: Any) -> Answer:
    """The answer of a stream; :class:`ValueError` if it ends without saying why, since then it was cut."""
    text, hidden, finish, model = "", "", "", ""
    usage: Usage | None = None
    async for chunk in given:
        content = _content(chunk)
        model = str(content.get("model") or model)
        usage = _usage(content.get("usage")) or usage
        for choice in content.get("choices") or []:
            delta = choice.get("delta") or {}
            text += _text(delta.get("content"))
            hidden += _text(delta.get("reasoning_content"))
            finish = str(choice.get("finish_reason") or finish)
    if not finish:
        raise ValueError("the stream was cut")
    return Answer(text, finish, model, usage, hidden)


def _content(given: Any) -> dict[str, Any]:
    """What the client parsed, as plain JSON values; it checks no types, so everything may be anything."""
    if not hasattr(given, "to_dict"):
        raise ValueError("it is no JSON object")
    content: dict[str, Any] = given.to_dict(mode="python", warnings=False)
    return content


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError("its text is none")
    return value or ""


def _usage(given: Any) -> Usage | None:
    if not isinstance(given, Mapping):
        return None
    prompt, completion = given.get("prompt_tokens"), given.get("completion_tokens")
    if not (isinstance(prompt, int) and isinstance(completion, int)) or min(prompt, completion) < 0 or not prompt:
        return None
    return Usage(prompt, completion)
