"""Addresses of people and machines are replaced, every planted one and nothing else."""

from __future__ import annotations

import ipaddress
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folio.corpus.quality.addresses import is_public
from folio.corpus.quality.personal import EMAIL, IPV4, IPV6, scrub


def scrubbed(text: str) -> tuple[str, dict[str, int]]:
    verdict = scrub(text, emails=True, ips=True)
    return verdict.text, {change.reason: change.hits for change in verdict.changes}


@pytest.mark.parametrize(
    "address",
    [
        "john@smith.org",
        "j.o'neill+news@mail.some-firm.co.uk",
        "JOHN_SMITH%x@FIRM.COM",
        "jürgen@müller.de",
        "иван@почта.рф",
        "root@host.xn--p1ai",
        "a@b.co",
        "x" * 64 + "@long.net",
    ],
)
@pytest.mark.parametrize(
    ("before", "after"), [("", ""), ("<", ">"), ("Write to '", "'."), ("mailto:", "?s=1"), ("(", "),")]
)
def test_every_email_address_is_replaced(address: str, before: str, after: str) -> None:
    assert scrubbed(before + address + after) == (before + EMAIL + after, {"e-mail address": 1})


@pytest.mark.parametrize(
    "text",
    [
        *("meet @ five", "@handle said", "lodash@4.17.21", "icon@2x.png", "a@b", "user@localhost", "x@.com"),
        *("name@example.com", "me@mail.example.org", "he@some.invalid"),
    ],
)
def test_what_is_no_persons_address_stays(text: str) -> None:
    assert scrubbed(text) == (text, {})


@pytest.mark.parametrize("address", ["8.8.8.8", "172.217.3.110", "1.0.0.1", "223.255.255.254"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("http://", "/x"),
        ("from ", ":443"),
        ("(", ")"),
        ("at ", "."),
        ("net ", "/24"),
        ("8080-", ", then"),
        ("::ffff:", " "),
    ],
)
def test_every_public_ipv4_address_is_replaced(address: str, before: str, after: str) -> None:
    assert scrubbed(before + address + after) == (before + IPV4 + after, {"IPv4 address": 1})


@pytest.mark.parametrize(
    "text",
    [
        *("version 8.8.8.8", "Version: 8.8.8.8", "v8.8.8.8", "v. 8.8.8.8", "release 8.8.8.8 is out", "build (8.8.8.8)"),
        *("Firmware 8.8.8.8", "see section 8.8.8.8", "§ 8.8.8.8", "§8.8.8.8", "Fig. 8.8.8.8", "kernel=8.8.8.8"),
        *("torch==8.8.8.8", "torch>= 8.8.8.8", "tool-8.8.8.8.tar.gz", "8.8.8.8.8", "1.3.6.1.4.1", "8.8.8.8rc1"),
        *("8.8.8.8-rc1", "8.8.8.8-beta", "x8.8.8.8", "8.8.8", "256.8.8.8", "08.8.8.8", "1,8.8.8", "8. 8. 8. 8"),
        *("10.1.2.3", "127.0.0.1", "192.168.1.1", "172.31.0.9", "169.254.1.1", "0.0.0.0", "255.255.255.255"),
        *("224.0.0.1", "192.0.2.1", "100.64.0.1", "٨.٨.٨.٨"),
    ],
)
def test_versions_sections_and_private_addresses_stay(text: str) -> None:
    assert scrubbed(text) == (text, {})


@pytest.mark.parametrize(
    "address", ["2001:4860:4860::8888", "2606:4700:4700:0:0:0:0:1111", "2A00:1450:4001:81B::200E", "2a00::"]
)
@pytest.mark.parametrize(
    ("before", "after"), [("", ""), ("[", "]:443"), ("at ", ", and"), ("is ", "."), ("net ", "/48")]
)
def test_every_public_ipv6_address_is_replaced(address: str, before: str, after: str) -> None:
    assert scrubbed(before + address + after) == (before + IPV6 + after, {"IPv6 address": 1})


@pytest.mark.parametrize(
    "text",
    [
        *("::1", "fe80::1", "fd00::1:2", "ff02::1", "2001:db8::7", "std::vector", "dead::beef", "at 23:59:59"),
        *("20:01:0d:b8:00:01", "2024:12:31", "2000:1 odds", "3fff::1", "a2001:4860::1"),
    ],
)
def test_times_names_and_local_ipv6_addresses_stay(text: str) -> None:
    assert scrubbed(text) == (text, {})


def test_every_planted_address_is_found_and_nothing_else() -> None:
    draw = random.Random(0)
    words = ["the", "of", "time", "12:30", "3.14", "v2.0.1.7", "10.0.0.1", "@you", "std::map", "naïve", "日本"]
    planted = {"e-mail address": 0, "IPv4 address": 0, "IPv6 address": 0}
    given, wanted = [], []
    for _ in range(3000):
        word = draw.choice(words)
        given.append(word)
        wanted.append(word)
        kind = draw.choice([*planted, None, None])
        if kind == "e-mail address":
            address, neutral = f"n{draw.randrange(10**6)}.x@d{draw.randrange(999)}-y.com", EMAIL
        elif kind == "IPv4 address":
            address, neutral = str(ipaddress.IPv4Address(draw.randrange(2**32))), IPV4
        elif kind == "IPv6 address":
            address, neutral = str(ipaddress.IPv6Address(0x2 << 124 | draw.randrange(2**124))), IPV6
        else:
            continue
        public = kind == "e-mail address" or is_public(address)
        given.append(address)
        wanted.append(neutral if public else address)
        planted[kind] += public
    assert scrubbed(" ".join(given)) == (" ".join(wanted), planted)


@given(st.integers(0, 2**32 - 1))
def test_what_is_public_agrees_with_python_but_for_multicast(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    assert is_public(str(address)) == (address.is_global and not address.is_multicast) or number >> 8 in (
        *(0xC00000, 0xC05863),  # 192.0.0.0/24 and 192.88.99.0/24: Python's versions differ
    )


@given(st.text(st.sampled_from("ab1.2@:-+ 8é\n"), max_size=60))
def test_scrubbing_twice_is_scrubbing_once(text: str) -> None:
    once = scrubbed(text)[0]
    assert scrubbed(once) == (once, {})


def test_each_kind_is_the_users_choice() -> None:
    text = "a@b.co at 8.8.8.8"
    assert scrub(text, emails=True, ips=False).text == f"{EMAIL} at 8.8.8.8"
    assert scrub(text, emails=False, ips=True).text == f"a@b.co at {IPV4}"


@pytest.mark.parametrize("part", ["a", "a.", "1.", "2001:", "@", "a@", "a@b.", "a-", "1.1.1.1.", "'", "a@b" * 9])
def test_no_text_is_slow_to_search(part: str) -> None:
    text = part * (200_000 // len(part)) + "@"
    started = time.process_time()
    scrubbed(text)
    assert time.process_time() - started < 5  # a search that grew with the square would take minutes
