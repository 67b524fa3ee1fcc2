"""The oracle: a model of any kind opened as a judge, and given everything that was written to read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from folio.artifacts import MANIFEST
from folio.checksums import sha256_of
from folio.errors import ArtifactError, DataError
from folio.evaluation.oracle.foreign import ForeignModel
from folio.evaluation.oracle.judge import Continuation, FolioJudge, Judge, Judgement, judged
from folio.evaluation.oracle.prompts import Drawn
from folio.model.find import ADAPTER_CONFIG
from folio.runtime import Runtime
from folio.verbs.action import Terminal
from folio.verbs.adapted import place_of
from folio.verbs.evaluate.continuing import tokenizer_and_shape
from folio.verbs.library import TORCH_DTYPES, load


def open_judge(folder: Path, runtime: Runtime, dtype: Literal["fp32", "bf16", "fp16"]) -> Judge:
    """The oracle in ``folder``: built by Folio where it can be, else opened by transformers. No weights are read yet.

    What Folio itself wrote is never handed on: a damaged folder is refused, not opened some other way.
    """
    try:
        tokenizer, _ = tokenizer_and_shape(folder)
    except ArtifactError:
        if (
            any((place / MANIFEST).is_file() for place in (folder, folder.parent))
            or not (folder / "config.json").is_file()
        ):
            raise
        return ForeignModel(folder, device=runtime.device, dtype=TORCH_DTYPES[dtype])
    return FolioJudge(tokenizer, lambda: load(folder, dtype=dtype, device=runtime.device).gpt)


def model_fingerprint(folder: Path) -> str:
    """The sha256 of what decides how the model in ``folder`` reads: weights, shape and tokenizer, whatever its name.

    An adapter reads as its base does with it.
    """
    place = place_of(folder)
    names = ["config.json", ADAPTER_CONFIG, *sorted(path.name for path in folder.glob("*.safetensors"))]
    whole = (folder / "tokenizer.json").is_file()
    names += ["tokenizer.json"] if whole else ["tokenizer.model", "vocab.json", "merges.txt"]
    files = [(name, sha256_of(folder / name)) for name in names if (folder / name).is_file()]
    if place.adapter is not None:
        files.append(("base", model_fingerprint(place.home)))
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def oracle_refusal(judge: Judge, text: str) -> str | None:
    """Why ``text`` cannot be a prompt for this oracle, or None."""
    try:
        return None if judge.encode(text) else "without a token of the oracle"
    except DataError:
        return "that the oracle cannot encode"


def reference(drawn: Drawn, ratio: float) -> list[list[Continuation]]:
    """What really follows each prompt in its document; nothing where the document ends before."""
    texts = [prompt.passage.following(math.ceil(ratio * prompt.passage.words)) for prompt in drawn.prompts]
    return [[Continuation(text or "")] for text in texts]


def judge_all(
    judge: Judge, drawn: Drawn, written: Mapping[str, list[list[Continuation]]], terminal: Terminal
) -> dict[str, list[list[Judgement]]]:
    """Judgements by model, as ``written`` is; all continuations of a prompt are judged together."""
    prompts = [prompt.text for prompt in drawn.prompts]
    together = [[text.text for texts in written.values() for text in texts[p]] for p in range(len(prompts))]
    with terminal.progress("judge", len(prompts), "prompt") as bar:
        rows = judged(judge, prompts, together, on_progress=bar.update)
    answers: dict[str, list[list[Judgement]]] = {name: [] for name in written}
    for p, row in enumerate(rows):
        start = 0
        for name, texts in written.items():
            answers[name].append(row[start : start + len(texts[p])])
            start += len(texts[p])
    return answers
