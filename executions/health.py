"""/healthz and /readyz: whether this process lives, and whether the control plane can work.

Both are open to everybody and tell no address and no name. /healthz asks nothing. /readyz asks the database and Redis,
at most once a second however often it is asked itself, and has its answer within SECONDS.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cache
from threading import Lock, Thread

from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from redis import Redis
from redis.exceptions import RedisError

from controlplane.environment import environment
from controlplane.management.database import database_trouble
from executions.models import Beat
from workers.contract.connection import connect, trouble

log = logging.getLogger(__name__)

OK = "ok"
DATABASE, MIGRATIONS, REDIS, COORDINATOR = "database", "migrations", "redis", "coordinator"
#: What is said of each where nothing else is known.
SILENT = {
    DATABASE: "The database does not answer; the log of the web server says why.",
    MIGRATIONS: "Nothing is known of the migrations while the database does not answer.",
    REDIS: "Redis does not answer; the log of the web server says why.",
    COORDINATOR: "Nothing is known of the coordinators while the database does not answer.",
}
NOT_MIGRATED = "The database lacks migrations of this version; run `manage.py migrate`."
UNTOLD = "Nothing is known of the coordinators until the database is migrated."
NEVER_SEEN = "No coordinator has made a step yet; start `manage.py coordinate`."
AWAY = f"No coordinator has made a step in the last {Beat.AWAY_AFTER:g} s; is `manage.py coordinate` running?"

Found = dict[str, str]


class Question:
    """A question to a server, asked in a thread of its own: a driver, a pool or a resolver may wait for longer than
    whoever wants the answer. There is one such thread at most."""

    def __init__(self, ask: Callable[[], Found]) -> None:
        self._ask = ask
        self._thread: Thread | None = None
        self._found: Found = {}
        #: What the log was told last.
        self._told = ""

    def begin(self) -> None:
        """Ask, unless the answer to the last question is still to come."""
        if self._thread is None or not self._thread.is_alive():
            self._found = {}
            self._thread = Thread(target=self._run, name="readiness", daemon=True)
            self._thread.start()

    def answer(self, seconds: float) -> Found:
        """Return what was found; nothing if it takes longer than that."""
        if self._thread is not None:
            self._thread.join(max(0.0, seconds))
        return {} if self._thread is None or self._thread.is_alive() else self._found

    def _run(self) -> None:
        try:
            self._found, why = self._ask(), ""
        except (RedisError, OSError) as error:
            why = trouble(error)
        except (DatabaseError, InterfaceError) as error:
            why = database_trouble(error)
        except Exception as error:  # whatever it is, the answer is then that there is none
            why = f"{type(error).__name__}: {error}"
        if why and why != self._told:
            log.warning("not ready: %s", why)
        self._told = why


class Readiness:
    """What /readyz answers."""

    #: Within which there is an answer, and for which one holds.
    SECONDS, KEPT = 2.0, 1.0

    def __init__(self) -> None:
        self._questions = (Question(ask_database), Question(ask_redis))
        self._lock = Lock()
        self._known: Found = {}
        self._known_at = -self.KEPT

    def look(self) -> Found:
        """Return OK or what is wrong, by name of each check."""
        # Who comes while another one asks waits for that one's answer
        with self._lock:
            if time.monotonic() - self._known_at >= self.KEPT:
                self._known, self._known_at = self._look(), time.monotonic()
            return self._known

    def _look(self) -> Found:
        until = time.monotonic() + self.SECONDS
        found = dict(SILENT)
        try:
            for question in self._questions:
                question.begin()
        except RuntimeError:
            log.warning("not ready: this process has no room for another thread")
            return found
        for question in self._questions:
            found |= question.answer(until - time.monotonic())
        return found


@cache
def _wanted_migrations() -> frozenset[tuple[str, str]]:
    """Return the last migration of each app: the code's, which does not change while it runs."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


@cache
def _redis() -> Redis:
    return connect(environment.redis_url, seconds=Readiness.SECONDS / 2, tries=1)


def ask_database() -> Found:
    """Return what is found of the database, its migrations and the coordinators. Raises DatabaseError."""
    try:
        applied = MigrationRecorder(connection).applied_migrations()
        found = {DATABASE: OK, MIGRATIONS: OK if applied.keys() >= _wanted_migrations() else NOT_MIGRATED}
        try:
            return found | {COORDINATOR: coordinator_trouble() or OK}
        except (DatabaseError, InterfaceError):
            return found | {COORDINATOR: UNTOLD}
    finally:
        connection.close()  # this thread's own


def coordinator_trouble() -> str:
    """Return what is wrong with the coordinators; empty if one makes steps. Takes one query."""
    ages = Beat.ages()
    if not ages:
        return NEVER_SEEN
    return AWAY if ages[0] > Beat.AWAY_AFTER else ""


def ask_redis() -> Found:
    """Return what is found of Redis. Raises RedisError."""
    _redis().ping()
    return {REDIS: OK}


readiness = Readiness()


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer that this process takes requests."""
    return JsonResponse({"status": OK})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 if everything is there, otherwise 503; in both cases with what each check found."""
    found = readiness.look()
    ready = set(found.values()) == {OK}
    response = JsonResponse(
        {"status": "ready" if ready else "not ready", "checks": found}, status=200 if ready else 503
    )
    # Django would log an error each time that anybody asks; what is wrong was logged once
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response
