"""Quality steps over a stream of documents: filters, scrubbing and duplicates, each optional, with a report."""

from folio.corpus.quality.config import C4Config, ContaminationConfig, NearConfig, QualityConfig
from folio.corpus.quality.contamination import Contamination
from folio.corpus.quality.near import Duplicates, Survey, candidates, find_duplicates, shingles_of, survey
from folio.corpus.quality.report import QualityReport, joined
from folio.corpus.quality.steps import QualitySteps

__all__ = [
    "C4Config",
    "Contamination",
    "ContaminationConfig",
    "Duplicates",
    "NearConfig",
    "QualityConfig",
    "QualityReport",
    "QualitySteps",
    "Survey",
    "candidates",
    "find_duplicates",
    "joined",
    "shingles_of",
    "survey",
]
