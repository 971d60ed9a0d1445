"""The documents that describe one run, as pydantic models (1-contract.md section 1).

These models are the one source of structure: validation on every side, admin forms, API schema.
A *template* is what an operator writes. At dispatch it is *completed* for each party with addresses,
ports and ``self_party``; both forms are the same model. Device layers live beside their devices, in
``workers.devices``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

PARTY_NAME = r"^[a-z][a-z0-9_-]{0,31}$"
DATASET_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"

PartyName = Annotated[str, StringConstraints(pattern=PARTY_NAME)]
DatasetName = Annotated[str, StringConstraints(pattern=DATASET_NAME)]
#: The format tells forms that the columns of a party's datasets are at choice.
ColumnName = Annotated[
    str, StringConstraints(min_length=1, max_length=200), Field(json_schema_extra={"format": "column"})
]


def _host_port(value: str) -> str:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})", value)
    if not match or not 0 < int(match[2]) < 65536:
        raise ValueError("should be host:port with a port from 1 to 65535")
    return value


class Document(BaseModel):
    """Base of every document and every part of one: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PartyAddress(Document):
    address: str = Field(description="host:port at which the other parties reach this party.")
    listen_addr: str | None = Field(default=None, description="host:port to listen on; the address if left out.")

    check_address = field_validator("address")(_host_port)

    @field_validator("listen_addr")
    @classmethod
    def check_listen_addr(cls, value: str | None) -> str | None:
        return value if value is None else _host_port(value)


class CommunicationOptions(Document):
    """SecretFlow's ``cross_silo_comm_options``; times in milliseconds, sizes in bytes."""

    messages_max_size_in_bytes: int | None = Field(
        default=None, ge=1024, lt=2**31, description="Largest message between parties, in bytes."
    )
    timeout_in_ms: int | None = Field(default=None, ge=100, description="Time limit of one send, in milliseconds.")
    connect_retry_times: int | None = Field(default=None, ge=0, le=3600, description="brpc_link only.")
    connect_retry_interval_ms: int | None = Field(default=None, ge=1, description="brpc_link only.")
    recv_timeout_ms: int | None = Field(
        default=None, ge=1000, description="brpc_link only: how long a receive waits for a slow peer, in milliseconds."
    )
    http_max_payload_size: int | None = Field(default=None, ge=1024, description="brpc_link only, bytes.")
    http_timeout_ms: int | None = Field(default=None, ge=100, description="brpc_link only, milliseconds.")
    throttle_window_size: int | None = Field(default=None, ge=0, description="brpc_link only.")
    brpc_channel_protocol: str | None = Field(default=None, description="brpc_link only, such as baidu_std or http.")
    brpc_channel_connection_type: Literal["single", "pooled", "short"] | None = Field(
        default=None, description="brpc_link only."
    )


class TLSConfig(Document):
    """TLS between the parties. Holds no paths: those are each party's own, in its party.toml."""

    enabled: bool = Field(
        default=True,
        description="Mutual TLS on every link between the parties, with the certificates of each one's own party.toml.",
    )


class SFInitConfig(Document):
    """Layer 1: the cluster. Who takes part, where they listen, how they talk."""

    parties: list[PartyName] = Field(min_length=2, description="The parties, in order; the first keeps the HEU's key if nothing else is said.")
    self_party: PartyName | None = Field(default=None, description="Filled in for each party at dispatch.")
    cluster: dict[PartyName, PartyAddress] = Field(
        default_factory=dict, description="Each party's address; filled in with leased ports at dispatch."
    )
    mode: Literal["production", "debug"] = Field(
        default="production", description="production: one process per party, over the network."
    )
    cross_silo_comm_backend: Literal["brpc_link", "grpc"] = Field(
        default="brpc_link", description="Transport between the parties' Python sides."
    )
    cross_silo_comm_options: CommunicationOptions = Field(default_factory=CommunicationOptions)
    tls_config: TLSConfig | None = Field(default=None, description="TLS between the parties; cleartext if left out.")
    job_name: str | None = Field(
        default=None, max_length=100, description="The execution's id and attempt; filled in at dispatch."
    )
    logging_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        default="warning", description="SecretFlow's log level on the party hosts."
    )
    address: str | None = Field(default=None, description="A Ray cluster inside the party: not offered yet.")

    @property
    def uses_tls(self) -> bool:
        return self.tls_config is not None and self.tls_config.enabled

    @field_validator("parties")
    @classmethod
    def check_unique(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError("names a party twice; each party takes part once")
        return value


class TaskConfig(Document):
    """Layer 4: the task. ``algorithm_params`` holds one key, which the task type chooses."""

    task_type: str = Field(min_length=1, max_length=64, description="One of the registered task types, such as psi.")
    domain: str = Field(default="", max_length=100, description="Free label, such as marketing.")
    data_sources: dict[PartyName, DatasetName] = Field(
        min_length=1, description="For each party the name of a dataset registered on its own host."
    )
    outputs: dict[PartyName, DatasetName] = Field(
        default_factory=dict, description="For each party that keeps a result, the name to keep it under."
    )
    algorithm_params: dict[str, Any] = Field(description="The task type's own parameters, under its one key.")
