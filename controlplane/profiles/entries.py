"""The structure of a profile: its sections, and what an entry of each may say."""

from __future__ import annotations

from typing import Any

from pydantic import Field, create_model, model_validator

from controlplane.models import RunOptions
from workers.contract.catalogue import Security
from workers.contract.documents import DatasetName, Document, PartyName


class PartyEntry(Document):
    description: str = ""
    address: str
    port_first: int
    port_last: int
    signing_keys: str = ""
    public_key: str = ""


class DatasetEntry(Document):
    description: str = ""
    columns: dict[str, str]
    key_columns: list[str] = Field(default_factory=list)


class ClusterEntry(Document):
    description: str = ""
    sf_init_config: dict[str, Any]


class SPUEntry(Document):
    description: str = ""
    spu_config: dict[str, Any] = Field(default_factory=dict)


class HEUEntry(Document):
    description: str = ""
    heu_config: dict[str, Any] = Field(default_factory=dict)


class DeviceEntry(Document):
    description: str = ""
    layer: str
    document: dict[str, Any] = Field(default_factory=dict)


class ComposedEntry(Document):
    description: str = ""
    cluster: str
    spu: str | None = None
    heu: str | None = None
    devices: dict[str, str] = Field(default_factory=dict)
    task_config: dict[str, Any]


_OPTIONS: dict[str, Any] = {option.name: (int, option.default) for option in RunOptions._meta.local_fields}
TaskEntry = create_model("TaskEntry", __base__=ComposedEntry, **_OPTIONS)


class PipelineEntry(Document):
    description: str = ""
    nodes: dict[str, Any]


class ScheduleEntry(Document):
    description: str = ""
    cron: str
    time_zone: str = "UTC"
    task: str | None = None
    pipeline: str | None = None
    enabled: bool = True

    @model_validator(mode="after")
    def check_target(self) -> ScheduleEntry:
        # checked here, since rows are written before the model's own checks
        if (self.task is None) == (self.pipeline is None):
            raise ValueError("runs nothing, or two things; name either a task or a pipeline")
        return self


class Profile(Document):
    """An environment, by section and name. The documents inside are checked by their own models."""

    environment: str | None = None
    security: Security | None = None
    parties: dict[PartyName, PartyEntry] = Field(default_factory=dict)
    datasets: dict[PartyName, dict[DatasetName, DatasetEntry]] = Field(default_factory=dict)
    clusters: dict[str, ClusterEntry] = Field(default_factory=dict)
    spus: dict[str, SPUEntry] = Field(default_factory=dict)
    heus: dict[str, HEUEntry] = Field(default_factory=dict)
    devices: dict[str, DeviceEntry] = Field(default_factory=dict)
    tasks: dict[str, TaskEntry] = Field(default_factory=dict)
    pipelines: dict[str, PipelineEntry] = Field(default_factory=dict)
    schedules: dict[str, ScheduleEntry] = Field(default_factory=dict)
