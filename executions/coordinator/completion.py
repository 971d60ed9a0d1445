"""Completes the submitted documents for each party: with addresses, ports and the party's own name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.documents.encryption import sealed_for
from controlplane.models import Dataset, Party
from workers.contract.catalogue import TABLE
from workers.contract.documents import TaskConfig
from workers.contract.registry import DEVICE_REGISTRY

#: Column types by party, table and column.
Types = Mapping[str, Mapping[str, Mapping[str, str]]]


def enabled_devices(documents: Mapping[str, Any]) -> list[str]:
    """Return the layers of the devices that are on, in the order in which they start."""
    return [
        layer
        for layer in DEVICE_REGISTRY
        if layer in documents and documents[layer].get(DEVICE_REGISTRY[layer].switch, True)
    ]


def ports_needed(documents: Mapping[str, Any]) -> int:
    """Return how many ports each party needs: one for the cluster, and those of the devices."""
    return 1 + sum(DEVICE_REGISTRY[layer].ports for layer in enabled_devices(documents))


def registered_types(documents: Mapping[str, Any]) -> Types:
    """Return the registered column types of all tables that valid documents read. Takes one query."""
    wanted = {(party, name) for _, party, name in TaskConfig.model_validate(documents["task_config"]).reads()}
    found: dict[str, dict[str, dict[str, str]]] = {}
    tables = Dataset.objects.filter(
        party__name__in={party for party, _ in wanted}, name__in={name for _, name in wanted}, kind=TABLE
    )
    for party, name, columns in tables.values_list("party__name", "name", "columns"):
        if (party, name) in wanted:
            found.setdefault(party, {})[name] = columns
    return found


def completed_for(
    party: Party, documents: Mapping[str, Any], job_name: str, endpoints: Mapping[str, list[str]], types: Types
) -> dict[str, Any]:
    """Return a party's documents as they go into Redis: its secrets sealed, those of others left out. Raises
    ConfigError if a secret can no longer be decrypted.
    """
    sent = complete(documents, party.name, job_name, endpoints, types)
    return sealed_for(party.name, party.public_key, sent, list(endpoints), job_name)


def complete(
    documents: Mapping[str, Any],
    party: str,
    job_name: str,
    endpoints: Mapping[str, list[str]],
    types: Types,
) -> dict[str, Any]:
    """Return the documents as ``party`` receives them: with every address and leased port, its own name and the job's
    name.

    ``endpoints``: each party's ``host:port``, as many as ``ports_needed`` says, in the cluster's order. ``types``: see
    ``registered_types``; a party is sent those of its own tables.
    """
    remaining = {p: list(found) for p, found in endpoints.items()}
    completed = dict(documents)
    completed["sf_init_config"] = dict(documents["sf_init_config"]) | {
        "cluster": {p: {"address": found.pop(0)} for p, found in remaining.items()},
        "self_party": party,
        "job_name": job_name,
    }
    if mine := types.get(party):
        completed["task_config"] = dict(documents["task_config"]) | {"column_types": mine}
    for layer in enabled_devices(documents):
        device = DEVICE_REGISTRY[layer]
        if device.ports:
            completed[layer] = device.complete(dict(documents[layer]), {p: f.pop(0) for p, f in remaining.items()})
    return completed
