"""Causal models of kinds that Folio does not build, opened by transformers to judge text: scoring alone.

B rows of one forward pass, T time, V vocabulary
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from folio.errors import ArtifactError, require
from folio.evaluation.engine import Likelihood, Query, pieces_of

FORWARD_TOKENS = 2048
"""Positions of one forward pass, padding included: their logits are held in full."""
OPENING_ERRORS = (
    *(OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError, TypeError),
    SafetensorError,
)
"""What transformers lets out where a folder is not what it expects. Too little memory is a RuntimeError."""
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx")


class ForeignModel:
    """A Hugging Face folder as transformers opens it: safetensors alone, none of the folder's own code run.

    The weights are read when something is first scored. :class:`ArtifactError` if transformers cannot open it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._transformers: Any = require("transformers", "hf")
        self._folder, self._device, self._dtype, self._autocast = folder, torch.device(device), dtype, autocast
        if not any(folder.glob("*.safetensors")):
            raise ArtifactError(f"'{folder}' holds no safetensors, the only weights that are read", "Get them too.")
        self._tokenizer: Any = self._open(self._transformers.AutoTokenizer, "tokenizer")
        self._tokenizer.model_max_length = 10**30  # it would warn of texts that are scored in windows
        rows = json.loads((folder / "config.json").read_bytes()).get("vocab_size")
        if rows is not None and len(self._tokenizer) > rows:
            raise ArtifactError(
                f"the tokenizer in '{folder}' has {len(self._tokenizer):,} ids, the model {rows:,}",
                "Use the tokenizer that the model was trained with.",
            )
        self.opening_ids = self._ids_before_a_text()

    @cached_property
    def block_size(self) -> int | None:
        """The longest context that ``config.json`` speaks of; None where there is no limit (a recurrent model)."""
        values = json.loads((self._folder / "config.json").read_bytes())
        return next((int(values[key]) for key in CONTEXT_KEYS if values.get(key)), None)

    @cached_property
    def _model(self) -> Any:
        auto = self._transformers.AutoModelForCausalLM
        return self._open(auto, "model", dtype=self._dtype, use_safetensors=True).to(self._device).eval()

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``, without what the tokenizer puts around a text; special tokens in it are plain text."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def check_weights(self) -> None:
        """Read the weights and let them go again: what is missing, damaged or too large shows now."""
        _ = self._model
        del self.__dict__["_model"]

    @torch.no_grad()
    def log_likelihoods(self, queries: Sequence[Query]) -> list[tuple[Likelihood, ...]]:
        """As :func:`folio.evaluation.engine.log_likelihoods`, by plain forward passes of bounded size."""
        spans = [(number, query, ids) for number, query in enumerate(queries) for ids in query.continuations]
        pieces = [windows_of(query.context, span, self.block_size) for _, query, span in spans]
        windows = [(place, ids, scored) for place, own in enumerate(pieces) for _, ids, scored in own]
        windows.sort(key=lambda window: -len(window[1]))
        sums, greedy = [0.0] * len(spans), [True] * len(spans)
        while windows:
            rows = max(1, FORWARD_TOKENS // len(windows[0][1]))
            batch, windows = windows[:rows], windows[rows:]
            for (place, _, _), (nats, likeliest) in zip(batch, self._score(batch), strict=True):
                sums[place] -= nats
                greedy[place] &= likeliest
        found: list[list[Likelihood]] = [[] for _ in queries]
        for place, (number, _, span) in enumerate(spans):
            found[number].append(Likelihood(sums[place], len(span), greedy[place], pieces[place][0][0]))
        return [tuple(likelihoods) for likelihoods in found]

    def _score(self, batch: Sequence[tuple[int, list[int], int]]) -> Iterator[tuple[float, bool]]:
        """Nats of the last ``scored`` ids of each window, and whether each of them was the likeliest.

        Short rows are padded on the right, behind all that is scored, where a causal model cannot look.
        """
        T = len(batch[0][1]) - 1
        ids_BT = torch.tensor([ids[:-1] + [0] * (T + 1 - len(ids)) for _, ids, _ in batch], device=self._device)
        mask_BT = torch.tensor([[1] * (len(ids) - 1) + [0] * (T + 1 - len(ids)) for _, ids, _ in batch])
        with self._autocast():
            logits_BTV = self._model(input_ids=ids_BT, attention_mask=mask_BT.to(self._device), use_cache=False).logits
        for row, (_, ids, scored) in enumerate(batch):
            stop = len(ids) - 1
            log_p = logits_BTV[row, stop - scored : stop].float().log_softmax(-1)
            targets = torch.tensor(ids[-scored:], device=self._device)
            nats = -log_p.gather(1, targets[:, None]).cpu().double().sum()
            yield float(nats), bool((log_p.argmax(-1) == targets).all())

    def _open(self, kind: Any, part: str, **options: Any) -> Any:
        logging = self._transformers.utils.logging
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            return kind.from_pretrained(self._folder, local_files_only=True, trust_remote_code=False, **options)
        except OPENING_ERRORS as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ArtifactError(
                f"transformers cannot open the {part} in '{self._folder}': {reason}", "Give another model."
            ) from None
        finally:
            if bars:
                logging.enable_progress_bar()

    def _ids_before_a_text(self) -> list[int]:
        """What the tokenizer puts before every text by itself (Llama's and Gemma's begin-of-text; nothing in GPT-2)."""
        with suppress(KeyError, IndexError):
            bare, dressed = self.encode("a"), self._tokenizer("a")["input_ids"]
            for start in range(len(dressed) - len(bare) + 1):
                if dressed[start : start + len(bare)] == bare:
                    return list(dressed[:start])
        return []


def windows_of(
    context: Sequence[int], continuation: Sequence[int], block_size: int | None
) -> list[tuple[int, list[int], int]]:
    """(ids of the context that are cut, ids of the window, how many at its end it scores), by the engine's own rule."""
    if block_size is None:
        return [(0, [*context, *continuation], len(continuation))]
    return [(cut, [*seen, *ids], len(ids)) for cut, seen, ids in pieces_of(context, continuation, block_size)]
