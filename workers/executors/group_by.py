"""Statistics of groups of rows; groups and columns may be at different parties."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from workers.computing.alignment import check_alignment
from workers.computing.cells import Cells, own_rows, read_cells, read_numbers
from workers.computing.context import LeastRows
from workers.computing.minimum import agreed, check_groups, check_own_groups
from workers.computing.telling import told_by
from workers.contract.catalogue import NUMERIC, Catalogue
from workers.contract.checks import check_column, not_a_party
from workers.contract.documents import ColumnName, Document, PartyName, SFInitConfig, TaskConfig
from workers.contract.errors import ConfigError
from workers.contract.problems import Problem
from workers.contract.results import MOST_ROWS, ReportsResult
from workers.executors import grouping
from workers.executors.precision import told_precision
from workers.executors.vertical import PartyColumns, VerticalExecutor, check_no_outputs, check_party_columns
from workers.host.codes import PADDED
from workers.host.tables import WHOLE_LIMIT


class Aggregate(Document):
    party: PartyName = Field(description="Party that has the column.")
    column: ColumnName = Field(description="Column to compute the figure of.")
    function: Literal["COUNT", "SUM", "MEAN", "MIN", "MAX", "VAR"] = Field(
        default="MEAN", description="Figure to compute for each group."
    )


class GroupByParams(Document):
    """Parameters of a grouping."""

    by: PartyColumns = Field(
        description="For each party the columns whose values make the groups; at most four in all."
    )
    aggregates: list[Aggregate] = Field(min_length=1, max_length=50, description="Figures to compute for each group.")
    most_groups: int = Field(default=1000, ge=1, le=10000, description="Largest number of groups; more are an error.")


@dataclass(slots=True)
class Prepared:
    params: GroupByParams
    rows: int
    #: The distinct keys of this party's rows, in order: a value for each of its columns of ``by``.
    keys: list[list[Any]]
    #: The index of each row's key, (rows,).
    codes: Any
    #: This party's columns of figures.
    cells: dict[str, Cells]

    def numbers(self, column: str, function: str) -> Any:
        """Return the numbers that the figure is computed from: float64, (rows,), NaN for an empty cell."""
        import numpy as np

        cells = self.cells[column]
        return np.where(cells.empty, np.nan, 1.0) if function == "COUNT" else cells.numbers


class GroupByExecutor(VerticalExecutor):
    """Tells COUNT, SUM, MEAN, MIN, MAX and VAR (divided by n - 1) of columns for each group of rows, as pandas does.
    Empty cells are not counted and change no figure; rows whose key is empty are a group of their own, shown as null.
    Where one party has the column and all keys that vary, it computes the figures itself; otherwise they are computed
    on secret shares, and all are told, beside the figures, the order of magnitude of each column's largest number.
    A group of one row tells its value, so choose groups that are large."""

    title = "Statistics by group"
    params_key = "group_by_params"
    Params = GroupByParams
    Result = ReportsResult
    preload = ("secretflow", "pyarrow.csv", "pandas")
    example = {
        "task_type": "group_by",
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "algorithm_params": {
            "group_by_params": {
                "by": {"bob": ["malignant"]},
                "aggregates": [{"party": "alice", "column": "mean_radius", "function": "MEAN"}],
            }
        },
    }

    @classmethod
    def check(
        cls, params: GroupByParams, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue
    ) -> Iterator[Problem]:
        base = f"algorithm_params.{cls.params_key}"
        yield from check_party_columns(params.by, task, cluster, catalogue, f"{base}.by", frozenset())
        if sum(len(columns) for columns in params.by.values()) > 4:
            yield Problem(f"{base}.by", "names more than four columns", "group by four columns at most")
        for index, entry in enumerate(params.aggregates):
            path = f"{base}.aggregates.{index}"
            if entry.party not in cluster.parties:
                yield not_a_party(f"{path}.party", cluster.parties)
            elif entry.column in params.by.get(entry.party, []):
                yield Problem(f"{path}.column", "is what the groups are made by", "name another column")
            else:
                types = frozenset[str]() if entry.function == "COUNT" else NUMERIC
                yield from check_column(catalogue, task, entry.party, entry.column, f"{path}.column", types)
        yield from check_no_outputs(task)

    @classmethod
    def check_devices(
        cls, params: GroupByParams, task: TaskConfig, cluster: SFInitConfig, devices: Mapping[str, Any]
    ) -> Iterator[Problem]:
        for index, entry in enumerate(params.aggregates):
            if devices["spu"].runtime_config.field == "FM32" and entry.function in ("MEAN", "VAR"):
                path = f"algorithm_params.{cls.params_key}.aggregates.{index}.function"
                yield Problem(path, "needs a division, which FM32 cannot", "use spu_config.runtime_config.field FM128")

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        import numpy as np

        params: GroupByParams = self.parse_params(algorithm_params)
        context, party = self.context, self.context.party
        path, name = context.input_path, context.source.name
        mine = [a for a in params.aggregates if a.party == party]
        counted = [a.column for a in mine if a.function == "COUNT"]
        summed = [a.column for a in mine if a.function != "COUNT"]
        cells = read_cells(path, name, counted) | read_numbers(path, name, summed)
        for column in dict.fromkeys(summed):
            if cells[column].whole and (np.abs(cells[column].numbers) >= WHOLE_LIMIT).any():
                raise ConfigError(
                    "column {!r} of dataset {} has whole numbers of 2^53 and more, which float64 rounds: subtract a "
                    "constant from all of them in the table itself, or divide them; or declare the column float in "
                    "party.toml if the rounding does no harm",
                    column,
                    name,
                )
        keys, codes = _keys(list(read_cells(path, name, params.by.get(party, [])).values()))
        rows = own_rows(context)
        if len(keys) > params.most_groups:
            raise ConfigError(
                "{!r} of dataset {} makes {} groups, more than most_groups ({}): group by columns of fewer values, or "
                "raise most_groups",
                params.by[party],
                name,
                len(keys),
                params.most_groups,
            )
        return Prepared(params, rows, keys, codes, cells)

    @classmethod
    def lines_up(cls, params: GroupByParams, party: str) -> bool:
        return party in params.by or any(entry.party == party for entry in params.aggregates)

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        import numpy as np

        prepared, params, context = algorithm_params, algorithm_params.params, self.context
        parties = [p for p in context.parties if self.lines_up(params, p)]
        if len(parties) > 1:
            check_alignment(context, prepared.rows, context.source.alignment, parties)
        least = agreed(context)
        check_own_groups(context, np.bincount(prepared.codes) if prepared.keys else [prepared.rows], least)
        keys = told_by(params.by, prepared.keys)
        # The groups do not depend on a party whose rows all have the same key
        varying = {party: len(known) for party, known in keys.items() if len(known) > 1}
        context.progress(0.2)
        found: dict[int, dict[int, Any]] = {}
        shared = []
        for index, aggregate in enumerate(params.aggregates):
            if set(varying) <= {aggregate.party}:
                found[index] = self._local(prepared, aggregate, varying)
            else:
                shared.append(index)
        found |= self._shared(prepared, shared, varying, least) if shared else {}
        context.progress(1.0)
        reports = [self._report(params, index, found[index], keys, varying) for index in range(len(params.aggregates))]
        return {"reports": {"report": reports}}

    def _local(self, prepared: Prepared, aggregate: Aggregate, varying: Mapping[str, int]) -> dict[int, Any]:
        """Return the figures by the group's number, computed at the party of the column."""
        import secretflow as sf

        def told(numbers: Any, codes: Any, whole: bool) -> list[Any]:
            return _plain(grouping.in_the_clear(codes, numbers, aggregate.function, groups), aggregate.function, whole)

        groups = math.prod(varying.values())
        mine: tuple[Any, ...] = (None, None, False)
        if aggregate.party == self.context.party:
            numbers = prepared.numbers(aggregate.column, aggregate.function)
            codes = prepared.codes if varying else [0] * prepared.rows
            mine = (numbers, codes, prepared.cells[aggregate.column].whole)
        return dict(enumerate(sf.reveal(sf.PYU(aggregate.party)(told)(*mine))))

    def _shared(
        self, prepared: Prepared, indices: list[int], varying: Mapping[str, int], least: LeastRows
    ) -> dict[int, dict[int, Any]]:
        """Return the figures by the index of the aggregate and the group's number, computed on the SPU."""
        import numpy as np
        import secretflow as sf

        params, context = prepared.params, self.context
        spu, runtime = context.devices["spu"], context.documents["spu"].runtime_config
        chosen = [params.aggregates[index] for index in indices]
        mine = [prepared.numbers(a.column, a.function) if a.party == context.party else np.empty(0) for a in chosen]
        scales = [grouping.scale_of(n, a.function, runtime.limit) for n, a in zip(mine, chosen, strict=True)]
        whole = [a.party == context.party and prepared.cells[a.column].whole for a in chosen]
        said = list(zip(scales, whole, strict=True))
        known = sf.reveal([sf.PYU(a.party)(lambda told: told)(pair) for a, pair in zip(chosen, said, strict=True)])
        items = [grouping.Item(a.function, scale) for a, (scale, _) in zip(chosen, known, strict=True)]
        told_precision(
            context,
            [
                (a.party, f"{a.party}.{a.column}", *grouping.steps(numbers, item, runtime.fraction_bits))
                for a, numbers, item in zip(chosen, mine, items, strict=True)
                if a.function != "COUNT"
            ],
        )
        kind = np.int32 if math.prod(varying.values()) < 2**31 - 1 else np.int64
        own = prepared.codes.astype(kind)
        with grouping.double_precision():
            codes = [sf.PYU(p)(lambda values: values)(own).to(spu) for p in varying]
            columns = [
                [sf.PYU(a.party)(lambda made, at=at: made[at])(shares).to(spu) for at in range(grouping.arrays(item))]
                for a, item, shares in (
                    (a, item, grouping.shares_of(n, item)) for a, item, n in zip(chosen, items, mine, strict=True)
                )
            ]
            made = spu(grouping.sorted_rows(items, list(varying.values())))(codes, columns)
            groups = int(sf.reveal(spu(lambda made: made[3])(made)))
            if groups > params.most_groups:
                raise ConfigError(
                    "the tables have {} groups, more than most_groups ({}): group by columns of fewer values, or raise "
                    "most_groups",
                    groups,
                    params.most_groups,
                )
            context.progress(0.7)
            if least.group > 1:
                check_groups(least, bool(sf.reveal(spu(grouping.are_large(groups, least.group))(made))))
            bits = runtime.fraction_bits
            place, told = sf.reveal(spu(grouping.figures(items, groups, prepared.rows, bits))(made))
        place, figures = grouping.in_place(place, told, items)
        return {
            index: dict(zip(place, _plain(values, item.function, is_whole), strict=True))
            for index, item, values, (_, is_whole) in zip(indices, items, figures, known, strict=True)
        }

    @staticmethod
    def _report(
        params: GroupByParams, index: int, found: Mapping[int, Any], keys: Mapping[str, Any], varying: Mapping[str, int]
    ) -> dict[str, Any]:
        aggregate = params.aggregates[index]
        rows = []
        for number, figure in sorted(found.items()):
            codes = grouping.split(number, varying)
            rows.append([value for party in params.by for value in keys[party][codes.get(party, 0)]] + [figure])
        name = f"{aggregate.function} of {aggregate.party}.{aggregate.column}"
        columns = [f"{party}.{column}" for party, named in params.by.items() for column in named]
        table: dict[str, Any] = {
            "name": name,
            "columns": [*columns, f"{aggregate.party}.{aggregate.column}"],
            "rows": rows[:MOST_ROWS],
        }
        if len(rows) > MOST_ROWS:
            table["left_out"] = len(rows) - MOST_ROWS
        return {"name": name, "tables": [table]}


def _keys(columns: list[Cells]) -> tuple[list[list[Any]], Any]:
    """Return the distinct keys of a party's rows, in order, and the index of each row's key."""
    import numpy as np
    import pandas as pd

    if not columns:
        return [], np.empty(0, int)
    frame = pd.DataFrame({index: _key(cells) for index, cells in enumerate(columns)})
    ranks = pd.DataFrame({index: _ranks(frame[index]) for index in frame})
    codes = ranks.groupby(list(ranks), sort=True).ngroup().to_numpy()
    _, first = np.unique(codes, return_index=True)
    return [list(frame.loc[row]) for row in first], codes


def _key(cells: Cells) -> Any:
    """Return a column's cells as keys: numbers by their value, others as they are written; None for an empty cell."""
    import numpy as np
    import pandas as pd
    import pyarrow.compute as pc

    padded = cells.numbers is not None and pc.any(pc.match_substring_regex(cells.text, PADDED)).as_py()
    if cells.numbers is None or padded or (cells.whole and (np.abs(cells.numbers) >= WHOLE_LIMIT).any()):
        plain = np.array(cells.text.to_pylist(), object)
    elif cells.kind == "bool":
        plain = np.where(cells.numbers == 1, True, False).astype(object)
    elif cells.whole:
        plain = np.array([int(n) for n in np.nan_to_num(cells.numbers)], object)
    else:
        plain = cells.numbers.astype(object)
    plain[cells.empty] = None
    return pd.Series(plain, dtype=object)


def _ranks(keys: Any) -> Any:
    """Return the rank of each key among the distinct keys of a column; empty ones come last."""
    known = {key: rank for rank, key in enumerate(sorted({key for key in keys if key is not None}))}
    return [known.get(key, len(known)) for key in keys]


def _plain(figures: Any, function: str, whole: bool) -> list[Any]:
    """Return the figures as JSON: a whole number if the figure is one and exact in float64, None if there is none."""

    def plain(figure: float) -> Any:
        if math.isnan(figure):
            return None
        return round(figure) if is_whole and abs(figure) < WHOLE_LIMIT else figure

    is_whole = function == "COUNT" or (whole and function in ("SUM", "MIN", "MAX"))
    return [plain(float(figure)) for figure in figures]
