"""Which jobs ``rank_work.py`` runs, on how many ranks: each answers with what ``test_ranks.py`` judges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rank_numbers import collectives, compiled, course, gradient, rows_read, same_cut, shared_work, validation
from rank_states import faulty_memory, goes_on, handed_on, stopped, stopped_in_probe, written_beside
from rank_work import SHAPES, WAYS

CHAINS = {
    "quick": ((3, "fsdp"), (2, "ddp"), (1, "alone"), (2, "fsdp")),
    "slow": ((4, "fsdp"), (2, "ddp"), (1, "alone"), (3, "fsdp"), (4, "ddp"), (2, "fsdp")),
}
"""Ranks and ways by which a state is handed on from checkpoint to checkpoint."""


def courses(size: int, shapes: Any, masked: Any = (False,)) -> list[tuple[str, int, Callable[..., Any]]]:
    return [
        (f"course/{size}/{shape}/{way}/{kind}/{clip}/{mask}", size, partial(course, shape, way, kind, clip, mask))
        for shape in shapes
        for way in WAYS
        for kind in ("adamw", "muon")
        for clip in (0.0, 0.25)
        for mask in masked
    ]


def parity(size: int, shapes: Any) -> list[tuple[str, int, Callable[..., Any]]]:
    return [
        (f"rows/{size}", size, rows_read),
        *(
            (f"gradient/{size}/{shape}/{way}/{mask}", size, partial(gradient, shape, way, mask))
            for shape in shapes
            for way in WAYS
            for mask in (False, True)
        ),
        *((f"work/{size}/{way}", size, partial(shared_work, way)) for way in WAYS),
    ]


def chain(kind: str) -> list[tuple[str, int, Callable[..., Any]]]:
    links = CHAINS[kind]
    size, way = links[-1]
    return [
        *((f"handed on/{n}", size, partial(handed_on, n, way)) for n, (size, way) in enumerate(links)),
        ("goes on", size, partial(goes_on, len(links) - 1, way)),
    ]


JOBS = {
    "quick": [
        *parity(2, SHAPES),
        *courses(2, SHAPES),
        *((f"collectives/{way}", 2, partial(collectives, way)) for way in WAYS),
        ("same cut", 2, same_cut),
        *((f"validation/{way}", 2, partial(validation, way)) for way in WAYS),
        *((f"stopped/{way}", 2, partial(stopped, way)) for way in WAYS),
        ("stopped in probe", 2, stopped_in_probe),
        ("faulty memory", 2, faulty_memory),
        *((f"beside/{way}", 2, partial(written_beside, way)) for way in WAYS),
        *((f"work/3/{way}", 3, partial(shared_work, way)) for way in WAYS),
        *chain("quick"),
    ],
    "slow": [
        *(job for size in (3, 4) for job in (*parity(size, SHAPES), *courses(size, SHAPES, (False, True)))),
        *chain("slow"),
        *((f"compiled/{way}", 2, partial(compiled, way)) for way in WAYS),
    ],
}
