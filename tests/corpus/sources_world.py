"""A small world for sources: parquet files of row groups, and a web server that can be told to fail."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from folio.corpus.sources import Patience, Source

HASTY = Patience(stall_s=0.5, attempts=4, first_pause_s=0.01)


def write_parquet(path: Path, texts: Sequence[str | None], rows_per_group: int = 2, **settings: Any) -> Path:
    """One column ``text``, and an ``id`` where ``ids`` are given."""
    ids = settings.pop("ids", None)
    columns: dict[str, Any] = {"text": pa.array(texts, pa.string())}
    if ids is not None:
        columns["id"] = ids
    columns["score"] = [1.0] * len(texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=rows_per_group, **settings)
    return path


def texts_of(source: Source) -> list[str]:
    return [document.text for part in source.parts() for document in source.documents(part)]


@dataclass
class Server:
    """Serves ``files`` with ranges, and everything that was asked."""

    files: dict[str, bytes]
    url: str = ""
    faults: list[str] = field(default_factory=list)
    """For the next requests: drop (half the body), status (503), stall, or nothing."""
    ranges: bool = True
    after: dict[str, bytes] = field(default_factory=dict)
    """What a file becomes once ``calm`` requests for it were answered."""
    calm: int = 0
    asked: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    sent: int = 0
    redirect: str = ""


class _Handler(http.server.BaseHTTPRequestHandler):
    world: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        world, path = self.world, unquote(urlsplit(self.path).path.lstrip("/"))
        world.asked.append(f"{path} {self.headers.get('Range', '')}".strip())
        world.keys.append(self.headers.get("Authorization"))
        if path in world.after and sum(each.startswith(f"{path} ") for each in world.asked) > world.calm:
            world.files[path] = world.after.pop(path)
        fault = world.faults.pop(0) if world.faults else ""
        if world.redirect and "resolve" in path:
            self._answer(302, b"", Location=f"{world.redirect}/{path}")
        elif fault == "status":
            self._answer(503, b"")
        elif path not in world.files:
            self._answer(404, b"", **({"X-Error-Code": "RepoNotFound"} if path.startswith("api/") else {}))
        else:
            self._file(world.files[path], fault)

    def _file(self, content: bytes, fault: str) -> None:
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        asked = self.headers.get("Range")
        if not asked or not self.world.ranges:
            self._answer(200, content, ETag=etag)
            return
        first, last = (int(end) for end in asked.removeprefix("bytes=").split("-"))
        if first >= len(content):
            self._answer(416, b"", **{"Content-Range": f"bytes */{len(content)}"})
            return
        body = content[first : last + 1]
        if fault == "stall":
            time.sleep(1.0)
        headers = {"Content-Range": f"bytes {first}-{first + len(body) - 1}/{len(content)}", "ETag": etag}
        self._answer(206, body, cut=fault == "drop", **headers)

    def _answer(self, status: int, body: bytes, cut: bool = False, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        sent = body[: len(body) // 2] if cut else body
        self.world.sent += len(sent)
        with suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(sent)


class _Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    """A server on this machine."""
    world = Server(dict(files))
    server = _Quiet(("127.0.0.1", 0), type("Handler", (_Handler,), {"world": world}))
    world.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hub_answers(name: str, commit: str, files: dict[str, bytes], card: dict[str, Any]) -> dict[str, bytes]:
    """What a hub has at its addresses for one dataset."""
    tree = [
        {
            "type": "file",
            "path": path,
            "size": len(content),
            "oid": hashlib.sha1(content).hexdigest(),
            "lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 100},
        }
        for path, content in files.items()
    ]
    about = {"id": name, "sha": commit, "siblings": [], "tags": [], "cardData": card, "private": False}
    answers = {
        f"api/datasets/{name}/revision/main": json.dumps(about).encode(),
        f"api/datasets/{name}/revision/{commit}": json.dumps(about).encode(),
        f"api/datasets/{name}/tree/{commit}": json.dumps(tree).encode(),
    }
    return answers | {f"datasets/{name}/resolve/{commit}/{path}": content for path, content in files.items()}
