"""The SPU (secure multi-party computation) layer."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from workers.contract.checks import check_protocol
from workers.contract.documents import IN_NO_FORM, BrpcLinkOptions, Document, PartyName, SFInitConfig, host_port
from workers.contract.problems import Problem
from workers.devices.base import Device

#: Protocol to (fewest, most) parties, as measured. SecretFlow does not refuse CHEETAH with three parties, but runs into
#: the link's time-out.
PROTOCOLS: Mapping[str, tuple[int, int | None]] = {
    "SEMI2K": (2, None),
    "ABY3": (3, 3),
    "CHEETAH": (2, 2),
    "REF2K": (2, None),
    "SECURENN": (3, 3),
}

#: By field: the most fraction bits at which a product still has room for a whole digit. With more, results are 0.
MOST_FRACTION_BITS = {"FM32": 15, "FM64": 31, "FM128": 63}
#: Default fraction bits of each field.
FRACTION_BITS = {"FM32": 8, "FM64": 18, "FM128": 26}
#: Protocols without radix and quick sort: SPU would fall back to SORT_NETWORK.
SORT_NETWORK_ALONE = ("REF2K", "SECURENN")


class SPUNode(Document):
    party: PartyName = Field(description="Party of this node.")
    address: str = Field(description="host:port at which the other parties reach this party's SPU link.")
    listen_address: str | None = Field(default=None, description="host:port to listen on; the address if left out.")

    check_address = field_validator("address")(host_port)

    @field_validator("listen_address")
    @classmethod
    def check_listen_address(cls, value: str | None) -> str | None:
        return value if value is None else host_port(value)


class RuntimeConfig(Document):
    """SPU's RuntimeConfig; left-out values are SPU's own defaults."""

    protocol: Literal["SEMI2K", "ABY3", "CHEETAH", "REF2K", "SECURENN"] = Field(
        default="SEMI2K",
        description="SEMI2K: two or more parties. ABY3: exactly three. CHEETAH: exactly two. REF2K protects nothing.",
    )
    field: Literal["FM32", "FM64", "FM128"] = Field(
        default="FM128",
        description="Ring size. FM128 is precise; FM64 is faster; FM32 loses precision and cannot divide.",
    )
    fxp_fraction_bits: int | None = Field(
        default=None, ge=1, le=63, description="Fraction bits of fixed-point numbers; chosen by the field if left out."
    )
    fxp_div_goldschmidt_iters: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Iterations of a division; more are slower and more precise; 2 if left out.",
    )
    fxp_exp_mode: Literal["EXP_DEFAULT", "EXP_PADE", "EXP_TAYLOR"] | None = Field(
        default=None, description="How exponentials are approximated; EXP_TAYLOR if left out."
    )
    fxp_exp_iters: int | None = Field(
        default=None, ge=1, le=100, description="Iterations of EXP_TAYLOR; 8 if left out."
    )
    fxp_log_mode: Literal["LOG_DEFAULT", "LOG_PADE", "LOG_NEWTON", "LOG_MINMAX"] | None = Field(
        default=None, description="How logarithms are approximated; LOG_MINMAX if left out."
    )
    fxp_log_iters: int | None = Field(
        default=None, ge=1, le=100, description="Iterations of LOG_NEWTON; 3 if left out."
    )
    fxp_log_orders: int | None = Field(default=None, ge=1, le=100, description="Orders of LOG_NEWTON; 8 if left out.")
    sigmoid_mode: Literal["SIGMOID_DEFAULT", "SIGMOID_MM1", "SIGMOID_SEG3", "SIGMOID_REAL"] | None = Field(
        default=None,
        description="Only SIGMOID_REAL: this SPU ignores others. Task types have their own parameter for it.",
    )
    sine_cosine_iters: int | None = Field(
        default=None, ge=1, le=100, description="Not offered: this SPU ignores it.", json_schema_extra=IN_NO_FORM
    )
    sort_method: Literal["SORT_DEFAULT", "SORT_RADIX", "SORT_QUICK", "SORT_NETWORK"] | None = Field(
        default=None,
        description="How values are sorted; the best that the protocol offers if left out. "
        "REF2K and SECURENN have SORT_NETWORK.",
    )
    quick_sort_threshold: int | None = Field(
        default=None, ge=1, le=2**31 - 1, description="Threshold of SORT_QUICK; 32 if left out."
    )
    beaver_type: Literal["TrustedFirstParty", "TrustedThirdParty", "MultiParty"] | None = Field(
        default=None,
        description="SEMI2K only, and only TrustedFirstParty: the first party by name makes the random triples.",
    )
    trunc_allow_msb_error: bool | None = Field(
        default=None, description="SEMI2K only. true: truncation is faster, and rarely very wrong; false if left out."
    )
    enable_lower_accuracy_rsqrt: bool | None = Field(
        default=None, description="true: 1/sqrt(x) is faster and less precise; false if left out."
    )
    share_max_chunk_size: int | None = Field(
        default=None, ge=1024, le=2**31 - 1, description="Largest message of shares, in bytes; 128 MiB if left out."
    )
    max_concurrency: int | None = Field(
        default=None, ge=1, le=1024, description="Threads at each party; all processors if left out."
    )

    @property
    def fraction_bits(self) -> int:
        """Return the fraction bits of numbers: those in the document, otherwise the field's default."""
        return self.fxp_fraction_bits or FRACTION_BITS[self.field]

    @property
    def limit(self) -> float:
        """Return the limit below which numbers are computed correctly: a product needs room for twice the fraction
        bits, and a number without room wraps around silently."""
        return float(2.0 ** (int(self.field.removeprefix("FM")) - 1 - 2 * self.fraction_bits))


class LinkDesc(BrpcLinkOptions):
    """How the SPU link connects; times in milliseconds, sizes in bytes."""


class SPUConfig(Document):
    """Layer 2: the SPU device."""

    enable_spu: bool = Field(
        default=True, description="Whether the SPU is on. If off, nothing of it is imported or started."
    )
    nodes: list[SPUNode] = Field(
        default_factory=list,
        description="Filled in at dispatch: one node per party, with leased ports.",
        json_schema_extra=IN_NO_FORM,
    )
    runtime_config: RuntimeConfig = Field(
        default_factory=RuntimeConfig,
        description="How the parties compute. Set protocol and field; the rest is for experts.",
    )
    link_desc: LinkDesc = Field(
        default_factory=LinkDesc, description="How the SPU's link connects and sends. Leave it out on a good network."
    )


class SPU(Device):
    name = "spu"
    switch = "enable_spu"
    Document = SPUConfig
    ports = 1

    #: Defaults of the link. A slow peer is not dead: the control plane finds and stops dead ones, not the link's
    #: time-outs.
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
        yield from check_protocol(protocol, PROTOCOLS, parties, "runtime_config.protocol", but="REF2K")
        for problem in _check_runtime(document.runtime_config):
            yield problem.under("runtime_config")
        for problem in document.link_desc.check_channel():
            yield problem.under("link_desc")

    @classmethod
    def check_security(cls, document: SPUConfig) -> Iterator[Problem]:
        runtime = document.runtime_config
        if runtime.protocol == "REF2K":
            yield Problem("runtime_config.protocol", "REF2K protects nothing", "use SEMI2K, ABY3 or CHEETAH")
        if runtime.field == "FM32":
            yield Problem("runtime_config.field", "FM32 is too small a ring for real data", "use FM64 or FM128")

    @classmethod
    def endpoints(cls, document: SPUConfig) -> Iterator[tuple[str, str, str, str | None]]:
        for index, node in enumerate(document.nodes):
            yield f"nodes.{index}", node.party, node.address, node.listen_address

    @classmethod
    def complete(cls, document: dict[str, Any], endpoints: dict[str, str]) -> dict[str, Any]:
        return document | {"nodes": [{"party": p, "address": a} for p, a in endpoints.items()]}

    def links(self, document: SPUConfig, cluster: SFInitConfig) -> Iterator[tuple[Any, int]]:
        import spu
        from secretflow.device.device.spu import _fill_link_desc_attrs

        nodes = _nodes(document)
        described, rank = spu.link.Desc(), [node.party for node in nodes].index(cluster.self_party or "")
        for index, node in enumerate(nodes):
            described.add_party(node.party, (index == rank and node.listen_address) or node.address)
        _fill_link_desc_attrs(link_desc=self._link(document), tls_opts=None, desc=described)
        yield described, rank

    def start(self, document: SPUConfig, cluster: SFInitConfig) -> None:
        import secretflow as sf
        from secretflow.distributed import primitive

        self.device = sf.SPU(
            {
                "nodes": [node.model_dump(exclude_none=True) for node in _nodes(document)],
                "runtime_config": document.runtime_config.model_dump(exclude_none=True),
            },
            link_desc=self._link(document),
        )
        # The link comes up in a thread, at the first computation. Waiting for it here (deleting no
        # shares is a call that does nothing) makes a failure that of this stage, not of the algorithm.
        primitive.get([actor.del_share.remote([]) for actor in self.device.actors.values()])

    def _link(self, document: SPUConfig) -> dict[str, Any]:
        link: dict[str, Any] = {"recv_timeout_ms": self.RECEIVE_TIMEOUT_MS, "connect_retry_times": 5}
        return link | document.link_desc.model_dump(exclude_none=True)

    def stop(self) -> None:
        # SecretFlow frees the link's port only when the object is collected
        self.device = None
        gc.collect()


def _nodes(document: SPUConfig) -> list[SPUNode]:
    """Return the nodes in the order that makes their ranks: SecretFlow sorts them by party, whatever is given."""
    return sorted(document.nodes, key=lambda node: node.party)


def _check_runtime(runtime: RuntimeConfig) -> Iterator[Problem]:
    """Yield the settings that SPU ignores or cannot compute with. All were measured, with sums, sorts, logarithms and
    so on."""
    protocol, sort = runtime.protocol, runtime.sort_method or "SORT_DEFAULT"
    if protocol == "CHEETAH" and runtime.field == "FM32":
        yield Problem("field", "CHEETAH loses precision on FM32", "use FM64 or FM128")
    most = MOST_FRACTION_BITS[runtime.field]
    if (runtime.fxp_fraction_bits or 0) > most:
        yield Problem("fxp_fraction_bits", f"leaves products no room in {runtime.field}", f"use at most {most}")
    if runtime.fxp_exp_iters is not None and runtime.fxp_exp_mode == "EXP_PADE":
        yield Problem("fxp_exp_iters", "is for EXP_TAYLOR, EXP_PADE would ignore it", "remove it")
    for name in ("fxp_log_iters", "fxp_log_orders"):
        if getattr(runtime, name) is not None and runtime.fxp_log_mode != "LOG_NEWTON":
            yield Problem(
                name, "is for LOG_NEWTON and would be ignored", "remove it, or set fxp_log_mode to LOG_NEWTON"
            )
    if runtime.sigmoid_mode in ("SIGMOID_MM1", "SIGMOID_SEG3"):
        yield Problem("sigmoid_mode", "would be ignored by this SPU", "leave it out, or use SIGMOID_REAL")
    if runtime.sine_cosine_iters is not None:
        yield Problem("sine_cosine_iters", "would be ignored by this SPU", "leave it out")
    if protocol in SORT_NETWORK_ALONE and sort in ("SORT_RADIX", "SORT_QUICK"):
        yield Problem("sort_method", f"{protocol} cannot sort like that", "leave it out, or use SORT_NETWORK")
    if runtime.quick_sort_threshold is not None and sort != "SORT_QUICK":
        yield Problem("quick_sort_threshold", "is for SORT_QUICK and may be ignored", "set sort_method to SORT_QUICK")
    if runtime.beaver_type not in (None, "TrustedFirstParty"):
        yield Problem("beaver_type", "is not offered by any of these protocols", "leave it out")
    if runtime.beaver_type is not None and protocol != "SEMI2K":
        yield Problem("beaver_type", f"is for SEMI2K, {protocol} would ignore it", "remove it")
    if runtime.trunc_allow_msb_error is not None and protocol != "SEMI2K":
        yield Problem("trunc_allow_msb_error", f"is for SEMI2K, {protocol} would ignore it", "remove it")
