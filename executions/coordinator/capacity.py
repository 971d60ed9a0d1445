"""The free capacity of each party: its workers, by their heartbeats in Redis, and its runs, from the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count
from redis import Redis
from redis.exceptions import ResponseError

from controlplane.models import Party
from executions.coordinator.key import own_key
from executions.models import PartyRun, PortLease
from workers.contract.keys import stream_of
from workers.contract.signing import Verifier

#: Workers of a party that are looked at.
MOST_WORKERS = 1000


@dataclass(slots=True)
class Capacity:
    """One party's capacity: a worker takes one run at a time."""

    #: Number of workers with a heartbeat.
    alive: int = 0
    #: Number of live workers that could begin at once: their next process has imported SecretFlow.
    ready: int = 0
    #: Number of runs that still occupy a worker.
    busy: int = 0
    registered: bool = False
    #: Why an operator has it paused, in words; empty if it is not.
    paused: str = ""
    #: Why the control plane and the party's live workers do not know each other's keys; empty if one of them does.
    stranger: str = ""
    #: Ports that its live sessions hold, or may hold when their runs have ended.
    held: set[int] = field(default_factory=set)

    @property
    def takes_orders(self) -> bool:
        """Return whether the control plane can tell it anything."""
        return self.registered and not self.stranger

    @property
    def free(self) -> int:
        return min(self.alive - self.busy, self.ready) if self.takes_orders and not self.paused else 0

    def take(self) -> None:
        self.busy += 1
        self.ready -= 1


def find_capacity(
    connection: Redis, parties: Iterable[str], *, known: Mapping[str, Capacity] | None = None
) -> dict[str, Capacity]:
    """Return the capacity of each of these parties. Takes two round trips and two queries. Raises RedisError.

    ``known``: what it was a moment ago. A party all of whose workers have runs is not asked again.
    """
    capacity = {party: Capacity() for party in sorted(parties)}
    voices: dict[str, set[str]] = {}
    rows = Party.objects.filter(name__in=capacity).order_by()
    for name, voice, pause, why in rows.values_list("name", "signing_keys", "pause", "pause__why"):
        capacity[name].registered, voices[name] = True, {*Verifier(voice.split()).key_ids}
        if pause:
            capacity[name].paused = f"{name} is paused" + (f": {why}" if why else "")
    for name, busy in running_at(capacity).items():
        capacity[name].busy = busy
    asked = []
    for party, one in capacity.items():
        if known and (before := known.get(party)) and 0 < before.alive <= one.busy:
            one.alive, one.ready, one.stranger = before.alive, before.ready, before.stranger
        else:
            asked.append(party)
    with connection.pipeline(transaction=False) as pipeline:
        for party in asked:
            # Not all of them, whatever a party has written there
            pipeline.srandmember(f"rq:workers:{party}", MOST_WORKERS)
        keys: list[list[bytes]] = [sorted(found or ()) for found in forgiving(pipeline)]
    with connection.pipeline(transaction=False) as pipeline:
        for found in keys:
            for key in found:
                # Alive is what expires unless it is renewed: RQ can write to a key that has just expired, and
                # what it then makes stays for ever
                pipeline.pttl(key)
                pipeline.hmget(key, "process", "ports", "follows", "signs_with")
        answers = iter(forgiving(pipeline))
    for party, found in zip(asked, keys, strict=True):
        one, strangers = capacity[party], [""] * (not found)
        for _ in found:
            lives, (waiting, ports, follows, signs_with) = next(answers) > 0, next(answers) or [None] * 4
            one.alive += lives
            strangers += [_stranger(party, voices.get(party, set()), follows, signs_with)] * lives
            one.ready += lives and waiting != b"starting"
            one.held |= _ports(ports or b"") if lives else set()
        # As long as one of them can be told anything; another one would refuse the job, which is tried again
        one.stranger = next(iter(strangers), "") if all(strangers) else ""
    return capacity


def live_workers(connection: Redis, parties: Iterable[str]) -> dict[str, int]:
    """Return how many workers of each of these parties have a heartbeat. Takes two round trips. Raises RedisError."""
    names = sorted(parties)
    with connection.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.srandmember(f"rq:workers:{name}", MOST_WORKERS)
        keys = [found or () for found in forgiving(pipeline)]
    with connection.pipeline(transaction=False) as pipeline:
        for key in (key for found in keys for key in found):
            pipeline.pttl(key)
        alive = iter(forgiving(pipeline))
    return {name: sum(next(alive) > 0 for _ in found) for name, found in zip(names, keys, strict=True)}


def _stranger(party: str, voice: set[str], follows: bytes | None, signs_with: bytes | None) -> str:
    """Return why a live worker and the control plane do not know each other's keys; empty if they do. The worker says
    so by itself: it is a hint, and no proof of anything."""
    where = f"on {party}'s host"
    if not voice:
        return f"{party} has no signing key here; enter what `manage.py party keys` prints {where} on the party's page"
    if own_key().key_id.encode() not in (follows or b"").split():
        return (
            f"the worker of {party} does not follow this control plane; add {own_key().public_key} to the keys of "
            f"[control_plane] in party.toml {where}, and start the worker again"
        )
    if (signs_with or b"").decode(errors="replace") not in voice:
        return (
            f"the worker of {party} signs with another key than those on the party's page; enter there what "
            f"`manage.py party keys` prints {where}"
        )
    return ""


def running_at(parties: Iterable[str]) -> dict[str, int]:
    """Return how many runs occupy a worker of each of these parties; it leaves out parties without one."""
    # From the runs: a join of the parties with theirs would go through all that they ever had
    running = PartyRun.objects.filter(party__name__in=parties, released_at=None).order_by()
    return dict(running.values_list("party__name").annotate(Count("pk")))


def _ports(text: bytes) -> set[int]:
    """Return the ports in a text that a party's worker wrote. The text may be anything."""
    return {int(word) for word in text.split() if word.isdigit() and len(word) <= len("65535")}


def free_ports(parties: Iterable[Party]) -> dict[str, list[int]]:
    """Return, by party, the ports of its range that no run has leased. Takes one query."""
    found = {party.name: range(party.port_first, party.port_last + 1) for party in parties}
    leased: dict[str, set[int]] = {}
    for party, port in PortLease.objects.filter(party__name__in=found).values_list("party__name", "port"):
        leased.setdefault(party, set()).add(port)
    return {name: [port for port in ports if port not in leased.get(name, ())] for name, ports in found.items()}


def oldest_unread(connection: Redis, party: str) -> float:
    """Return the age in seconds of the oldest entry of a party's stream, from which applied ones are removed; 0 without
    one. Raises RedisError."""
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.xrange(stream_of(party), count=1)
        (seconds, micros), oldest = forgiving(pipeline)
    # By the clock that the entries' numbers are of
    return seconds + micros / 1e6 - int(oldest[0][0].split(b"-")[0]) / 1e3 if oldest else 0.0


def forgiving(pipeline: Any) -> list[Any]:
    """Return a pipeline's answers, None for a key of the wrong type: parties can write to some keys.

    Raises RedisError for anything else that is wrong.
    """
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    for index, answer in enumerate(answers):
        if isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE"):
            answers[index] = None
        elif isinstance(answer, Exception):
            raise answer
    return answers


def reason_to_wait(lacking: list[str], capacity: Mapping[str, Capacity]) -> str:
    """Return why an execution waits for these parties."""
    if unknown := [p for p in lacking if not capacity[p].registered]:
        return f"{', '.join(unknown)} {_are(unknown)} no longer registered"
    if paused := [capacity[p].paused for p in lacking if capacity[p].paused]:
        return "; ".join(paused)
    if absent := [p for p in lacking if not capacity[p].alive]:
        return no_worker_message(absent)
    if strangers := [capacity[p].stranger for p in lacking if capacity[p].stranger]:
        return strangers[0]
    if busy := [p for p in lacking if capacity[p].busy >= capacity[p].alive]:
        return f"all workers of {', '.join(busy)} are busy"
    if loading := [p for p in lacking if not capacity[p].ready]:
        return f"the next process of {', '.join(loading)} is still importing SecretFlow"
    return f"{', '.join(lacking)} {_are(lacking)} kept for an execution that has waited longer"


def _are(parties: list[str]) -> str:
    return "is" if len(parties) == 1 else "are"


def no_worker_message(parties: list[str]) -> str:
    """Return the message for parties that have no live worker."""
    start = " and ".join(f"`manage.py rqworker {p}` on {p}'s host" for p in parties)
    return f"{', '.join(parties)} {'has' if len(parties) == 1 else 'have'} no live worker; start {start}"
