"""An RQ worker that does nothing but what the control plane ordered."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError
from rq.command import parse_payload
from rq.exceptions import StopRequested

from workers.contract.connection import refusal
from workers.contract.orders import OrderRefused
from workers.contract.reports import REFUSAL
from workers.host.party import PartyHost
from workers.host.stream import Stream
from workers.runtime.intake import Intake
from workers.runtime.patient_worker import PatientWorker

#: How often a refusal is reported at most, in seconds.
REPORT_EVERY = 1.0


class OrderedWorker(PatientWorker):
    """Takes the jobs that are signed for this party, each once, and drops what else is in the queue.

    Of RQ's commands it follows ``stop-job`` alone. It is not signed: who can write to Redis can stop a job in any case,
    by deleting it.
    """

    host: PartyHost
    _intake: Intake
    #: In monotonic seconds.
    _may_report_at = 0.0

    def dequeue_job_and_maintain_ttl(self, timeout: int | None, max_idle_time: int | None = None) -> Any:
        while True:
            try:
                found = super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
            except StopRequested:
                raise
            except UnicodeDecodeError:
                self._drop_what_is_no_text()
                continue
            except Exception as error:
                # RQ says by this which job it could not read: a key of another type, or an id that is none
                job_id = getattr(error, "job_id", None)
                if isinstance(error, ResponseError) and job_id is None and not refusal(error):
                    self._intake.note("the queue", OrderRefused("it is no list of jobs"))
                    self.drop_foreign()
                    time.sleep(1)
                    continue
                if job_id is None or (isinstance(error, RedisError) and not isinstance(error, ResponseError)):
                    raise
                self._refuse(job_id, error if isinstance(error, OrderRefused) else OrderRefused("it is no job"))
                continue
            if found is None or self._intake.take_job(found[0]):
                return found
            # Not reported: it may be at work here, and its id have been put into the queue a second time
            self._drop(found[0].id)

    def _refuse(self, job_id: str, refused: OrderRefused) -> None:
        """Drop a job, and tell the control plane why: it may have a run of this name."""
        self._intake.note(f"job {job_id[:120]}", refused)
        self._drop(job_id)
        if time.monotonic() >= self._may_report_at:
            self._may_report_at = time.monotonic() + REPORT_EVERY
            with suppress(RedisError, OSError):
                self.stream(self.connection).report(REFUSAL, {"job": job_id[:120], "reason": str(refused)[:500]})

    def _drop(self, job_id: str) -> None:
        with suppress(RedisError):
            for queue in self.queues:
                queue.intermediate_queue.remove(job_id)

    def drop_foreign(self) -> None:
        """Remove keys of this party's that somebody has replaced by another type: RQ would end the worker."""
        party = self.host.name
        kinds = {
            f"rq:queue:{party}": "list", f"rq:queue:{party}:intermediate": "list", f"rq:workers:{party}": "set",
            self.key: "hash",
        }  # fmt: skip
        with suppress(RedisError):
            for key, kind in kinds.items():
                if self.connection.type(key) not in (kind.encode(), b"none"):
                    self.log.warning("%s was replaced by something that is no %s; it was removed", key, kind)
                    self.connection.delete(key)

    def _drop_what_is_no_text(self) -> None:
        """Drop ids of jobs that are no text, on which RQ would end the worker."""
        self._intake.note("a job", OrderRefused("its id is no text"))
        with suppress(RedisError):
            for queue in self.queues:
                taken = queue.intermediate_queue.key
                for raw in self.connection.lrange(taken, 0, -1):
                    if raw.decode(errors="replace").encode() != raw:
                        self.connection.lrem(taken, 0, raw)

    def stream(self, connection: Redis) -> Stream:
        """Return this party's stream, over a connection of the caller's thread."""
        return Stream(connection, self.host.name, self.host.signer)

    def handle_payload(self, message: Any) -> None:
        try:
            command = parse_payload(message).get("command")
        except (ValueError, TypeError, AttributeError, RecursionError):  # anybody may have sent anything
            return
        if command == "stop-job":
            super().handle_payload(message)
