"""What dead coordinators and deleted parties left in Redis goes, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.utils import timezone
from redis import Redis

from controlplane.models import Party
from executions.coordinator import leftovers
from executions.coordinator.leftovers import Leftovers
from executions.coordinator.listener import GROUP, Listener
from executions.redis import WAKE_STREAM
from tests.simulated import add_worker
from workers.contract.keys import requests_of, stream_of


def clear(connection: Redis) -> Leftovers:
    found = Leftovers(connection)
    while found.step():
        pass
    return found


def consumers(connection: Redis, stream: str) -> set[str]:
    told: Any = connection.xinfo_consumers(stream, GROUP)
    return {consumer["name"].decode() for consumer in told}


def test_consumers_of_dead_coordinators_go_and_no_entry_is_lost(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, stopped, alive = Listener(connection), Listener(connection), Listener(connection)
    for listener in (dead, stopped):
        listener.step()
    connection.xadd(stream_of("alice"), {"ready": "w"})
    # It read this, and was stopped before it acknowledged anything
    connection.xreadgroup(GROUP, stopped.consumer, {stream_of("alice"): ">"})
    assert clear(connection).consumers == 0, "each has read just now"
    monkeypatch.setattr(leftovers, "DEAD_AFTER_MS", -1)
    alive.step()
    assert clear(connection).consumers > 0
    assert consumers(connection, stream_of("alice")) == {stopped.consumer}
    assert consumers(connection, WAKE_STREAM) == set()
    monkeypatch.setattr(Listener, "CLAIM_AFTER_MS", 0)
    alive._claim_at = 0.0
    alive.step()
    assert connection.xlen(stream_of("alice")) == 0
    stopped.step()  # it goes on as if nothing had been


def test_keys_of_deleted_parties_go_and_those_of_others_stay(parties: dict[str, Party], connection: Redis) -> None:
    job = f"rq:job:{{}}-{uuid4()}-1"
    for name in ("alice", "bob", "bob-2", "stranger"):
        connection.xadd(stream_of(name), {"ready": "w"})
        connection.rpush(requests_of(name), "x")
        connection.rpush(f"rq:queue:{name}", "job")
        connection.sadd("rq:queues", f"rq:queue:{name}")
        connection.zadd(f"rq:finished:{name}", {"job": 1})
        connection.hset(job.format(name), "status", "finished")
        add_worker(connection, name)
    parties["bob"].datasets.all().delete()
    parties["bob"].delete()
    assert clear(connection).keys == 0, "a coordinator may still wait at its stream"
    Party.history.filter(history_type="-").update(history_date=timezone.now() - timedelta(minutes=2))
    assert clear(connection).keys == 6
    left = {key.decode() for key in connection.keys("*")}
    assert {key for key in left if key.endswith(":bob")} == set()
    assert job.format("bob") not in left
    for name in ("alice", "bob-2", "stranger"):
        of = {stream_of(name), requests_of(name), f"rq:queue:{name}", f"rq:finished:{name}", job.format(name)}
        assert of <= left
    assert b"rq:queue:bob" not in connection.smembers("rq:queues")
    assert b"rq:queue:alice" in connection.smembers("rq:queues")


def test_a_party_that_was_registered_again_keeps_its_keys(parties: dict[str, Party], connection: Redis) -> None:
    parties["bob"].datasets.all().delete()
    parties["bob"].delete()
    Party.history.update(history_date=timezone.now() - timedelta(days=1))
    Party.objects.create(name="bob", address="127.0.0.1", port_first=1024, port_last=2000)
    connection.xadd(stream_of("bob"), {"ready": "w"})
    assert clear(connection).keys == 0
    assert connection.exists(stream_of("bob"))


def test_a_stream_that_a_party_replaced_stops_nothing(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    Listener(connection).step()
    monkeypatch.setattr(leftovers, "DEAD_AFTER_MS", -1)
    connection.delete(stream_of("alice"))
    connection.set(stream_of("alice"), "junk")
    clear(connection)
    assert consumers(connection, stream_of("bob")) == set()


def test_the_command_does_it_too(parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    Listener(connection).step()
    monkeypatch.setattr(leftovers, "DEAD_AFTER_MS", -1)
    out = StringIO()
    call_command("prune", stdout=out)
    assert "removed from Redis: 3 consumers of dead coordinators" in out.getvalue()
