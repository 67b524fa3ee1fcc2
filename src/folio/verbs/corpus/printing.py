"""What ``folio corpus explore`` says on the terminal; the page says more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from folio.verbs.action import Terminal

WORDS = 20


def print_exploration(terminal: Terminal, found: dict[str, Any], *, titled: bool) -> None:
    """The tables of one text, under its name if there are two."""
    if titled:
        terminal.print(f"\n{found['name']}", style="bold")
    terminal.print(found["look"]["sentence"])
    terminal.table(("", "count"), _totals(found))
    if found["look"]["how"] == "sample":
        from folio.reports.exploration.page import ESTIMATES

        rows = [
            (ESTIMATES[name], one["value"], one["standard_error"])
            for name, one in found["estimates"].items()
            if one is not None
        ]
        terminal.table(("estimate", "value", "standard error"), rows)
    if found["cleaning"]:
        terminal.table(("cleaning", "documents"), [(k, v) for k, v in found["cleaning"].items() if k != "characters"])
    lengths = zip(found["document_tokens"]["quantiles"], found["line_tokens"]["quantiles"], strict=False)
    terminal.table(
        ("words and marks no more than", "document", "line"),
        [(f"{document['quantile']:.0%}", document["tokens"], line["tokens"]) for document, line in lengths],
    )
    words = found["top_words"][:WORDS]
    terminal.print("top words: " + ", ".join(f"{entry['word']} {entry['count']:,}" for entry in words))
    terminal.table(
        ("share of words and marks", "types needed"),
        [(f"{e['share']:.0%}", e["types"]) for e in found["types_covering"]],
    )
    terminal.table(
        ("least occurrences", "types", "% of words and marks"),
        [(e["min_count"], e["types"], 100 * e["share"]) for e in found["min_count"]],
    )
    _print_copies(terminal, found)
    _print_packing(terminal, found)


def print_comparison(terminal: Terminal, names: Sequence[str], found: dict[str, Any]) -> None:
    """What tells the two texts apart, and what they share."""
    terminal.print("\ncompared", style="bold")
    for name, words in zip(names, found["distinctive"], strict=True):
        terminal.print(f"most {name}'s own: " + (", ".join(entry["word"] for entry in words[:WORDS]) or "nothing"))
    overlap, documents = found["overlap"], found["documents"]
    rows = [
        (name, 100 * types, 100 * tokens, 100 * shared)
        for name, types, tokens, shared in zip(
            names, overlap["shares_of_types"], overlap["shares_of_tokens"], documents["shares"], strict=True
        )
    ]
    terminal.table(("% that the other has too", "different words", "running words", "documents"), rows)


def _totals(found: dict[str, Any]) -> list[tuple[str, int]]:
    """How much there is, called as the page calls it; what a tokenizer made is called by the tokenizer."""
    from folio.reports.exploration.comparing import TOTALS

    names = {**TOTALS, "lines": "lines"}
    if tokenizer := found.get("tokenizer"):
        names["encoded_tokens"] = f"tokens of {tokenizer['kind']}"
    keys = ("documents", "characters", "bytes", "lines", "tokens", "types", "encoded_tokens")
    return [(names[key], found[key]) for key in keys if found[key] is not None]


def _print_copies(terminal: Terminal, found: dict[str, Any]) -> None:
    copies, near, languages = found["duplicates"], found["near_duplicates"], found["languages"]
    terminal.print(
        f"copies: {copies['duplicates']:,} of {copies['documents']:,} documents ({copies['share']:.2%}); "
        f"near-duplicates: {near['near_duplicates']:,} of {near['documents']:,} compared"
    )
    if languages is None:
        terminal.print("languages: not looked at, which needs pip install 'folio-lm[data]'")
    else:
        shares = ", ".join(f"{one['language']} {one['share']:.1%}" for one in languages["languages"][:8])
        terminal.print(f"languages: {shares}")


def _print_packing(terminal: Terminal, found: dict[str, Any]) -> None:
    shown = [one for one in found["packing"] if one["block_size"] in found["packing_shown"]]
    rows = [
        (
            one["block_size"],
            *(100 * one[key] for key in ("stream_documents_cut", "stream_tokens_without_beginning")),
            *(100 * one[key] for key in ("row_padding", "row_tokens_lost", "best_fit_padding")),
        )
        for one in shown
    ]
    if rows:
        columns = (
            "block size",
            "% cut",
            "% without beginning",
            "one a row: % padding",
            "% lost",
            "best fit: % padding",
        )
        terminal.table(columns, rows)
