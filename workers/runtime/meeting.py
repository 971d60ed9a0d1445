"""The meeting of a run's parties, before anything is started."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from workers.contract.endpoints import endpoints
from workers.contract.secrets import masked
from workers.contract.validation import Run
from workers.host.party import PartyHost
from workers.network import rendezvous
from workers.network.listening import check_free

#: How long parties wait for each other where all are asked at the same moment, in seconds.
MEETING_SECONDS = 10.0


def check_ports(host: PartyHost, run: Run) -> None:
    """Raise ResourceError if something already listens where this party is to listen."""
    for _, party, address, listen in endpoints(run.cluster, run.devices):
        if party == host.name:
            check_free(listen or address)


def meet_peers(host: PartyHost, run: Run, documents: dict[str, Any], name: str, **options: Any) -> rendezvous.Met:
    """Return when every party of the run is here. ``name`` keeps meetings apart; the rest is ``rendezvous.meet``'s."""
    places = run.cluster.cluster
    mine = places[host.name]
    return rendezvous.meet(
        host.name,
        mine.listen_addr or mine.address,
        {p: a.address for p, a in places.items() if p != host.name},
        job_name=name,
        digest=_digest(documents),
        tls=host.tls_for(run.cluster),
        **options,
    )


def _digest(documents: dict[str, Any]) -> str:
    """Equal at all parties that were sent the same documents, but for what each is sent of its own."""
    cluster = {k: v for k, v in documents["sf_init_config"].items() if k != "self_party"}
    common = masked(documents)
    task = {k: v for k, v in common["task_config"].items() if k != "column_types"}
    text = json.dumps(common | {"sf_init_config": cluster, "task_config": task}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
