"""A session that outlives its run: SecretFlow's links and the devices stay up for the next run that they suit.

It lives in a process of its own, which waits for that run; :mod:`workers.runtime.keeper` says how the parties agree
on it.
"""

from __future__ import annotations

import gc
import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.contract.endpoints import filled_in, split
from workers.contract.registry import DEVICE_REGISTRY
from workers.contract.validation import Run
from workers.devices.base import Device
from workers.host.party import PartyHost

#: Each run leaves half a megabyte behind, measured, or more: after so many the session ends.
MOST_RUNS = 100


@dataclass(slots=True)
class LiveSession:
    """What is up in this process after a run that went well."""

    #: See :func:`key_of`.
    key: str
    #: Of the devices as they were started.
    settings: dict[str, Any]
    #: Job names of the run that built it and of the last one: equal at all parties that have the same session.
    built_by: str
    last_run: str
    #: How long it may wait for the next run.
    idle_seconds: int
    #: Live devices, by name.
    devices: dict[str, Device] = field(default_factory=dict)
    runs: int = 1

    def as_message(self) -> dict[str, Any]:
        """Return a message for the worker process."""
        return {"key": self.key, "last_run": self.last_run, "idle_seconds": self.idle_seconds}


def key_of(host: PartyHost, run: Run) -> str:
    """Return a digest of all that a session at this party rests on: equal for runs that may share one.

    The cluster and the devices, but for ports and the run's own name, what the task needs of them, and this host's
    policy and TLS files as they are now. Raises OSError.
    """
    cluster = run.cluster.model_dump(mode="json", exclude={"cluster", "job_name"})
    cluster["hosts"] = {party: split(place.address)[0] for party, place in run.cluster.cluster.items()}
    needs = run.executor.shapes_devices(run.executor.parse_params(run.task.algorithm_params))
    tls = host.tls if run.cluster.uses_tls else None
    files = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (tls.files if tls else ())]
    rests_on = [cluster, settings_of(run.devices), needs, host.policy.model_dump(mode="json"), host.listen_host, files]
    return hashlib.sha256(json.dumps(rests_on, sort_keys=True).encode()).hexdigest()


def settings_of(devices: Mapping[str, Any]) -> dict[str, Any]:
    """Return the devices' documents, by layer, but for their ports."""
    return {
        layer: document.model_dump(mode="json", exclude=filled_in(DEVICE_REGISTRY[layer], document))
        for layer, document in devices.items()
    }


def settle_down() -> bool:
    """Return, after a run, whether the session can be kept. Nothing of the run is left here, and its peers have got
    all of it.

    That may take as long as the run: a party that ended its session meanwhile, by itself, would cut off a peer that is
    still fetching its result, or, in SecretFlow's shutdown, wait for peers that keep theirs. Returns False if something
    could not be sent.
    """
    from secretflow.distributed.fed.global_context import get_global_context

    # SecretFlow's objects submit work when they are deleted: here, and not in the middle of the next run
    gc.collect()
    sent = threading.Event()

    def all_sent() -> bool:
        sent.set()
        return True

    # Sends are looked after one by one, in order, by a thread that ends after one that failed
    context = get_global_context()
    context._clean_queue.put(all_sent)
    while not sent.wait(0.2):
        if not context._clean_thread.is_alive():
            return False
    return True
