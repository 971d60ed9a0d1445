"""What to tell people of a compute process that ended without its own words."""

from __future__ import annotations

import signal

from workers.contract.events import FAILURE, SUCCESS
from workers.network.links import LINK_LOST
from workers.runtime.compute_process import ABANDONED, LINKS_STAY
from workers.runtime.limits import EXCEEDED
from workers.runtime.publisher import Publisher


def describe_exit(status: int) -> tuple[str, str]:
    """Return what to say of a process that ended with this exit status, which is negative after a signal.

    Returns the error's text and the contract's class.
    """
    if status == -signal.SIGKILL:
        return "the computing process was killed (signal 9: by hand, or by the kernel for want of memory)", (
            "ResourceError"
        )
    if status == -signal.SIGTERM:
        return "the computing process was told to end (signal 15), by hand or as its host shut down", "ResourceError"
    if status == -signal.SIGABRT:
        # Seen when a send to a dead peer fails inside PSI (docs/secretflow.md)
        return "the computing process aborted (signal 6): usually a peer went away", "NetworkError"
    if status < 0:
        return f"the computing process crashed (signal {-status})", "AlgorithmError"
    if status == LINK_LOST:
        return "the links to the other parties hung as they connected, in each of several processes", "NetworkError"
    if status in EXCEEDED:
        return f"stopped: the run took more than {EXCEEDED[status]} in this host's party.toml allows", "AlgorithmError"
    if status == ABANDONED:
        return "stopped: its worker was silent for too long, or Redis lost its job", "NetworkError"
    return f"the computing process ended by itself with exit status {status}", "NetworkError"


def publish_end(publisher: Publisher, status: int, stopped_because: tuple[str, str] | None) -> None:
    """Publish that a compute process ended with this status. ``stopped_because``: error and class, if it was ended."""
    if status == -LINKS_STAY and not stopped_because:  # it has said how its job ended
        publisher.publish(SUCCESS, "cleanup")
        return
    error, error_type = stopped_because or describe_exit(status)
    crashed = status < 0 and status not in (-signal.SIGKILL, -signal.SIGTERM)
    publisher.publish(FAILURE, "cleanup", error=error, error_type=error_type, crashed=crashed or None)
