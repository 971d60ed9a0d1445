"""What the page of a party shows of its hosts: workers, load, queue, links to the other parties."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.db.models import Max
from django.utils.translation import gettext
from redis import Redis
from redis.exceptions import RedisError

from controlplane.admin.shown import moment
from controlplane.models import Party, Pause
from executions.metrics.hosts import BUSY, READY, STARTING, Host, look, number, told_by, worker_state
from executions.metrics.rows import round_trips
from executions.models import Execution, PartyCheck, PartyRun
from executions.redis import redis_connection
from executions.states import Status
from workers.contract.connection import trouble
from workers.contract.errors import is_link
from workers.contract.resources import CPUS, DISK_FREE, DISK_TOTAL, LOAD, MEMORY_FREE, MEMORY_TOTAL

#: Workers and peers that the page shows, and the newest runs of all parties among which broken links are counted.
MOST_WORKERS, MOST_PEERS, SEEN_RUNS = 50, 50, 5000
#: Waiting executions that are counted exactly, and the newest checks of all parties among which its versions are.
MOST_QUEUED, SEEN_CHECKS = 1000, 20_000
_GIB = 2**30
_WORDS = {BUSY: "computing", STARTING: "starting", READY: "ready"}


@dataclass(frozen=True, slots=True)
class Worker:
    """A live worker, as it tells of itself."""

    name: str
    state: str
    job: str
    memory: str
    disk: str
    load: str


@dataclass(slots=True)
class Peer:
    """The links of a party to another one."""

    name: str
    #: Seconds from a greeting to its answer, there and back, in words.
    there: str = "-"
    back: str = "-"
    #: Runs with that party among the newest ones, and how many of these broke a link.
    runs: int = 0
    broken: int = 0

    @property
    def rate(self) -> str:
        return f"{self.broken / self.runs:.1%}" if self.runs else "-"


def state_of(party: Party) -> dict[str, Any]:
    """Return the context of the party's part of its page. Takes six queries and two looks at Redis."""
    pause = Pause.objects.filter(party=party).first()
    running = PartyRun.objects.filter(party=party, released_at=None).count()
    found: dict[str, Any] = {
        "running": running,
        "queued": _queued(party),
        "pause": pause,
        "paused_since": moment(pause.at) if pause else "",
        "peers": _peers(party),
        "versions": _versions(party),
    }
    try:
        connection = redis_connection()
        host = look(connection, [party.name])[party.name]
        return found | {"workers": _workers(connection, party.name), "unread": _unread(host)}
    except (RedisError, OSError) as error:
        return found | {"workers": [], "redis_trouble": trouble(error)}


def _queued(party: Party) -> str:
    """Return how many executions wait that need it, exactly up to ``MOST_QUEUED``."""
    rows = Execution.involving(Execution.objects.filter(status=Status.QUEUED), [party.name]).order_by()
    count = rows[: MOST_QUEUED + 1].values("pk").count()
    return f"{count:,}" if count <= MOST_QUEUED else gettext("more than {number:,}").format(number=MOST_QUEUED)


def _unread(host: Host) -> str:
    return (
        gettext("{entries:,} entries, the oldest {lag:.0f} s old").format(entries=host.entries, lag=host.lag)
        if host.entries
        else gettext("nothing")
    )


def _workers(connection: Redis, party: str) -> list[Worker]:
    keys: Any = sorted(connection.srandmember(f"rq:workers:{party}", MOST_WORKERS) or ())
    fields = ("state", "process", "current_job", MEMORY_FREE, MEMORY_TOTAL, DISK_FREE, DISK_TOTAL, LOAD, CPUS)
    found = []
    for key, values in zip(keys, told_by(connection, keys, fields), strict=True):
        if not values:
            continue
        state, process, job, *figures = values
        free, total, disk_free, disk_total, load, cpus = map(number, figures)
        found.append(
            Worker(
                _text(key).removeprefix("rq:worker:"),
                _WORDS[worker_state(state, process)],
                _text(job),
                _of(free, total),
                _of(disk_free, disk_total),
                gettext("{load:.2f} on {cpus:.0f} CPUs").format(load=load, cpus=cpus)
                if load is not None and cpus
                else "-",
            )
        )
    return found


def _text(raw: bytes | None) -> str:
    """Return what a party wrote, as text that is shown."""
    return (raw or b"")[:120].decode(errors="replace")


def _of(free: float | None, total: float | None) -> str:
    if free is None or not total:
        return "-"
    return gettext("{free:.1f} of {total:.1f} GiB free").format(free=free / _GIB, total=total / _GIB)


def _peers(party: Party) -> list[Peer]:
    names = Party.objects.exclude(pk=party.pk).order_by("name").values_list("name", flat=True)[: MOST_PEERS + 1]
    peers = {name: Peer(name) for name in names[:MOST_PEERS]}
    for (one, other), seconds in round_trips().items():
        if one == party.name and other in peers:
            peers[other].there = gettext("{number:.1f} ms").format(number=seconds * 1000)
        elif other == party.name and one in peers:
            peers[one].back = gettext("{number:.1f} ms").format(number=seconds * 1000)
    newest = PartyRun.objects.aggregate(pk=Max("pk"))["pk"] or 0
    rows = PartyRun.objects.filter(pk__gt=newest - SEEN_RUNS, party=party).order_by()
    runs: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    for parties, error in rows.values_list("execution__parties", "error_type"):
        for name in parties:
            runs[name] += 1
            broken[name] += is_link(error)
    for name, peer in peers.items():
        peer.runs, peer.broken = runs[name], broken[name]
    return list(peers.values())


def _versions(party: Party) -> list[tuple[str, str]]:
    """Return the versions that its host reported with its latest checks."""
    newest = PartyCheck.objects.aggregate(pk=Max("pk"))["pk"] or 0
    rows = PartyCheck.objects.filter(pk__gt=newest - SEEN_CHECKS, party=party, answered_at__isnull=False)
    check = rows.order_by("-pk").only("facts").first()
    versions = check.facts.get("versions") if check and isinstance(check.facts, dict) else None
    if not isinstance(versions, dict):
        return []
    return [(str(name)[:32], str(version)[:32]) for name, version in list(versions.items())[:20]]
