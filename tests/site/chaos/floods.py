"""Faults of what parties send: very much of it, and what nobody would send."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from types import MappingProxyType
from uuid import UUID

from redis.exceptions import RedisError

from executions.coordinator.listener import KINDS
from tests.site.chaos.site import PARTIES, NotNow, Site
from workers.contract.events import PIECE, SIGNATURE, TEXT, signed_part
from workers.contract.keys import stream_of
from workers.contract.signing import Signer

Entry = dict[str, str | bytes]
#: How the name of a worker ends that is none.
FLOOD = "-flood"
#: Entries that go in one round trip.
AT_ONCE = 500


def flood(site: Site) -> None:
    """A party writes thousands of entries: most look valid, and some are its own events once more."""
    party = site.draw.choice(PARTIES)
    count = site.draw.choice([2_000, 5_000, 10_000])
    own = journal_of(site, party)
    send(site, party, (_one_of_many(site, party, own) for _ in range(count)))


def send_malformed(site: Site) -> None:
    """A party writes one of each thing that no worker of ours writes."""
    party = site.draw.choice(PARTIES)
    # Of a run that there was, where there was one: of others nothing is applied
    send(site, party, malformed(party, site.draw.choice(site.ended or [_some_uuid(site)])))


def send(site: Site, party: str, entries: Iterator[Entry]) -> None:
    with suppress(RedisError):
        while True:
            with site.redis.pipeline(transaction=False) as pipeline:
                for _, entry in zip(range(AT_ONCE), entries, strict=False):
                    pipeline.xadd(stream_of(party), signed(site, party, entry))
                if not len(pipeline):
                    return
                pipeline.execute()
    raise NotNow  # Redis is away, or full


def signed(site: Site, party: str, entry: Entry) -> Entry:
    """Return the entry with the party's signature, as a party that means ill has its key, too; or, of some, without."""
    kind = next((kind for kind in KINDS if kind in entry), "")
    if not kind or site.draw.random() < 0.2:
        return entry
    signer = Signer.load(site.trial.party_dir(party) / "party.signing.key")
    parts = [entry[kind]] + [entry.get(TEXT, b"")] * (kind == PIECE)
    raw = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return entry | {SIGNATURE: signer.sign(*signed_part(party, kind, *raw))}


def journal_of(site: Site, party: str) -> list[str]:
    """Return events that the party's workers wrote: the control plane has applied them, or will."""
    lines: list[str] = []
    for path in site.trial.party_dir(party).rglob("*.jsonl"):
        with suppress(OSError):
            lines += [line for line in path.read_text(errors="replace").splitlines() if line.endswith("}")]
    return lines


def _one_of_many(site: Site, party: str, own: list[str]) -> Entry:
    kind = site.draw.random()
    if own and kind < 0.4:
        return {"event": site.draw.choice(own)}
    if kind < 0.6:
        return {"event": event_of(party, _some_uuid(site), site.draw.randrange(1, 500))}
    if own and kind < 0.8:  # of a run that there is, and an attempt that there is not
        event = json.loads(site.draw.choice(own))
        return {"event": json.dumps(event | {"attempt": 1000 + event["attempt"]})}
    if kind < 0.9:
        report = {"preflight": _some_uuid(site), "worker": f"{party}{FLOOD}", "checks": [], "facts": {}}
        return {"preflight": json.dumps(report)}
    if kind < 0.91:
        tables = {f"flood_{site.draw.randrange(300)}": {"columns": {"uid": "str"}, "rows": 1} for _ in range(20)}
        return {"datasets": json.dumps({"publication": _some_uuid(site), "told_at": time.time(), "datasets": tables})}
    if kind < 0.92:
        return {"event": "x" * site.draw.randrange(60_000)}
    return {f"field{site.draw.randrange(10)}": os.urandom(100)}


def _some_uuid(site: Site) -> str:
    return str(UUID(int=site.draw.getrandbits(128), version=4))


def event_of(party: str, execution: str, sequence: int, changed: Mapping[str, object] = MappingProxyType({})) -> str:
    now = datetime.now(timezone.utc).isoformat()
    event = {"task_request_id": execution, "party": party, "attempt": 1, "sequence": sequence, "timestamp": now}
    data = {"stage": "task_execution", "computation_progress": 0.5}
    return json.dumps(
        event | {"status": "RUNNING", "worker_container": f"{party}{FLOOD}", "data": data} | dict(changed)
    )


def malformed(party: str, execution: str) -> Iterator[Entry]:
    wrong: dict[str, list[object]] = {
        "timestamp": ["9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+14:00", "yesterday", None, 1e300],
        "attempt": [0, -1, 2**31, 2**70, "one", 1.5, None, True],
        "sequence": [0, -1, 2**31, 2**70, [], {}],
        "status": ["DONE", "", None, 1],
        "task_request_id": ["../../etc", "", None, 7, "\0"],
        "party": ["nobody", "alice,bob", "", None, "x" * 10_000],
        "worker_container": ["\ud800", "\0", "x" * 100_000, {}],
        "data": [[], "text", None, {"stage": "\0\ud800"}, {"error": "x" * 200_000}, {"result": {"a": 1e999}}],
    }
    for field, values in wrong.items():
        for value in values:
            yield {"event": event_of(party, execution, 1, {field: value})}
    deep = "[" * 10_000 + "]" * 10_000
    for raw in (b"", b"\xff\xfe", b"null", b"{}", b"NaN", deep.encode(), b'{"a":' * 5_000, b"x" * 200_000):
        for field in ("event", "piece", "preflight", "datasets"):
            yield {field: raw}
    header = {"task_request_id": execution, "party": party, "attempt": 1, "sequence": 1, "of": 3}
    for number in (0, 1, 4, -1, 2**40, None):
        yield {"piece": json.dumps(header | {"number": number}), "text": b"\xff" * 100}
    yield {"": ""}
