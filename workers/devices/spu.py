"""The SPU (secure multi-party computation) layer."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, field_validator

from workers.devices.base import Device
from workers.documents import Document, PartyName, SFInitConfig, _host_port
from workers.problems import Problem

#: Protocol to (fewest, most) parties; measured, 3-facts.md section 2. CHEETAH with three is not refused
#: by SecretFlow but runs into the link time-out.
PROTOCOL_PARTIES: dict[str, tuple[int, int | None]] = {
    "SEMI2K": (2, None),
    "ABY3": (3, 3),
    "CHEETAH": (2, 2),
    "REF2K": (2, None),
    "SECURENN": (3, 3),
}


class SPUNode(Document):
    party: PartyName
    address: str = Field(description="host:port at which the other parties reach this party's SPU link.")
    listen_address: str | None = Field(default=None, description="host:port to listen on; the address if left out.")

    check_address = field_validator("address")(_host_port)

    @field_validator("listen_address")
    @classmethod
    def check_listen_address(cls, value: str | None) -> str | None:
        return value if value is None else _host_port(value)


class RuntimeConfig(Document):
    """SPU's RuntimeConfig; left-out values are SPU's own defaults."""

    protocol: Literal["SEMI2K", "ABY3", "CHEETAH", "REF2K", "SECURENN"] = Field(
        default="SEMI2K",
        description="SEMI2K: two or more parties. ABY3: exactly three. CHEETAH: exactly two. REF2K protects nothing.",
    )
    field: Literal["FM32", "FM64", "FM128"] = Field(
        default="FM128", description="Ring size. FM128 is precise; FM64 is faster; FM32 loses precision."
    )
    fxp_fraction_bits: int | None = Field(
        default=None, ge=1, le=63, description="Fraction bits of fixed-point numbers; chosen by the field if left out."
    )
    fxp_div_goldschmidt_iters: int | None = Field(default=None, ge=0, le=100)
    fxp_exp_mode: Literal["EXP_DEFAULT", "EXP_PADE", "EXP_TAYLOR", "EXP_PRIME"] | None = None
    fxp_exp_iters: int | None = Field(default=None, ge=0, le=100)
    fxp_log_mode: Literal["LOG_DEFAULT", "LOG_PADE", "LOG_NEWTON", "LOG_MINMAX"] | None = None
    fxp_log_iters: int | None = Field(default=None, ge=0, le=100)
    fxp_log_orders: int | None = Field(default=None, ge=0, le=100)
    sigmoid_mode: Literal["SIGMOID_DEFAULT", "SIGMOID_MM1", "SIGMOID_SEG3", "SIGMOID_REAL"] | None = None
    sine_cosine_iters: int | None = Field(default=None, ge=0, le=100)
    sort_method: Literal["SORT_DEFAULT", "SORT_RADIX", "SORT_QUICK", "SORT_NETWORK"] | None = None
    quick_sort_threshold: int | None = Field(default=None, ge=0)
    beaver_type: Literal["TrustedFirstParty", "MultiParty"] | None = None
    trunc_allow_msb_error: bool | None = None
    enable_lower_accuracy_rsqrt: bool | None = None
    share_max_chunk_size: int | None = Field(default=None, ge=1024, description="Bytes.")
    max_concurrency: int | None = Field(default=None, ge=0)


class LinkDesc(Document):
    """How the SPU link connects; times in milliseconds, sizes in bytes."""

    connect_retry_times: int | None = Field(default=None, ge=0, le=3600)
    connect_retry_interval_ms: int | None = Field(default=None, ge=1)
    recv_timeout_ms: int | None = Field(
        default=None, ge=1000, description="How long a receive waits for a slow peer; a day if left out."
    )
    http_max_payload_size: int | None = Field(default=None, ge=1024)
    http_timeout_ms: int | None = Field(default=None, ge=100)
    throttle_window_size: int | None = Field(default=None, ge=0)
    brpc_channel_protocol: str | None = None
    brpc_channel_connection_type: Literal["single", "pooled", "short"] | None = None


class SPUConfig(Document):
    """Layer 2: the SPU device."""

    enable_spu: bool = Field(default=True, description="Off: nothing of the SPU is imported or started.")
    nodes: list[SPUNode] = Field(
        default_factory=list, description="Filled in at dispatch: one node per party, with leased ports."
    )
    runtime_config: RuntimeConfig = Field(default_factory=RuntimeConfig)
    link_desc: LinkDesc = Field(default_factory=LinkDesc)


class SPU(Device):
    name = "spu"
    switch = "enable_spu"
    Document = SPUConfig
    ports = 1

    #: A slow peer is not a dead one: the control plane finds and stops the dead, not the link.
    RECEIVE_TIMEOUT_MS = 24 * 3600 * 1000

    @classmethod
    def check(cls, document: SPUConfig, cluster: SFInitConfig) -> Iterator[Problem]:
        parties = cluster.parties
        named = [node.party for node in document.nodes]
        if document.nodes and (len(set(named)) != len(named) or set(named) != set(parties)):
            yield Problem(
                "nodes", "are not the parties of sf_init_config, once each", f"should name {', '.join(parties)}"
            )
        protocol = document.runtime_config.protocol
        fewest, most = PROTOCOL_PARTIES[protocol]
        if not fewest <= len(parties) <= (most or len(parties)):
            suits = [p for p, (lo, hi) in PROTOCOL_PARTIES.items() if lo <= len(parties) <= (hi or len(parties))]
            need = f"exactly {fewest}" if most == fewest else f"{fewest} or more"
            yield Problem(
                "runtime_config.protocol",
                f"{protocol} needs {need} parties, the cluster has {len(parties)}",
                f"use {' or '.join(p for p in suits if p != 'REF2K')}",
            )

    @classmethod
    def listens(cls, document: SPUConfig, party: str) -> list[str]:
        return [node.listen_address or node.address for node in document.nodes if node.party == party]

    @classmethod
    def complete(cls, document: dict[str, Any], endpoints: dict[str, str]) -> dict[str, Any]:
        return document | {"nodes": [{"party": p, "address": a} for p, a in endpoints.items()]}

    def start(self, document: SPUConfig, cluster: SFInitConfig) -> None:
        import secretflow as sf
        from secretflow.distributed import primitive

        link = {"recv_timeout_ms": self.RECEIVE_TIMEOUT_MS, "connect_retry_times": 5}
        link |= document.link_desc.model_dump(exclude_none=True)
        rank = {p: i for i, p in enumerate(cluster.parties)}
        self.device = sf.SPU(
            {
                "nodes": [n.model_dump(exclude_none=True) for n in sorted(document.nodes, key=lambda n: rank[n.party])],
                "runtime_config": document.runtime_config.model_dump(exclude_none=True),
            },
            link_desc=link,
        )
        # The link comes up in a thread, at the first computation. Waiting for it here (deleting no
        # shares is a call that does nothing) makes a failure that of this stage, not of the algorithm.
        primitive.get([actor.del_share.remote([]) for actor in self.device.actors.values()])

    def stop(self) -> None:
        # SecretFlow frees the link's port only when the object is collected (3-facts.md, several tasks
        # in one process).
        self.device = None
        gc.collect()
