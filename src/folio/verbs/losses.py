"""A measured loss in words."""

from __future__ import annotations

from folio.training.loop import Line, loss_in


def loss_in_words(line: Line) -> str:
    """The loss of a line of validation, with its error and what else says the same."""
    spread = line["standard_error_nats"]  # none over a single unit
    within = "" if spread is None else f" ± {spread:.4f}"
    if "accuracy" in line:
        return f"{loss_in(line):.4f}{within} nats/pair, {line['accuracy']:.1%} of {line['pairs']:,} pairs in order"
    bits = line["bits_per_byte"]  # none of text that is special tokens alone
    in_bits = "" if bits is None else f", {bits:.4f} bits/byte"
    return (
        f"{loss_in(line):.4f}{within} nats/token, perplexity {line['perplexity']:.2f}{in_bits} "
        f"over {line['tokens']:,} tokens"
    )
