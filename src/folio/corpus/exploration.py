"""The counts of a corpus as one JSON-ready record, and the folder they are kept in.

An exploration is an artefact of kind ``exploration``: ``explore.json`` and whatever page is drawn from it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from folio.corpus.cleaning import CleaningCounts
from folio.corpus.statistics import QUANTILES, SHARES, Lengths, Statistics

KIND = "exploration"
TOP_WORDS = 30
MIN_COUNTS = (1, 2, 3, 4, 5, 6, 10, 20, 50, 100)
CURVE_POINTS = 200


def summary(statistics: Statistics, cleaning: CleaningCounts | None = None) -> dict[str, Any]:
    """Everything worth keeping of ``statistics``: totals, quantiles, top words, coverage; about 20 KB as JSON."""
    return {
        "documents": statistics.documents,
        "characters": statistics.characters,
        "bytes": statistics.bytes,
        "lines": statistics.lines,
        "tokens": statistics.tokens,
        "types": len(statistics.types),
        "alphabet": "".join(sorted(statistics.alphabet)),
        "encoded_tokens": statistics.encoded_tokens,
        "cleaning": asdict(cleaning) if cleaning is not None else None,
        "document_tokens": _lengths(statistics.document_lengths),
        "line_tokens": _lengths(statistics.line_lengths),
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
    return [(rank, covered[rank - 1] / covered[-1]) for rank in ranks]


def _lengths(lengths: Lengths) -> dict[str, Any]:
    values = zip(QUANTILES, lengths.at(QUANTILES), strict=False)
    return {
        "mean": lengths.mean,
        "quantiles": [{"quantile": quantile, "tokens": value} for quantile, value in values],
    }
