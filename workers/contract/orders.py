"""Orders: what the control plane asks of one party, signed, for a time, and once.

A job, a request for pre-flight checks and the wish for a session's ports each carry one. A worker looks at nothing
else of a message before the order has held.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.contract.signing import SignatureRefused, Signer, Verifier

JOB, PREFLIGHT, PORTS_WANTED = "job", "preflight", "ports wanted"
#: How long an order may be taken, in seconds, and how far a host's clock may be behind the control plane's. Orders are
#: taken within seconds: this is for clocks that are wrong, since a party would otherwise stand still because of one.
LASTS = 2 * 3600
#: The longest order, in bytes: of a job it holds digests alone, of a request documents.
MOST_BYTES = 32 * 2**20


class OrderRefused(Exception):
    """A party does not do what it is asked; the text says why, and may leave the host."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order whose signature holds."""

    kind: str
    party: str
    #: Names it among all orders of its kind: a party follows each once.
    id: str
    #: In seconds since the epoch, by the control plane's clock.
    issued: int
    content: dict[str, Any]

    @property
    def expires(self) -> int:
        return self.issued + LASTS


def signed_order(signer: Signer, kind: str, party: str, order_id: str, content: Mapping[str, Any]) -> str:
    """Return an order as text."""
    body = {"kind": kind, "party": party, "id": order_id, "issued": int(time.time()), "content": content}
    text = json.dumps(body, separators=(",", ":"))
    return f"{signer.sign(kind, text.encode())} {text}"


def _parsed(said: Any) -> Order:
    """Return the order; raises ValueError, TypeError or KeyError for what has not its form."""
    order = Order(said["kind"], said["party"], said["id"], said["issued"], said["content"])
    words = (order.kind, order.party, order.id)
    if type(order.issued) is not int or not isinstance(order.content, dict) or not all(type(w) is str for w in words):
        raise TypeError
    return order


def opened_order(verifier: Verifier, kind: str, party: str, raw: bytes | None) -> Order:
    """Return the order in a text that anybody may have written. Raises OrderRefused unless it is signed by one of the
    keys, of this kind, for this party, and of this time."""
    if not raw:
        raise OrderRefused("it has no order of the control plane")
    if len(raw) > MOST_BYTES:
        raise OrderRefused(f"its order is longer than {MOST_BYTES:,} bytes")
    signature, _, text = raw.partition(b" ")
    try:
        verifier.check(kind, text, signature)
    except SignatureRefused as error:
        raise OrderRefused(str(error)) from None
    # From here on the control plane wrote it, which may be a hostile one
    try:
        order = _parsed(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise OrderRefused("its order is not of the form that orders have") from None
    if order.kind != kind:
        raise OrderRefused(f"it is an order for something else ({order.kind})")
    if order.party != party:
        raise OrderRefused(f"it is an order to {order.party}, and this host is {party}")
    behind = time.time() - order.issued
    if abs(behind) > LASTS:
        when = "has expired: it was" if behind > 0 else "is from the future:"
        raise OrderRefused(
            f"it {when} issued {abs(behind) / 3600:.1f} hours {'ago' if behind > 0 else 'ahead'} by this host's clock; "
            "if that is wrong, set the clocks of this host and of the control plane"
        )
    return order
