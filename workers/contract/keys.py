"""The keys in Redis that control plane and party hosts share, beside those of RQ."""

from __future__ import annotations


def stream_of(party: str) -> str:
    """Return the Redis key of a party's event stream."""
    return f"events:{party}"


def requests_of(party: str) -> str:
    """Return the Redis key of the list of requests to a party."""
    return f"preflight:{party}"


def wanted(preflight: str) -> str:
    """Return the Redis key that is there, for WANTED_SECONDS, as long as somebody waits for these checks."""
    return f"preflight:wanted:{preflight}"


def answers_to(party: str, publication: str) -> str:
    """Return the Redis key of the list of answers to one publication: a key of this party's, which no other reads."""
    return f"datasets:{party}:{publication}"


def ports_wanted(party: str) -> str:
    """Return the Redis key that is there, for a few seconds, when a run lacks ports that a party's sessions hold."""
    return f"sessions:ports-wanted:{party}"
