"""One-hot encoding: columns of 0 and 1 in place of columns of few values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from workers.computing.cells import Cells, own_rows, read_cells
from workers.contract.catalogue import TABLE, Catalogue
from workers.contract.documents import Document, SFInitConfig, TaskConfig
from workers.contract.errors import ConfigError
from workers.contract.problems import Problem
from workers.contract.roles import Roles
from workers.contract.wording import Text
from workers.executors.preprocessing import RULE, Prepared, PreprocessingExecutor, check_columns_there
from workers.executors.vertical import PartyColumns, is_kept, keep_columns

#: Role of the table that says which value each new column stands for.
VALUES = "values"
#: Name by which ``apply_rule`` recognises such a rule.
ONE_HOT = "one_hot"
#: The code of a value that the rule does not know.
UNKNOWN = "unknown"
#: SecretFlow refuses a column with this many different values.
MOST_VALUES = 100


class OneHotParams(Document):
    """Parameters of one-hot encoding."""

    columns: PartyColumns = Field(description="For each party the columns to encode.")
    drop: Literal["no_drop", "first", "mode"] = Field(
        default="no_drop", description="Leave out one of a column's new columns: the first, or that of the mode."
    )
    min_frequency: float = Field(
        default=0.0, ge=0, lt=1, description="Values with a smaller share of the rows get one common column."
    )


def coded_names(columns: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    """Return each party's columns, each with a name that cannot be confused with those of new columns."""
    return {
        party: {column: f"p{place}c{index}" for index, column in enumerate(named)}
        for place, (party, named) in enumerate(columns.items())
    }


def code(index: int) -> str:
    """Return the code that the component sees for a column's value: it would read values as numbers."""
    return f"v{index}"


def coded(cells: Cells, known: list[str]) -> Any:
    """Return a column's cells as codes: None for an empty cell, a special code for an unknown value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = cells.text.combine_chunks() if isinstance(cells.text, pa.ChunkedArray) else cells.text
    place = pc.index_in(text, pa.array(known, pa.string()))
    codes = pa.array([*(code(index) for index in range(len(known))), UNKNOWN])
    found = codes.take(pc.fill_null(place, len(known)))
    return pc.if_else(pa.array(cells.empty), "", found)


def made_of(column: str, found: Mapping[str, Any]) -> list[str]:
    """Return the new columns of a column."""
    return [name for name in found if name.rpartition("_")[0] == column]


def as_zero_and_one(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the new columns with 0 for an empty cell, which the component leaves empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return {name: pc.cast(pc.fill_null(values, 0), pa.int8()) for name, values in found.items()}


class OneHotExecutor(PreprocessingExecutor):
    """Replaces each column by columns of 0 and 1, one for each of its values, as they are written: ``7`` and ``007``
    are two. Each party encodes its own. An empty cell has 0 in all of them. The new columns are numbered in the order
    in which values first occur in the table, or by frequency if drop is mode; values with too small a share have the
    last column together. Which value is which stays with the party: ``further_outputs.values`` keeps it as a table
    there. What was done can be kept as ``further_outputs.rule`` and done to other rows by the task type apply_rule."""

    title = "One-hot encoding"
    params_key = "one_hot_params"
    Params = OneHotParams
    component = "preprocessing/onehot_encode"
    types = frozenset()
    example = {
        "task_type": "one_hot",
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "outputs": {"alice": "encoded", "bob": "encoded"},
        "algorithm_params": {"one_hot_params": {"columns": {"bob": ["malignant"]}}},
    }

    names = staticmethod(coded_names)
    task: ClassVar[Mapping[str, Any]] = {"kind": ONE_HOT}

    @classmethod
    def roles(cls, params: Any) -> Roles:
        return Roles(outputs={RULE: frozenset({cls.kind}), VALUES: frozenset({TABLE})})

    @classmethod
    def check(
        cls, params: OneHotParams, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue
    ) -> Iterator[Problem]:
        yield from super().check(params, task, cluster, catalogue)
        for party in task.further_outputs.get(VALUES, {}):
            if party in cluster.parties and party not in params.columns:
                path = f"further_outputs.{VALUES}.{party}"
                yield Problem(path, "gets nothing from this task", f"remove it: no column of {party} is encoded")

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        params: OneHotParams = self.parse_params(algorithm_params)
        context, dataset = self.context, self.context.source.name
        columns = params.columns.get(context.party, [])
        check_columns_there(context, columns)
        known: dict[str, list[str]] = {}
        values: dict[str, Any] = {}
        for column, cells in read_cells(context.input_path, dataset, columns).items():
            known[column] = cells.text.filter(~cells.empty).unique().to_pylist()
            if not known[column]:
                raise ConfigError("column {!r} of dataset {} has no values; leave it out", column, dataset)
            if len(known[column]) == 1 and params.drop != "no_drop":
                raise ConfigError(
                    "column {!r} of dataset {} has one value, of which drop: {} leaves no column: leave it out, or "
                    "set drop to no_drop",
                    column,
                    dataset,
                    Text(params.drop),
                )
            if (count := len(known[column])) >= MOST_VALUES:
                raise ConfigError(
                    "column {!r} of dataset {} has {} different values; one-hot encoding takes fewer than {}",
                    column,
                    dataset,
                    count,
                    MOST_VALUES,
                )
            values[coded_names(params.columns)[context.party][column]] = coded(cells, known[column])
        return Prepared(params, dict(params.columns), values, {VALUES: known})

    def attributes(self, params: OneHotParams) -> dict[str, Any]:
        least, rows = params.min_frequency, own_rows(self.context)
        if least:
            # SecretFlow rounds the least number of rows sometimes down, sometimes up
            least = (math.ceil(rows * least - 1e-9) - 0.4) / rows
        return {"drop": params.drop, "min_frequency": least, "report_rules": False}

    def finished(self, prepared: Prepared, found: dict[str, Any]) -> dict[str, Any]:
        found = as_zero_and_one(found)
        if is_kept(self.context, VALUES):
            rows = [row for column in prepared.own[VALUES] for row in self._values(prepared, column, found)]
            headings = ("column", "value", "new_column")
            table = {heading: [row[at] for row in rows] for at, heading in enumerate(headings)}
            keep_columns(self.context, table, VALUES, self.context.new_alignment(VALUES))
        return found

    def _values(self, prepared: Prepared, column: str, found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        """Yield each of a column's values with the new column in which it has 1; None if that column is left out."""
        import pyarrow.compute as pc

        codes = prepared.values[coded_names(prepared.columns)[self.context.party][column]]
        for index, value in enumerate(prepared.own[VALUES][column]):
            row = pc.index(codes, code(index)).as_py()
            made = [name for name in made_of(column, found) if found[name][row].as_py() == 1]
            yield column, value, made[0] if made else ""
