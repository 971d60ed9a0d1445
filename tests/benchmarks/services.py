"""The site under the load of many services: 50 that submit and wait, 500 that watch, and 10,000 webhook events to a
server that fails half of the time."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import shutil
import statistics
import tempfile
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from rich.console import Console

from executions.trial.stack import Trial
from tests.benchmarks.many import start_with_tables
from tests.benchmarks.wall_time import SHORT

SERVICES, EACH, ALONE = 50, 2, 20
STREAMS, DELIVERIES = 500, 10_000
#: Seconds in which each service submits the next one.
SPREAD = 30.0
LIMIT = 600.0


class Caller:
    """A service."""

    def __init__(self, url: str, token: str) -> None:
        self.host = urlsplit(url).netloc
        self.head = {"Authorization": f"Token {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: Any = None, **head: str) -> tuple[float, Any]:
        """Return how long it took until the answer was read, and the answer."""
        connection = http.client.HTTPConnection(self.host, timeout=90)
        began = time.perf_counter()
        connection.request(method, path, json.dumps(body) if body else None, {**self.head, **head})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status < 300, f"{method} {path}: {answer.status} {text[:300]!r}"
        return time.perf_counter() - began, json.loads(text)

    def submit(self, label: str) -> tuple[float, Any]:
        body = SHORT.body(SHORT.table) | {"labels": {"service": label}}
        return self.call("POST", "/api/v1/executions/", body, **{"Idempotency-Key": str(uuid.uuid4())})

    def wait(self, execution: Any) -> Any:
        """Wait for the end of an execution and return it."""
        until = time.monotonic() + LIMIT
        while True:
            _, found = self.call("GET", f"/api/v1/executions/{execution['id']}/?wait=50")
            if found["ended_at"]:
                return found
            assert time.monotonic() < until, "it does not end"


def _delay(execution: Any) -> float:
    """Seconds from when it could begin, the end of the one before not counted, to its dispatch."""
    times = (datetime.fromisoformat(execution[name].replace("Z", "+00:00")) for name in ("created_at", "dispatched_at"))
    created, dispatched = times
    return (dispatched - created).total_seconds()


class Streams:
    """Services that watch all executions, in a thread of their own."""

    def __init__(self, url: str, token: str, number: int) -> None:
        parts = urlsplit(url)
        self.host, self.port, self.token = str(parts.hostname), int(parts.port or 80), token
        self.number, self.open = number, 0
        #: Ends of executions that each has been told of.
        self.told: list[Counter[str]] = [Counter() for _ in range(number)]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._all()], daemon=True)
        self._thread.start()
        until = time.monotonic() + 120
        while self.open < number:
            assert time.monotonic() < until, f"only {self.open} streams have begun"
            time.sleep(0.1)

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(number) for number in range(self.number)), return_exceptions=True)

    async def _one(self, number: int) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        head = f"Host: {self.host}\r\nAuthorization: Token {self.token}\r\nAccept: text/event-stream\r\n"
        writer.write(f"GET /api/v1/events/?kind=state HTTP/1.1\r\n{head}\r\n".encode())
        while line := await reader.readline():
            if line.startswith(b"retry:"):
                self.open += 1
            elif line.startswith(b"data: "):
                data = json.loads(line[6:])
                if data["status"] == "SUCCESS":
                    self.told[number][data["execution"]] += 1


def many_services(console: Console) -> None:
    """50 services that submit and wait while 500 watch, over one service alone."""
    directory = Path(tempfile.mkdtemp(prefix="cp-bench-", dir="/tmp"))
    try:
        with Trial(directory) as trial:
            start_with_tables(trial)
            token = trial.token
            alone = Caller(trial.url, token)
            spent, delays = [], []
            for _ in range(ALONE):
                seconds, made = alone.submit("alone")
                spent.append(seconds)
                delays.append(_delay(alone.wait(made)))
            watching = Streams(trial.url, token, STREAMS)
            busy, ended = _all_at_once(trial.url, token)
            time.sleep(3)
            quiet = []
            for _ in range(ALONE):
                quiet.append(_delay(alone.wait(alone.submit("after")[1])))
    finally:
        shutil.rmtree(directory)
    lost = sum(execution["id"] not in told for told in watching.told for execution in ended)
    median, worst = statistics.median(spent), sorted(busy)[int(len(busy) * 0.99) - 1]
    console.print(
        f"{SERVICES} services that submit {EACH} PSIs each within a minute, and {STREAMS} that watch: "
        f"{len(ended)} ended with success, none was lost or doubled; "
        f"submit: median alone {1000 * median:.0f} ms, p99 of all {1000 * worst:.0f} ms; "
        f"ratio (p99 / median alone): [bold]{worst / median:.1f}[/]   (aim: 10 or less)\n"
        f"  ends that a stream was not told of: [bold]{lost}[/] of {len(ended) * STREAMS:,}; from submission to "
        f"dispatch alone {1000 * statistics.median(delays):.0f} ms, with {STREAMS} streams open "
        f"{1000 * statistics.median(quiet):.0f} ms; ratio: "
        f"[bold]{statistics.median(quiet) / statistics.median(delays):.2f}[/]"
    )


def _all_at_once(url: str, token: str) -> tuple[list[float], list[Any]]:
    """Return how long each submission took, and the executions, all of which ended with success. The services submit
    at moments of their own, as many in all as the parties can compute meanwhile."""
    draw = random.Random(1)

    def service(number: int) -> list[tuple[float, Any]]:
        caller = Caller(url, token)
        found = []
        for _ in range(EACH):
            time.sleep(draw.uniform(0, SPREAD))
            seconds, execution = caller.submit(f"s{number}")
            found.append((seconds, caller.wait(execution)))
        return found

    with ThreadPoolExecutor(SERVICES) as pool:
        found = [one for made in pool.map(service, range(SERVICES)) for one in made]
    caller = Caller(url, token)
    for number in range(SERVICES):
        _, page = caller.call("GET", f"/api/v1/executions/?label=service:s{number}")
        assert len(page["results"]) == EACH, "a submission was lost or doubled"
    assert all(execution["status"] == "SUCCESS" for _, execution in found)
    return [seconds for seconds, _ in found], [execution for _, execution in found]


class Receiver(BaseHTTPRequestHandler):
    """Takes events; those of ``/half`` only every other time."""

    protocol_version = "HTTP/1.1"
    taken: ClassVar[Counter[str]] = Counter()
    draw: ClassVar[random.Random] = random.Random(1)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        fails = self.path == "/half" and Receiver.draw.random() < 0.5
        if not fails:
            Receiver.taken[self.headers.get("webhook-id", "")] += 1
        self.send_response(503 if fails else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


def many_deliveries(console: Console) -> None:
    """10,000 events to a server that fails half of the time, over posting as many by hand, one after the other."""
    from django.contrib.auth.models import User

    from controlplane.environment import environment
    from controlplane.models import Site
    from executions.coordinator import posting
    from executions.models import Signature, Webhook, WebhookDelivery

    environment.webhooks_to_private = True
    # What is measured is the work, and not the pauses
    posting.FIRST_PAUSE = posting.LONGEST_PAUSE = timedelta(milliseconds=50)
    Site.objects.get_or_create(defaults={"environment": "bench", "security": "trial"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        kept, _, _ = posting.new_keys(Signature.HMAC)
        hook = Webhook.objects.create(
            owner=User.objects.create_superuser("hooks"), name="x", secret=kept,
            url=f"http://127.0.0.1:{server.server_port}/half",
        )  # fmt: skip
        body = json.dumps({"type": "execution.success", "data": {"text": "x" * 600}})
        WebhookDelivery.objects.bulk_create(
            WebhookDelivery(webhook=hook, execution=uuid.uuid4(), event_type="execution.success", body=body)
            for _ in range(DELIVERIES)
        )
        postman = posting.Postman()
        began = time.perf_counter()
        while WebhookDelivery.objects.filter(ended_at=None).exists():
            postman.step()
            time.sleep(0.005)
            assert time.perf_counter() - began < LIMIT, "they do not all arrive"
        spent = time.perf_counter() - began
        postman.finish()
        assert len(Receiver.taken) == DELIVERIES, "an event was lost"
        doubled = sum(number > 1 for number in Receiver.taken.values())
        began = time.perf_counter()
        for _ in range(DELIVERIES // 10):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
            connection.request("POST", "/all", body)
            connection.getresponse().read()
            connection.close()
        bare = 10 * (time.perf_counter() - began)
    finally:
        server.shutdown()
        server.server_close()
    console.print(
        f"{DELIVERIES:,} webhook events to a server that fails half of the time: {spent:.0f} s, "
        f"{DELIVERIES / spent:.0f} a second, none lost, {doubled} sent twice; by hand, without failures, {bare:.0f} s; "
        f"ratio: [bold]{spent / bare:.1f}[/]"
    )
