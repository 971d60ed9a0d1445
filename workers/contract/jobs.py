"""What may pass between control plane and party through RQ: one function, as JSON, signed, with no callbacks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import rq.job
from rq.job import Job
from rq.utils import import_attribute

from workers.contract.orders import JOB, Order, OrderRefused, opened_order, signed_order
from workers.contract.signing import Signer, Verifier

#: The only function that a job may name.
TASK_FUNCTION = "workers.runtime.task_run.execute_secretflow_task"

#: Field of a job's hash that tells a worker not to begin it. The coordinator sets it and then checks whether the job
#: has started; the compute process sets "started" and then looks for the field. So one of the two always notices.
STOP_MARK = "stop_requested"

#: Field of a job's hash that holds the control plane's order.
ORDER = "order"
#: The fields that RQ and we act on, which the order is about: call, time limit, queue, and how long RQ keeps the job.
SIGNED = ("created_at", "data", "description", "failure_ttl", "origin", "result_ttl", "timeout")
#: Notes that RQ and the coordinator make as the job goes on. Nothing is done because of what they say.
NOTES = frozenset(
    {
        "status", "enqueued_at", "started_at", "ended_at", "last_heartbeat", "worker_name", "result", "exc_info",
        STOP_MARK,
    }
)  # fmt: skip


def install_gate() -> None:
    """Let RQ import nothing but the task function, in this process.

    RQ 3.0 imports by dotted path whatever function and callbacks a job's hash in Redis names, even when a web page
    only counts a registry, and whoever can write to Redis can write such a hash.
    """

    def gated(name: str) -> Any:
        if name != TASK_FUNCTION:
            raise OrderRefused(f"{name!r} is not on the allow-list of this system")
        return import_attribute(name)

    rq.job.import_attribute = gated
    # The target address of webhooks comes from the job's hash as well
    Job.send_webhooks = lambda self, *args, **kwargs: None


class PartyJob(Job):
    """A job of ours: no callbacks, no webhooks, no method calls on unpickled instances."""

    #: The control plane's order, as text, for a job that is about to be put into a queue.
    _signed_order = ""

    @property
    def func(self) -> Any:
        if self.func_name != TASK_FUNCTION or self.instance is not None:
            raise OrderRefused(f"{self.func_name!r} is not on the allow-list of this system")
        return super().func

    def sign(self, signer: Signer) -> None:
        """Sign the job for the party of its queue, as it is now. A job without a time limit gets RQ's as it is put into
        the queue, and does not fit its signature any more."""
        fields = {name: _as_in_redis(value) for name, value in super().to_dict().items()}
        self._signed_order = signed_order(signer, JOB, self.origin, self.id, _digests(fields))

    def to_dict(self, *args: Any, **options: Any) -> dict[str, Any]:
        fields: dict[str, Any] = super().to_dict(*args, **options)
        return fields | ({ORDER: self._signed_order} if self._signed_order else {})


class OrderedJob(PartyJob):
    """A job at a party: it is only looked at if the control plane signed it, as it is, for this party.

    See :func:`ordered_job`.
    """

    party: str
    verifier: Verifier
    order: Order
    _data_in_redis: bytes = b""

    def restore(self, raw_data: Any) -> None:
        """Read the job from its hash in Redis. Raises OrderRefused."""
        fields = {name.decode(errors="replace"): value for name, value in raw_data.items()}
        order = opened_order(self.verifier, JOB, self.party, fields.pop(ORDER, None))
        if order.id != self.id:
            raise OrderRefused("its order is that of another job")
        if order.content != _digests(fields):
            raise OrderRefused("it is not as it was signed")
        if further := sorted(name for name, value in fields.items() if value and name not in NOTES | {*SIGNED}):
            raise OrderRefused(f"it has the field {further[0][:40]!r}, which no job of this system has")
        self.order, self._data_in_redis = order, fields["data"]
        try:
            super().restore(raw_data)
        except Exception as error:  # the notes may be anything
            raise OrderRefused(f"RQ's notes in it cannot be read ({type(error).__name__})") from None

    def to_dict(self, *args: Any, **options: Any) -> dict[str, Any]:
        # As it was signed: another zlib could compress it to other bytes
        return super().to_dict(*args, **options) | ({"data": self._data_in_redis} if self._data_in_redis else {})


def ordered_job(party: str, verifier: Verifier) -> type[OrderedJob]:
    """Return the class of the jobs of a party that follows orders signed with these keys."""
    return type("OrderedJob", (OrderedJob,), {"party": party, "verifier": verifier})


def _digests(fields: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(fields.get(name, b"")).hexdigest() for name in SIGNED}


def _as_in_redis(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
