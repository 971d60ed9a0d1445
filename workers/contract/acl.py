"""What a party's user may do in Redis 7 or Valkey: reach its own queue, jobs, workers and stream, and no other party's.

Names are exact. A party's name has letters, digits, ``_`` and ``-``, so that ``alice-*`` would match what belongs to a
party ``alice-2``: workers' names have an ``@`` after the party's, and jobs' ids a UUID.
"""

from __future__ import annotations

import hashlib

from workers.contract.keys import ports_wanted, requests_of, stream_of, wanted

_HEX = "[0-9a-f]"
_UUID = "-".join(_HEX * length for length in (8, 4, 4, 4, 12))
#: What RQ and the worker do with the party's own keys.
_OWN = (
    "blmove lmove blpop lpush rpush lrem lrange llen lpos del exists expire persist pttl ttl type get set hget hgetall "
    "hmget hset hdel hexists hincrby hincrbyfloat sadd srem smembers scard zadd zcard zrange zrangebyscore zrem "
    "zremrangebyscore zscore xadd xlen watch"
)
#: Commands that touch no key.
_ALWAYS = (
    "ping hello select multi exec discard unwatch info client|setname client|setinfo client|info subscribe unsubscribe"
)
#: Keys of RQ's that all parties share, with what a worker does there. It starts nothing with any of them.
_SHARED = (
    ("sadd srem", "~rq:workers ~rq:queues"),
    ("exists get smembers", "%R~rq:suspended %R~rq:groups %R~rq:rl-keys"),
    ("set", "%W~rq:clean_groups"),
    ("pttl exists", f"%R~{wanted(_UUID)}"),
)


def worker_name(party: str, name: str) -> str:
    """Return the name of a worker of the party in Redis."""
    return f"{party}@{name}"


def rules(party: str, password: str) -> str:
    """Return the rules of a party's user, as ``ACL SETUSER`` and a line of an ACL file take them. They hold the
    password's digest alone."""
    job = f"{party}-{_UUID}-*"
    registries = "queue wip failed finished deferred ready scheduled canceled workers clean_registries"
    keys = [
        *(f"rq:{name}:{party}" for name in registries.split()),
        f"rq:queue:{party}:intermediate",
        f"rq:queue:{party}:maintenance_lock",
        *(f"rq:{name}:{job}" for name in ("job", "results", "execution", "executions")),
        f"rq:job::{job}",  # RQ's own way to write it: of a job's dependencies
        f"rq:worker:{worker_name(party, '*')}",
        stream_of(party),
        requests_of(party),
        ports_wanted(party),
        f"datasets:{party}:*",
    ]
    parts = ["reset", "on", f"#{hashlib.sha256(password.encode()).hexdigest()}"]
    parts += [f"&rq:pubsub:{worker_name(party, '*')}", *(f"~{key}" for key in keys)]
    parts += [f"+{command}" for command in f"{_OWN} {_ALWAYS}".split()]
    parts += [f"({_allowed(commands)} {where})" for commands, where in _SHARED]
    return " ".join(parts)


def _allowed(commands: str) -> str:
    return " ".join(f"+{command}" for command in commands.split())
