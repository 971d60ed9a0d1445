"""Sums of columns of several parties, row by row, under homomorphic encryption. Needs only the HEU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from workers.computing.alignment import check_alignment
from workers.contract.catalogue import NUMERIC, Catalogue
from workers.contract.checks import check_column, check_parties
from workers.contract.documents import ColumnName, Document, PartyName, SFInitConfig, TaskConfig
from workers.contract.errors import ConfigError
from workers.contract.problems import Problem
from workers.contract.results import RowsResult
from workers.executors.base import BaseTaskExecutor
from workers.executors.precision import told_precision
from workers.executors.vertical import greatest
from workers.host.tables import WHOLE_LIMIT, read_columns


class HESumParams(Document):
    """Parameters of a sum over the parties."""

    columns: dict[PartyName, ColumnName] = Field(description="For each party the column of numbers that it adds.")
    name: ColumnName = Field(default="sum", description="Name of the column of sums in the output.")


#: Fraction bits of the whole numbers that are encrypted in place of fractions.
FRACTION_BITS = 100
#: Schemes whose plaintexts have some hundred bits, also with keys of 1024.
ROOMY = ("paillier", "zpaillier", "fpaillier", "ou")


@dataclass(slots=True)
class Prepared:
    params: HESumParams
    #: float64, (rows,)
    values: Any


class HESumExecutor(BaseTaskExecutor):
    """Adds up one column of each party, row by row: partial scores, say, that each party keeps secret. Each party
    encrypts its numbers with the key keeper's public key, an evaluator adds the ciphertexts, and the keeper alone
    decrypts the sums, which are its output. They are those of float64, down to 2^-100, unless heu_config.encoding says
    otherwise; a warning names the columns whose numbers are too small for that. The inputs line up row by row: use the
    outputs of one PSI."""

    title = "Encrypted sum (HE)"
    params_key = "he_sum_params"
    Params = HESumParams
    Result = RowsResult
    devices = ("heu",)
    aligned = True
    preload = ("secretflow.device.device.heu",)
    example = {
        "task_type": "he_sum",
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "outputs": {"alice": "sums"},
        "algorithm_params": {"he_sum_params": {"columns": {"alice": "mean_radius", "bob": "worst_radius"}}},
    }

    @classmethod
    def check(
        cls, params: HESumParams, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue
    ) -> Iterator[Problem]:
        base = f"algorithm_params.{cls.params_key}.columns"
        yield from check_parties(params.columns, cluster, base)
        for party in cluster.parties:
            if party not in params.columns:
                yield Problem(f"{base}.{party}", "is required", f"name a column of {party}")
                continue
            yield from check_column(catalogue, task, party, params.columns[party], f"{base}.{party}", NUMERIC)

    @classmethod
    def check_devices(
        cls, params: HESumParams, task: TaskConfig, cluster: SFInitConfig, devices: Mapping[str, Any]
    ) -> Iterator[Problem]:
        keeper = devices["heu"].sk_keeper or cluster.parties[0]
        if keeper not in task.outputs:
            yield Problem(f"outputs.{keeper}", "is required", f"{keeper} holds the key: name what it keeps the sums as")
        for party in task.outputs:
            if party in cluster.parties and party != keeper:
                yield Problem(f"outputs.{party}", "gets nothing from this task", f"{keeper} alone decrypts the sums")

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        params: HESumParams = self.parse_params(algorithm_params)
        context = self.context
        dataset, column = context.source.name, params.columns[context.party]
        values = read_columns(context.input_path, dataset, [column])[:, 0]
        if greatest(values) >= WHOLE_LIMIT / len(context.parties):
            raise ConfigError(
                "column {!r} of dataset {} has values so large that sums would lose digits; scale it to values below "
                "2^53 / {}",
                column,
                dataset,
                len(context.parties),
            )
        return Prepared(params, values)

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        import secretflow as sf
        from secretflow.device.device.heu import HEUMoveConfig

        prepared, context = algorithm_params, self.context
        heu = context.devices["heu"]
        pyu = {p: sf.PYU(p) for p in context.parties}
        rows = len(prepared.values)
        check_alignment(context, rows, context.source.alignment)
        [keeper] = context.task.outputs
        where = HEUMoveConfig(heu_dest_party=next(p for p in context.parties if p != keeper))
        exact = _is_exact(context.documents["heu"])
        step = 2.0**-FRACTION_BITS if exact else _step(context.documents["heu"].encoding)
        told_precision(
            context, [(p, f"{p}.{prepared.params.columns[p]}", prepared.values, step) for p in context.parties]
        )
        if exact:
            from heu import phe

            where.heu_encoder = phe.BigintEncoderParams()
        # All parties run this line, but only the owner carries it out
        parts = [pyu[p](_encoded if exact else _as_it_is)(prepared.values).to(heu, where) for p in context.parties]
        context.progress(0.3)
        total = parts[0]
        for done, part in enumerate(parts[1:], start=1):
            total = total + part
            context.progress(0.3 + 0.6 * done / len(parts))
        path = context.workdir / "sums.csv"
        target = str(path) if context.party == keeper else ""
        back = HEUMoveConfig(heu_encoder=where.heu_encoder)
        written = sf.reveal(pyu[keeper](_write)(total.to(pyu[keeper], back), target, prepared.params.name, exact))
        if context.party == keeper:
            context.keep_output(path, alignment=context.source.alignment)
        context.progress(1.0)
        return {"rows": written, "parties": len(parts)}


def _is_exact(document: Any) -> bool:
    """Return whether numbers are encrypted as our own whole numbers, with all their digits: not if the operator sets an
    encoding, or if the scheme has no room for that many digits."""
    return document.encoding is None and document.he_parameters.schema_ in ROOMY


def _step(encoding: Any) -> float:
    """Return the smallest difference that HEU's own encoding can represent."""
    if encoding is None or encoding.encoder == "FloatEncoder":
        return 1 / ((encoding.encoder_args.scale if encoding else None) or 2**26)
    return 1.0


def _as_it_is(values: Any) -> Any:
    return values


def _encoded(values: Any) -> Any:
    """Return numbers as whole numbers with FRACTION_BITS: HEU's own encoding has only 26 fraction bits."""
    import numpy as np

    return np.array([round(math.ldexp(value, FRACTION_BITS)) for value in values.tolist()], dtype=object)


def _write(values: Any, path: str, name: str, exact: bool) -> int:
    import numpy as np
    import pandas as pd

    sums = np.asarray(values).ravel()
    if exact:
        sums = np.array([int(value) / 2**FRACTION_BITS for value in sums])  # rounded once, as Python divides
    pd.DataFrame({name: sums}).to_csv(path, index=False)
    return len(sums)
