"""A party's publication of its datasets counts once, and never after a newer one: whoever writes to Redis may have kept
an old one, which is signed as it should be."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from redis import Redis

from controlplane.models import Dataset, Party
from executions.coordinator import dead_letters
from executions.coordinator.listener import Listener
from executions.models import DeadLetter
from tests.keys import send, stream
from workers.contract.keys import stream_of
from workers.contract.orders import LASTS
from workers.host import publication

NOW = time.time()
NARROW, WIDE = ({"people": {"columns": dict.fromkeys(names, "int")}} for names in (["uid"], ["uid", "age"]))
FIRST, SECOND = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"


@pytest.fixture(autouse=True)
def fresh_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters._Minute, "began", -1000.0)


def tell(
    connection: Redis, at: Any, tables: Any = None, said_in: str = FIRST, party: str = "alice", **more: Any
) -> None:
    said = {"publication": said_in, "told_at": at} | ({} if tables is None else {"datasets": tables}) | more
    send(connection, party, datasets=json.dumps(said))
    Listener(connection).step()


def seen(name: str = "people", party: str = "alice") -> list[str]:
    return sorted(Dataset.objects.get(party__name=party, name=name).reported_columns or {})


def reasons() -> list[str]:
    return list(DeadLetter.objects.filter(kind="datasets report").values_list("reason", flat=True))


def test_what_a_host_wrote_before_puts_nothing_back(parties: dict[str, Party], connection: Redis) -> None:
    """As its own code writes it, kept by somebody and written again."""
    kept: list[Any] = []
    for tables in (NARROW, WIDE):
        publication.publish(stream(connection, "alice"), tables, lambda words: None)
        kept.append(connection.xrange(stream_of("alice")))
        Listener(connection).step()
    assert seen() == ["age", "uid"]
    for _, entry in kept[0]:
        connection.xadd(stream_of("alice"), entry)
    Listener(connection).step()
    assert seen() == ["age", "uid"]
    assert len(reasons()) == 2
    assert all("a newer publication of alice was applied" in reason for reason in reasons())


def test_the_newest_said_again_undoes_nothing_that_was_found_out_since(
    parties: dict[str, Party], connection: Redis
) -> None:
    tell(connection, NOW, WIDE)
    found = Dataset.objects.filter(name="people")
    found.update(reported_problem="as a check of the host found", reported_at=None)
    tell(connection, NOW, WIDE)
    assert found.get().reported_problem == "as a check of the host found"
    assert found.get().reported_at is None
    assert reasons() == [], "a coordinator that was killed reads it again, too"


def test_all_reports_of_a_publication_count_in_any_order(parties: dict[str, Party], connection: Redis) -> None:
    tell(connection, NOW, None, names=["people", "zoo"])
    tell(connection, NOW, {"zoo": {"columns": {"legs": "int"}}})
    tell(connection, NOW, WIDE)
    assert (seen("zoo"), seen()) == (["legs"], ["age", "uid"])
    assert reasons() == []


def test_of_two_hosts_of_a_party_the_newer_word_counts_and_the_other_is_told(
    parties: dict[str, Party], connection: Redis
) -> None:
    tell(connection, NOW, WIDE)
    tell(connection, NOW - 30, NARROW, SECOND)
    assert seen() == ["age", "uid"]
    answer = publication.verdicts(connection, "alice", SECOND, {"people"}, 0.1)["people"]
    assert answer["verdict"] == "refused"
    assert "set its clock, or publish again in 30 seconds" in answer["problem"]
    tell(connection, NOW + 1, NARROW, SECOND)
    assert seen() == ["uid"]


def test_a_clock_that_is_ahead_shuts_nobody_out_for_long(parties: dict[str, Party], connection: Redis) -> None:
    tell(connection, time.time() + LASTS + 1800, WIDE)
    assert not Dataset.objects.filter(name="people").exists()
    [reason] = reasons()
    assert "is 2.5 hours ahead of this coordinator's; set the clock that is wrong, and publish again" in reason
    tell(connection, time.time(), NARROW, SECOND)
    assert seen() == ["uid"]


@pytest.mark.parametrize("at", [None, -1, "today", 1e300])
def test_a_publication_says_when_it_was_made(parties: dict[str, Party], connection: Redis, at: Any) -> None:
    tell(connection, at, WIDE)
    assert not Dataset.objects.filter(name="people").exists()
    [reason] = reasons()
    assert "told_at" in reason or "hours ahead" in reason


def test_each_party_has_its_own_time(parties: dict[str, Party], connection: Redis) -> None:
    tell(connection, NOW + 60, WIDE)
    tell(connection, NOW, NARROW, party="bob")
    assert seen(party="bob") == ["uid"]


def test_a_publication_of_reports_without_end_is_bounded(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.models.publication.MOST_REPORTS", 2)
    for number in range(3):
        tell(connection, NOW, {f"t{number}": {"columns": {"a": "int"}}})
    assert not Dataset.objects.filter(name="t2").exists()
    assert reasons() == ["a publication has at most 2 reports"]
