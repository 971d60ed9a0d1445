"""Faults of hosts and of Redis that kill nothing: clocks that step, disks and memory that are full."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from redis.exceptions import RedisError

from tests.site.chaos.site import PARTIES, NotNow, Site

HOUR = 3600


def step_clock(site: Site) -> None:
    """A host's clock is put forward or back by an hour, and right again later: two steps."""
    if not (right := [host for host in site.trial.hosts if host not in site.wrong_clocks]):
        raise NotNow
    host = site.draw.choice(right)
    site.trial.set_clock(host, site.draw.choice([HOUR, -HOUR]))
    site.wrong_clocks.add(host)

    def put_right() -> None:
        site.trial.set_clock(host, 0)
        site.wrong_clocks.discard(host)

    site.later(40, put_right, least=5)


def step_clock_of_redis(site: Site) -> None:
    """Redis's clock is put forward by an hour. It keeps the times at which keys expire by the time of day, so all that
    had less than that to live is gone; which is what is done here, its clock being out of reach."""
    with suppress(RedisError):
        for key in site.redis.scan_iter(count=1000):
            if 0 < site.redis.pttl(key) < 1000 * HOUR:
                site.redis.pexpire(key, 1)
        return
    raise NotNow


def fill_redis(site: Site) -> None:
    """Redis has reached its maxmemory, and has room again some seconds later."""
    with suppress(RedisError):
        site.redis.config_set("maxmemory", 1_000_000)
        site.later(10, partial(make_room, site), least=2)
        return
    raise NotNow


def make_room(site: Site) -> None:
    try:
        site.redis.config_set("maxmemory", 0)
    except RedisError:
        # Away; it may come back with this setting lost, or not
        site.later(2, partial(make_room, site), least=1)


def fill_disk(site: Site) -> None:
    """No file of a party's processes can grow, which is as close to a full disk as one gets without root.

    The limit to the size of files (RLIMIT_FSIZE) of all its running processes is set to nothing, and lifted later. A
    write then fails with EFBIG where on a full disk it would with ENOSPC; empty files and directories can be made.
    """
    if not (others := [party for party in PARTIES if party not in site.full_disks and site.workers_of(party)]):
        raise NotNow
    party = site.draw.choice(others)
    site.full_disks.add(party)
    site.limit_files(party, 0)

    def make_space() -> None:
        site.full_disks.discard(party)
        site.limit_files(party, -1)

    site.later(15, make_space, least=3)
