"""What is registered, by the sections and names of a profile."""

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

#: In the order in which one needs another.
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
#: A field that names an entry of another section.
REFERENCES = {"party": "parties", "cluster": "clusters", "spu": "spus", "heu": "heus"}
#: Section and name; of a dataset section, party and name.
Key = tuple[str, ...]


def stored_rows(*, lock: bool = False) -> Iterator[tuple[Key, Any]]:
    """Yield all that is registered."""
    for section, model in MODELS.items():
        related = [n for n in REFERENCES if n in {f.name for f in model._meta.fields}]
        rows: Any = model._default_manager.select_related(*related) if related else model._default_manager.all()
        rows = rows.select_for_update(of=("self",), no_key=True) if lock else rows
        for row in rows.order_by("pk"):
            yield (section, row.party.name, row.name) if section == "datasets" else (section, row.name), row


def is_written_by_hand(row: Any) -> bool:
    return not (isinstance(row, Dataset) and row.produced_by)


def values_of(section: str, row: Any) -> dict[str, Any]:
    """Return a row as an entry says it."""
    values = {}
    for name in ENTRIES[section].model_fields:
        value = getattr(row, "document" if name in layers() else name)
        values[name] = value.name if name in REFERENCES and value is not None else value
    return values


def document_key(entry: type[Document]) -> str:
    """Return the key under which an entry has its document: the layer's name where there is one such layer."""
    return next((name for name in entry.model_fields if name in layers()), "document")
