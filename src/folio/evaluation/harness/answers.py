"""What a task of lm-evaluation-harness asks of an answer, in Folio's words, and where the answer ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from folio.errors import ConfigError, require
from folio.tokenizer import Tokenizer

NEW_TOKENS = 256
"""The most that an answer may have where a task does not say; the harness's own number."""
SAMPLED_TOP_K = 50
"""What ``transformers`` samples from where a task does not say."""
OF_SAMPLING = ("top_k", "top_p", "min_p")
PASSED_ON = (*OF_SAMPLING, "repetition_penalty")


def answer_settings(request: Any, tokenizer: Tokenizer) -> dict[str, Any]:
    """The settings of a generation request by the names of ``GenerationConfig``, JSON values all.

    End-of-text is among the stop strings, since the harness takes it as written out too. :class:`ConfigError` for what
    Folio cannot do.
    """
    utils = require("lm_eval.models.utils", "eval")
    asked = dict(utils.normalize_gen_kwargs(request.args[1], NEW_TOKENS))
    eot = None if tokenizer.eot_id is None else tokenizer.decode([tokenizer.eot_id])
    stop = utils.handle_stop_sequences(asked.pop("until"), eos=eot)
    new_tokens, sampled = asked.pop("max_gen_toks"), asked.pop("do_sample")
    temperature = float(asked.pop("temperature", 0.0))
    passed_on = {key: asked.pop(key) for key in PASSED_ON if asked.get(key) is not None}
    beams = asked.pop("num_beams", 1)
    if asked or beams != 1 or new_tokens < 1 or (sampled and temperature <= 0):
        raise ConfigError(
            f"task '{request.task_name}' asks for answers that Folio does not write: {request.args[1]}",
            f"It knows until, max_gen_toks, do_sample, temperature (above 0 if sampled), {', '.join(PASSED_ON)}; "
            "change the task's generation_kwargs.",
        )
    if sampled:
        passed_on = {"temperature": temperature, "top_k": SAMPLED_TOP_K} | passed_on
    else:
        passed_on = {"temperature": 0.0} | {key: passed_on[key] for key in passed_on if key not in OF_SAMPLING}
    return {"max_new_tokens": new_tokens, "stop": [text for text in stop if text], **passed_on}


def answer_text(ids: Sequence[int], stop: Sequence[str], tokenizer: Tokenizer) -> str:
    """The text of ``ids`` without special tokens, cut at one stop string after the other, as the harness cuts."""
    special = set(tokenizer.special_ids.values())
    text = tokenizer.decode([id for id in ids if id not in special])
    for end in stop:
        text = text.split(end)[0]
    return text
