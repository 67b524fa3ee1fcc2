"""The counts of a corpus as one JSON-ready record, and the folder they are kept in.

An exploration is an artefact of kind ``exploration``: ``explore.json`` and whatever page is drawn from it.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import asdict
from typing import Any

from folio.corpus.cleaning import CleaningCounts
from folio.corpus.statistics import QUANTILES, SHARES, Lengths, Statistics

KIND = "exploration"
TOP_WORDS = 30
MIN_COUNTS = (1, 2, 3, 4, 5, 6, 10, 20, 50, 100)
CURVE_POINTS = 200
BINS = 40
MOST_CHARACTERS = 2000
"""Different characters that are written out, the most frequent ones."""


def summary(statistics: Statistics, cleaning: CleaningCounts | None = None) -> dict[str, Any]:
    """Everything worth keeping of ``statistics``: totals, quantiles, top words, coverage; about 20 KB as JSON."""
    return {
        "documents": statistics.documents,
        "characters": statistics.characters,
        "bytes": statistics.bytes,
        "lines": statistics.lines,
        "tokens": statistics.tokens,
        "types": len(statistics.types),
        "types_missed": statistics.missed,
        "alphabet": _alphabet(statistics),
        "alphabet_size": len(statistics.alphabet),
        "encoded_tokens": statistics.encoded_tokens,
        "cleaning": asdict(cleaning) if cleaning is not None else None,
        "document_tokens": length_record(statistics.document_lengths),
        "line_tokens": length_record(statistics.line_lengths),
        "document_characters": length_record(statistics.character_lengths, "characters"),
        "document_bytes": length_record(statistics.byte_lengths, "bytes"),
        "document_encoded": length_record(statistics.encoded_lengths) if statistics.encoded_lengths.counts else None,
        "top_words": [{"word": word, "count": times} for word, times in statistics.top_words(TOP_WORDS)],
        "types_covering": [{"share": share, "types": statistics.types_covering(share)} for share in SHARES],
        "min_count": [
            {"min_count": least, "types": kept, "share": share}
            for least in MIN_COUNTS
            for kept, share in [statistics.with_min_count(least)]
        ],
        "coverage": [{"types": types, "share": share} for types, share in coverage_curve(statistics)],
    }


def coverage_curve(statistics: Statistics, points: int = CURVE_POINTS) -> list[tuple[int, float]]:
    """(number of the most frequent types, share of the tokens they cover), at ``points`` ranks evenly spaced in log."""
    covered = statistics.coverage()
    if not covered:
        return []
    ranks = sorted({round(len(covered) ** (step / (points - 1))) for step in range(points)})
    return [(rank, covered[rank - 1] / statistics.tokens) for rank in ranks]


def length_record(lengths: Lengths, unit: str = "tokens") -> dict[str, Any]:
    """Mean, quantiles and a histogram of lengths, these named by their ``unit``."""
    values = zip(QUANTILES, lengths.at(QUANTILES), strict=False)
    return {
        "mean": lengths.mean,
        "quantiles": [{"quantile": quantile, unit: value} for quantile, value in values],
        "histogram": [{"up_to": edge, "count": count} for edge, count in histogram_of(lengths)],
    }


def histogram_of(lengths: Lengths, bins: int = BINS) -> list[tuple[int, int]]:
    """(longest of the bin, how many lie in it), from the shortest on, edges evenly spaced in log; none where empty."""
    if not lengths.counts:
        return []
    low, high = max(1, min(lengths.counts)), max(1, max(lengths.counts))
    edges = sorted({round(low * (high / low) ** (step / bins)) for step in range(1, bins + 1)} | {high})
    counts = [0] * len(edges)
    for length, times in lengths.counts.items():
        counts[bisect_left(edges, length)] += times
    return list(zip(edges, counts, strict=True))


def _alphabet(statistics: Statistics) -> str:
    most = sorted(statistics.alphabet, key=lambda char: (-statistics.alphabet[char], char))[:MOST_CHARACTERS]
    return "".join(sorted(most))
