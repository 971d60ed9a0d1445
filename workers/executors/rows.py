"""Task types that keep tables, or some of their rows: the parties' rows still line up afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from workers.computing.alignment import check_alignment
from workers.computing.context import Context
from workers.computing.telling import told_by
from workers.contract.catalogue import TABLE, Catalogue
from workers.contract.checks import check_each_party
from workers.contract.documents import Document, SFInitConfig, TaskConfig
from workers.contract.errors import AlgorithmError, ConfigError
from workers.contract.problems import Problem
from workers.contract.results import RowsResult
from workers.contract.roles import Roles
from workers.executors.vertical import PartyColumns, VerticalExecutor, check_party_columns, is_kept, keep_blocks
from workers.host.tables import column_types, count_rows, text_blocks, types_of

TEST = "test"


@dataclass(slots=True)
class Prepared:
    params: Any
    rows: int


class RowsExecutor(VerticalExecutor):
    """Base of these task types: they process this party's table in blocks, as it is written."""

    devices = ()
    Result = RowsResult
    preload = ("pyarrow.csv",)

    def columns(self, params: Any) -> list[str]:
        return list(column_types(self.context.input_path, self.context.source.name))

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        params = self.parse_params(algorithm_params)
        source = self.context.source
        types_of(source.path, source.name, self.columns(params))
        if not (rows := count_rows(source.path, source.name)):
            raise ConfigError("dataset {} has no rows", source.name)
        return Prepared(params, rows)

    def keep(self, params: Any, role: str = "", chosen: Any = None) -> None:
        """Keep this party's rows for which ``chosen`` (rows,) is true, if it named an output of that role. Chosen rows
        get a new alignment.
        """
        import pyarrow as pa

        source = self.context.source
        if not is_kept(self.context, role):
            return

        def blocks() -> Iterator[Any]:
            done = 0
            for block in text_blocks(source.path, source.name, self.columns(params)):
                yield block if chosen is None else block.filter(pa.array(chosen[done : done + block.num_rows]))
                done += block.num_rows

        keep_blocks(self.context, blocks(), role, None if chosen is None else self.context.new_alignment(role))


class SplitParams(Document):
    """Parameters of a split."""

    test_fraction: float = Field(
        default=0.3, gt=0, lt=1, description="Share of the rows that go into the test tables, rounded to whole rows."
    )
    seed: int = Field(
        default=42, ge=0, le=2**63 - 1, description="Decides which rows go where: the same seed gives the same rows."
    )


class SplitExecutor(RowsExecutor):
    """Splits the parties' rows into rows to train on (``outputs``) and rows to test with (``further_outputs.test``):
    the same rows at all parties, in the order they had. Which rows follows from the seed, which is no secret."""

    title = "Train/test split"
    params_key = "split_params"
    Params = SplitParams
    example = {
        "task_type": "split",
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "outputs": {"alice": "train", "bob": "train"},
        "further_outputs": {TEST: {"alice": "test", "bob": "test"}},
        "algorithm_params": {"split_params": {"test_fraction": 0.3}},
    }

    @classmethod
    def roles(cls, params: Any) -> Roles:
        return Roles(outputs={TEST: frozenset({TABLE})})

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        for field, named in (
            ("outputs", task.outputs),
            (f"further_outputs.{TEST}", task.further_outputs.get(TEST, {})),
        ):
            yield from check_each_party(named, cluster, field, "name what {party} keeps these rows as")

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        import numpy as np

        params, rows = algorithm_params.params, algorithm_params.rows
        if rows < 2:
            raise ConfigError("dataset {} has {} rows; a split takes two or more", self.context.source.name, rows)
        check_alignment(self.context, rows, self.context.source.alignment)
        self.context.progress(0.2)
        count = min(max(round(rows * params.test_fraction), 1), rows - 1)
        is_test = np.zeros(rows, bool)
        is_test[np.random.Generator(np.random.PCG64(params.seed)).permutation(rows)[:count]] = True
        _check_same(self.context, is_test.tobytes())
        self.keep(params, "", ~is_test)
        self.keep(params, TEST, is_test)
        self.context.progress(1.0)
        return {"train_rows": rows - count, "test_rows": count}


def _check_same(context: Context, chosen: bytes) -> None:
    """Raise AlgorithmError unless the parties chose the same rows: another version of numpy may draw other numbers."""
    told = told_by(context.parties, hashlib.sha256(chosen).hexdigest())
    if len(set(told.values())) > 1:
        raise AlgorithmError(
            "the parties drew unlike random numbers from the same seed, so that their rows would not line up; install "
            "the same version of numpy at all of them"
        )


class VerticalTableParams(Document):
    """Parameters of a vertical table."""

    columns: PartyColumns = Field(
        description="For each party the columns that its table has in the end, in this order."
    )


class VerticalTableExecutor(RowsExecutor):
    """Makes one table of the parties' tables, each party with the columns that are named: checks that their rows line
    up, and keeps those columns alone."""

    title = "Vertical table"
    params_key = "vertical_table_params"
    Params = VerticalTableParams
    example = {
        "task_type": "vertical_table",
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "outputs": {"alice": "chosen", "bob": "chosen"},
        "algorithm_params": {
            "vertical_table_params": {"columns": {"alice": ["mean_radius"], "bob": ["worst_area", "malignant"]}}
        },
    }

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        path = f"algorithm_params.{cls.params_key}.columns"
        yield from check_party_columns(params.columns, task, cluster, catalogue, path, frozenset())
        yield from check_each_party(params.columns, cluster, path, "name columns of {party}")
        yield from check_each_party(task.outputs, cluster, "outputs", "name what {party} keeps its columns as")

    def columns(self, params: Any) -> list[str]:
        return list(params.columns[self.context.party])

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        rows = algorithm_params.rows
        check_alignment(self.context, rows, self.context.source.alignment)
        self.keep(algorithm_params.params)
        self.context.progress(1.0)
        return {"rows": rows, "columns": algorithm_params.params.columns}
