"""Services that watch: streams of what happens, and requests that wait for it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIHandler
from django.db import connection as database
from django.db import connections
from django.test import AsyncClient
from django.utils import timezone
from knox.models import AuthToken
from redis import Redis

from controlplane.models import PartyGrant, TokenTerms
from controlplane.roles import VIEWER, make_roles
from executions.models import Execution, ExecutionEvent, StateChange
from executions.states import Status
from executions.watching import hub as hubs
from executions.watching import stream as streams
from executions.watching import waiting
from executions.watching.changes import Position, changes
from executions.watching.hub import Hub, Tail, hub
from tests.composed import api_client, documents, errors_of, make_parties, superuser
from tests.walked import Circle, in_role

pytestmark = pytest.mark.django_db(transaction=True)
API = "/api/v1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, connection: Redis, transactional_db: None) -> Iterator[None]:
    monkeypatch.setattr(hubs, "INTERVAL", 0.05)
    monkeypatch.setattr(hubs, "LINGERS", 0.0)
    make_roles()
    yield
    until = time.monotonic() + 20
    while any(thread.name == "watching" for thread in threading.enumerate()):
        assert time.monotonic() < until, "a hub goes on without anybody who watches"
        time.sleep(0.02)
    assert len(hub) == 0


def token_of(user: User, **terms: Any) -> str:
    return f"Token {TokenTerms.make_token(user, 'a service', **terms)[1]}"


class Watching:
    """A stream as a service reads it."""

    #: Where it begins.
    position = ""

    def __init__(self, response: Any) -> None:
        self.body: AsyncIterator[bytes] = aiter_of(response)
        self.blocks: list[str] = []

    async def next(self) -> dict[str, Any]:
        """The next event: its id, its kind and its data. Waits for ten seconds."""
        while True:
            if not self.blocks:
                self.blocks = (await asyncio.wait_for(self.body.__anext__(), 10)).decode().strip().split("\n\n")
            fields = dict(line.partition(": ")[::2] for line in self.blocks.pop(0).splitlines())
            if "event" in fields:
                return {"position": fields["id"], "event": fields["event"], **json.loads(fields["data"])}

    async def ends(self) -> bool:
        try:
            while True:
                await asyncio.wait_for(self.body.__anext__(), 10)
        except StopAsyncIteration:
            return True

    async def close(self) -> None:
        await self.body.aclose()  # type: ignore[attr-defined]


def aiter_of(response: Any) -> Any:
    return response.streaming_content.__aiter__()


async def watch(token: str, query: str = "", last: str = "", path: str = "events/") -> Watching:
    headers = {"authorization": token, "accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
    response = await AsyncClient().get(f"{API}/{path}{query}", headers=headers)
    assert response.status_code == 200, response.content
    assert response["Content-Type"] == "text/event-stream"
    stream = Watching(response)
    begun = (await asyncio.wait_for(stream.body.__anext__(), 10)).decode()
    stream.position = begun.splitlines()[0].removeprefix("id: ")
    assert begun == f"id: {stream.position}\nretry: 1000\n\n"
    return stream


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(), 60)

    asyncio.run(limited())


def in_thread(act: Callable[[], Any]) -> Awaitable[Any]:
    def called() -> Any:
        try:
            return act()
        finally:
            connections.close_all()

    return sync_to_async(called, thread_sensitive=False)()


def submit(**kwargs: Any) -> Execution:
    return Execution.objects.submit(documents(), **kwargs)


def event_of(execution: Execution, sequence: int = 1, party: str = "alice") -> None:
    ExecutionEvent.objects.create(
        execution=execution, party=party, attempt=1, sequence=sequence, status="RUNNING", stage="sf_init",
        timestamp=timezone.now(), data={"computation_progress": 0.5},
    )  # fmt: skip


def test_it_streams_what_happens_and_goes_on_where_it_stopped() -> None:
    make_parties()
    token = token_of(superuser())

    async def test() -> None:
        stream = await watch(token)
        execution = await in_thread(lambda: submit(name="x", labels={"team": "risk"}))
        first = await stream.next()
        assert (first["event"], first["execution"], first["status"]) == ("state", str(execution.pk), "QUEUED")
        assert (first["name"], first["labels"], first["parties"]) == ("x", {"team": "risk"}, ["alice", "bob"])
        await in_thread(lambda: event_of(execution))
        second = await stream.next()
        assert (second["event"], second["party"], second["data"]) == ("event", "alice", {"computation_progress": 0.5})
        await stream.close()
        await in_thread(execution.cancel)
        again = await watch(token, last=second["position"])
        # Of the executions that are told before the position, some may be told twice
        told = [await again.next()]
        while told[-1].get("status") != "CANCELLED":
            told.append(await again.next())
        await again.close()
        assert {one["id"] for one in told[:-1]} <= {first["id"], second["id"]}
        by_parameter = await watch(token, f"?last_event_id={second['position']}&kind=state")
        found = await by_parameter.next()
        while found["status"] != "CANCELLED":
            found = await by_parameter.next()
        await by_parameter.close()

    run(test)


def test_a_stream_that_is_lost_before_anything_happens_loses_nothing() -> None:
    make_parties()
    token = token_of(superuser())

    async def test() -> None:
        stream = await watch(token)
        await stream.close()
        execution = await in_thread(submit)
        again = await watch(token, last=stream.position)
        assert (await again.next())["execution"] == str(execution.pk)
        await again.close()

    run(test)


def test_of_one_execution_each_is_told_once() -> None:
    make_parties()
    token, execution = token_of(superuser()), submit()
    for sequence in range(1, 4):
        event_of(execution, sequence)
    other = submit()
    last = str(Position(0, 0))

    async def test() -> None:
        stream = await watch(token, last=last, path=f"executions/{execution.pk}/events/")
        await in_thread(lambda: event_of(other))
        await in_thread(execution.cancel)
        told = [await stream.next() for _ in range(5)]
        await stream.close()
        assert [one.get("sequence") or one["status"] for one in told] == ["QUEUED", 1, 2, 3, "CANCELLED"]
        middle = await watch(token, last=told[2]["position"], path=f"executions/{execution.pk}/events/")
        rest = [await middle.next() for _ in range(2)]
        await middle.close()
        assert sorted(str(one.get("sequence") or one["status"]) for one in rest) == ["3", "CANCELLED"]

    run(test)


@pytest.mark.parametrize(
    "query", ["?label=team:risk", "?label=team:risk&label=env", "?party=alice&label=env:prod", "?execution={id}"]
)
def test_a_stream_has_what_was_asked_for(query: str) -> None:
    make_parties()
    token = token_of(superuser())
    wanted = submit(labels={"team": "risk", "env": "prod"})

    async def test() -> None:
        stream = await watch(token, query.format(id=wanted.pk))
        for labels in ({}, {"team": "fraud", "env": "test"}):
            await in_thread(lambda labels=labels: submit(labels=labels).cancel())
        await in_thread(wanted.cancel)
        found = await stream.next()
        # What was there shortly before may be told as well
        while found["status"] != "CANCELLED":
            found = await stream.next()
        await stream.close()
        assert found["execution"] == str(wanted.pk)

    run(test)


def test_nobody_is_told_of_other_parties() -> None:
    mine, others = Circle.make("alice", "bob", 20000), Circle.make("carol", "dave", 22000)
    token = token_of(in_role("viewer", VIEWER, mine.names))

    async def test() -> None:
        stream = await watch(token, last=str(Position(0, 0)))
        for circle in (others, mine):
            await in_thread(lambda circle=circle: Execution.objects.submit(circle.rows["task"].documents()))
        seen: list[dict[str, Any]] = []
        while len(seen) < 1 or "QUEUED" not in seen[-1].get("status", ""):
            seen.append(await stream.next())
        await stream.close()
        assert all(set(one["parties"]) == set(mine.names) for one in seen)

    run(test)


@pytest.mark.parametrize("what", ["token", "user", "grants"])
def test_who_may_see_no_more_is_told_no_more(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SIGN_OF_LIFE", 0.05)
    monkeypatch.setattr(streams, "LOOKED_AT_EVERY", 0.1)
    monkeypatch.setattr(streams, "LOOK_HOLDS", 0.05)
    circle = Circle.make("alice", "bob", 20000)
    user = in_role("viewer", VIEWER, circle.names)
    token = token_of(user)

    def take() -> None:
        if what == "token":
            AuthToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
        elif what == "user":
            User.objects.filter(pk=user.pk).update(is_active=False)
        else:
            PartyGrant.objects.all().delete()

    async def test() -> None:
        stream = await watch(token)
        await in_thread(take)
        if what != "grants":
            assert await stream.ends()
            return
        await asyncio.sleep(0.5)
        await in_thread(lambda: Execution.objects.submit(circle.rows["task"].documents()))
        # Signs of life alone, for longer than a look takes. Not by a time limit of each: what asks the database in a
        # thread is not to be cancelled
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            said = await asyncio.wait_for(stream.body.__anext__(), 10)
            assert b"data:" not in said, said
        await stream.close()

    run(test)


def test_who_reads_slowly_is_let_go() -> None:
    async def test() -> None:
        waiting = streams.Waiting()
        some: Any = [object()] * 10
        for _ in range(streams.MOST_WAITING // 10):
            waiting.put(some)
        waiting.put(some)
        waiting.put(some)
        found = await waiting.get()
        assert len(found or ()) == streams.MOST_WAITING
        waiting.wake()
        assert await waiting.get() is None

    run(test)


def test_more_than_is_told_again_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PAGE", 1)
    monkeypatch.setattr(streams, "MOST_BEFORE", 2)
    make_parties()
    token = token_of(superuser())
    for _ in range(3):
        submit()

    async def test() -> None:
        stream = await watch(token, last=str(Position(0, 0)))
        assert [(await stream.next())["event"] for _ in range(3)] == ["state", "state", "gap"]
        await in_thread(submit)
        assert (await stream.next())["event"] == "state"
        await stream.close()

    run(test)


def test_it_says_what_is_wrong_with_a_stream(api: Any) -> None:
    wrong = api.get(f"{API}/events/?last_event_id=x", HTTP_ACCEPT="text/event-stream")
    assert "should be the id of an event" in errors_of(wrong)["Last-Event-ID"]
    assert "unknown parameter" in errors_of(api.get(f"{API}/events/?nam=x", HTTP_ACCEPT="text/event-stream"))["nam"]
    threads = api.get(f"{API}/events/", HTTP_ACCEPT="text/event-stream")
    assert (threads.status_code, threads.json()["type"].rpartition(":")[2]) == (406, "not-acceptable")


async def opened(token: str) -> Any:
    """A stream as the server itself has it open: a task that ends when it is cancelled."""
    headers = [(b"host", b"localhost"), (b"authorization", token.encode()), (b"accept", b"text/event-stream")]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": f"{API}/events/",
        "raw_path": b"", "query_string": b"", "root_path": "", "scheme": "http", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    begun, asked = asyncio.Event(), [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        return asked.pop() if asked else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        assert message.get("status", 200) == 200, message
        if message.get("body"):
            begun.set()

    task = asyncio.create_task(ASGIHandler()(scope, receive, send))
    await asyncio.wait_for(begun.wait(), 10)
    return task


def connections_of_the_database() -> int:
    if database.vendor == "postgresql":
        with database.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            return int(cursor.fetchone()[0])
    files = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(file == str(database.settings_dict["NAME"]) for file in files)


def test_an_open_stream_holds_no_connection_of_the_database() -> None:
    """A pool has few: with as many streams open, the site would answer nobody any more."""
    token = token_of(superuser())
    counts = []

    async def test() -> None:
        tasks = []
        for _ in range(6):
            tasks.append(await opened(token))
            counts.append(await in_thread_of_its_own(connections_of_the_database))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(test)
    assert max(counts) - counts[0] <= 1, counts


async def in_thread_of_its_own(act: Callable[[], Any]) -> Any:
    def called() -> Any:
        try:
            return act()
        finally:
            connections.close_all()

    return await asyncio.to_thread(called)


# The hub


def test_a_row_that_appears_late_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two transactions, the one that got its key first may end last."""
    make_parties()
    execution = submit()
    first = StateChange.objects.get()
    tail = Tail(changes, StateChange, first.pk)
    late = StateChange(pk=first.pk + 1, execution=execution, from_status="QUEUED", to_status="DISPATCHED")
    StateChange.objects.create(pk=first.pk + 2, execution=execution, from_status="QUEUED", to_status="RETRY")
    assert [change.pk for change in tail.new()] == [first.pk + 2]
    late.save(force_insert=True)
    assert [change.pk for change in tail.new()] == [first.pk + 1]
    assert tail.new() == []
    now = time.monotonic() + hubs.LATE + 1
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert tail.new() == []
    assert (tail._low, tail._seen) == (first.pk + 2, {})


def test_many_are_told_by_turns_and_of_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "UNHURRIED", 1)
    monkeypatch.setattr(hubs, "INTERVAL", 0.05)
    make_parties()
    mine = Hub()
    heard: list[list[int]] = [[] for _ in range(13)]
    at: list[list[float]] = [[] for _ in heard]

    def watcher(number: int) -> Callable[[list[Any]], None]:
        def tell(found: list[Any]) -> None:
            heard[number] += [change.pk for change in found if change.kind == "state"]
            at[number].append(time.monotonic())

        return tell

    numbers = [mine.join(watcher(number), is_in_hurry=number == 12) for number in range(13)]
    executions: list[Any] = []
    until = time.monotonic() + 10
    while any(len(told) < 30 for told in heard):
        assert time.monotonic() < until
        if len(executions) < 30:
            executions.append(submit())
    for number in numbers:
        mine.leave(number)
    assert [told for told in heard if told != heard[12] or len(set(told)) != 30] == []
    assert len({moments[-1] for moments in at[:12]}) > 1


def test_all_who_watch_cost_one_look_each_interval(django_assert_max_num_queries: Any) -> None:
    mine = Hub()
    heard: list[Any] = []
    numbers = [mine.join(heard.extend) for _ in range(100)]
    make_parties()
    submit()
    until = time.monotonic() + 10
    while len(heard) < 100:
        assert time.monotonic() < until
        time.sleep(0.05)
    for number in numbers:
        mine.leave(number)
    assert len({change.pk for change in heard}) == 1
    tail = Tail(changes, StateChange, 0)
    with django_assert_max_num_queries(1):
        assert len(tail.new()) == 1


# Waiting


def test_a_request_waits_for_the_end() -> None:
    make_parties()
    execution = submit()
    client = api_client(superuser())
    began = time.monotonic()
    threading.Timer(0.3, cancelled, [execution]).start()
    found = client.get(f"{API}/executions/{execution.pk}/?wait=20").json()
    assert found["status"] == "CANCELLED"
    assert time.monotonic() - began < 10
    assert client.get(f"{API}/executions/{execution.pk}/?wait=20").json() == found


def test_a_request_waits_for_a_change() -> None:
    make_parties()
    execution = submit()
    client = api_client(superuser())
    url = f"{API}/executions/{execution.pk}/"
    etag = client.get(url)["ETag"]
    assert client.get(f"{url}?wait=0.2", HTTP_IF_NONE_MATCH=etag).status_code == 304
    threading.Timer(0.3, moved, [execution]).start()
    changed = client.get(f"{url}?wait=20", HTTP_IF_NONE_MATCH=etag)
    assert (changed.status_code, changed.json()["stage"]) == (200, "sf_init")
    # It differs already
    assert client.get(f"{url}?wait=20", HTTP_IF_NONE_MATCH=etag).status_code == 200


def test_a_request_waits_however_many_streams_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    make_parties()
    client, url = api_client(superuser()), f"{API}/executions/{submit().pk}/?wait=0.5"

    def seconds() -> float:
        began = time.monotonic()
        assert client.get(url).status_code == 200
        return time.monotonic() - began

    streams_open = [hub.join(lambda found: None) for _ in range(2 * waiting.MOST)]
    try:
        assert seconds() >= 0.5, "who waits would ask without end"
        monkeypatch.setattr(waiting, "_free", threading.BoundedSemaphore(1))
        with waiting._free:
            assert seconds() < 0.5, "there is no thread for one more"
        assert seconds() >= 0.5
    finally:
        for number in streams_open:
            hub.leave(number)


@pytest.mark.parametrize("wait", ["-1", "61", "soon", "nan", "inf"])
def test_it_says_how_long_a_request_may_wait(api: Any, wait: str) -> None:
    make_parties()
    response = api.get(f"{API}/executions/{submit().pk}/?wait={wait}")
    assert response.status_code == 400
    assert list(errors_of(response)) == ["wait"]


def cancelled(execution: Execution) -> None:
    execution.cancel()
    connections.close_all()


def moved(execution: Execution) -> None:
    Execution.objects.filter(pk=execution.pk).update(stage="sf_init", status=Status.RUNNING)
    event_of(execution)
    connections.close_all()


def test_the_streams_of_one_sender_look_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def look_of(sender: str) -> streams.Look:
        return streams.shared(sender)(lambda: looked.append(sender))

    for look in (look_of("ann"), look_of("ann"), look_of("bea")):
        look()
        look()
    assert looked == ["ann", "bea"]
    monkeypatch.setattr(streams, "LOOK_HOLDS", 0.0)
    look_of("ann")()
    assert looked == ["ann", "bea", "ann"]
