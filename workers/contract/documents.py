"""The documents that describe one run, as pydantic models.

These models are the one source of structure: validation on every side, admin forms, API schema.
A *template* is what an operator writes. At dispatch it is *completed* for each party with addresses,
ports and ``self_party``; both forms are the same model. Device layers live beside their devices, in
``workers.devices``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from workers.contract.problems import Problem

PARTY_NAME = r"^[a-z][a-z0-9_-]{0,31}$"
DATASET_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"

PartyName = Annotated[str, StringConstraints(pattern=PARTY_NAME)]
DatasetName = Annotated[str, StringConstraints(pattern=DATASET_NAME)]
#: Name that a task type gives to a further input or output, such as model.
Role = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
#: Longest name of a column, in characters.
COLUMN_NAME_LENGTH = 200
#: The format tells forms that the columns of a party's datasets can be selected.
ColumnName = Annotated[
    str, StringConstraints(min_length=1, max_length=COLUMN_NAME_LENGTH), Field(json_schema_extra={"format": "column"})
]


def column_problem(name: str, position: int) -> str:
    """Return why a column cannot be registered; empty if it can. ``position`` counts from 1.

    Party hosts check a table's heading by it, and the control plane what they report.
    """
    if not name:
        return f"column {position} has no name; name it, or leave it out (pandas: to_csv(index=False))"
    if len(name) > COLUMN_NAME_LENGTH:
        return f"the name of column {position} has {len(name):,} characters; shorten it to {COLUMN_NAME_LENGTH} at most"
    if not name.isprintable():
        return (
            f"the name of column {position}, {name!r}, holds a character that cannot be printed, such as a tab; "
            "rename the column"
        )
    return ""


def column_problems(names: Iterable[str]) -> list[str]:
    """Return the problems of those column names of a table that cannot be registered, in their order."""
    return [wrong for position, name in enumerate(names, 1) if (wrong := column_problem(name, position))]


#: Marks a field that forms leave out: dispatch fills it in, or a value for it is refused.
IN_NO_FORM: dict[str, Any] = {"x-form": False}


def host_port(value: str) -> str:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})", value)
    if not match or not 0 < int(match[2]) < 65536:
        raise ValueError("should be host:port with a port from 1 to 65535")
    return value


class Document(BaseModel):
    """Base of every document and every part of one: no unknown keys, no text where a number belongs."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PartyAddress(Document):
    address: str = Field(description="host:port at which the other parties reach this party.")
    listen_addr: str | None = Field(default=None, description="host:port to listen on; the address if left out.")

    check_address = field_validator("address")(host_port)

    @field_validator("listen_addr")
    @classmethod
    def check_listen_addr(cls, value: str | None) -> str | None:
        return value if value is None else host_port(value)


class BrpcLinkOptions(Document):
    """How a link of brpc's connects and sends; times in milliseconds, sizes in bytes."""

    #: Largest value of these options: brpc keeps them in 32 bits.
    LIMIT: ClassVar[int] = 2**31 - 1

    connect_retry_times: int | None = Field(
        default=None, ge=1, le=3600, description="Attempts to connect, each of ten seconds; 5 if left out."
    )
    connect_retry_interval_ms: int | None = Field(
        default=None,
        ge=1,
        le=LIMIT,
        description="Pause between two attempts, in milliseconds; a second if left out.",
    )
    recv_timeout_ms: int | None = Field(
        default=None,
        ge=1000,
        le=LIMIT,
        description="How long a receive waits for a slow peer, in milliseconds; a day if left out.",
    )
    http_max_payload_size: int | None = Field(
        default=None,
        ge=8192,
        le=LIMIT,
        description="A larger message is sent in pieces of this many bytes; 1 MiB if left out.",
    )
    http_timeout_ms: int | None = Field(
        default=None, ge=100, le=LIMIT, description="Time limit of one send, in milliseconds."
    )
    throttle_window_size: int | None = Field(
        default=None, ge=0, le=LIMIT, description="Messages under way at once, 0 for any number; 10 if left out."
    )
    brpc_channel_protocol: Literal["baidu_std", "http", "h2", "h2:grpc"] | None = Field(
        default=None, description="Protocol on the wire; baidu_std if left out."
    )
    brpc_channel_connection_type: Literal["single", "pooled", "short"] | None = Field(
        default=None, description="single if left out. http takes pooled or short, h2 and h2:grpc take single."
    )

    def check_channel(self) -> Iterator[Problem]:
        """Check that protocol and connection type go together: otherwise brpc makes no channel (measured)."""
        protocol, connection = self.brpc_channel_protocol, self.brpc_channel_connection_type or "single"
        if protocol == "http" and connection == "single":
            yield Problem("brpc_channel_connection_type", "http has no single connections", "use pooled or short")
        if protocol in ("h2", "h2:grpc") and connection != "single":
            yield Problem("brpc_channel_connection_type", f"{protocol} takes single connections alone", "use single")


class CommunicationOptions(BrpcLinkOptions):
    """SecretFlow's ``cross_silo_comm_options``; times in milliseconds, sizes in bytes."""

    messages_max_size_in_bytes: int | None = Field(
        default=None, ge=1024, le=2**31 - 1, description="grpc only: largest message, in bytes; 500 MiB if left out."
    )
    timeout_in_ms: int | None = Field(
        default=None,
        ge=100,
        le=2**31 - 1,
        description="Time limit of one send, in milliseconds; a minute if left out.",
    )

    def check(self, backend: str) -> Iterator[Problem]:
        """Yield options that the backend would ignore, or that it fails with; paths are within the options."""
        brpc = BrpcLinkOptions.model_fields
        for name in sorted(name for name, value in self if value is not None):
            owner = "brpc_link" if name in brpc else "grpc" if name == "messages_max_size_in_bytes" else backend
            if owner != backend:
                yield Problem(name, f"belongs to {owner}, {backend} would ignore it", f"remove it, or use {owner}")
        if backend == "brpc_link":
            if self.timeout_in_ms is not None and self.http_timeout_ms is not None:
                yield Problem("timeout_in_ms", "is the same as http_timeout_ms", "give one of the two")
            yield from self.check_channel()


class TLSConfig(Document):
    """TLS between the parties. It holds no paths: each party has its own in its party.toml."""

    enabled: bool = Field(
        default=True,
        description="Mutual TLS on every link between the parties, with the certificates in each party's party.toml.",
    )


class SFInitConfig(Document):
    """Layer 1: the cluster. Who takes part, where they listen, how they talk."""

    parties: list[PartyName] = Field(
        min_length=2,
        max_length=32,
        description="The parties, in order; the first keeps the HEU's key unless its document says who.",
    )
    self_party: PartyName | None = Field(
        default=None, description="Filled in for each party at dispatch.", json_schema_extra=IN_NO_FORM
    )
    cluster: dict[PartyName, PartyAddress] = Field(
        default_factory=dict,
        description="Each party's address; filled in with leased ports at dispatch.",
        json_schema_extra=IN_NO_FORM,
    )
    mode: Literal["production", "debug"] = Field(
        default="production",
        description="production: one process per party, over the network. debug is not offered yet.",
        json_schema_extra=IN_NO_FORM,
    )
    cross_silo_comm_backend: Literal["brpc_link", "grpc"] = Field(
        default="brpc_link", description="Transport between the parties' Python sides."
    )
    cross_silo_comm_options: CommunicationOptions = Field(
        default_factory=CommunicationOptions,
        description="Options of the transport. grpc takes only messages_max_size_in_bytes and timeout_in_ms.",
    )
    tls_config: TLSConfig | None = Field(default=None, description="TLS between the parties; cleartext if left out.")
    job_name: str | None = Field(
        default=None,
        max_length=100,
        description="The execution's id and attempt; filled in at dispatch.",
        json_schema_extra=IN_NO_FORM,
    )
    logging_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        default="warning", description="SecretFlow's log level on the party hosts."
    )
    address: str | None = Field(
        default=None, description="A Ray cluster inside the party: not offered yet.", json_schema_extra=IN_NO_FORM
    )

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
    further_sources: dict[Role, dict[PartyName, DatasetName]] = Field(
        default_factory=dict,
        description="Further inputs, such as a model: for each role of the task type, each party's name of it.",
    )
    outputs: dict[PartyName, DatasetName] = Field(
        default_factory=dict, description="For each party that keeps a result, the name to keep it under."
    )
    further_outputs: dict[Role, dict[PartyName, DatasetName]] = Field(
        default_factory=dict,
        description="Further outputs, such as a model: for each role of the task type, each party's name for it.",
    )
    algorithm_params: dict[str, Any] = Field(
        description="The task type's own parameters, under the key of the task type."
    )
    column_types: dict[DatasetName, dict[ColumnName, Literal["str", "int", "float", "bool"]]] = Field(
        default_factory=dict,
        description="The registered types of the columns of each table that this party reads, filled in at dispatch. "
        "A type in the party's own party.toml takes precedence.",
        json_schema_extra=IN_NO_FORM,
    )
    keep_devices_seconds: int | None = Field(
        default=None,
        ge=1,
        le=3600,
        description="How long the devices stay up after the task, for the next one of the same parties with equal "
        "cluster and devices that has this too: it then starts without building them. Off if left out.",
    )

    def reads(self) -> Iterator[tuple[str, PartyName, DatasetName]]:
        """Yield all that the task reads: path within the document, party, name."""
        yield from _named("data_sources", self.data_sources)
        for role, named in self.further_sources.items():
            yield from _named(f"further_sources.{role}", named)

    def keeps(self) -> Iterator[tuple[str, PartyName, DatasetName]]:
        """Yield all that the task keeps: path within the document, party, name."""
        yield from _named("outputs", self.outputs)
        for role, named in self.further_outputs.items():
            yield from _named(f"further_outputs.{role}", named)


def _named(path: str, names: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    return ((f"{path}.{party}", party, name) for party, name in names.items())
