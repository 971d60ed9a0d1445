"""A party's user in Redis reaches what is the party's own, and nothing of another party's or the control plane's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ResponseError

from executions.redis import WAKE_STREAM
from workers.contract.acl import rules, worker_name
from workers.contract.connection import trouble
from workers.contract.keys import answers_to, ports_wanted, requests_of, stream_of, wanted

UUID = "0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e"
#: Parties whose names begin alike, or hold another's.
NAMES = ("alice", "al", "alice-2", "bob", f"alice-{UUID[:8]}")


def own_keys(party: str) -> dict[str, str]:
    """The keys of a party, with their types."""
    job = f"{party}-{UUID}-1"
    lists = [f"rq:queue:{party}", f"rq:queue:{party}:intermediate", requests_of(party), answers_to(party, UUID)]
    hashes = [f"rq:job:{job}", f"rq:execution:{job}:x", f"rq:worker:{worker_name(party, 'host-1')}"]
    sets = [f"rq:workers:{party}", f"rq:job::{job}:dependencies"]
    sorted_sets = [f"rq:{name}:{party}" for name in ("wip", "failed", "finished", "canceled")] + [
        f"rq:executions:{job}"
    ]
    streams = [stream_of(party), f"rq:results:{job}"]
    return (
        dict.fromkeys(lists, "list") | dict.fromkeys(hashes, "hash") | dict.fromkeys(sets, "set")
        | dict.fromkeys(sorted_sets, "zset") | dict.fromkeys(streams, "stream") | {ports_wanted(party): "string"}
    )  # fmt: skip


#: What may be tried on a key, of whatever type: what reads, what writes, what moves elsewhere.
ATTEMPTS: dict[str, Callable[[Redis, str], Any]] = {
    name: lambda redis, key, parts=parts: redis.execute_command(*(part.replace("KEY", key) for part in parts))
    for name, parts in {
        " ".join(line.split()[:1]): line.split()
        for line in (
            "GET KEY", "SET KEY x", "DEL KEY", "UNLINK KEY", "EXISTS KEY", "TYPE KEY", "EXPIRE KEY 1", "PERSIST KEY",
            "PTTL KEY", "DUMP KEY", "RENAME KEY x", "COPY KEY x", "OBJECT ENCODING KEY", "LPUSH KEY x", "RPUSH KEY x",
            "LRANGE KEY 0 -1", "LLEN KEY", "LREM KEY 0 x", "LPOP KEY", "BLPOP KEY 1", "LMOVE KEY KEY LEFT LEFT",
            "BLMOVE KEY KEY LEFT LEFT 1", "HGETALL KEY", "HSET KEY a b", "HGET KEY a", "HDEL KEY a", "HMGET KEY a",
            "SADD KEY a", "SMEMBERS KEY", "SREM KEY a", "SPOP KEY", "ZADD KEY 1 a", "ZRANGE KEY 0 -1", "ZREM KEY a",
            "XADD KEY * a b", "XLEN KEY", "XRANGE KEY - +", "XREAD STREAMS KEY 0", "XTRIM KEY MAXLEN 0", "XDEL KEY 1-1",
            "XGROUP CREATE KEY g 0", "WATCH KEY", "APPEND KEY x", "GETDEL KEY", "SORT KEY", "RESTORE KEY 0 x",
        )
    }.items()
}  # fmt: skip


@pytest.fixture
def users(connection: Redis) -> Iterator[Callable[[str], Redis]]:
    """Returns a client as a party's user. Every key of every party, and of the control plane, is there."""
    clients = []
    for party in NAMES:
        connection.execute_command("ACL", "SETUSER", party, *split(rules(party, f"pw-{party}")))
        for key, kind in own_keys(party).items():
            fill(connection, key, kind)
    connection.xadd(WAKE_STREAM, {"a": "b"})

    def user(party: str) -> Redis:
        options = connection.connection_pool.connection_kwargs
        made = Redis(unix_socket_path=options["path"], db=options["db"], username=party, password=f"pw-{party}")
        clients.append(made)
        return made

    yield user
    for made in clients:
        made.close()
    for party in NAMES:
        connection.execute_command("ACL", "DELUSER", party)
    connection.acl_log_reset()


def split(text: str) -> list[str]:
    """The rules as separate words; a selector is one."""
    words: list[str] = []
    for word in text.split(" "):
        if words and words[-1].startswith("(") and not words[-1].endswith(")"):
            words[-1] += f" {word}"
        else:
            words.append(word)
    return words


def fill(connection: Redis, key: str, kind: str) -> None:
    {
        "list": lambda: connection.rpush(key, "x"),
        "hash": lambda: connection.hset(key, "a", "b"),
        "set": lambda: connection.sadd(key, "a"),
        "zset": lambda: connection.zadd(key, {"a": 1}),
        "stream": lambda: connection.xadd(key, {"a": "b"}),
        "string": lambda: connection.set(key, "1"),
    }[kind]()


def contents(connection: Redis) -> dict[bytes, bytes]:
    return {key: connection.dump(key) for key in connection.keys("*")}


@pytest.mark.parametrize("attacker", NAMES)
def test_a_party_reaches_nothing_of_another_party(
    users: Callable[[str], Redis], connection: Redis, attacker: str
) -> None:
    before, as_attacker = contents(connection), users(attacker)
    theirs = [key for party in NAMES if party != attacker for key in own_keys(party)]
    reached = []
    for key in [*theirs, WAKE_STREAM, "x", f"rq:job:{UUID}", "rq:queue:", "rq:workers:"]:
        for name, attempt in ATTEMPTS.items():
            try:
                attempt(as_attacker, key)
                reached.append(f"{name} {key}")
            except NoPermissionError:
                pass
            except ResponseError as error:
                reached.append(f"{name} {key}: {error}")
    assert reached == []
    assert contents(connection) == before


@pytest.mark.parametrize("party", NAMES)
def test_a_party_reaches_its_own(users: Callable[[str], Redis], party: str) -> None:
    as_party = users(party)
    for key, kind in own_keys(party).items():
        assert as_party.exists(key), key
        assert as_party.type(key) == kind.encode()
        assert as_party.delete(key) == 1


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "RANDOMKEY", "DBSIZE", "CONFIG GET *", "CONFIG SET maxmemory 1",
        "ACL LIST", "ACL WHOAMI", "ACL SETUSER alice allkeys", "CLIENT LIST", "CLIENT KILL ID 1", "CLIENT PAUSE 1000",
        "SHUTDOWN", "SAVE", "BGSAVE", "MONITOR", "SLAVEOF 127.0.0.1 1", "SCRIPT FLUSH", "SWAPDB 0 1",
        "PUBLISH rq:pubsub:bob@host-1 x", "PUBLISH rq:pubsub:alice@host-1 x", "PUBSUB CHANNELS", "FUNCTION LIST",
        "SUBSCRIBE rq:pubsub:bob@host-1", "PSUBSCRIBE *", "EVAL return(1) 0", "MODULE LIST", "LATENCY LATEST",
        "XREADGROUP GROUP coordinator x STREAMS events:alice >", "XACK events:alice coordinator 1-1",
        "XGROUP DESTROY events:alice coordinator", "XTRIM events:alice MAXLEN 0", "XRANGE events:alice - +",
        "SMEMBERS rq:queues", "DEL rq:workers", "SET rq:suspended 1", "DEL rq:suspended", "SET rq:rl-keys 1",
        f"SET {wanted(UUID)} 1", f"DEL {wanted(UUID)}",
    ],
)  # fmt: skip
def test_a_party_commands_nothing_but_its_own(users: Callable[[str], Redis], command: str) -> None:
    with pytest.raises(NoPermissionError):
        users("alice").execute_command(*command.split())


def test_a_wrong_password_is_nobody(users: Callable[[str], Redis], connection: Redis) -> None:
    options = connection.connection_pool.connection_kwargs
    with pytest.raises(RedisConnectionError, match=r"(?i)invalid username-password|WRONGPASS"):
        Redis(unix_socket_path=options["path"], username="alice", password="pw-bob").ping()


def test_a_denial_is_told_with_the_remedy() -> None:
    assert "`manage.py redis_acl`" in trouble(NoPermissionError("no permissions"))


# --- the command


@pytest.mark.parametrize("options", [[], ["--file"], ["--user", "alice.workers"]])
def test_the_command_prints_what_redis_takes(
    connection: Redis, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    call_command("redis_acl", "alice", *options)
    said = capsys.readouterr()
    user = options[-1] if "--user" in options else "alice"
    head = f"user {user} " if "--file" in options else f"ACL SETUSER {user} "
    assert said.out.startswith(head)
    password = said.err.partition(f"{user}:")[2].partition("@")[0]
    assert len(password) >= 32
    assert password not in said.out
    connection.execute_command("ACL", "SETUSER", user, *split(said.out.removeprefix(head).strip().replace("'", "")))
    try:
        path = connection.connection_pool.connection_kwargs["path"]
        as_alice = Redis(unix_socket_path=path, username=user, password=password)
        assert as_alice.llen("rq:queue:alice") == 0
        as_alice.close()
    finally:
        connection.execute_command("ACL", "DELUSER", user)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["Alice"], "'Alice' is no party's name: use a-z"),
        (["a*"], "is no party's name"),
        (["alice ~*"], "is no party's name"),
        (["alice", "--user", "x ~*"], "is no user's name: use letters"),
    ],
)
def test_the_command_takes_names_alone(arguments: list[str], reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        call_command("redis_acl", *arguments)
