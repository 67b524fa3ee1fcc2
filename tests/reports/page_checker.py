"""What is true of every page: it is well formed and fetches nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "input", "link"}
FETCHING = {"src", "href", "srcset", "data", "poster", "action", "background", "xlink:href"}


class Checker(HTMLParser):
    """Asserts that every element closes in order; collects tags, text, and attributes that would fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.fetches: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetches += [f"{tag} {k}={v}" for k, v in attrs if k in FETCHING and not (v or "").startswith("#")]
        assert not [k for k, _ in attrs if k.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without its opening"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def check(html: str) -> Checker:
    """Parse a page and assert the promises every page makes."""
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert not checker.open
    assert not checker.fetches
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(checker.tags)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    addresses = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"'<]*", html)
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}, "the SVG namespace is a name, everything else a fetch"
    return checker
