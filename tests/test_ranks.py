"""What ranks tell each other, what each hears when another fails or is gone, and that one alone needs nobody."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from folio.errors import ConfigError, RankLost
from folio.launch import Launch
from folio.ranks import ALONE, joined, lost_rank

TALK = Path(__file__).parent / "training" / "rank_talk.py"
Heard = list[dict[str, Any]]


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """What ranks 0 and 1 heard; they were started without torchrun, as by ``srun``."""
    folder = tmp_path_factory.mktemp("talk")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC")}
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error::UserWarning:folio", str(TALK), str(folder)],
            stderr=subprocess.PIPE,
            text=True,
            env={**clean, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, -9], said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_all_hear_the_same_in_the_order_of_ranks(heard: Heard) -> None:
    for own in heard:
        assert own["gather"] == [{"rank": 0}, {"rank": 1}]
        assert own["share"] == "of 0"
        assert own["another"] == [0, 1]


def test_sums_are_float64_and_the_same_bits_on_each(heard: Heard) -> None:
    expected = [0.1 + 1.1, 2e-20, float(2**54 - 1)]
    assert [float.fromhex(value) for value in heard[0]["sum"]] == expected
    assert heard[0]["sum"] == heard[1]["sum"]


def test_work_goes_well_everywhere_or_fails_everywhere(heard: Heard) -> None:
    assert [own["well"][:2] for own in heard] == [["gave", f"done by {rank}"] for rank in range(2)]
    for own in heard:
        assert own["OSError"][:2] == ["OSError", "[Errno 28] No space left on device: 'somewhere'"]
        assert own["ConfigError"][:2] == ["ConfigError", "wrong\n       Do otherwise."]
        assert own["after"] == [0, 1]  # and they still understand each other


def test_a_bug_on_one_rank_is_heard_by_its_own_name_there_and_with_the_rank_elsewhere(heard: Heard) -> None:
    assert heard[1]["ZeroDivisionError"][:2] == ["ZeroDivisionError", "by zero"]
    assert heard[0]["ZeroDivisionError"][:2] == ["RuntimeError", "rank 1: ZeroDivisionError: by zero"]


def test_the_first_rank_of_a_machine_makes_what_others_then_find(heard: Heard) -> None:
    assert [own["once"] for own in heard] == ["made", "found"]


def test_a_rank_that_does_not_answer_is_given_up_when_its_time_is_over(heard: Heard) -> None:
    kind, words, seconds = heard[0]["silent"]
    assert kind == "RankLost"
    assert words.startswith("rank 0 of 2 lost another rank: it does not answer\n")
    assert 1 < seconds < 3.5


def test_a_rank_that_is_killed_is_missed_at_once(heard: Heard) -> None:
    kind, words, seconds = heard[0]["lost"]
    assert kind == "RankLost"
    assert words.startswith("rank 0 of 2 lost another rank: connection")
    assert seconds < 10


def test_one_process_is_enough_for_itself() -> None:
    assert (ALONE.rank, ALONE.world_size, ALONE.first) == (0, 1, True)
    assert ALONE.sum([0.1, 2]) == [0.1, 2]
    assert ALONE.gather("x") == ["x"]
    assert ALONE.share("x") == "x"
    assert ALONE.another() is ALONE
    assert ALONE.first_on_each_machine(lambda: 3) == 3
    ALONE.wait()
    with pytest.raises(ZeroDivisionError):
        ALONE.attempt(lambda: 1 // 0)


def test_without_a_launcher_nobody_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as ranks:
        assert (ranks.world_size, ranks.group) == (1, None)


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_a_device_that_ranks_cannot_share_is_refused_before_they_join(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"device '{device}' cannot be shared by 2 ranks"), joined(device):
        pass


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ("[../pair.cc:553] Connection closed by peer [127.0.0.1]:33", "connection closed by peer"),
        ("Application timeout: Timed out waiting 5000ms for recv operation to complete", "it does not answer"),
        ("NCCL error: remote process exited or there was a network error", "it does not answer"),
    ],
)
def test_errors_of_a_lost_connection_are_told_as_such_and_others_are_not(words: str, meaning: str) -> None:
    lost = lost_rank(RuntimeError(words), Launch(1, 4))
    assert isinstance(lost, RankLost)
    assert lost.problem == f"rank 1 of 4 lost another rank: {meaning}"
    assert lost_rank(RuntimeError(words), Launch()) is None
    assert lost_rank(RuntimeError("shapes do not match"), Launch(1, 4)) is None
