"""Faults of processes and servers: they are killed, stopped for a while, restarted, locked."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from contextlib import suppress
from functools import partial

import psycopg

from tests import stack
from tests.site.chaos.site import PARTIES, NotNow, Site, children, wake


def kill_worker(site: Site, name: str = "") -> None:
    name = name or site.one_alive(site.workers)
    site.trial.stop_process(name, signal.SIGKILL)
    site.later(3, partial(site.start, name))


def kill_party(site: Site) -> None:
    for name in site.workers_of(site.draw.choice(PARTIES)):
        kill_worker(site, name)


def kill_process(site: Site) -> None:
    """A process below one that takes jobs: the one that computes, the next one's, or the zygote."""
    takers = site.takers(site.one_alive(site.workers))
    below = children(site.draw.choice(takers)) if takers else []
    if not below:
        raise NotNow
    with suppress(OSError):  # it has just ended
        os.kill(site.draw.choice(below), signal.SIGKILL)


def stop_worker(site: Site) -> None:
    """The host goes silent for longer than a heartbeat lives, and comes back."""
    if not (takers := site.takers(site.one_alive(site.workers))):
        raise NotNow
    pid = site.draw.choice(takers)
    with suppress(OSError):  # it has just ended
        os.kill(pid, signal.SIGSTOP)
        site.later(14, partial(wake, pid), least=14)


def kill_coordinator(site: Site) -> None:
    name = site.one_alive(site.coordinators())
    site.trial.stop_process(name, signal.SIGKILL)
    site.later(2, partial(site.start, name))


def kill_waiting_coordinator(site: Site) -> None:
    """It has written to Redis, and not to the database yet: what it had in hand is half done."""
    break_connections(site)
    time.sleep(site.draw.uniform(0, 1))
    kill_coordinator(site)


def stop_coordinators(site: Site) -> None:
    """All coordinators but one stand still, wherever they are, and go on later as if nothing had been."""
    names = site.coordinators()
    if len(names) < 2:
        raise NotNow
    for name in site.draw.sample(names, len(names) - 1):
        pid = site.trial.processes[name].pid
        os.kill(pid, signal.SIGSTOP)
        site.later(20, partial(wake, pid), least=5)


def kill_redis(site: Site, empty: bool = False) -> None:
    if "valkey" not in site.trial.processes:
        raise NotNow
    site.trial.stop_process("valkey", signal.SIGKILL)
    if empty:
        shutil.rmtree(site.trial.directory / "valkey")
    site.later(4, site.trial.start_valkey)


def empty_redis(site: Site) -> None:
    kill_redis(site, empty=True)


def break_connections(site: Site) -> None:
    """SQLite is locked for a while; PostgreSQL ends all connections."""
    if "DATABASE_URL" not in site.trial.env:
        lock_database(site)
        return
    with suppress(psycopg.OperationalError), psycopg.connect(stack.database_url(), autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


def restart_database(site: Site) -> None:
    """PostgreSQL goes down without a goodbye, comes up some seconds later, and recovers; SQLite, which has no server,
    is locked."""
    if "DATABASE_URL" not in site.trial.env:
        lock_database(site)
        return
    if not stack.stop_postgres():
        raise NotNow
    site.later(4, stack.start_postgres)


def lock_database(site: Site) -> None:
    path = site.trial.directory / "db.sqlite3"
    database = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    try:
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        database.close()
        raise NotNow from None
    site.later(4, database.close)
