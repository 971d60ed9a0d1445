"""Reads what is registered, by the sections and names of a profile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from controlplane.models import (
    ClusterConfig,
    Dataset,
    DeviceConfig,
    HEUConfig,
    Party,
    Pipeline,
    Schedule,
    SPUConfig,
    Task,
)
from controlplane.profiles.entries import (
    ClusterEntry,
    DatasetEntry,
    DeviceEntry,
    HEUEntry,
    PartyEntry,
    PipelineEntry,
    ScheduleEntry,
    SPUEntry,
    TaskEntry,
)
from workers.contract.documents import Document
from workers.contract.layers import layers

#: Sections in an order in which each needs only those before it.
MODELS: dict[str, Any] = {
    "parties": Party,
    "datasets": Dataset,
    "clusters": ClusterConfig,
    "spus": SPUConfig,
    "heus": HEUConfig,
    "devices": DeviceConfig,
    "tasks": Task,
    "pipelines": Pipeline,
    "schedules": Schedule,
}
ENTRIES: dict[str, type[Document]] = {
    "parties": PartyEntry,
    "datasets": DatasetEntry,
    "clusters": ClusterEntry,
    "spus": SPUEntry,
    "heus": HEUEntry,
    "devices": DeviceEntry,
    "tasks": TaskEntry,
    "pipelines": PipelineEntry,
    "schedules": ScheduleEntry,
}
#: By field: the section whose entries it names.
REFERENCES = {"party": "parties", "cluster": "clusters", "spu": "spus", "heu": "heus"}
#: Section and name; for a dataset: section, party and name.
Key = tuple[str, ...]


def stored_rows(*, lock: bool = False) -> Iterator[tuple[Key, Any]]:
    """Yield every registered row with its section and name."""
    for section, model in MODELS.items():
        related = [n for n in REFERENCES if n in {f.name for f in model._meta.fields}]
        rows: Any = model._default_manager.select_related(*related) if related else model._default_manager.all()
        rows = rows.select_for_update(of=("self",), no_key=True) if lock else rows
        for row in rows.order_by("pk"):
            yield (section, row.party.name, row.name) if section == "datasets" else (section, row.name), row


def is_written_by_hand(row: Any) -> bool:
    return not (isinstance(row, Dataset) and row.produced_by)


def values_of(section: str, row: Any) -> dict[str, Any]:
    """Return a row's values as they stand in an entry."""
    values = {}
    for name in ENTRIES[section].model_fields:
        value = getattr(row, "document" if name in layers() else name)
        values[name] = value.name if name in REFERENCES and value is not None else value
    return values


def document_key(entry: type[Document]) -> str:
    """Return the key under which an entry has its document: the layer's name, if the section has a single layer."""
    return next((name for name in entry.model_fields if name in layers()), "document")
