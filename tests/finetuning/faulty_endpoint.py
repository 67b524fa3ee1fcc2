"""A local server that speaks chat completions, with faults, and counts every token that it served.

What it counts is what a provider could charge for: the prompt and the whole answer of each request that it worked on,
also where the client saw a cut stream, rubbish or nothing at all. Refusals (429, 500, 503, 4xx) are not counted.
"""

from __future__ import annotations

import hashlib
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-local-0123456789abcdef-SECRET"
MODEL = "tiny-writer"
WORDS = ["moss", "stone", "river", "lantern", "hollow", "ember", "glass", "thorn", "mist", "tower", "bell", "raven"]
Choose = Callable[[int, dict[str, Any]], str | None]


def text_of(prompt: str, words: int = 30) -> str:
    """The same text for the same prompt, and hardly a shared phrase between two prompts."""
    draw = random.Random(hashlib.sha256(prompt.encode()).digest())
    return " ".join(draw.choice(WORDS) + str(draw.randrange(100)) for _ in range(words)) + "."


@dataclass
class FaultyEndpoint:
    """``choose`` names the fault of request number so-and-so (from 0), or None for a sound answer."""

    choose: Choose = lambda number, body: None
    write: Callable[[str], str] = text_of
    delay_s: float = 0.0
    slow_s: float = 3.0
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    """What was asked, in order: body, fault, time_s, tokens."""
    answered: Counter[str] = field(default_factory=Counter)
    """Sound answers that were sent whole, by prompt."""
    under_way: int = 0
    most_under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def served_tokens(self) -> int:
        with self.lock:
            return sum(request["tokens"] for request in self.requests)

    @property
    def faults(self) -> Counter[str]:
        return Counter(request["fault"] or "none" for request in self.requests)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        world = self.server.world
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with world.lock:
            number = len(world.requests)
            fault = world.choose(number, body)
            entry = {"body": body, "fault": fault, "time_s": time.monotonic(), "tokens": 0}
            world.requests.append(entry)
            world.under_way += 1
            world.most_under_way = max(world.most_under_way, world.under_way)
        try:
            self.answer(world, body, fault, entry)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with world.lock:
                world.under_way -= 1

    def answer(self, world: FaultyEndpoint, body: dict[str, Any], fault: str | None, entry: dict[str, Any]) -> None:
        authorization = self.headers.get("Authorization", "")
        if authorization != f"Bearer {KEY}":
            return self.refuse(401, f"Incorrect API key provided: {authorization}")
        if body["model"] != MODEL:
            return self.refuse(404, f"The model '{body['model']}' does not exist")
        if fault is not None and fault.isdigit():
            headers = {"Retry-After": "0"} if fault == "429" else {}
            return self.refuse(int(fault), f"no, said the server to {authorization}", headers)
        if fault is not None and fault.startswith("wait "):
            return self.refuse(429, "slow down", {"Retry-After": fault.split()[1]})
        if fault == "content filter":
            return self.refuse(400, "not this one", code="content_filter")
        if fault == "bad request":
            return self.refuse(400, "unknown option", code="invalid_request")
        if fault == "quota":
            return self.refuse(429, "you have used it all up", code="insufficient_quota")
        prompt = body["messages"][-1]["content"]
        text = "" if fault == "empty" else world.write(prompt)
        limit = body.get("max_tokens", body.get("max_completion_tokens"))
        words = text.split()[:limit]
        text = " ".join(words)
        finish = "length" if fault == "length" else "stop"
        usage = {
            "prompt_tokens": sum(len(message["content"].split()) + 5 for message in body["messages"]),
            "completion_tokens": len(words) + 1,
        }
        if fault == "greedy":
            usage = {name: count + 100 for name, count in usage.items()}
        with world.lock:
            entry["tokens"] = sum(usage.values())
        time.sleep(world.slow_s if fault == "slow" else world.delay_s)
        if fault == "nothing":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        if fault == "page":
            return self.send(200, b"<html>the gateway says hello</html>", "text/html")
        if body.get("stream"):
            return self.stream(world, prompt, text, finish, usage, fault)
        content: dict[str, Any] = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish},
            ],
            "usage": {**usage, "total_tokens": sum(usage.values())},
        }
        if fault == "no usage":
            del content["usage"]
        if fault == "no choices":
            content["choices"] = []
        if fault == "odd":
            content["choices"] = [{"message": {"content": {"text": 3}}}]
        raw = json.dumps(content).encode()
        if fault == "malformed":
            raw = raw[: len(raw) // 2]
        if fault == "cut":
            self.send(200, raw, cut=True)
            return None
        self.send(200, raw)
        if fault in (None, "no usage", "slow"):
            with world.lock:
                world.answered[prompt] += 1
        return None

    def stream(
        self, world: FaultyEndpoint, prompt: str, text: str, finish: str, usage: dict[str, int], fault: str | None
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

        def event(data: dict[str, Any] | str) -> None:
            raw = data if isinstance(data, str) else json.dumps({"id": "x", "model": MODEL, "created": 0, **data})
            self.wfile.write(f"data: {raw}\n\n".encode())
            self.wfile.flush()

        words = text.split(" ")
        for at, word in enumerate(words):
            if fault == "cut" and at == len(words) // 2:
                return
            if fault in ("malformed", "error inside") and at == 3:
                event('{"choices": [{' if fault == "malformed" else {"error": {"message": f"worker died, key {KEY}"}})
                return
            event({"choices": [{"index": 0, "delta": {"content": word + " " * (at < len(words) - 1)}}]})
        event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if fault != "no usage":
            event({"choices": [], "usage": {**usage, "total_tokens": sum(usage.values())}})
        event("[DONE]")
        if fault in (None, "no usage"):
            with world.lock:
                world.answered[prompt] += 1

    def refuse(self, status: int, message: str, headers: dict[str, str] | None = None, code: str = "") -> None:
        self.send(status, json.dumps({"error": {"message": message, "code": code}}).encode(), headers=headers)

    def send(
        self, status: int, raw: bytes, kind: str = "application/json", headers: Any = None, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw[: len(raw) // 2] if cut else raw)
        self.wfile.flush()
        if cut:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    world: FaultyEndpoint

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that was killed


@contextmanager
def serving(world: FaultyEndpoint) -> Iterator[FaultyEndpoint]:
    """``world`` at its ``url`` until the block ends."""
    server = Server(("127.0.0.1", 0), Handler)
    server.world = world
    world.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def by_chance(shares: dict[str, float], seed: int = 0) -> Choose:
    """Each request gets a fault with these probabilities."""
    draw = random.Random(seed)

    def choose(number: int, body: dict[str, Any]) -> str | None:
        at = draw.random()
        for fault, share in shares.items():
            if (at := at - share) < 0:
                return fault
        return None

    return choose


def spec_text(count: int, *, values: int = 12, more: str = "") -> str:
    """A spec of three attributes with ``values`` values each, quick to back off."""
    lists = "\n".join(f"{name} = {json.dumps([f'{name}{at}' for at in range(values)])}" for name in ("a", "b", "c"))
    return f"""
[prompt]
system = "You write."
template = "Write of {{a}} and {{b}} at {{c}}."
[attributes]
{lists}
[request]
model = "{MODEL}"
max_tokens = 60
{more}
[amount]
count = {count}
[limits]
backoff_s = 0.01
timeout_s = 2.0
concurrency = 8
"""
