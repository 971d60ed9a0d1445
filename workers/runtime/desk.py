"""The worker's desk: it answers requests for pre-flight checks, also while a job runs."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError

from workers.contract.connection import trouble, when_it_takes_writes
from workers.contract.errors import ConfigError
from workers.contract.events import WORKER_LENGTH
from workers.contract.keys import requests_of, wanted
from workers.contract.reports import PREFLIGHT, TAKE_WITHIN, WANTED_SECONDS
from workers.host.party import PartyHost
from workers.host.stream import report
from workers.runtime.compute_process import ComputeProcess
from workers.runtime.facts import KnownFacts

log = logging.getLogger(__name__)

#: Longer than the checks of any table take, in seconds.
LIMIT = 600.0
#: How often a report says that the checks go on, in seconds.
SIGN_OF_LIFE = 2.0


class Desk:
    """Answers the requests for checks, in a thread of the worker process, also while a job runs."""

    def __init__(
        self, host: PartyHost, connection: Redis, worker: str, waiting: Callable[[], ComputeProcess | None]
    ) -> None:
        self.host, self.connection, self.worker, self._waiting = host, connection, worker, waiting
        self._known = KnownFacts()

    def serve(self, alive: threading.Event) -> None:
        """Answer requests until ``alive`` is cleared."""
        while alive.is_set():
            # Asked first: a request belongs to a worker that can answer it at once
            waiting = self._waiting()
            if waiting is None or not waiting.is_ready():
                time.sleep(0.05)
                continue
            try:
                taken: Any = self.connection.blpop([requests_of(self.host.name)], timeout=1)
            except (RedisError, OSError):
                time.sleep(1)
                continue
            if taken:
                try:
                    self._answer(taken[1])
                except (RedisError, OSError) as error:
                    # Not a loss: what is not answered is asked again
                    log.warning("a pre-flight report was not delivered: %s", trouble(error))

    def _answer(self, raw: bytes) -> None:
        try:
            request = json.loads(raw)
            preflight, _ = str(UUID(request["preflight"])), request["documents"]["sf_init_config"]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            log.warning("a malformed request for pre-flight checks was dropped")
            return
        if self.connection.pttl(wanted(preflight)) < 1000 * (WANTED_SECONDS - TAKE_WITHIN):
            return  # of an execution that was cancelled, or from when no worker was there
        waiting = self._waiting()
        if waiting is None or not waiting.is_ready():  # a job took it in this moment
            self.connection.rpush(requests_of(self.host.name), raw)
            return

        def say(content: Mapping[str, Any], patience: float = TAKE_WITHIN) -> None:
            message = {"preflight": preflight, "worker": self.worker[:WORKER_LENGTH], **content}
            tell = partial(report, self.connection, self.host.name, PREFLIGHT, message)
            when_it_takes_writes(tell, patience=patience)

        begun = time.monotonic()

        def go_on() -> None:
            say({}, 0)
            if time.monotonic() - begun > LIMIT:  # whatever it is at: the worker needs a process for jobs
                waiting.process.kill()

        say({})
        question = request | {"known": self._known.as_message()}  # not what the request says, if it says so
        answer = waiting.ask({"preflight": question}, SIGN_OF_LIFE, go_on)
        if answer is None:
            error = "the checking process ended before it was done: killed, for want of memory, or after its time limit"
            answer = {"checks": [{"check": "process", "error": error, "error_type": "ResourceError"}], "facts": {}}
        # Its own business: it has row counts, which a party's policy may keep from the control plane
        self._known.learn(answer.pop("known", {}))
        try:
            say(answer)
        except ConfigError:
            # The heading of a very wide table, which only the page of the dataset would show
            log.warning("a pre-flight report is too large; it goes without the columns of the dataset")
            answer["facts"].get("dataset", {}).pop("columns", None)
            say(answer)
