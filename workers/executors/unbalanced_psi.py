"""PSI of a small and a very large table: SecretFlow's unbalanced PSI (ECDH-OPRF)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from workers.computing.matching import KEY, KeyTable
from workers.computing.minimum import agreed, check_intersection
from workers.contract.catalogue import Catalogue
from workers.contract.checks import not_a_party
from workers.contract.documents import ColumnName, Document, PartyName, SFInitConfig, TaskConfig
from workers.contract.problems import Problem
from workers.contract.results import PSIResult
from workers.executors.base import BaseTaskExecutor
from workers.executors.vertical import check_outputs, check_party_columns
from workers.host.key_columns import check_keys


class UnbalancedPSIParams(Document):
    """Parameters of an unbalanced PSI."""

    input_keys: dict[PartyName, list[ColumnName]] = Field(
        min_length=2, max_length=2, description="For each party its key columns: the same number at both."
    )
    client: PartyName = Field(
        description="Party with the small table: it learns the common rows. It receives more if the large table grows."
    )


class UnbalancedPSIExecutor(BaseTaskExecutor):
    """Finds the rows that a party with a small table has in common with one whose table is many times as large: the
    small one's work grows with its own table alone. The party with the small table learns which of its rows the other
    has, and keeps those; the other learns nothing."""

    title = "Unbalanced PSI"
    params_key = "unbalanced_psi_params"
    Params = UnbalancedPSIParams
    Result = PSIResult
    example = {
        "task_type": "unbalanced_psi",
        "data_sources": {"alice": "breast_cancer", "bob": "breast_cancer"},
        "outputs": {"alice": "known_to_bob"},
        "algorithm_params": {
            "unbalanced_psi_params": {"input_keys": {"alice": ["uid"], "bob": ["uid"]}, "client": "alice"}
        },
    }

    @classmethod
    def check(
        cls, params: UnbalancedPSIParams, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue
    ) -> Iterator[Problem]:
        base = f"algorithm_params.{cls.params_key}"
        path = f"{base}.input_keys"
        yield from check_party_columns(params.input_keys, task, cluster, catalogue, path, frozenset())
        if len(cluster.parties) != 2:
            yield Problem(base, f"is for two parties, the cluster has {len(cluster.parties)}", "use a psi of three")
        if len({len(columns) for columns in params.input_keys.values()}) > 1:
            yield Problem(path, "name different numbers of columns", "name as many at each party")
        if params.client not in cluster.parties:
            yield not_a_party(f"{base}.client", cluster.parties)
            return
        if params.client not in task.outputs:
            yield Problem(f"outputs.{params.client}", "is required", "name what the rows in common are kept as")
        yield from check_outputs(task, params.client, cluster, "the rows in common")

    @classmethod
    def matches_rows(cls, params: UnbalancedPSIParams) -> bool:
        return True

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> UnbalancedPSIParams:
        params: UnbalancedPSIParams = self.parse_params(algorithm_params)
        source = self.context.source
        check_keys(source.path, source.name, params.input_keys[self.context.party])
        return params

    def execute_algorithm(self, algorithm_params: UnbalancedPSIParams) -> dict[str, Any]:
        import numpy as np

        params, context = algorithm_params, self.context
        table = KeyTable(context.input_path, context.source.name, params.input_keys[context.party], context.workdir)
        answer, cache = context.workdir / "answer.csv", context.workdir / "cache"
        context.progress(0.0)
        [server] = [party for party in context.parties if party != params.client]
        secret = context.workdir / "secret"
        if context.party == server:
            secret.write_bytes(os.urandom(32))
            secret.chmod(0o600)
        common = {"cache_path": {p: str(cache) for p in context.parties}, "server_secret_key_path": str(secret)}
        roles = {server: "ROLE_SERVER", params.client: "ROLE_CLIENT"}
        device = context.devices["spu"]
        device.ub_psi(
            mode="MODE_OFFLINE",
            role=roles,
            input_path={server: str(table.path)},
            keys={server: [KEY]},
            **common,
        )
        context.progress(0.6)
        device.ub_psi(
            mode="MODE_ONLINE",
            role=roles,
            input_path={params.client: str(table.path)},
            keys={params.client: [KEY]},
            client_get_result=True,
            disable_alignment=True,
            output_path={params.client: str(answer)},
            **common,
        )
        result: dict[str, Any] = {}
        least = agreed(context)
        if context.party == params.client:
            target = context.workdir / "output.csv"
            # In the order of its table: nobody else has these rows
            rows = np.sort(table.rows(answer, crossed=False))
            check_intersection(least, len(rows))
            table.write(rows, target)
            result["output_rows"] = {context.party: len(rows)}
            context.keep_output(target, alignment=context.new_alignment())
        context.progress(1.0)
        return result
