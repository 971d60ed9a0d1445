"""A third device layer as another package would add it, and a task type that needs it. For tests only.

No accelerator and no trusted hardware can be had where the tests run, so this device is honest software: a stand-in
for a hardware security module that keys a pseudonym (HMAC-SHA-256) with a secret from its document. What is tested
is the way there: one document model and one registry entry give the form, the checks, the API, leased ports, sealed
secrets, bring-up at every party, stages and events.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from workers.contract.catalogue import Catalogue
from workers.contract.checks import check_column, check_parties
from workers.contract.documents import IN_NO_FORM, ColumnName, Document, PartyName, SFInitConfig, TaskConfig
from workers.contract.endpoints import split
from workers.contract.problems import Problem
from workers.contract.secrets import Secret
from workers.devices.base import Device
from workers.executors.base import BaseTaskExecutor


class HSMEndpoint(Document):
    party: PartyName = Field(description="Whose endpoint it is.")
    address: str = Field(description="host:port that the others use.")
    listen_address: str | None = Field(default=None, description="host:port to listen on; the address if left out.")


class HSMConfig(Document):
    """The layer's document."""

    enable_hsm: bool = Field(default=True, description="Off: nothing of the HSM is imported or started.")
    digest: Literal["sha256", "sha512"] = Field(default="sha256", description="Hash function of the pseudonyms.")
    length: int = Field(default=16, ge=8, le=64, description="Characters of a pseudonym.")
    token: Secret = Field(description="Key that all parties use.")
    pins: dict[PartyName, Secret] = Field(default_factory=dict, description="Each party's own PIN, for it alone.")
    endpoints: list[HSMEndpoint] = Field(
        default_factory=list, description="Filled in at dispatch.", json_schema_extra=IN_NO_FORM
    )


class HSM(Device):
    name = "hsm"
    switch = "enable_hsm"
    Document = HSMConfig
    ports = 1

    @classmethod
    def check(cls, document: HSMConfig, cluster: SFInitConfig) -> Iterator[Problem]:
        yield from check_parties(document.pins, cluster, "pins")

    @classmethod
    def endpoints(cls, document: HSMConfig) -> Iterator[tuple[str, str, str, str | None]]:
        for index, endpoint in enumerate(document.endpoints):
            yield f"endpoints.{index}", endpoint.party, endpoint.address, endpoint.listen_address

    @classmethod
    def complete(cls, document: dict[str, Any], endpoints: dict[str, str]) -> dict[str, Any]:
        return document | {"endpoints": [{"party": p, "address": a} for p, a in endpoints.items()]}

    def start(self, document: HSMConfig, cluster: SFInitConfig) -> None:
        assert cluster.self_party
        if document.pins and document.pins[cluster.self_party] != f"pin of {cluster.self_party}":
            raise ValueError("the PIN that arrived is not the one that was registered")
        [address] = [e.listen_address or e.address for e in document.endpoints if e.party == cluster.self_party]
        from hsm_engine import LiveHSM

        self.device = LiveHSM(document, socket.create_server(split(address)))

    def stop(self) -> None:
        if self.device:
            self.device.listener.close()
        self.device = None


class PseudonymiseParams(Document):
    """Parameters of a pseudonymisation."""

    columns: dict[PartyName, ColumnName] = Field(description="For each party the column to replace.")


class PseudonymiseExecutor(BaseTaskExecutor):
    """Each party learns how many of its keys others have, by pseudonyms alone."""

    title = "Pseudonyms by HSM"
    params_key = "pseudonymise_params"
    Params = PseudonymiseParams
    devices: ClassVar[tuple[str, ...]] = ("hsm",)

    @classmethod
    def check(
        cls, params: PseudonymiseParams, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue
    ) -> Iterator[Problem]:
        base = f"algorithm_params.{cls.params_key}.columns"
        yield from check_parties(params.columns, cluster, base)
        for party in cluster.parties:
            if party not in params.columns:
                yield Problem(f"{base}.{party}", "is required", f"name a column of {party}")
            else:
                yield from check_column(catalogue, task, party, params.columns[party], f"{base}.{party}")

    def execute_algorithm(self, algorithm_params: PseudonymiseParams) -> dict[str, Any]:
        import pandas as pd
        import secretflow as sf

        context, hsm = self.context, self.context.devices["hsm"]
        column = algorithm_params.columns[context.party]
        values = pd.read_csv(context.input_path, dtype=str)[column]
        mine = {hashlib.sha256(hsm.pseudonym(v).encode()).hexdigest() for v in values}
        found = sf.reveal([sf.PYU(party)(lambda told: told)(sorted(mine)) for party in context.parties])
        return {"common": len(set.intersection(*map(set, found))), "length": hsm.config.length}
