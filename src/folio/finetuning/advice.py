"""What is told before anything is spent: examples that can hardly teach what they are meant to."""

from __future__ import annotations

from folio.finetuning.order import ShuffledEpochs

FEWEST_STEPS = 2
"""An epoch of fewer is hardly worth the name."""


def cut_short(cut: int, used: int, counted: str, block_size: int, context: int) -> str | None:
    """A warning where more than half of the ``used`` training examples were cut to ``block_size``, else None.

    ``counted`` is what they are called, ``context`` what the model could see.
    """
    if 2 * cut <= used:
        return None
    dropping = "--data.too-long drop, or " if cut < used else ""
    longer = "a longer --data.block-size" if block_size < context else "a base with a longer context"
    return f"{cut:,} of {used:,} training {counted} are cut and teach no end: use {dropping}{longer}"


def few_steps(rows: ShuffledEpochs, epochs: float, block_size: int) -> str | None:
    """A warning where an epoch is hardly a step or two of a run that is so many ``epochs`` long, else None."""
    if rows.rows_per_epoch >= FEWEST_STEPS * rows.sequences:
        return None
    of_epoch, whole = _number(rows.rows_per_epoch, "row"), _number(rows.steps_for(epochs), "step")
    return (
        f"an epoch is {of_epoch} and a step takes {rows.sequences:,}, so the whole run is {whole}: use a smaller "
        f"--train.batch-tokens (a row is {block_size:,} places), or more --train.epochs"
    )


def _number(count: int, unit: str) -> str:
    return f"{count:,} {unit}{'s' * (count != 1)}"
