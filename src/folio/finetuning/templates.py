"""Chat templates: how a conversation becomes one text, in Jinja as Hugging Face tokenizers store it.

A template is a stranger's program. It runs in Jinja's immutable sandbox, sees the conversation and the names of the
special tokens, and no clock: ``strftime_now`` is undefined, so that the same records give the same examples on any day
(templates that ask whether it is defined fall back to the date they hold).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from folio.errors import ArtifactError, ConfigError, DataError, nearest, require
from folio.tokenizer import Tokenizer, load_tokenizer
from folio.tokenizer.folder import TEMPLATE_FILE

Messages = Sequence[Mapping[str, str]]

CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
ALPACA = """\
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
        {{- message['content'] + '\\n\\n' }}
    {%- elif message['role'] == 'user' %}
        {{- '### Instruction:\\n' + message['content'] + '\\n\\n' }}
    {%- else %}
        {{- '### Response:\\n' + message['content'] + eos_token + '\\n\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '### Response:\\n' }}
{%- endif %}
"""
PLAIN = """\
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
        {{- message['content'] + '\\n' }}
    {%- elif message['role'] == 'user' %}
        {{- 'User: ' + message['content'] + '\\n' }}
    {%- else %}
        {{- 'Assistant: ' + message['content'] + eos_token + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'Assistant:' }}
{%- endif %}
"""
SHIPPED = {"chatml": CHATML, "alpaca": ALPACA, "plain": PLAIN}

START, END = "\ufdd0", "\ufdd1"
"""Noncharacters of Unicode, which no text holds: they mark what stands between ``{% generation %}`` tags."""


@dataclass(frozen=True)
class ChatTemplate:
    """A template by ``name``, its ``source``, and the special tokens it may write (``eos_token`` and so on)."""

    name: str
    source: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)

    def render(self, messages: Messages, *, add_generation_prompt: bool = False) -> str:
        """The text of ``messages``, and with ``add_generation_prompt`` the opening of an answer, as transformers does.

        :class:`DataError` for a template that is not valid or refuses the conversation.
        """
        return self.marked(messages, add_generation_prompt=add_generation_prompt).replace(START, "").replace(END, "")

    def marked(self, messages: Messages, *, add_generation_prompt: bool = False) -> str:
        """As :meth:`render`, with START and END around what stands between ``{% generation %}`` tags."""
        jinja2 = require("jinja2", "finetune")
        try:
            text: str = _compiled(self.source).render(
                messages=[dict(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self.special_tokens,
            )
        except jinja2.TemplateSyntaxError as error:
            raise DataError(
                f"template '{self.name}', line {error.lineno}: {error.message}", "Mend it, or use another template."
            ) from None
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            raise DataError(
                f"template '{self.name}' refuses the conversation: {error}", "Mend the record, or use another template."
            ) from None
        return text


def load_template(given: str | None, tokenizer: Tokenizer, otherwise: str = "plain") -> ChatTemplate:
    """The template that ``given`` means: a shipped name, a .jinja file, or a folder with a tokenizer.

    None means the tokenizer's own or, if it has none, the shipped one named ``otherwise``. :class:`ConfigError` with
    the nearest name for an unknown one.
    """
    if given is None:
        own = template_source(tokenizer)
        name, source = ("the tokenizer's own", own) if own is not None else (otherwise, SHIPPED[otherwise])
    elif given in SHIPPED:
        name, source = given, SHIPPED[given]
    else:
        name, source = given, _source_at(Path(given).expanduser(), given)
    return ChatTemplate(name, source, _special_tokens(tokenizer))


def with_template(tokenizer: Tokenizer, template: ChatTemplate) -> Tokenizer:
    """``tokenizer`` with ``template`` as its own: wherever it is saved, transformers finds it."""
    return tokenizer.with_settings(chat_template=template.source)


def template_source(tokenizer: Tokenizer) -> str | None:
    """The tokenizer's own template, the one called "default" if it has several; None if it has none."""
    stored = tokenizer.settings.get("chat_template")
    if isinstance(stored, list):
        stored = {entry["name"]: entry["template"] for entry in stored}.get("default")
    return stored if isinstance(stored, str) else None


def _source_at(path: Path, given: str) -> str:
    if path.is_dir():
        file = path / TEMPLATE_FILE
        source = file.read_text(encoding="utf-8") if file.is_file() else template_source(load_tokenizer(path))
        if source is None:
            raise ArtifactError(
                f"the tokenizer in '{given}' has no chat template", f"Shipped are {', '.join(SHIPPED)}."
            )
        return source
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the template '{given}' cannot be read: {error}", "Check the file.") from None
    guess = nearest(given, SHIPPED)
    raise ConfigError(
        f"there is no template '{given}'",
        f"{f'Did you mean {guess}? ' if guess else ''}"
        f"Give {', '.join(SHIPPED)}, a .jinja file, or a folder with a tokenizer.",
    )


def _special_tokens(tokenizer: Tokenizer) -> dict[str, str]:
    """``eos_token`` and the like as the settings name them; the end-of-text where they name none."""
    named = {key: value for key, value in tokenizer.settings.items() if key.endswith("_token")}
    named = {key: value["content"] if isinstance(value, dict) else value for key, value in named.items()}
    tokens = {key: value for key, value in named.items() if isinstance(value, str)}
    if tokenizer.eot_id is not None:
        tokens.setdefault("eos_token", tokenizer.token(tokenizer.eot_id))
    return tokens


@cache
def _compiled(source: str) -> Any:
    """The template, compiled as transformers compiles it (block tags leave no white space, loops can be left)."""
    require("jinja2", "finetune")
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}...{% endgeneration %}``: what stands between is what the assistant says."""

        tags = {"generation"}

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            start, end = (nodes.Output([nodes.TemplateData(mark)]) for mark in (START, END))
            return nodes.Scope([start, *body, end]).set_lineno(line)  # what is set inside stays inside

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, **options: Any) -> str:
        return json.dumps(value, **{"ensure_ascii": False, **options})

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(source)
