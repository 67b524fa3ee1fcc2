"""All that was found of a study so far: what its report and its command tell."""

from __future__ import annotations

from dataclasses import dataclass

from folio.studies.findings.answers import Answer, answers_of
from folio.studies.findings.results import Results, read_results
from folio.studies.findings.statistics import Comparison, Group, comparisons_of, groups_of, ranked
from folio.studies.running.records import StudyFolder


@dataclass(frozen=True)
class Findings:
    """Cells, combinations, comparisons by the first measure, and the answers to the study's contrasts."""

    results: Results
    groups: list[Group]
    comparisons: list[Comparison]
    answers: list[Answer]

    @property
    def best(self) -> Group | None:
        """The combination with the best mean; None if none is finished."""
        measure = self.results.measure
        order = ranked(self.groups, measure, self.results.lower_is_better(measure))
        return order[0] if order and order[0].estimate(measure) is not None else None


def findings_of(folder: StudyFolder) -> Findings:
    """Read and compare; :class:`~folio.errors.ArtifactError` for a folder that is damaged or no study."""
    results = read_results(folder)
    groups = groups_of(results)
    return Findings(results, groups, comparisons_of(results, groups, results.measure), answers_of(results, groups))
