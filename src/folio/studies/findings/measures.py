"""Whether what a study asks to be compared or drawn is measured at all."""

from __future__ import annotations

from folio.errors import ConfigError, nearest
from folio.studies.findings.numbers import LOG_PROBABILITY, OF_CELL, ORACLE, Z
from folio.studies.grid.spec import Study


def refuse_measures(study: Study, evaluated: bool) -> None:
    """:class:`ConfigError` for a measure that no cell will have, with the nearest name.

    ``evaluated``: whether any cell measures something while training. Which scores these are shows only then.
    """
    own = (*OF_CELL, *((LOG_PROBABILITY, Z) if study.oracle is not None else ()))
    asked = [("measures", name) for name in study.measures]
    asked += [(f"figure '{figure.title}'", figure.measure) for figure in study.figures]
    for where, name in asked:
        if name in own or (evaluated and "." in name):
            continue
        if name.startswith(f"{ORACLE}.") and study.oracle is None:
            raise ConfigError(
                f"{where} asks for {name}, and there is no [oracle]", "Give the study one, or leave it out."
            )
        guess = nearest(name, own)
        remedy = f"Did you mean {guess}?" if guess else "Scores are of what [recipe.evaluation] asks for."
        raise ConfigError(f"{where} asks for {name}, which no cell measures", remedy)
