"""The grammar of a study's expressions, read by descent; nothing is executed, no name reaches anything but a value::

    choice   = or ["if" or "else" choice]
    or       = and {"or" and}           and   = not {"and" not}
    not      = "not" not | compare      compare = sum {("=="|"!="|"<"|"<="|">"|">="|"in"|"not in") sum}
    sum      = product {("+"|"-") product}
    product  = sign {("*"|"/"|"//"|"%") sign}
    sign     = ("-"|"+") sign | atom ["**" sign]
    atom     = number | text | true | false | none | name | function "(" choice {"," choice} ")"
             | "(" choice ")" | "[" choice {"," choice} "]"

A name is letters, digits and ``_``, with dots between: an axis, or a key of the recipe. Functions: abs, ceil, floor,
log2, max, min, round, sqrt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from folio.errors import ConfigError
from folio.studies.grid.operators import (
    COMPARISONS,
    CONSTANTS,
    FUNCTIONS,
    Node,
    bounded,
    comparable,
    computed,
    number,
    truth,
)

TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"""
    r"""|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)"""
    r"""|(?P<text>"[^"]*"|'[^']*')"""
    r"""|(?P<sign>\*\*|//|==|!=|<=|>=|[-+*/%()<>,\[\]]))"""
)
WORDS = {"and", "or", "not", "if", "else", "in"}
DEEPEST = 40


class Reader:
    """Descends through one text; ``token`` is the next one, "" at the end."""

    def __init__(self, text: str) -> None:
        self.text, self.names, self.depth = text, set[str](), 0
        self.at = self.end = 0
        self.kind = self.token = ""
        self.advance()

    def advance(self) -> str:
        """The token that was next, after which the one after it is."""
        taken = self.token
        self.at = self.end
        if not self.text[self.end :].strip():
            self.kind, self.token = "end", ""
            return taken
        found = TOKEN.match(self.text, self.end)
        if found is None:
            self.at = self.end + len(self.text[self.end :]) - len(self.text[self.end :].lstrip())
            self.fail(f"'{self.text[self.at]}' is not understood")
        self.kind, self.token = str(found.lastgroup), found[str(found.lastgroup)]
        self.at, self.end = found.start(str(found.lastgroup)), found.end()
        return taken

    def fail(self, problem: str) -> NoReturn:
        raise ConfigError(
            f"'{self.text}', character {self.at + 1}: {problem}",
            "Write arithmetic and comparisons of names: width / 64, rate > 0.01 and kind == 'warm'.",
        )

    def takes(self, *tokens: str) -> str | None:
        return self.advance() if self.token in tokens and self.kind != "text" else None

    def expect(self, token: str) -> None:
        if not self.takes(token):
            self.fail(f"'{token}' is missing")

    def choice(self) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail("too many brackets in each other")
        node = self.either()
        if self.takes("if"):
            condition = self.either()
            self.expect("else")
            yes, no = node, self.choice()
            node = lambda values: yes(values) if truth(condition(values)) else no(values)  # noqa: E731
        self.depth -= 1
        return node

    def either(self) -> Node:
        nodes = [self.both()]
        while self.takes("or"):
            nodes.append(self.both())
        return nodes[0] if len(nodes) == 1 else lambda values: any(truth(node(values)) for node in nodes)

    def both(self) -> Node:
        nodes = [self.negated()]
        while self.takes("and"):
            nodes.append(self.negated())
        return nodes[0] if len(nodes) == 1 else lambda values: all(truth(node(values)) for node in nodes)

    def negated(self) -> Node:
        negations = 0
        while self.takes("not"):
            negations += 1
        node = self.compared()
        return node if negations == 0 else lambda values: truth(node(values)) ^ bool(negations % 2)

    def compared(self) -> Node:
        first = self.sum()
        links: list[tuple[str, Node]] = []
        while sign := self.takes("==", "!=", "<", "<=", ">", ">=", "in", "not"):
            if sign == "not":
                self.expect("in")
                sign = "not in"
            links.append((sign, self.sum()))
        if not links:
            return first

        def value(values: Mapping[str, Any]) -> bool:
            left = first(values)
            for sign, node in links:
                right = node(values)
                if not COMPARISONS[sign](*comparable(sign, left, right)):
                    return False
                left = right
            return True

        return value

    def sum(self) -> Node:
        return self.chain(self.product, "+", "-")

    def product(self) -> Node:
        return self.chain(self.signed, "*", "/", "//", "%")

    def chain(self, part: Callable[[], Node], *signs: str) -> Node:
        node = part()
        while sign := self.takes(*signs):
            node = computed(sign, node, part())
        return node

    def signed(self) -> Node:
        minus = 0
        while sign := self.takes("-", "+"):
            minus += sign == "-"
        node = self.atom()
        if self.takes("**"):
            node = computed("**", node, self.signed())
        return node if minus % 2 == 0 else lambda values: -number(node(values))

    def atom(self) -> Node:
        kind, token = self.kind, self.token
        if self.takes("("):
            node = self.choice()
            self.expect(")")
            return node
        if self.takes("["):
            items = self.several("]")
            return lambda values: [item(values) for item in items]
        if kind not in ("number", "text", "name") or token in WORDS:
            self.fail(f"a value is missing before '{token}'" if token else "it ends too early")
        self.advance()
        if kind == "number":
            constant = float(token) if re.search(r"[.eE]", token) else int(token)
            return lambda values: constant
        if kind == "text":
            return lambda values: token[1:-1]
        if token in CONSTANTS:
            return lambda values: CONSTANTS[token]
        if self.takes("("):
            return self.call(token)
        self.names.add(token)
        return lambda values: values[token]

    def call(self, name: str) -> Node:
        if name not in FUNCTIONS:
            self.fail(f"there is no function {name}; there are {', '.join(FUNCTIONS)}")
        items = self.several(")")
        return lambda values: bounded(FUNCTIONS[name](*(number(item(values)) for item in items)))

    def several(self, end: str) -> list[Node]:
        items: list[Node] = []
        while not self.takes(end):
            if items:
                self.expect(",")
            items.append(self.choice())
        return items
