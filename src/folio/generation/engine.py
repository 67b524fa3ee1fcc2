"""The engine: read the prompts once, then one token a row at a time, each row to its own end.

The window is what the model sees. A prompt longer than the model's context keeps its last ``block_size`` tokens. When a
new token finds the window full, the last half of the context is kept, that token included, and read anew from position
0: one slow step every ``block_size / 2`` tokens, and the text goes on for as long as asked.

B rows still being written, T tokens read at once, V vocabulary
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from folio.errors import ArtifactError, DataError
from folio.generation.answer import Answer, Piece, Row
from folio.generation.config import GenerationConfig
from folio.generation.sampling import next_ids
from folio.model.cache import KVCache
from folio.model.gpt import GPT
from folio.tokenizer import Tokenizer

Prompt = str | Sequence[int]
"""Text, or the ids themselves."""


class Generation:
    """One call of the engine over a batch of prompts: iterate over it for the text as it comes, then read ``answers``.

    Row i draws from its own generator, seeded with ``config.seed + i``: its text is that of the same prompt alone with
    that seed. It ends at end-of-text and at each of ``end_ids``. An empty prompt begins with end-of-text, as documents
    do in training. :class:`DataError` for a prompt that cannot be encoded; :class:`ArtifactError` for a tokenizer with
    more ids than the model.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        prompts: Sequence[Prompt],
        config: GenerationConfig,
        end_ids: Collection[int] = (),
    ) -> None:
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ArtifactError(
                f"the tokenizer has {tokenizer.vocab_size:,} ids, the model {model.config.vocab_size:,}",
                "Use the tokenizer that the model was trained with.",
            )
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self.seed = config.seed if config.seed is not None else torch.seed() % 2**31
        encoded = [prompt_ids(tokenizer, prompt) for prompt in prompts]
        self.rows = [Row(i, ids, tokenizer, config, self.seed + i, end_ids) for i, ids in enumerate(encoded)]
        self._cache: KVCache | None = None

    @property
    def answers(self) -> list[Answer]:
        """What each row has so far, in the order of the prompts."""
        return [row.answer() for row in self.rows]

    def __iter__(self) -> Iterator[Piece]:
        block_size = self.model.config.block_size
        going = list(self.rows)
        for row in going:
            row.begin(block_size)
        if not going:
            return
        seen_BV = self._seen(going)
        logits_BV = self._read(going)
        while True:
            ids_B = next_ids(logits_BV, seen_BV, self.config, [row.generator for row in going])
            for row, id in zip(going, ids_B.tolist(), strict=True):
                yield row.take(id)
            assert self._cache is not None
            kept = [i for i, row in enumerate(going) if row.finish is None]
            if not kept:
                return
            if len(kept) < len(going):
                going, ids_B = [going[i] for i in kept], ids_B[kept]
                seen_BV = None if seen_BV is None else seen_BV[kept]
                self._cache.keep_rows(kept)
            if seen_BV is not None:
                seen_BV.scatter_(1, ids_B[:, None], True)
            full = [row for row in going if len(row.window) > block_size]
            for row in full:
                row.window = row.window[-max(1, block_size // 2) :]
                row.restarts += 1
            crowded = self._cache.length == self._cache.capacity  # the longest row may have ended, its slots remain
            logits_BV = self._read(going) if full or crowded else self._forward(ids_B[:, None])

    def _read(self, rows: Sequence[Row]) -> Tensor:
        """The logits after each row's window, (B, V), read into a new cache; short rows are padded on the left."""
        device = device_of(self.model)
        T = max(len(row.window) for row in rows)
        padding_B = torch.tensor([T - len(row.window) for row in rows], device=device)
        ids_BT = torch.tensor([[0] * (T - len(row.window)) + row.window for row in rows], device=device)
        still = max(self.config.max_new_tokens - len(row.ids) for row in rows)
        self._cache = KVCache(
            self.model.config,
            len(rows),
            min(T + still, self.model.config.block_size),
            dtype=cache_dtype(self.model),
            device=device,
            padding_B=padding_B,
        )
        return self._forward(ids_BT)

    @torch.inference_mode()
    def _forward(self, ids_BT: Tensor) -> Tensor:
        training = self.model.training
        if training:
            self.model.eval()
        logits_B1V = self.model.logits(self.model.hidden(ids_BT, self._cache)[:, -1:])
        if training:
            self.model.train()
        return logits_B1V[:, 0, : self.tokenizer.vocab_size].float()

    def _seen(self, rows: Sequence[Row]) -> Tensor | None:
        """Which ids each row's prompt holds, (B, V); None when nothing asks for it."""
        if self.config.repetition_penalty == 1.0:
            return None
        seen_BV = torch.zeros(len(rows), self.tokenizer.vocab_size, dtype=torch.bool)
        for i, row in enumerate(rows):
            seen_BV[i, row.prompt_ids] = True
        return seen_BV.to(device_of(self.model))


def generate(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    config: GenerationConfig,
    end_ids: Collection[int] = (),
) -> list[Answer]:
    """An answer for each prompt, the prompts as one batch; see :class:`Generation`."""
    generation = Generation(model, tokenizer, prompts, config, end_ids)
    for _ in generation:
        pass
    return generation.answers


def prompt_ids(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    """The ids of a prompt: end-of-text alone if it is empty; :class:`DataError` if it cannot be encoded."""
    ids = tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
    if ids:
        return ids
    if tokenizer.eot_id is None:
        raise DataError("the prompt is empty, and this tokenizer has no end-of-text to begin from", "Give a prompt.")
    return [tokenizer.eot_id]


def cache_dtype(model: GPT) -> torch.dtype:
    """What keys and values are kept in: the model's dtype; on a CPU fp32, where bf16 attention of one row is slow."""
    weight = next(iter(model.norm.parameters()))
    return torch.float32 if weight.device.type == "cpu" else weight.dtype


def device_of(model: GPT) -> torch.device:
    """Where the model lies: its last norm is a plain tensor in every kind of model."""
    return next(iter(model.norm.parameters())).device
