"""What a worker takes from Redis: orders of the control plane, each once. It drops all else, and tells the log."""

from __future__ import annotations

import logging
import threading

from workers.contract.jobs import OrderedJob, ordered_job
from workers.contract.orders import Order, OrderRefused, opened_order
from workers.host.party import PartyHost
from workers.host.taken import TakenOrders

log = logging.getLogger(__name__)


class Intake:
    """Looks at what came, in several threads of the worker."""

    def __init__(self, host: PartyHost) -> None:
        """Raises ConfigError if party.toml does not say whose orders this host follows."""
        self.party, self.verifier = host.name, host.orders
        self.job_class: type[OrderedJob] = ordered_job(host.name, self.verifier)
        self._taken = TakenOrders(host.taken_dir)
        self._lock = threading.Lock()
        #: What the log was told last.
        self._told = ""
        self._last: dict[str, str] = {}

    def take(self, kind: str, raw: bytes) -> Order | None:
        """Return the order in a message; None if it is none of the control plane's for this party, or was taken
        before on this host."""
        try:
            order = opened_order(self.verifier, kind, self.party, raw)
            with self._lock:
                self._taken.take(order)
        except OrderRefused as error:
            self.note(f"a message ({kind})", error)
            return None
        return order

    def take_job(self, job: OrderedJob) -> bool:
        """Return whether a job is taken now, and was not before on this host."""
        try:
            with self._lock:
                self._taken.take(job.order)
        except OrderRefused as error:
            self.note(f"job {job.id}", error)
            return False
        return True

    def is_new(self, kind: str, raw: bytes | None) -> bool:
        """Return whether the message is an order that this worker has not seen yet; other workers may have."""
        if raw is None:
            return False
        try:
            order = opened_order(self.verifier, kind, self.party, raw)
        except OrderRefused as error:
            self.note(f"a message ({kind})", error)
            return False
        new, self._last[kind] = self._last.get(kind) != order.id, order.id
        return new

    def note(self, what: str, error: OrderRefused) -> None:
        """Tell the log of a refusal, once for as long as it is the same: whoever writes to Redis could fill the disk
        with it."""
        if (why := f"{what} was refused: {error}") != self._told:
            log.warning("%s", why)
        self._told = why
