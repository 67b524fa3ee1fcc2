"""What examples will cost, before they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from folio.errors import ConfigError
from folio.finetuning.synthesis.budget import Usage
from folio.finetuning.synthesis.cells import cells, longest_cell
from folio.finetuning.synthesis.folder import SynthesisFolder
from folio.finetuning.synthesis.run import bound_of, open_cells
from folio.finetuning.synthesis.spec import Spec

SAMPLE = 200
"""Prompts that an estimate looks at."""
BYTES_A_TOKEN = 4
"""Of English text, roughly; used until the endpoint has reported what prompts are."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of the examples that are missing."""

    about: Usage
    """What is expected: measured on the answers so far, else a quarter of the prompt's bytes and all of max_tokens."""
    most: Usage
    """The most, if each request answers at once and passes the filters."""


def estimate(spec: Spec, folder: SynthesisFolder) -> Estimate:
    """The expected and the greatest spending for the examples that ``folder`` lacks."""
    missing = max(0, spec.amount.count - folder.kept)
    sample = list(islice(open_cells(spec, folder), min(SAMPLE, missing)))
    if not sample:
        return Estimate(Usage(), Usage())
    most = bound_of(spec, folder, longest_cell(spec)).usage
    if folder.answers:
        total = folder.answer_usage.times(missing)
        kept_share = max(folder.kept, 1)  # each kept example also pays for those that were set aside
        about = Usage(total.prompt_tokens // kept_share, total.completion_tokens // kept_share)
    else:
        prompt = sum(cell.prompt_bytes for cell in sample) // len(sample) // BYTES_A_TOKEN
        about = Usage(prompt, spec.request.max_tokens).times(missing)
    return Estimate(about, most.times(missing))


def check_one_request(spec: Spec, folder: SynthesisFolder) -> None:
    """:class:`ConfigError` if the budget would not hold a single request."""
    cell = next(cells(spec))
    bound = bound_of(spec, folder, cell)
    if not folder.budget.within(bound.usage):
        budget = folder.budget
        raise ConfigError(
            f"the budget ({budget.limit_words()}) is too small for one request: at worst {budget.words(bound.usage)}",
            "Raise [budget], lower request.max_tokens, or shorten the prompt.",
        )
