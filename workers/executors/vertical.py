"""The base of task types over columns of several parties, whose rows line up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from workers.computing.context import Context
from workers.contract.catalogue import NUMERIC, Catalogue
from workers.contract.checks import check_columns, check_each_party, check_parties
from workers.contract.documents import ColumnName, PartyName, SFInitConfig, TaskConfig
from workers.contract.errors import ConfigError
from workers.contract.problems import Problem
from workers.executors.base import BaseTaskExecutor
from workers.host.sources import Source

#: Columns by party.
PartyColumns = Annotated[dict[PartyName, list[ColumnName]], Field(min_length=1)]


class VerticalExecutor(BaseTaskExecutor):
    """Base of task types whose inputs line up row by row."""

    aligned = True


def check_party_columns(
    columns: Mapping[str, list[str]],
    task: TaskConfig,
    cluster: SFInitConfig,
    catalogue: Catalogue,
    path: str,
    types: frozenset[str] = NUMERIC,
) -> Iterator[Problem]:
    """Check that parties and columns exist, that columns have these types and occur once, and that no party's list is
    empty."""
    yield from check_parties(columns, cluster, path)
    for party, named in columns.items():
        where = f"{path}.{party}"
        yield from check_columns(catalogue, task, party, named, where, types)
        if not named:
            yield Problem(where, "is empty", "name at least one column, or leave the party out")
        if len(set(named)) != len(named):
            yield Problem(where, "names a column twice", "name each column once")


def check_outputs(task: TaskConfig, party: str, cluster: SFInitConfig, what: str) -> Iterator[Problem]:
    """Check that only ``party`` keeps an output."""
    for other in task.outputs:
        if other in cluster.parties and other != party:
            yield Problem(f"outputs.{other}", "gets nothing from this task", f"only {party} can keep {what}")


def check_whole(task: TaskConfig, cluster: SFInitConfig, role: str) -> Iterator[Problem]:
    """Check that a model or a rule is kept by all parties or by none: without one of its parts it is useless."""
    named = task.further_outputs.get(role, {})
    if named:
        yield from check_each_party(named, cluster, f"further_outputs.{role}", "name what {party} keeps its part as")


def check_no_outputs(task: TaskConfig) -> Iterator[Problem]:
    """Check that the task keeps no output: its task type only computes figures."""
    for party in task.outputs:
        yield Problem(f"outputs.{party}", "gets nothing from this task", "remove it: the figures are the result")


def own_names(columns: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    """Return, for each party, an own name of each column that is unique among all parties, whose columns may have the
    same names. Own names have only letters, digits and _, since SecretFlow takes what stands before a dot for the name
    of a table.
    """
    taken: set[str] = set()
    found: dict[str, dict[str, str]] = {}
    for party, named in columns.items():
        found[party] = {}
        for column in named:
            plain = re.sub(r"\W", "_", f"{party}_{column}")
            name = next(n for n in chain([plain], (f"{plain}_{i}" for i in count(2))) if n not in taken)
            taken.add(name)
            found[party][column] = name
    return found


def listed(names: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Return, for each party, the own names of its columns."""
    return {party: list(mine.values()) for party, mine in names.items()}


def greatest(values: Any) -> float:
    """Return the largest absolute value of numbers (rows,); 0 if there are none."""
    import numpy as np

    return float(np.abs(values).max()) if len(values) else 0.0


def check_range(context: Context, values: Any, column: str, *, times: int = 1) -> None:
    """Raise ConfigError unless the SPU can compute with that many of these values (rows,) together."""
    runtime = context.documents["spu"].runtime_config
    if greatest(values) * times >= runtime.limit:
        raise ConfigError(
            "column {!r} of dataset {} has values too large for this SPU, which computes with numbers below {:.2g} "
            "here: scale the column (standardize does so), or set a larger spu_config.runtime_config.field or fewer "
            "fxp_fraction_bits",
            column,
            context.source.name,
            runtime.limit / times,
        )


def private_table(context: Context, values: Mapping[str, Any], name: str) -> Source:
    """Return this party's columns as a table for a component, in the run's private directory. ``values``: by own
    name."""
    return Source(name, _written(context, values, name), alignment=context.source.alignment)


def keep_columns(context: Context, columns: Mapping[str, Any], role: str = "", alignment: str | None = None) -> None:
    """Keep columns, by name, as this party's output of that role, if it named one. ``alignment``: as for
    ``keep_blocks``.
    """
    if is_kept(context, role):
        found = _written(context, columns, f"output_{role}")
        context.keep_output(found, role, alignment=alignment or context.source.alignment)


def keep_blocks(context: Context, blocks: Iterable[Any], role: str = "", alignment: str | None = None) -> None:
    """Keep blocks of rows (arrow record batches, one at least), one after the other, as this party's output.

    ``alignment``: give a new one unless these are all rows of the input in their order.
    """
    from pyarrow import csv

    blocks = iter(blocks)
    first, target = next(blocks), context.workdir / f"output_{role}.csv"
    with csv.CSVWriter(target, first.schema) as writer:
        for block in chain([first], blocks):
            writer.write_batch(block)
    context.keep_output(target, role, alignment=alignment or context.source.alignment)


def is_kept(context: Context, role: str = "") -> bool:
    """Return whether this party named an output of that role."""
    return context.party in (context.task.further_outputs.get(role, {}) if role else context.task.outputs)


def _written(context: Context, columns: Mapping[str, Any], name: str) -> Path:
    import pyarrow as pa
    from pyarrow import csv

    path = Path(context.workdir / f"{name}.csv")
    csv.write_csv(pa.table(dict(columns)), path)
    return path
