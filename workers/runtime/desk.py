"""The worker's desk: it answers requests for pre-flight checks, also while a job runs."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from redis.exceptions import RedisError

from workers.contract import orders
from workers.contract.connection import trouble, when_it_takes_writes
from workers.contract.errors import ConfigError
from workers.contract.events import WORKER_LENGTH
from workers.contract.keys import requests_of, wanted
from workers.contract.reports import PREFLIGHT, TAKE_WITHIN, WANTED_SECONDS
from workers.host.known import KnownFacts
from workers.host.party import PartyHost
from workers.host.stream import Stream
from workers.runtime.compute_process import ComputeProcess
from workers.runtime.intake import Intake
from workers.runtime.starter import Starter

log = logging.getLogger(__name__)

#: Longer than the checks of any table take, in seconds.
LIMIT = 600.0
#: How often a report says that the checks go on, in seconds.
SIGN_OF_LIFE = 2.0
#: Requests that are answered at once, each by a process of its own: one slow table keeps no other request waiting.
AT_ONCE = 2
#: Requests that a process answers, one after the other, before a fresh one takes its place.
MOST_ANSWERS = 200


class Desk:
    """Answers the requests for checks, in threads of the worker process, also while a job runs."""

    def __init__(self, host: PartyHost, stream: Stream, worker: str, starter: Starter, intake: Intake) -> None:
        self.host, self.stream, self.worker, self._starter, self._intake = host, stream, worker, starter, intake
        self.connection = stream.connection
        #: A process that has answered all that it was asked, for the next request.
        self._idle: ComputeProcess | None = None
        #: All that it has started and not ended yet.
        self._processes: set[ComputeProcess] = set()
        self._known = KnownFacts()
        #: Of these three: requests are answered in several threads.
        self._lock = threading.Lock()

    def serve(self, alive: threading.Event) -> None:
        """Answer requests until ``alive`` is cleared, whatever goes wrong meanwhile: nobody else would."""
        at_once = threading.Semaphore(AT_ONCE)
        told = ""
        while alive.is_set():
            try:
                self._take_request(at_once)
                told = ""
            except (RedisError, OSError):
                time.sleep(1)  # the heartbeat says so
            except Exception as error:  # no thread can be started, say: that passes
                if repr(error) != told:
                    log.exception("a request for pre-flight checks could not be taken; the next one is tried")
                told = repr(error)
                time.sleep(1)

    def _take_request(self, at_once: threading.Semaphore) -> None:
        if not at_once.acquire(timeout=1):
            return  # other workers may have time
        taken: Any = None
        try:
            taken = self.connection.blpop([requests_of(self.host.name)], timeout=1)
            if taken:
                thread = threading.Thread(target=self._answer, args=[taken[1], at_once.release], daemon=True)
                thread.name = "pre-flight check"
                thread.start()
        except RuntimeError:
            raw, taken = taken[1], None
            self.connection.lpush(requests_of(self.host.name), raw)  # another worker may be able to
            raise
        finally:
            if not taken:
                at_once.release()

    def known_for_a_job(self) -> dict[str, Any]:
        """Return what checks found out about this host's files, as a job is handed it."""
        with self._lock:
            return self._known.for_a_job()

    def close(self) -> None:
        """End the processes that do checks, or wait for some."""
        with self._lock:
            processes, self._processes = self._processes, set()
        for process in processes:
            process.process.kill()
            process.close("as its worker ends")

    def _answer(self, raw: bytes, then: Callable[[], None] = lambda: None) -> None:
        """Answer a request, and log what keeps it from that; ``then`` is called in any case."""
        try:
            self._answer_request(raw)
        except RedisError as error:
            # Not a loss: what is not answered is asked again
            log.warning("a pre-flight report was not delivered: %s", trouble(error))
        except Exception:
            log.exception("a request for pre-flight checks was not answered")
        finally:
            then()

    def _answer_request(self, raw: bytes) -> None:
        order = self._intake.take(orders.PREFLIGHT, raw)
        if order is None:
            return
        preflight, request = order.id, {**order.content, "preflight": order.id}
        if self.connection.pttl(wanted(preflight)) < 1000 * (WANTED_SECONDS - TAKE_WITHIN):
            return  # of an execution that was cancelled, or from when no worker was there
        self._check(preflight, request)

    def _check(self, preflight: str, request: Mapping[str, Any]) -> None:
        def say(content: Mapping[str, Any], patience: float = TAKE_WITHIN) -> None:
            message = {"preflight": preflight, "worker": self.worker[:WORKER_LENGTH], **content}
            tell = partial(self.stream.report, PREFLIGHT, message)
            when_it_takes_writes(tell, patience=patience)

        begun = time.monotonic()
        say({})
        answer = self._asked(request, say, begun)
        # Its own business: it has row counts, which a party's policy may keep from the control plane
        with self._lock:
            self._known.learn(answer.pop("known", {}))
        try:
            say(answer)
        except ConfigError:
            # The heading of a very wide table, which only the page of the dataset would show
            log.warning("a pre-flight report is too large; it goes without the columns of the dataset")
            answer["facts"].get("dataset", {}).pop("columns", None)
            say(answer)

    def _asked(self, request: Mapping[str, Any], say: Callable[..., None], begun: float) -> dict[str, Any]:
        """Return what a process answers, or what is wrong with the processes here."""
        try:
            process = self._take_idle() or self._start()
        except OSError as error:
            log.warning("no process for pre-flight checks can be started: %s", error)
            # Not the error's text: it may have a path of this host's in it
            reason = os.strerror(error.errno) if error.errno else "it ended as it began"
            return _problem(f"no process for the checks can be started on this host ({reason}); see its worker's log")

        def go_on() -> None:
            say({}, 0)
            if time.monotonic() - begun > LIMIT:
                process.process.kill()

        with self._lock:
            known = self._known.as_message()
        question = {**request, "known": known}  # not what the request says, if it says so
        answer = None
        try:
            answer = process.ask({"preflight": question}, SIGN_OF_LIFE, go_on)
        finally:
            # One whose answer was not heard would give it to the next question
            self._leave(process, is_of_use=answer is not None)
        if answer is None:
            return _problem(
                "the checking process ended before it was done: killed, for want of memory, or after its time limit"
            )
        found: dict[str, Any] = answer
        return found

    def _start(self) -> ComputeProcess:
        process = self._starter.start("pre-flight checks")
        with self._lock:
            self._processes.add(process)
        return process

    def _take_idle(self) -> ComputeProcess | None:
        with self._lock:
            idle, self._idle = self._idle, None
        if idle and idle.process.poll() is not None:
            self._end(idle)
            return None
        return idle

    def _leave(self, process: ComputeProcess, *, is_of_use: bool) -> None:
        """Keep a process for the next request, or end it."""
        if is_of_use and process.answered < MOST_ANSWERS:
            with self._lock:
                if self._idle is None:
                    self._idle = process
                    return
        else:
            process.process.kill()
        self._end(process)

    def _end(self, process: ComputeProcess) -> None:
        with self._lock:
            self._processes.discard(process)
        process.close()


def _problem(error: str) -> dict[str, Any]:
    return {"checks": [{"check": "process", "error": error, "error_type": "ResourceError"}], "facts": {}}
