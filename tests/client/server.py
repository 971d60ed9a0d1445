"""A server that answers what a test says, one reply after the other, and keeps what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "5c0b-the-token-of-the-test"
URN = "urn:secretflow-controlplane:problem:"


@dataclass
class Reply:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    #: Whether the connection breaks: with a body, in the middle of it.
    breaks: bool = False


def problem(kind: str, status: int, *errors: tuple[str | None, str], **headers: str) -> Reply:
    """Problem details as the control plane answers them."""
    entries = [{"path": path, "code": "invalid", "detail": detail} for path, detail in errors]
    body = {"type": URN + kind, "title": "A title.", "status": status, "detail": "A detail.", "errors": entries}
    return Reply(status, body, {"Content-Type": "application/problem+json", **headers})


def stream(*messages: tuple[str, str, Mapping[str, Any]], breaks: bool = False) -> Reply:
    """A stream of server-sent events: id, event and data of each."""
    told = "".join(f"id: {pk}\nevent: {event}\ndata: {json.dumps(data)}\n\n" for pk, event, data in messages)
    return Reply(200, f"retry: 10\n\n{told}", {"Content-Type": "text/event-stream"}, breaks)


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any

    @property
    def key(self) -> str:
        return self.headers.get("idempotency-key", "")


class Server:
    """``replies``: what is left to be answered; a function is given the request. The last one is answered again."""

    def __init__(self) -> None:
        self.replies: list[Reply | Callable[[Asked], Reply]] = []
        self.asked: list[Asked] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                server.answer(self)

            do_GET = do_POST = do_PATCH = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = Thread(target=self._http.serve_forever, args=[0.01], daemon=True)
        self._thread.start()

    def will(self, *replies: Reply | Callable[[Asked], Reply]) -> None:
        self.replies = list(replies)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        sent = handler.rfile.read(length)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Asked(
            str(handler.command), parts.path, parse_qs(parts.query), headers, json.loads(sent) if sent else None
        )
        self.asked.append(asked)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        reply = reply(asked) if callable(reply) else reply
        handler.close_connection = True
        if reply.breaks and reply.body is None:
            return
        body = reply.body if isinstance(reply.body, str) else "" if reply.body is None else json.dumps(reply.body)
        handler.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        # A stream ends as its connection does; what breaks has promised more
        if reply.breaks or not body.startswith("retry:"):
            handler.send_header("Content-Length", str(len(body.encode()) + (5 if reply.breaks else 0)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(body.encode())

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@contextmanager
def running() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()


def execution(status: str = "SUCCESS", **fields: Any) -> dict[str, Any]:
    return {"id": "6a0e", "status": status, "name": "intersect", "parties": ["alice", "bob"], **fields}


def state(number: int, status: str, execution: str = "6a0e") -> tuple[str, str, dict[str, Any]]:
    data = {"id": f"state-{number}", "execution": execution, "status": status, "at": "2026-12-01T06:00:00Z"}
    return f"{number}.0", "state", data


def event(number: int, party: str, stage: str, **data: Any) -> tuple[str, str, dict[str, Any]]:
    told = {"id": f"event-{number}", "execution": "6a0e", "party": party, "status": "RUNNING", "stage": stage}
    told["received_at"] = "2026-12-01T06:00:00Z"
    return f"0.{number}", "event", told | {"data": data}
