"""One row of a generation: what it has read and written, and how it ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch

from folio.generation.config import GenerationConfig
from folio.generation.stops import StopFilter
from folio.tokenizer import StreamDecoder, Tokenizer

Finish = Literal["end_of_text", "stop", "length"]
"""Why a row ended: the model wrote end-of-text (or another id that ends), a stop string appeared, or
``max_new_tokens`` were written."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step added to one row: text that will not change any more (possibly none), and the end if it is one."""

    row: int
    text: str
    finish: Finish | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished row. ``text`` and ``ids`` hold what is new, without the prompt, end-of-text or stop string.

    ``ids`` may reach past ``text`` where a stop string cut it. ``unread_prompt_tokens`` lay before the context;
    ``restarts`` counts how often the full window was halved and read anew.
    """

    text: str
    ids: list[int]
    finish: Finish | None
    prompt_tokens: int
    unread_prompt_tokens: int
    restarts: int
    seed: int

    @property
    def tokens_written(self) -> int:
        """Tokens that the model was asked for: the ids, and end-of-text if it came."""
        return len(self.ids) + (self.finish == "end_of_text")


class Row:
    """A row being written. ``window`` holds the ids that the model sees; ``end_ids`` end it as end-of-text does."""

    def __init__(
        self,
        index: int,
        prompt_ids: list[int],
        tokenizer: Tokenizer,
        config: GenerationConfig,
        seed: int,
        end_ids: Collection[int] = (),
    ) -> None:
        self.index, self.seed = index, seed
        self.prompt_ids, self.window = prompt_ids, list(prompt_ids)
        self.unread = 0
        self.ids: list[int] = []
        self.restarts = 0
        self.finish: Finish | None = None
        self.generator = torch.Generator().manual_seed(seed)
        self._ends, self._limit = {tokenizer.eot_id, *end_ids}, config.max_new_tokens
        self._decoder = StreamDecoder(tokenizer)
        self._stops = StopFilter(config.stop)
        self._texts: list[str] = []
        for id in prompt_ids:  # the prompt decides whether a space comes before the first new word
            self._decoder.push(id)

    def begin(self, block_size: int) -> None:
        """Cut the prompt to what the context holds: its end."""
        self.unread = max(0, len(self.prompt_ids) - block_size)
        self.window = self.prompt_ids[self.unread :]

    def take(self, id: int) -> Piece:
        """Write one id more."""
        if id in self._ends:
            return self._end("end_of_text", "")
        self.ids.append(id)
        self.window.append(id)
        text = self._stops.push(self._decoder.push(id))
        if self._stops.stopped:
            return self._end("stop", text)
        if len(self.ids) == self._limit:
            return self._end("length", text)
        self._texts.append(text)
        return Piece(self.index, text, None)

    def _end(self, finish: Finish, text: str) -> Piece:
        if finish != "stop":
            text += self._stops.push(self._decoder.flush())
            if self._stops.stopped:
                finish = "stop"
            text += self._stops.flush()
        self.finish = finish
        self._texts.append(text)
        return Piece(self.index, text, finish)

    def answer(self) -> Answer:
        return Answer(
            "".join(self._texts),
            list(self.ids),
            self.finish,
            len(self.prompt_ids),
            self.unread,
            self.restarts,
            self.seed,
        )
