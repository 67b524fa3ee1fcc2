"""What several runs write after the same prompt, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from folio.finetuning.samples import read_samples
from folio.reports.page import Page
from folio.reports.records import RunRecord

PROMPTS = 3
"""How many prompts are shown, those that most runs answered before others."""


def show_samples(page: Page, names: Sequence[str], records: Sequence[RunRecord]) -> None:
    """A section with the last text of each run after each prompt; none where no run wrote any."""
    written: dict[str, list[tuple[str, str]]] = {}
    for name, record in zip(names, records, strict=True):
        for prompt, (how, text) in last_samples(record).items():
            written.setdefault(prompt, []).append((f"{name}, {how}", text))
    if not written:
        return
    page.section("Samples side by side", "The last that each run wrote after the same prompt.")
    order = sorted(written, key=lambda prompt: -len(written[prompt]))
    for prompt in order[:PROMPTS]:
        page.samples(written[prompt], prompt=prompt)
    if len(order) > PROMPTS:
        page.paragraph(f"{len(order) - PROMPTS:,} more prompts are in the runs' own reports.")


def last_samples(record: RunRecord) -> dict[str, tuple[str, str]]:
    """By prompt: how it was written, and the text. Of a finished fine-tuning run, that of the lowest temperature."""
    found: dict[str, tuple[str, str]] = {}
    for line in record.of_kind("sample"):
        prompt, text = str(line.get("prompt") or ""), str(line.get("text") or "")
        found[prompt] = (f"step {line['step']:,}", text.removeprefix(prompt))
    samples = read_samples(record.path)
    coolest = min((sample.temperature for sample in samples), default=0.0)
    for sample in reversed([one for one in samples if one.temperature == coolest]):  # of several the first stays
        found[sample.prompt] = (f"step {sample.step:,}, temperature {coolest:g}", sample.text)
    return found
