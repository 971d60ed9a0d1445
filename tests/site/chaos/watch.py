"""Tells how it goes while it goes, and at once what hangs: where, what it waits for, and what the logs say of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError
from secretflow_controlplane_client import ControlPlaneError

from tests.site.chaos.services import Followed, Services
from tests.site.chaos.site import Site

#: Seconds between two lines of progress.
TOLD_EVERY = 10.0
#: An execution that has shown no change for so many seconds hangs; it is told of again when twice as many have passed.
HANGS_AFTER = 60.0
#: Lines of each log.
LINES = 12


class Watch:
    def __init__(self, site: Site, services: Services, count: int) -> None:
        self.site, self.services, self.count = site, services, count
        self.began = time.monotonic()
        self._tell_at = self.began + TOLD_EVERY

    def step(self) -> None:
        """Tell what there is to tell now."""
        for followed in self.services.open.values():
            if followed.still > max(HANGS_AFTER, 2 * followed.told_still):
                followed.told_still = followed.still
                self.say(f"HANGS: {followed}: no change for {followed.still:.0f} s")
                for line in describe(self.site, followed):
                    print(f"    {line}", flush=True)
        if time.monotonic() >= self._tell_at:
            self._tell_at = time.monotonic() + TOLD_EVERY
            self.say(self.line())

    def line(self) -> str:
        services, site = self.services, self.site
        states = Counter(followed.shown.get("status", "new") for followed in services.open.values())
        now = ", ".join(f"{number} {status}" for status, number in sorted(states.items()))
        longest = max((followed.still for followed in services.open.values()), default=0.0)
        ended = len(services.all) - len(services.open)
        return (
            f"{ended} of {self.count} ended; open: {now or 'none'}, still for {longest:.0f} s at most; "
            f"{site.faults.total()} faults, {site.gave_up.total()} processes gave up"
        )

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:5.0f} s] {text}", flush=True)


def describe(site: Site, followed: Followed) -> Iterator[str]:
    """Yield what is known of an execution: its runs, its jobs in Redis, and the ends of the logs that concern it."""
    try:
        found = site.service.call("GET", f"executions/{followed.pk}/")
    except ControlPlaneError as error:
        yield f"the site does not say more: {error}"
        return
    yield f"waits for: {found['waiting_for'] or 'nothing that is known'}; retries {found['retries']}"
    for change in found["changes"][-5:]:
        yield f"{change['at']} {change['to_status']} {change['why'][:200]}"
    for run in found["runs"]:
        if run["attempt"] == found["attempt"]:
            yield (
                f"{run['party']}: {run['status']} {run['stage']} by {run['worker'] or 'nobody yet'}, "
                f"dispatched {run['dispatched_at']}, ended {run['ended_at']}; {_job(site, followed.pk, run)}"
            )
    yield f"faults that last: full disks {sorted(site.full_disks)}, wrong clocks {sorted(site.wrong_clocks)}"
    names = [*site.coordinators(), *(n for party in found["parties"] for n in site.workers_of(party))]
    for name in names:
        yield from (f"{name}: {line[:300]}" for line in _lines_about(site, name, followed.pk))


def _job(site: Site, execution: str, run: dict[str, Any]) -> str:
    """Return what Redis has of a run's job."""
    party, job = run["party"], f"{run['party']}-{execution}-{run['attempt']}"
    with suppress(RedisError):
        status, worker = (value.decode() if value else "" for value in site.redis.hmget(
            f"rq:job:{job}", "status", "worker_name"))  # fmt: skip
        lives = site.redis.pttl(f"rq:worker:{worker}") if worker else 0
        place = site.redis.lpos(f"rq:queue:{party}", job)
        unread = site.redis.xlen(f"events:{party}")
        return (
            f"job {status or 'gone'} with {worker or 'no worker'} (lives for {lives} ms), "
            f"place in the queue {place}; {unread} entries in the party's stream"
        )
    return "Redis is away"


def _lines_about(site: Site, name: str, execution: str) -> list[str]:
    path = site.trial.logs / f"{name}.log"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return [line for line in lines if execution in line][-LINES:] or [f"(nothing of it) {line}" for line in lines[-3:]]
