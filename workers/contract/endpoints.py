"""Where the parties of a run listen: checks that no two share an address, and that cleartext stays on one machine."""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from workers.contract.catalogue import Catalogue
from workers.contract.documents import SFInitConfig
from workers.contract.problems import Problem
from workers.contract.registry import DEVICE_REGISTRY

if TYPE_CHECKING:
    from workers.devices.base import Device

LOCAL = "localhost"
#: Key of the address that a device listens on, in an entry of its document, if it is not the one that peers use.
LISTEN_KEY = "listen_address"
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  compared with, not listened on


def check_ports(cluster: SFInitConfig, parsed: Mapping[str, Any]) -> Iterator[Problem]:
    """Check that each listener has its own address and port; paths begin with the layer."""
    taken: set[str] = set()
    listening: dict[str, list[tuple[str, int]]] = {}
    for path, party, address, listen in endpoints(cluster, parsed):
        host, port = split(listen or address)
        mine = listening.setdefault(party, [])
        if address in taken:
            yield Problem(path, f"{address} is used twice", "give each listener its own port")
        # Several parties may have the same one, such as 0.0.0.0, on their own hosts; one party may not
        elif any(port == p and (host == h or host in WILDCARDS or h in WILDCARDS) for h, p in mine):
            yield Problem(path, f"{party} would listen on port {port} twice", "give each listener its own port")
        taken.add(address)
        mine.append((host, port))


def filled_at_dispatch(cluster: SFInitConfig) -> Iterator[Problem]:
    """Yield the keys of the cluster that dispatch fills in and an operator leaves out; paths are within the layer."""
    for name in ("self_party", "cluster", "job_name"):
        if getattr(cluster, name):
            yield Problem(name, "is filled in at dispatch", "leave it out")


def filled_in(device: type[Device], document: Any) -> set[str]:
    """Return the keys of a device's document that dispatch fills in."""
    return {path.partition(".")[0] for path, *_ in device.endpoints(document)}


def check_left_out(cluster: SFInitConfig, parsed: Mapping[str, Any], catalogue: Catalogue) -> Iterator[Problem]:
    """Check that the documents leave out what dispatch fills in, if the parties' addresses are registered."""
    if all(catalogue.address(party) is None for party in cluster.parties):
        return
    for problem in filled_at_dispatch(cluster):
        yield problem.under("sf_init_config")
    for layer, device in DEVICE_REGISTRY.items():
        document = parsed.get(layer)
        if document is not None:
            for place in filled_in(device, document):
                yield Problem(f"{layer}.{place}", "is filled in at dispatch", "leave it out")
    task = parsed.get("task_config")
    if task is not None and task.column_types:
        yield Problem("task_config.column_types", "is filled in at dispatch", "leave it out")


def check_transport(cluster: SFInitConfig, parsed: Mapping[str, Any], catalogue: Catalogue) -> Iterator[Problem]:
    """Check that cleartext stays on one machine, going by the addresses that peers use and those that are listened on.
    Without addresses nothing is checked."""
    if cluster.uses_tls:
        return
    away = {
        party
        for _, party, address, listen in endpoints(cluster, parsed)
        if not all(is_loopback(split(place)[0]) for place in (address, listen or address))
    }
    away |= {p for p in cluster.parties if p not in cluster.cluster and not is_loopback(catalogue.address(p) or LOCAL)}
    if found := [party for party in cluster.parties if party in away]:
        yield Problem(
            "sf_init_config.tls_config",
            f"traffic would leave the machine in cleartext: {' and '.join(found)} "
            f"{'is' if len(found) == 1 else 'are'} not on the loopback interface",
            'set it to {"enabled": true}',
        )


def listening_on(
    host: str, party: str, documents: Mapping[str, Any], cluster: SFInitConfig, parsed: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the documents with everything that a party listens on at another host name or address than its peers use;
    ``parsed``: their typed form by layer."""
    local = copy.deepcopy(dict(documents))
    for path, who, address, _ in endpoints(cluster, parsed):
        if who == party:
            place: Any = local
            for step in path.split("."):
                place = place[int(step) if isinstance(place, list) else step]
            key = "listen_addr" if path.startswith("sf_init_config.") else LISTEN_KEY
            place[key] = f"{host}:{split(address)[1]}"
    return local


def split(endpoint: str) -> tuple[str, int]:
    """Return host, without brackets, and port of ``host:port``."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Return whether a host is ``localhost`` or an address of the loopback interface. Other names are not looked up."""
    if host.lower() == LOCAL:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def endpoints(cluster: SFInitConfig, parsed: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str | None]]:
    """Yield all listeners of the cluster and of the devices that are on: path in the documents, party, address, and the
    address it listens on if that differs. ``parsed``: typed documents by layer."""
    for party, place in cluster.cluster.items():
        yield f"sf_init_config.cluster.{party}", party, place.address, place.listen_addr
    for layer, device in DEVICE_REGISTRY.items():
        document = parsed.get(layer)
        if document is not None and getattr(document, device.switch):
            for path, party, address, listen in device.endpoints(document):
                yield f"{layer}.{path}", party, address, listen
