"""The report of a fine-tuning run: epochs and where they turned, method, forgetting, samples, data; all or some."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import train_line
from page_checker import check

from folio.checksums import sealed_json
from folio.errors import ArtifactError
from folio.finetuning.samples import Sample, as_lines
from folio.finetuning.search.choice import Choice
from folio.finetuning.search.halving import Loss, Result
from folio.finetuning.search.records import SearchLog, SearchRecord
from folio.finetuning.search.settings import RATE, Setting
from folio.reports.records import read_run
from folio.reports.run import run_report
from folio.training.metrics import MetricsLog

MakeRun = Callable[..., Path]
MEMORY = {"base_bytes": 40_000_000, "adapter_bytes": 2_000_000, "gradient_bytes": 2_000_000}
CONFIG: dict[str, Any] = {
    "preset": "finetune",
    "recipe": {"model": "runs/base", "lora": {"rank": 16, "alpha": 32.0}},
    "base": {"given": "runs/base", "folder": "runs/base/checkpoints/step-00000100/model", "weights_sha256": "ab"},
    "resolved": {
        "parameters": 10_500_000,
        "method": "lora",
        "trainable": 500_000,
        "memory": MEMORY,
        "data": {"header": ["examples", "train", "validation"], "rows": [["documents", "900", "100"]]},
    },
}
LOSSES = [(4.0, 4.0), (2.8, 3.2), (2.5, 3.1), (1.9, 3.34)]


def validation(step: int, train: float, held: float, loss: str = "nats_per_token") -> dict[str, Any]:
    return {"kind": "validation", "step": step, "epoch": step / 25, loss: held, f"train_{loss}": train,
            "standard_error_nats": 0.01, "tokens_seen": step, "elapsed_s": 0.1 * step}  # fmt: skip


@pytest.fixture
def tuned(make_run: MakeRun) -> Path:
    run = make_run("tuned", steps=75, every=0, config=CONFIG)
    with MetricsLog(run / "metrics.jsonl") as log:
        for number, (train, held) in enumerate(LOSSES):
            log.log(**validation(25 * number, train, held), perplexity=20.0, bits_per_byte=1.5, tokens=900)
    return run


def shown(run: Path) -> str:
    html = run_report(run).read_text()
    check(html)
    return html


def sections(html: str) -> list[str]:
    return re.findall(r'<h2 id="section-\d+">(.*?)</h2>', html)


def rows(html: str, heading: str) -> list[list[str]]:
    """The table in a section, its head first, as text."""
    part = html[html.index(f">{heading}</h2>") :]
    table = part[part.index("<table>") : part.index("</table>")]
    return [
        [unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in re.findall(r"<tr>.*?</tr>", table)
    ]


def test_epochs_are_drawn_and_listed_and_the_turn_is_said(tuned: Path) -> None:
    html = shown(tuned)
    assert "Validation turned after epoch 2: it rose from 3.1 to 3.34, beyond the 0.028 that chance could do" in html
    assert "while training fell from 2.5 to 1.9." in html
    (figure,) = re.findall(r"<svg[^>]*><title>Loss over epochs, best 3.1 at epoch 2</title><desc>(.*?)</desc>", html)
    assert "train: 4 points, first 4, last 1.9, lowest 1.9" in figure
    assert "validation: 4 points, first 4, last 3.34, lowest 3.1" in figure
    found = rows(html, "Train against validation")
    assert [row[-1] for row in found[1:]] == ["base", "", "best", ""]
    assert found[3][:4] == ["2", "50", "2.5", "3.10"]


def test_method_memory_and_data_are_told(tuned: Path) -> None:
    html = shown(tuned)
    assert "500,000 beside 10,500,000" in html
    assert "lora.rank" in html
    assert rows(html, "Method and memory")[1:] == [["base", "40"], ["adapter", "2"], ["gradient", "2"], ["total", "44"]]
    assert '<td class="number">900</td>' in html, "numbers stand right, though they come as text"
    assert 'class="scroll tall"' not in html
    assert rows(html, "Data") == [["examples", "train", "validation"], ["documents", "900", "100"]]


def test_the_head_or_all_weights_are_a_part_of_the_whole_and_have_no_adapters(make_run: MakeRun) -> None:
    memory = {"base_bytes": 40_000_000, "adapter_bytes": 0, "gradient_bytes": 2_000_000}
    for method, trained, said in (
        ("head", 500_000, "500,000 of 10,500,000 (4.76%)"),
        ("full", 10_500_000, "10,500,000"),
    ):
        resolved = {**CONFIG["resolved"], "method": method, "trainable": trained, "memory": memory}
        html = shown(make_run(method, steps=2, every=0, config={**CONFIG, "resolved": resolved}))
        assert f"<dd>{said}</dd>" in html
        assert rows(html, "Method and memory")[1:] == [["base", "40"], ["gradient", "2"], ["total", "42"]]


def test_time_and_peak_memory_are_told_in_units(tuned: Path) -> None:
    with MetricsLog(tuned / "metrics.jsonl") as log:
        log.log(kind="event", step=75, event="finished", elapsed_s=7.5, peak_bytes=372_727_808)
        log.log(kind="event", step=75, event="finished", elapsed_s=200.25, peak_bytes=300_000_000)
    text = "".join(check(shown(tuned)).text)
    assert "Peak memory372.7 MB" in text, "the most of all sittings"
    assert "372.7 MB of the whole process" in text
    assert "elapsed: 7.5 s, peak: 372.7 MB" in text
    assert "elapsed: 3 min 20 s, peak: 300.0 MB" in text
    assert "372727808" not in text


def test_what_was_not_written_has_no_section(tuned: Path, make_run: MakeRun) -> None:
    assert sections(shown(tuned)) == [
        "Train against validation", "Method and memory", "Data", "Curves", "History", "Configuration",
    ]  # fmt: skip
    bare = make_run("bare", steps=2, every=0, config={"base": {"given": "gpt2"}, "resolved": {}})
    assert sections(shown(bare)) == ["Curves", "History", "Configuration"]


def test_a_pretraining_run_has_none_of_it(make_run: MakeRun) -> None:
    run = make_run()
    (run / "samples.jsonl").write_text("not read")
    assert sections(shown(run)) == ["Curves", "Samples over time", "History", "Configuration"]


def test_samples_are_shown_by_temperature_with_the_share_that_ended(tuned: Path) -> None:
    nasty = "<b>\u2028&"
    samples = [
        Sample(75, temperature, "Who?", f"{nasty} {number}", "length" if number == 4 else "end_of_text", 9, number)
        for temperature in (0.7, 1.0)
        for number in range(5)
    ]
    (tuned / "samples.jsonl").write_text(as_lines(samples))
    html = shown(tuned)
    assert "What the model of step 75 wrote" in html
    assert [row[:3] for row in rows(html, "Samples")] == [
        ["temperature", "samples", "ended by themselves"], ["0.7", "5", "80%"], ["1", "5", "80%"], ["all", "10", "80%"],
    ]  # fmt: skip
    text = "".join(check(html).text)
    assert text.count(nasty) == 10
    assert text.count("ended by itself after 9 tokens") == 8
    assert text.count("cut off after 9 tokens") == 2
    (tuned / "samples.jsonl").write_text("{}\n")
    with pytest.raises(ArtifactError, match="damaged"):
        run_report(tuned)


def comparison(**changes: Any) -> dict[str, Any]:
    return {
        "measurement": "loss", "metric": "nats_per_token", "first_value": 1.5, "second_value": 1.75, "difference": 0.25,
        "low": 0.2, "high": 0.3, "p_adjusted": 0.0002, "p_is_bound": True, "n": 97, "discordant": None, "tests": 1,
        "verdict": {"outcome": "worse", "words": "worse with n = 97", "items_needed": None, "seeds_needed": None},
        **changes,
    }  # fmt: skip


def test_forgetting_is_one_table_of_before_and_after(tuned: Path) -> None:
    accuracy = comparison(
        measurement="hellaswag.completion", metric="acc", first_value=0.25, second_value=0.24, difference=-0.01,
        low=None, high=None, p_adjusted=None, p_is_bound=False, discordant=[1, 2],
        verdict={"outcome": "cannot tell", "words": "cannot tell: " + "a long story " * 20, "items_needed": 1234,
                 "seeds_needed": None},
    )  # fmt: skip
    found = {
        "base": "base", "tuned": "tuned", "text": "what base held out", "notes": ["One seed each."],
        "comparisons": [comparison(), accuracy], "evaluations": [],
    }  # fmt: skip
    (tuned / "forgetting.json").write_text(sealed_json(found))
    html = shown(tuned)
    table = rows(html, "Forgetting")
    assert table[0] == ["score", "before", "after", "difference", "95 %", "p", "n", "verdict"]
    assert table[1:] == [
        ["loss nats/token", "1.5000", "1.7500", "+0.25", "+0.2 to +0.3", "<0.0002", "97", "worse"],
        ["hellaswag completion acc", "25.0%", "24.0%", "-1.0 points", "no interval", "", "97",
         "cannot tell, would need n about 1,300"],
    ]  # fmt: skip
    assert "<p>Loss nats/token: worse with n = 97.</p>" in html
    assert "<p>Hellaswag completion acc: cannot tell: a long story" in html, "a paragraph is not cut off"
    several = {**found, "comparisons": [comparison(tests=2)]}
    (tuned / "forgetting.json").write_text(sealed_json(several))
    assert rows(shown(tuned), "Forgetting")[0][5] == "p, corrected"
    assert "The loss is of what base held out." in html
    assert "One seed each." in html
    (tuned / "forgetting.json").write_text("{}")
    with pytest.raises(ArtifactError, match="damaged"):
        run_report(tuned)


def test_the_search_before_it_is_shown_with_its_reason(tuned: Path) -> None:
    record = SearchRecord("list", "token", {}, [Setting(1, {RATE: 1e-4}), Setting(2, {RATE: 1e-3})], [5, 5])
    record.choice = Choice({RATE: 1e-3}, "1e-3 had the lowest loss.", ())
    with SearchLog(tuned, "token") as log:
        log.begin(record)
        for setting, nats in ((1, 3.5), (2, 3.0)):
            log.result(Result(setting, 1, 5, Loss(nats, 0.1, nats), 1.0))
        log.choice(record)
    html = shown(tuned)
    assert sections(html)[0] == "Learning-rate search"
    assert "1e-3 had the lowest loss." in html
    assert len(rows(html, "Learning-rate search")) == 3


def test_preferences_are_told_in_pairs(make_run: MakeRun) -> None:
    run = make_run("preferred", steps=1, every=0, config=CONFIG)
    with MetricsLog(run / "metrics.jsonl") as log:
        for step, (train, held, accuracy) in enumerate([(0.69, 0.69, 0.5), (0.3, 0.4, 0.8)]):
            line = {**train_line(25 * step + 1), "nats_per_pair": train}
            del line["nats_per_token"]
            log.log(**line)
            log.log(**validation(25 * step, train, held, "nats_per_pair"), accuracy=accuracy, pairs=40)
    html = shown(run)
    record = read_run(run)
    assert record.loss_key == "nats_per_pair"
    assert record.best_validation is not None
    assert record.best_validation["step"] == 25
    text = "".join(check(html).text)
    assert "0.4000 nats/pair± 0.0100, n = 40 pairs, step 25" in text
    assert "80.0%of held-out pairs" in text
    assert "Perplexity" not in text
    assert "Held-out pairs in which the chosen answer is preferred" in html
    assert "nats/token" not in html
