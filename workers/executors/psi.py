"""Private set intersection on SPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from workers.computing.context import LeastRows
from workers.computing.matching import KeyTable, check_pairing
from workers.computing.minimum import agreed, check_intersection
from workers.contract.catalogue import Catalogue
from workers.contract.checks import check_columns, check_each_party, check_parties, check_protocol, not_a_party
from workers.contract.documents import ColumnName, Document, PartyName, SFInitConfig, TaskConfig
from workers.contract.errors import ConfigError
from workers.contract.problems import Problem
from workers.contract.results import PSIResult
from workers.contract.wording import hint
from workers.executors.base import BaseTaskExecutor
from workers.host.key_columns import check_keys
from workers.host.tables import column_types

#: Protocols that can do more than an inner join of unique keys.
JOINING = ("PROTOCOL_RR22", "PROTOCOL_ECDH", "PROTOCOL_KKRT")
#: Protocol to (fewest, most) parties, as measured.
PROTOCOLS: Mapping[str, tuple[int, int | None]] = {
    "PROTOCOL_RR22": (2, 2),
    "PROTOCOL_ECDH": (2, 2),
    "PROTOCOL_KKRT": (2, 2),
    "PROTOCOL_ECDH_3PC": (3, 3),
    "PROTOCOL_ECDH_NPC": (2, None),
    "PROTOCOL_KKRT_NPC": (2, None),
}


class PSIParams(Document):
    """Parameters of a private set intersection."""

    input_keys: dict[PartyName, list[ColumnName]] = Field(
        description="For each party its key columns, in the same order everywhere. Keys are compared as text, as they "
        "are written: 7 and 007 are different keys, and so are 1 and 1.0."
    )
    protocol: Literal[
        "PROTOCOL_RR22",
        "PROTOCOL_ECDH",
        "PROTOCOL_KKRT",
        "PROTOCOL_ECDH_3PC",
        "PROTOCOL_ECDH_NPC",
        "PROTOCOL_KKRT_NPC",
    ] = Field(
        default="PROTOCOL_RR22",
        description="RR22 is the fastest for two parties; ECDH_NPC and KKRT_NPC take any number.",
    )
    join_type: Literal["inner_join", "left_join", "right_join", "full_join", "difference"] = Field(
        default="inner_join",
        description="inner_join: rows whose keys every party has. The others, for two parties, add the rows without a "
        "match of one (left_join, right_join) or both (full_join), or keep those alone (difference); where a party has "
        "no row, its output has an empty one. A receiver then learns how many unmatched rows the other party has. "
        "The result's intersection_count has the pairs of rows; for difference, each party's own rows with a match.",
    )
    left_side: PartyName | None = Field(
        default=None, description="For left_join and right_join: the party that counts as the left one."
    )
    duplicate_keys: list[PartyName] = Field(
        default_factory=list,
        description="Parties whose tables may have a key in several rows: each row is paired with each match, as in "
        "a database. Everywhere else a key that occurs twice is an error. For two parties.",
    )
    receivers: list[PartyName] = Field(min_length=1, description="Who learns the intersection: one party, or all.")
    ecdh_curve: Literal["CURVE_25519", "CURVE_FOURQ", "CURVE_SM2", "CURVE_SECP256K1"] | None = Field(
        default=None, description="For the ECDH protocols only; CURVE_25519, the fastest, if left out."
    )

    @field_validator("input_keys")
    @classmethod
    def check_keys(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for columns in value.values():
            if not columns or len(set(columns)) != len(columns):
                raise ValueError("has a party with no key column or the same one twice; name each column once")
        return value

    @field_validator("receivers")
    @classmethod
    def check_receivers(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError("names a party twice; name each receiver once")
        return value


class PSITaskExecutor(BaseTaskExecutor):
    """Finds the rows whose keys all parties have, and shows each party nothing of the others' remaining rows. Each
    receiver keeps its own columns of the common rows, in the same order at all, so that they are the input of a
    regression."""

    title = "Private set intersection (PSI)"
    params_key = "psi_params"
    Params = PSIParams
    Result = PSIResult
    devices = ("spu",)
    example = {
        "task_type": "psi",
        "data_sources": {"alice": "breast_cancer", "bob": "breast_cancer"},
        "outputs": {"alice": "in_common", "bob": "in_common"},
        "algorithm_params": {
            "psi_params": {"input_keys": {"alice": ["uid"], "bob": ["uid"]}, "receivers": ["alice", "bob"]}
        },
    }

    @classmethod
    def check(
        cls, params: PSIParams, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue
    ) -> Iterator[Problem]:
        base = f"algorithm_params.{cls.params_key}"
        parties = cluster.parties
        yield from check_parties(params.input_keys, cluster, f"{base}.input_keys")
        yield from check_each_party(params.input_keys, cluster, f"{base}.input_keys", "name {party}'s key columns")
        for party, columns in params.input_keys.items():
            yield from check_columns(catalogue, task, party, columns, f"{base}.input_keys.{party}")
        if len({len(columns) for columns in params.input_keys.values()}) > 1:
            yield Problem(f"{base}.input_keys", "name different numbers of columns", "name as many at each party")
        for index, party in enumerate(params.receivers):
            if party not in parties:
                yield not_a_party(f"{base}.receivers.{index}", parties)
            elif party not in task.outputs:
                yield Problem(
                    f"outputs.{party}", "is required", f"{party} is a receiver: name what it keeps the rows as"
                )
        for party in task.outputs:
            if party in parties and party not in params.receivers:
                yield Problem(f"outputs.{party}", f"{party} is not a receiver", "remove it, or add it to receivers")
        if len(params.receivers) not in (1, len(parties)):
            yield Problem(
                f"{base}.receivers", "names some of the parties", "name one party or all of them: PSI offers no other"
            )
        if params.ecdh_curve is not None and "ECDH" not in params.protocol:
            yield Problem(f"{base}.ecdh_curve", f"{params.protocol} would ignore it", "remove it")
        yield from cls._check_join(params, parties, base)
        yield from check_protocol(params.protocol, PROTOCOLS, parties, f"{base}.protocol")

    @staticmethod
    def _check_join(params: PSIParams, parties: list[str], base: str) -> Iterator[Problem]:
        has_sides = params.join_type in ("left_join", "right_join")
        if has_sides and params.left_side is None:
            yield Problem(f"{base}.left_side", f"{params.join_type} needs it", "name the party on the left")
        if not has_sides and params.left_side is not None:
            yield Problem(f"{base}.left_side", f"{params.join_type} has no sides", "remove it")
        named = {f"{base}.left_side": params.left_side} if params.left_side else {}
        named |= {f"{base}.duplicate_keys.{index}": party for index, party in enumerate(params.duplicate_keys)}
        for path, party in named.items():
            if party not in parties:
                yield not_a_party(path, parties)
        if params.protocol not in JOINING:
            able = ", ".join(JOINING)
            if params.join_type != "inner_join":
                yield Problem(f"{base}.join_type", f"{params.protocol} does inner joins alone", f"use one of {able}")
            if params.duplicate_keys:
                yield Problem(
                    f"{base}.duplicate_keys", f"{params.protocol} takes unique keys alone", f"use one of {able}"
                )

    @classmethod
    def matches_rows(cls, params: PSIParams) -> bool:
        return True

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> PSIParams:
        params: PSIParams = self.parse_params(algorithm_params)
        context = self.context
        columns = column_types(context.input_path, context.source.name)
        for key in params.input_keys[context.party]:
            if key not in columns:
                raise ConfigError(
                    "dataset {} at {} has no column {!r}; {}",
                    context.source.name,
                    context.party,
                    key,
                    hint(key, columns),
                )
        check_keys(
            context.input_path,
            context.source.name,
            params.input_keys[context.party],
            remedy=None
            if context.party in params.duplicate_keys
            else "remove them, or say in the task's duplicate_keys that this party's keys may repeat",
        )
        return params

    def execute_algorithm(self, algorithm_params: PSIParams) -> dict[str, Any]:
        params, context = algorithm_params, self.context
        table = KeyTable(context.input_path, context.source.name, params.input_keys[context.party], context.workdir)
        answer = context.workdir / "answer.csv"
        context.progress(0.0)
        everyone = len(params.receivers) == len(context.parties)
        reports = table.match(
            context.devices["spu"],
            context.party,
            context.parties,
            context.parties,
            answer,
            receiver=params.receivers[0],
            broadcast_result=everyone,
            protocol=params.protocol,
            ecdh_curve=params.ecdh_curve or "CURVE_25519",
            advanced_join_type=f"JOIN_TYPE_{params.join_type.upper()}"
            if params.protocol in JOINING
            else "JOIN_TYPE_UNSPECIFIED",
            left_side=params.left_side or context.parties[0],
            table_keys_duplicated={p: p in params.duplicate_keys for p in context.parties},
        )
        least = agreed(context)
        result: dict[str, Any] = {"original_count": {r["party"]: r["original_count"] for r in reports}}
        if context.party in params.receivers:
            report = next(r for r in reports if r["party"] == context.party)
            result |= self._kept(params, table, answer, report, everyone, least)
        context.progress(1.0)
        return result

    def _kept(
        self,
        params: PSIParams,
        table: KeyTable,
        answer: Path,
        report: Mapping[str, Any],
        everyone: bool,
        least: LeastRows,
    ) -> dict[str, Any]:
        """Keep this party's rows once it is sure that the other receivers have the same order."""
        context = self.context
        party, name, target = context.party, context.task.outputs[context.party], context.workdir / "output.csv"
        rows = table.rows(answer, crossed=party != context.parties[0])
        table.write(rows, target)
        common = check_pairing(context, target, name, params.input_keys[party], rows) if everyone else 0
        if params.join_type == "difference":
            common = int(report["intersection_count"])  # columns that are left out of the output
        elif not everyone:
            # Its rows without a match come last, if the join keeps them
            kept = int((rows >= 0).sum())
            alone = report["original_count"] - report["intersection_count"]
            common = kept - alone if self._keeps_unmatched(params, party) else kept
        check_intersection(least, common)
        if common == 0 and params.join_type != "difference":
            context.warnings.append(
                "The parties have no key in common. Keys are compared as text, as they are written in each table: "
                "check that the key columns hold the same thing, written in the same way."
            )
        context.keep_output(target, alignment=context.new_alignment())
        return {"intersection_count": {party: common}, "output_rows": {party: len(rows)}}

    @staticmethod
    def _keeps_unmatched(params: PSIParams, party: str) -> bool:
        """Return whether this party's rows without a match are in its output."""
        join, is_left = params.join_type, party == params.left_side
        return join in ("full_join", "difference") or join == ("left_join" if is_left else "right_join")
