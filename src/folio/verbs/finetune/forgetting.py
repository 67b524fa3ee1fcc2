"""What fine-tuning forgot: the base's own task before and after, item by item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from folio.config import Table
from folio.errors import ConfigError, UserError
from folio.verbs.action import Terminal, json_value
from folio.verbs.evaluate import EvaluateOptions
from folio.verbs.evaluate.tasks import LOSS, parted

if TYPE_CHECKING:
    from folio.evaluation.comparing.comparison import Comparison

EVALUATIONS = "evaluations"
"""In a run's folder: the evaluations of the base and of the model made from it."""


class ForgettingConfig(Table):
    """What the base could do before, measured again once the run is finished, on the same items."""

    measure: bool = True
    """Measure it."""
    tasks: tuple[str, ...] = ()
    """loss, or benchmarks as in folio evaluate. Empty: the loss, if text or corpus says of what, or the base lies in a
    run that held out text."""
    text: str | None = None
    """Text for the loss: a file, folder or glob, all of it. Empty: what the base's own run held out."""
    corpus: str | None = None
    """A named corpus, whose held-out split is the text."""
    max_tokens: int = Field(default=100_000, ge=0)
    """Score only the first this many tokens of text; 0 scores all."""
    convention: tuple[str, ...] = ()
    """Of a benchmark: completion, harness, ... Empty: each that it has."""
    data: tuple[str, ...] = ()
    """A benchmark's file, as FILE or TASK=FILE. Empty: fetched by name, once."""
    limit: int | None = Field(default=None, ge=1)
    """Score only the first this many items of a benchmark."""


def base_task(
    base: str, run: Path, config: ForgettingConfig, terminal: Terminal, *, device: str = "auto"
) -> EvaluateOptions | None:
    """How base and fine-tuned model are to be measured; None where nothing is asked for and nothing is at hand.

    Everything that can be known to fail does so here: call it before training. The text of a loss is named, so that it
    is the base's for both. :class:`UserError` as ``folio evaluate`` has them, and where a loss is asked for and the
    base has no text of its own; where it is not asked for, a line says why nothing is measured.
    """
    from folio.verbs.evaluate.asked import refuse_idle
    from folio.verbs.evaluate.measuring import planned

    if not config.measure:
        return None
    tasks = parted(config.tasks)
    given = {key: value for key in ("text", "corpus", "convention", "data", "limit") if (value := getattr(config, key))}
    of_loss = {"max_tokens": config.max_tokens} if LOSS in tasks or not tasks else {}
    options = EvaluateOptions.model_validate({"tasks": tasks or (LOSS,), "device": device, **given, **of_loss})
    refuse_idle(options)
    if of_loss and options.text is None and options.corpus is None:
        shards = _own_shards(base, bool(tasks), terminal)
        if shards is None:
            return None
        options = options.model_copy(update={"shards": shards})
    quiet = Terminal(quiet=True)
    planned([base], [run / EVALUATIONS / "base"], options, quiet, data_flag="--forgetting.data")
    return options


def _own_shards(base: str, asked: bool, terminal: Terminal) -> Path | None:
    """The shards whose split "val" the run of ``base`` held out; None if there are none and it was not ``asked``."""
    try:
        shards = _held_out(base)
    except UserError as error:
        if asked:
            raise
        terminal.print(f"forgetting will not be measured: {error.problem}", style="yellow")
        return None
    if shards is None and asked:
        raise ConfigError(
            f"forgetting.tasks names loss, and '{base}' does not lie in a run that held out text",
            "Name the text: --forgetting.text FILE or --forgetting.corpus NAME.",
        )
    return shards


def _held_out(base: str) -> Path | None:
    from folio.checksums import read_sealed_json
    from folio.tokenizer import load_tokenizer
    from folio.verbs.evaluate.text import run_of, shards_for
    from folio.verbs.hub import model_folder

    run = run_of(Path(base))
    if run is None or "base" in read_sealed_json(run / "config.json"):  # of a fine-tuned base examples were held out
        return None
    shards = shards_for(base, load_tokenizer(model_folder(base)), EvaluateOptions(), verify=False)
    shards.split("val")
    return shards.path


def forgetting(base: str, run: Path, options: EvaluateOptions, terminal: Terminal) -> dict[str, Any]:
    """Measure ``base`` and the model of ``run`` by ``options`` (of :func:`base_task`), pair them, and keep the result.

    The evaluations go into the run's ``evaluations/``, what they differ by into its ``forgetting.json``; both take the
    place of older ones. Differences are those of ``folio compare BASE RUN``.
    """
    from folio.artifacts import write_file
    from folio.checksums import sealed_json
    from folio.evaluation.comparing.comparison import Arm, compare_arms
    from folio.reports.forgetting import FORGETTING
    from folio.verbs.evaluate import evaluate_models
    from folio.verbs.evaluate.text import distinct_short_names

    models = (base, str(run))
    evaluations = evaluate_models(models, options.model_copy(update={"to": run / EVALUATIONS}), terminal)
    names = distinct_short_names(models)
    arms = [Arm(name, (one,)) for name, one in zip(names, evaluations, strict=True)]
    comparisons, notes = compare_arms(arms)
    found = {
        "base": names[0],
        "tuned": names[1],
        "text": _text_of(names[0], options),
        "comparisons": [one.as_dict() for one in comparisons],
        "notes": notes,
        "evaluations": [f"{EVALUATIONS}/{name}" for name in names],
    }
    plain: dict[str, Any] = json_value(found)
    write_file(run / FORGETTING, sealed_json(plain))
    _show(comparisons, names[0], terminal)
    return plain


def _text_of(base: str, options: EvaluateOptions) -> str | None:
    """What text the loss is of, in words; None if none is measured."""
    if LOSS not in parted(options.tasks):
        return None
    first = f", the first {options.max_tokens:,} tokens" if options.max_tokens else ""
    if options.text is not None:
        return f"{Path(options.text).name}{first}"
    return (f"{options.corpus}, held-out split" if options.corpus else f"what {base} held out") + first


def _show(comparisons: Sequence[Comparison], base: str, terminal: Terminal) -> None:
    """The table as far as a narrow terminal holds it: p is on the page, and so is bits per byte beside nats."""
    from folio.reports.forgetting import forgetting_table, key_of
    from folio.reports.verdicts import one_loss_each, without_columns

    shown = one_loss_each((one.as_dict() for one in comparisons), key_of)
    header, rows = forgetting_table(shown)
    columns, cells = without_columns(header, rows, ("p", "p, corrected"))
    terminal.table(columns, cells, title=f"What {base} could do, before and after")
