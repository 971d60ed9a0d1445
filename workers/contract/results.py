"""What results may be made of: counts, metrics and figures by name. No field of a result has room for a table's rows.

A task type names its own model as ``Result``. What it returns is checked before it is published, so that a mistake in a
task type, or a component that returns rows, ends the run and tells nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    StringConstraints,
    ValidationError,
    ValidationInfo,
)

from workers.contract.documents import PartyName
from workers.contract.errors import AlgorithmError
from workers.contract.wording import Text

log = logging.getLogger(__name__)

#: More columns than a table has, and more parties than a cluster.
MOST_COLUMNS, MOST_PARTIES = 100_000, 32
#: Rows of a report's table, at most: people read it on a page.
MOST_ROWS = 1000
#: Bins of a model's rows, of which curves are drawn.
MOST_BINS = 50
Count = Annotated[int, Field(ge=0)]
#: A column with its party before it, or what a report calls something.
Name = Annotated[str, StringConstraints(max_length=500)]
#: A figure, or a short text beside figures, such as the bounds of a bin or the key of a group.
Cell = None | bool | int | float | Annotated[str, StringConstraints(max_length=2000)]
Names = Annotated[list[Name], Field(max_length=MOST_COLUMNS)]


def _of_parties(value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    if info.context and not set(value) <= set(info.context["parties"]):
        raise ValueError("names something else than the run's parties")
    return value


def _of_columns(value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    _of_parties({name.partition(".")[0]: None for name in value}, info)
    return value


Counts = Annotated[dict[PartyName, Count], Field(max_length=MOST_PARTIES), AfterValidator(_of_parties)]
Columns = Annotated[dict[PartyName, Names], Field(max_length=MOST_PARTIES), AfterValidator(_of_parties)]
Metrics = Annotated[dict[Name, float], Field(max_length=100)]
Named = Annotated[dict[Name, Cell], Field(max_length=10_000)]


class Result(BaseModel):
    """Base of results, and the result of a task type that tells nothing but its warnings and outputs."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Figures(RootModel[dict[Name, Cell | dict[Name, Cell]]]):
    """The result of a task type that names no model of its own: figures by name, and by a second name."""

    root: Annotated[dict[Name, Cell | Annotated[dict[Name, Cell], Field(max_length=1000)]], Field(max_length=100)]


class Table(Result):
    name: Name
    columns: Names
    rows: Annotated[list[Annotated[list[Cell], Field(max_length=MOST_COLUMNS)]], Field(max_length=MOST_ROWS)]
    left_out: Count = 0


class Report(Result):
    name: Name
    values: Named = {}
    tables: Annotated[list[Table], Field(max_length=100)] = []


Reports = Annotated[dict[Name, Annotated[list[Report], Field(max_length=MOST_COLUMNS)]], Field(max_length=20)]


class ReportsResult(Result):
    reports: Reports = {}


class PSIResult(Result):
    original_count: Counts = {}
    intersection_count: Counts = {}
    output_rows: Counts = {}


class RowsResult(Result):
    """Numbers of rows, and names of columns."""

    rows: Count = 0
    train_rows: Count = 0
    test_rows: Count = 0
    parties: Count = 0
    columns: Columns = {}


class Bins(Result):
    """The rows by falling prediction, in few bins of many rows each: what curves are drawn of
    (``workers/executors/metrics.py``)."""

    columns: Annotated[list[Annotated[str, StringConstraints(max_length=20)]], Field(min_length=4, max_length=4)]
    rows: Annotated[
        list[Annotated[list[int | float | None], Field(min_length=4, max_length=4)]], Field(max_length=MOST_BINS)
    ]


class ModelResult(ReportsResult):
    """Of a model: how good it is, not what it says of a row."""

    rows: Count = 0
    model: Name = ""
    features: Counts = {}
    metrics: Metrics = {}
    bins: Bins | None = None


class ColumnsResult(ReportsResult):
    """Of new columns: their names, and a figure of each."""

    columns: Columns = {}
    information_values: Annotated[Named, AfterValidator(_of_columns)] = {}


class ComponentResult(ReportsResult):
    component: Name
    #: Models and rules that ``io/read_data`` has read for people, which reads nothing else.
    read: Annotated[dict[Name, JsonValue], Field(max_length=20)] = {}


def check_result(task_type: str, model: type[BaseModel], result: Any, parties: Sequence[str]) -> dict[str, Any]:
    """Return a task type's result in a run of these parties. Raises AlgorithmError, which tells nothing of it, unless
    it is of the declared form."""
    try:
        model.model_validate(result, context={"parties": parties})
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)
        # Keys are of the result, too: a column of rows may be among them
        log.error(
            "the result of %s is not what it declares: %s", task_type, [(e["loc"], e["type"]) for e in wrong[:20]]
        )
        fields = sorted({str(e["loc"][0]) for e in wrong if e["loc"] and e["loc"][0] in model.model_fields})
        raise AlgorithmError(
            "the result of task type {} is not of the form that it declares{}, so nothing of it is told; its worker's "
            "log says where, but not what it holds; please report this",
            Text(task_type),
            Text(f" (in {', '.join(fields)})" if fields else ""),
        ) from None
    found: dict[str, Any] = result
    return found
