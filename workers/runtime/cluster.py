"""SecretFlow's cluster of one run at this party: from the meeting with its peers to the end of its links."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from workers.contract.validation import Run
from workers.devices.base import Device, stop_all
from workers.host.party import PartyHost
from workers.network.links import (
    GRPC_OPTIONS,
    begin_link,
    prepare_links,
    secure_links,
    start_links_at,
    take_no_more_calls,
)
from workers.network.listening import listen
from workers.runtime.compute_process import LINKS_STAY
from workers.runtime.meeting import meet_peers

log = logging.getLogger(__name__)


class Cluster:
    """What the parties of a run make together before they compute, and end when all are done."""

    #: How long links over TLS stay, once all parties are done, for answers that are on their way.
    SETTLE_SECONDS = 0.1
    #: How long links in cleartext may take to end, once all parties are done: it takes a hundredth of a second.
    END_SECONDS = 5.0

    def __init__(self, host: PartyHost, run: Run) -> None:
        self.host, self.run = host, run
        self.over_tls = run.cluster.uses_tls
        self._over_grpc = run.cluster.cross_silo_comm_backend == "grpc"
        #: What SecretFlow will make for the devices: descriptions, each with this party's rank.
        self._links: list[tuple[Any, int]] = []

    def meet(self, documents: dict[str, Any], devices: Iterable[tuple[Device, Any]], meeting: str) -> None:
        """Return once all parties of the meeting with this name are here. ``devices``: each with its document.

        Raises what :func:`workers.network.rendezvous.meet` raises.
        """
        cluster, own = self.run.cluster, self.run.cluster.cluster[self.host.name]
        prepare_links()
        self._links = [link for device, document in devices for link in device.links(document, cluster)]
        listening: dict[str, socket.socket] = {}
        if self.over_tls:
            # From before the meeting on: who refuses a peer that is a millisecond early is left alone by its brpc for a
            # tenth of a second. In cleartext brpc itself has to listen.
            brpc = [] if self._over_grpc else [own.listen_addr or own.address]
            listening = {place: listen(place) for place in (*brpc, *(link.parties[n].host for link, n in self._links))}
        listener = listening.get(own.listen_addr or own.address)
        line_up = not self.over_tls and not self._over_grpc
        met = meet_peers(self.host, self.run, documents, meeting, listener=listener, line_up=line_up)
        start_links_at(met.start)
        # The current directory is private, and stays for as long as the links
        secure_links(met.links_tls(Path.cwd()), met.certificates, listening)

    def connect(self, job_name: str) -> None:
        """Start SecretFlow, and begin the links of the devices. Raises RuntimeError."""
        import secretflow as sf

        cluster = self.run.cluster
        options = cluster.cross_silo_comm_options.model_dump(exclude_none=True)
        if self._over_grpc:
            options = GRPC_OPTIONS | options
        else:
            # A slow peer is not a dead one: the control plane finds and stops the dead (docs/secretflow.md)
            options = {"recv_timeout_ms": 24 * 3600 * 1000, "connect_retry_times": 5} | options
        if not self.over_tls:
            # Beside SecretFlow's own. Over TLS no link waits for the other side, and they are made one after the other:
            # two that a process began at the same moment were seen to hang
            for described, rank in self._links:
                begin_link(described, rank)
        # SecretFlow's objects submit work when they are deleted, and it tells what belongs to what by the number
        # of the submission: garbage that one party collects earlier than the other makes them wait for each other
        # for ever. So does a collection in the middle of a submission, for a lock that this holds. Hence garbage is
        # collected at points that all parties reach alike: at reports of progress, and at the end of the run.
        gc.disable()
        sf.init(
            address=None,
            ray_mode=False,
            cluster_config={
                # In one order at all parties: it makes the ranks
                "parties": {p: cluster.cluster[p].model_dump(exclude_none=True) for p in cluster.parties},
                "self_party": self.host.name,
            },
            cross_silo_comm_backend=cluster.cross_silo_comm_backend,
            cross_silo_comm_options=options,
            job_name=job_name,
            logging_level=cluster.logging_level,
        )
        # On any error fed sends SIGINT to its own process, whose handler exits before anything can be
        # reported; ignored, the error reaches the main thread as an exception instead.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def shut_down(self, devices: Iterable[Device]) -> None:
        """End the links in cleartext, and SecretFlow, once all parties are done. Raises what SecretFlow raises.

        brpc loses a call now and then as links end, too, and a party would wait for it for ever; with Python's lock, so
        that no thread of Python's could end it. The kernel does after END_SECONDS, by LINKS_STAY: all are done by then.
        """
        import secretflow as sf
        from secretflow.device.driver import barrier

        barrier()
        # In place of RQ's alarm for the run's limit, which has nothing left to limit
        signal.signal(LINKS_STAY, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self.END_SECONDS)
        try:
            stop_all(devices)
            sf.shutdown(barrier_on_shutdown=False)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        gc.enable()

    def leave(self) -> float:
        """Let the links of a run over TLS end with this process. Returns until when, by the monotonic clock, it stays.

        A link that is taken down may still owe a peer the answer to a last message, which comes a little later through
        a TLS door than without one; the peer would try again for ten seconds, and then end with an error.
        """
        from secretflow.device.driver import barrier

        with suppress(Exception):
            barrier()
        until = time.monotonic() + self.SETTLE_SECONDS
        take_no_more_calls()
        if self._over_grpc:  # gRPC takes calls until this process ends, and the run after this one may want it
            time.sleep(self.SETTLE_SECONDS)
        return until
