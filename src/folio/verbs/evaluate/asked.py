"""What the options of ``folio evaluate`` ask for: which of them belong together, and what is kept of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from folio.errors import ConfigError
from folio.verbs.evaluate.tasks import LOSS, names_of

if TYPE_CHECKING:
    from folio.verbs.evaluate import EvaluateOptions

OF_LOSS = ("text", "corpus", "shards", "split", "window", "stride", "max_tokens", "per_token")
OF_BENCHMARKS = ("convention", "data", "shots_from")
OF_BOTH_HARNESSES = ("num_fewshot", "limit")
"""Of benchmarks, and of lm-evaluation-harness."""
PATHS = ("text", "shards", "shots_from", "include_path")


def refuse_idle(options: EvaluateOptions) -> None:
    """:class:`ConfigError` for the first option that was given and that nothing asked for would read."""
    if sum(source is not None for source in (options.text, options.corpus, options.shards)) > 1:
        raise ConfigError("--text, --corpus and --shards are three ways to say one thing", "Give one of them.")
    names = names_of(options)
    loss, benchmarks = LOSS in names, any(name != LOSS for name in names)
    harness = bool(options.harness)
    beside = ("belongs to Folio's own tasks, and --harness stands instead of them", "Leave out one of the two.")
    without_loss = ("says how the loss is measured, which is not among the tasks", "Add loss to --tasks, or leave it.")
    alone = ("says how benchmarks are asked, and --tasks names none", "Name one in --tasks, or leave it out.")
    rows = (
        (("tasks", *OF_BENCHMARKS, *OF_LOSS), not harness, *beside),
        (OF_LOSS, loss or harness, *without_loss),
        ((*OF_BENCHMARKS, *OF_BOTH_HARNESSES), benchmarks or harness, *alone),
        (("include_path",), harness, "is where task files for --harness lie", "Add --harness TASK, or leave it out."),
        (("shots_from",), bool(options.num_fewshot), "is where examples come from", "Add --num-fewshot, or leave it."),
        (("split",), options.text is None, "is that of a corpus or of shards; --text is scored whole", "Leave it out."),
        (("stride",), options.window == "sliding", "is that of a sliding window", "Add --window sliding, or leave it."),
    )
    for affected, is_read, why, remedy in rows:
        for name in () if is_read else affected:
            if name in options.model_fields_set and getattr(options, name):
                raise ConfigError(f"--{name.replace('_', '-')} {why}", remedy)


def kept_options(options: EvaluateOptions) -> dict[str, Any]:
    """The options that an evaluation keeps: those not left at their default, with no path of this machine in them."""
    kept = options.model_dump(mode="json", exclude={"models", "to"}, exclude_defaults=True)
    for name in PATHS:
        if name in kept:
            kept[name] = _place(kept[name])
    if "data" in kept:
        kept["data"] = [_data_place(given) for given in kept["data"]]
    for name in ("tasks", "harness"):
        if name in kept:
            kept[name] = [",".join(_place(task.strip()) for task in given.split(",")) for given in kept[name]]
    return kept


def _place(given: str) -> str:
    """A path below the working folder as it is, of any other the last part."""
    path = Path(given)
    elsewhere = path.is_absolute() or given.startswith("~") or ".." in path.parts
    return path.name if elsewhere else given


def _data_place(given: str) -> str:
    task, equals, path = given.partition("=")
    return f"{task}={_place(path)}" if equals and "/" not in task else _place(given)
