"""Examples over real HTTP from a local server with faults: what is kept, what is paid, what is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_endpoint import KEY, MODEL, Choose, FaultyEndpoint, by_chance, serving, spec_text, text_of
from synthesis_processes import Here, records, spent, summary


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Here:
    return Here(tmp_path, monkeypatch, capsys)


@pytest.fixture
def world(here: Here) -> Iterator[FaultyEndpoint]:
    with serving(FaultyEndpoint()) as served:
        here.use(served)
        here.spec(spec_text(10))
        yield served


def once(fault: str, number: int = 2) -> Choose:
    """``fault`` at one request, all others sound."""
    return lambda at, body: fault if at == number else None


@pytest.mark.parametrize("stream", [False, True])
def test_sound_answers_are_kept_with_attributes_usage_and_finish(
    here: Here, world: FaultyEndpoint, stream: bool
) -> None:
    assert here(*(["--request.stream"] if stream else [])) == 0
    found = records(here.out)
    assert len({record["id"] for record in found}) == len(found) == 10
    for record in found:
        a, b, c = record["attributes"].values()
        assert record["text"] == text_of(f"Write of {a} and {b} at {c}.")
        assert (record["finish"], record["usage_from"], record["model"]) == ("stop", "endpoint", MODEL)
        assert record["usage"]["completion_tokens"] == 31
    assert spent(here.out) == world.served_tokens
    body = world.requests[0]["body"]
    assert (body["temperature"], body["max_tokens"], body.get("stream", False)) == (1.0, 60, stream)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


@pytest.mark.parametrize(
    ("fault", "stream", "counts"),
    [
        ("429", False, False),
        ("500", False, False),
        ("503", False, False),
        ("504", False, True),
        ("slow", False, True),
        ("cut", False, True),
        ("cut", True, True),
        ("nothing", False, True),
        ("malformed", False, True),
        ("malformed", True, True),
        ("error inside", True, True),
        ("page", False, True),
        ("odd", False, True),
        ("no choices", False, True),
    ],
)
def test_a_failed_request_is_sent_again_and_counted_if_it_may_have_cost(
    here: Here, world: FaultyEndpoint, fault: str, stream: bool, counts: bool
) -> None:
    world.choose = once(fault)
    flags = ["--limits.timeout-s", "0.5"] if fault == "slow" else []
    assert here(*flags, *(["--request.stream"] if stream else [])) == 0
    assert len(records(here.out)) == 10
    told = summary(here.out)
    assert sum(told["failed_requests"].values()) == 1
    assert told["requests"] == len(world.requests) == 11
    answered = sum(sum(record["usage"].values()) for record in records(here.out))
    assert (spent(here.out) > answered) == counts
    assert spent(here.out) >= world.served_tokens
    prompts = [request["body"]["messages"][-1]["content"] for request in world.requests]
    assert len(set(prompts)) == 10, "the same prompt again, not another"


@pytest.mark.parametrize("stream", [False, True])
def test_any_text_can_be_kept(here: Here, world: FaultyEndpoint, stream: bool) -> None:
    odd = "caf\u00e9 \u4e2d \U0001f600 half \ud83d line\u2028break \x00 "
    world.write = lambda prompt: odd + text_of(prompt)
    assert here(*(["--request.stream"] if stream else [])) == 0
    for record in records(here.out):
        assert record["text"].startswith("caf\u00e9 \u4e2d \U0001f600 half \ufffd line")
    assert here("--amount.count", "12") == 0


@pytest.mark.parametrize("stream", [False, True])
def test_without_reported_usage_the_own_count_is_never_too_low(here: Here, world: FaultyEndpoint, stream: bool) -> None:
    world.choose = lambda number, body: "no usage"
    assert here(*(["--request.stream"] if stream else [])) == 0
    assert {record["usage_from"] for record in records(here.out)} == {"counted"}
    assert spent(here.out) >= world.served_tokens


def test_answers_that_do_not_pass_are_kept_aside_and_replaced(here: Here, world: FaultyEndpoint) -> None:
    faults = {1: "empty", 3: "length", 5: "content filter"}
    world.choose = lambda number, body: faults.get(number)
    same = text_of("the same")

    def write(prompt: str) -> str:
        """Often the same text, and often a forbidden word, so that some are left whichever answers the faults hit."""
        if any(word in prompt for word in ("a11 ", "a10 ", "a9 ")):
            return same
        return ("moss7 " if any(word in prompt for word in ("b8 ", "b7 ", "b6 ")) else "of ") + text_of(prompt)

    world.write = write
    assert here("--filters.forbidden", "moss7", "--amount.count", "40", "--filters.max-words", "31") == 0
    kept, filtered = records(here.out), records(here.out, "filtered.jsonl")
    assert len(kept) == 40
    reasons = summary(here.out)["filtered"]
    assert {"empty": 1, "cut short": 1, "refused": 1}.items() <= reasons.items()
    assert reasons["duplicate"] >= 1
    whole = [record for record in filtered if record["filtered"] not in ("empty", "cut short", "refused")]
    assert reasons["forbidden word"] == sum("moss7 " in record["text"] for record in whole) > 0
    assert sum(record["text"] == same for record in kept) == 1
    assert not any("moss7 " in record["text"] for record in kept)
    assert {record["filtered"] for record in filtered} == set(reasons)
    assert len({record["id"] for record in [*kept, *filtered]}) == len(kept) + len(filtered) == len(world.requests)
    assert spent(here.out) == world.served_tokens


def test_a_text_that_an_earlier_sitting_kept_is_a_duplicate_in_a_later_one(here: Here, world: FaultyEndpoint) -> None:
    world.write = lambda prompt: text_of("always the same")
    assert here("--amount.count", "1") == 0
    assert here("--amount.count", "2", "--budget.tokens", "700") == 0
    assert len(records(here.out)) == 1
    assert summary(here.out)["filtered"]["duplicate"] == len(world.requests) - 1 > 5


def test_the_budget_is_never_exceeded_whatever_fails(here: Here, world: FaultyEndpoint) -> None:
    kinds = ("429", "500", "cut", "malformed", "no usage", "empty", "nothing")
    world.choose = by_chance(dict.fromkeys(kinds, 0.07), seed=3)
    assert here("--amount.count", "300", "--budget.tokens", "4000") == 0
    assert world.served_tokens <= spent(here.out) <= 4000
    assert spent(here.out) > 4000 - 150, "and used up to less than one more request"
    assert 20 < len(records(here.out)) < 300
    assert "the budget ends here" in here.printed
    before = len(world.requests)
    assert here("--amount.count", "300", "--budget.tokens", "4000") == 0
    assert len(world.requests) == before, "nothing is sent when nothing may be spent"
    assert here("--amount.count", "300", "--budget.tokens", "6000") == 0
    assert 4000 < spent(here.out) <= 6000


def test_a_budget_of_money_holds_too(here: Here, world: FaultyEndpoint) -> None:
    prices = ("--budget.prompt-price", "2", "--budget.completion-price", "10")
    assert here("--amount.count", "300", "--budget.cost", "0.01", *prices) == 0
    cost = sum(2e-6 * 19 + 10e-6 * 31 for _ in world.answered)
    assert summary(here.out)["spent"]["cost"] == pytest.approx(cost)
    assert 0.009 < cost <= 0.01


def test_an_endpoint_that_uses_more_than_the_worst_case_is_believed(here: Here, world: FaultyEndpoint) -> None:
    world.choose = lambda number, body: "greedy"
    flags = ("--amount.count", "300", "--budget.tokens", "4000", "--limits.concurrency", "1")
    assert here(*flags) == 0
    assert spent(here.out) == world.served_tokens <= 4000
    assert here(*flags) == 0, "the lesson is in the journal"
    assert world.served_tokens <= 4000


def test_never_more_requests_at_once_than_asked(here: Here, world: FaultyEndpoint) -> None:
    world.delay_s = 0.05
    assert here("--limits.concurrency", "3") == 0
    assert world.most_under_way == 3


def test_requests_keep_the_rate(here: Here, world: FaultyEndpoint) -> None:
    assert here("--limits.requests-per-minute", "240", "--amount.count", "8") == 0
    times = [request["time_s"] for request in world.requests]
    assert times[-1] - times[0] >= 7 * 0.25 - 0.6, "the first may have been on its way for longer"


def test_retry_after_is_honoured_by_all_requests(here: Here, world: FaultyEndpoint) -> None:
    world.choose = once("wait 1", number=0)
    world.delay_s = 0.05
    assert here("--limits.concurrency", "2", "--amount.count", "6") == 0
    times = [request["time_s"] - world.requests[0]["time_s"] for request in world.requests]
    assert not [at for at in times if 0.3 < at < 0.95]
    assert len([at for at in times if at >= 0.95]) >= 4


def test_an_endpoint_that_asks_for_a_long_wait_ends_the_sitting(here: Here, world: FaultyEndpoint) -> None:
    world.choose = once("wait 9999", number=3)
    assert here("--limits.concurrency", "1") == 2
    assert "asks to wait 9,999 s" in here.told
    assert len(records(here.out)) == 3
    assert here() == 0
    assert len(records(here.out)) == 10


def test_an_endpoint_that_keeps_failing_is_taken_to_be_down_and_what_came_is_kept(
    here: Here, world: FaultyEndpoint
) -> None:
    world.choose = lambda number, body: "503" if number >= 5 else None
    assert here("--limits.retries", "1", "--limits.concurrency", "1") == 2
    assert "does not answer after 1 retries: 503" in here.told
    assert len(records(here.out)) == 5
    assert len(world.requests) == 5 + 3 * 2
    world.choose = lambda number, body: None
    assert here() == 0
    assert len({record["id"] for record in records(here.out)}) == 10


def test_one_prompt_that_always_fails_is_passed_over_and_tried_again_another_time(
    here: Here, world: FaultyEndpoint
) -> None:
    world.choose = lambda number, body: "500" if "a1 " in body["messages"][-1]["content"] else None
    assert here("--limits.retries", "1", "--amount.count", "30", "--limits.concurrency", "1") == 0
    assert not any(record["attributes"]["a"] == "a1" for record in records(here.out))
    world.choose = lambda number, body: None
    assert here("--amount.count", "31") == 0
    assert records(here.out)[-1]["attributes"]["a"] == "a1"


def test_one_prompt_that_is_refused_does_not_hold_up_the_others(here: Here, world: FaultyEndpoint) -> None:
    world.choose = lambda number, body: "403" if "a1 " in body["messages"][-1]["content"] else None
    for count in ("30", "40"):
        assert here("--amount.count", count, "--limits.concurrency", "1") == 0
        assert len(records(here.out)) == int(count)
    assert world.faults["403"] == summary(here.out)["failed_requests"]["status 403"] >= 2
    world.choose = lambda number, body: "403"
    before = len(world.requests)
    assert here("--amount.count", "50", "--limits.concurrency", "1") == 2
    assert len(world.requests) - before == 3, "three refusals in a row are no matter of one prompt"


def test_a_used_up_quota_is_no_rate_to_wait_for(here: Here, world: FaultyEndpoint) -> None:
    world.choose = lambda number, body: "quota" if number >= 4 else None
    assert here("--limits.concurrency", "1") == 2
    assert "refuses: 429 you have used it all up" in here.told
    assert (len(world.requests), len(records(here.out))) == (5, 4)


def test_nobody_there_is_told_in_one_line(here: Here) -> None:
    here.spec(spec_text(3))
    here.monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    here.monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert here() == 2
    assert "the endpoint http://127.0.0.1:9 does not answer after 2 retries: ConnectError" in here.told
    assert spent(here.out) == 0, "what was never sent costs nothing"


@pytest.mark.parametrize("key", [KEY[:-1] + "X", "\N{SNOWMAN}" * 20, "two words of it", ""])
def test_a_key_that_is_wrong_is_refused_without_being_shown(here: Here, world: FaultyEndpoint, key: str) -> None:
    here.use(world, key)
    assert here() == 2
    assert ("401 Incorrect API key provided: Bearer [key]" in here.told) or "OPENAI_API_KEY is" in here.told
    assert not key or key not in here.everything_written()
    assert not records(here.out)


def test_the_key_is_nowhere_even_where_the_endpoint_repeats_it(here: Here, world: FaultyEndpoint) -> None:
    world.choose = by_chance({"500": 0.2, "429": 0.1, "error inside": 0.2}, seed=1)
    world.write = lambda prompt: f"{text_of(prompt)} my key is {KEY}"
    here.monkeypatch.setenv("OPENAI_LOG", "debug")
    assert here("--request.stream") == 0
    assert world.faults["500"] > 0
    assert world.faults["error inside"] > 0
    everything = here.everything_written()
    assert KEY not in everything
    assert "SECRET" not in everything
    assert all(record["text"].endswith("my key is [key]") for record in records(here.out))


def test_the_address_is_not_written_to_disk_nor_its_password_shown(here: Here, world: FaultyEndpoint) -> None:
    here.monkeypatch.setenv("OPENAI_BASE_URL", world.url.replace("//", "//ada:hush@"))
    here()
    assert "hush" not in here.everything_written()
    port = world.url.rpartition(":")[2].partition("/")[0]
    assert not any(port in path.read_text() for path in here.out.rglob("*") if path.is_file())


def test_an_unknown_model_is_named(here: Here, world: FaultyEndpoint) -> None:
    assert here("--request.model", "nobody") == 2
    assert "refuses: 404 The model 'nobody' does not exist" in here.told
    assert len(world.requests) <= 8, "one for each that was on its way, none again"
    assert spent(here.out) == 0


def test_a_bad_request_is_not_repeated(here: Here, world: FaultyEndpoint) -> None:
    world.choose = lambda number, body: "bad request"
    assert here("--limits.concurrency", "1") == 2
    assert "refuses: 400 unknown option" in here.told
    assert len(world.requests) == 1


def test_the_model_may_come_from_the_environment_and_belongs_to_the_folder(here: Here, world: FaultyEndpoint) -> None:
    here.spec(spec_text(3).replace(f'model = "{MODEL}"', ""))
    assert here() == 2
    assert "no model is named" in here.told
    here.monkeypatch.setenv("OPENAI_MODEL", MODEL)
    assert here() == 0
    here.monkeypatch.setenv("OPENAI_MODEL", "another")
    assert here() == 2
    assert "holds examples of another spec: request.model differs" in here.told


def test_the_newer_name_of_the_limit_is_sent_where_asked(here: Here, world: FaultyEndpoint) -> None:
    assert here("--request.max-tokens-name", "max_completion_tokens", "--request.top-p", "0.9") == 0
    body = world.requests[0]["body"]
    assert (body["max_completion_tokens"], body["top_p"], "max_tokens" in body) == (60, 0.9, False)


def test_a_budget_too_small_for_one_request_is_refused_before_any(here: Here, world: FaultyEndpoint) -> None:
    assert here("--budget.tokens", "90") == 2
    assert "the budget (90 tokens) is too small for one request: at worst 143 tokens" in here.told
    assert not world.requests
    assert not here.out.exists(), "nothing was asked for, so nothing is left behind"


def test_when_no_combination_is_left_it_says_so(here: Here, world: FaultyEndpoint) -> None:
    here.spec(spec_text(8, values=2))
    world.choose = once("empty")
    assert here() == 0
    assert len(records(here.out)) == 7
    assert "no combination is left" in here.printed
    assert here("--amount.repeats", "2") == 0
    found = records(here.out)
    assert (len(found), found[-1]["repeat"]) == (8, 1)
    assert summary(here.out)["filtered"].get("duplicate", 0) == len(world.requests) - 9, "this endpoint writes no other"


def test_json_gives_one_object(here: Here, world: FaultyEndpoint) -> None:
    assert here("--json") == 0
    answer = json.loads(here.printed)
    assert (answer["examples"], answer["complete"], answer["ending"]) == (10, True, "count")
    assert answer["out"] == "out"
    assert answer["wrote"] == ["out/examples.jsonl"]
