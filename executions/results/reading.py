"""Reads a result into the blocks that the page shows. A party wrote it: what is not of the form that the task type
declares is shown as plain figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from django.utils.translation import gettext
from pydantic import BaseModel, ValidationError

from executions.results import curves, models, reports
from executions.results.blocks import Bars, Block, Figures, Found, Overlap
from executions.results.figures import cut, in_order, name_of
from workers.contract.registry import TASK_EXECUTOR_REGISTRY
from workers.contract.results import (
    ColumnsResult,
    ComponentResult,
    ModelResult,
    PSIResult,
    ReportsResult,
    RowsResult,
)

#: Blocks, figures and warnings that the page shows.
MOST_BLOCKS, MOST_FIGURES, MOST_WARNINGS = 60, 500, 50


def read(task_type: str, result: Any) -> Found:
    """Return a result for its page: the headline, warnings on top, and blocks. Nothing of a party's can raise."""
    rest = {**result} if isinstance(result, dict) else {}
    rest.pop("outputs", None)  # the worker adds their names; the page says them with links
    warnings = rest.pop("warnings", [])
    if not isinstance(warnings, list):
        warnings = [warnings]
    model = _model(task_type, rest) if rest else None
    headline = _headline(model) if model else ""
    blocks = list(islice(_blocks(model, rest), 1000))
    return Found(
        headline=headline,
        warnings=[cut(str(warning)) for warning in warnings[:MOST_WARNINGS]],
        more_warnings=max(len(warnings) - MOST_WARNINGS, 0),
        blocks=blocks[:MOST_BLOCKS],
        more_blocks=max(len(blocks) - MOST_BLOCKS, 0),
    )


def table_of(task_type: str, result: Any, number: int) -> Block | None:
    """Return a block by its number on the page, from 0, for its download; None if there is none."""
    blocks = read(task_type, result).blocks
    return blocks[number] if 0 <= number < len(blocks) else None


def _model(task_type: str, result: Mapping[str, Any]) -> Any:
    """Return the result in its declared form; None if it is not of it, or the task type is no longer installed."""
    if task_type not in TASK_EXECUTOR_REGISTRY:
        return None
    declared: type[BaseModel] = TASK_EXECUTOR_REGISTRY[task_type].Result
    try:
        return declared.model_validate(result)
    except ValidationError:
        return None


# --- the answer in a sentence


def _headline(model: Any) -> str:
    match model:
        case PSIResult():
            return _in_common(model)
        case ModelResult():
            return _how_good(model)
        case RowsResult() if model.train_rows or model.test_rows:
            return gettext("{train} to train with, {test} to test with.").format(
                train=_rows(model.train_rows), test=_rows(model.test_rows)
            )
        case RowsResult() if model.rows:
            return f"{_rows(model.rows)}."
        case ReportsResult() if counts := _psi_of(model):
            return _in_common(counts)
        case ReportsResult():
            return reports.headline(model.reports)
    return ""


def _in_common(model: PSIResult) -> str:
    had = gettext(" and ").join(
        gettext("{count:,} at {party}").format(count=count, party=party)
        for party, count in sorted(model.original_count.items())
    )
    found = set(model.intersection_count.values())
    if len(found) == 1:
        return (
            gettext("{rows} in common, of {had}.").format(rows=_rows(found.pop()), had=had)
            if had
            else gettext("{rows} in common.").format(rows=_rows(found.pop()))
        )
    told = ", ".join(
        gettext("{count:,} of {party}'s rows").format(count=count, party=party)
        for party, count in sorted(model.intersection_count.items())
    )
    return gettext("In common: {told}.").format(told=told) if told else ""


def _how_good(model: ModelResult) -> str:
    return reports.how_good({name_of(key): value for key, value in model.metrics.items()} | {"Rows": model.rows})


def _rows(count: int) -> str:
    return gettext("{count:,} row").format(count=count) if count == 1 else gettext("{count:,} rows").format(count=count)


# --- blocks


def _blocks(model: Any, result: Mapping[str, Any]) -> Iterator[Block]:
    match model:
        case PSIResult():
            yield from _psi(model)
        case ModelResult():
            yield from _of_model(model)
        case ColumnsResult():
            yield from _of_columns(model)
        case RowsResult():
            figures = {
                gettext("Rows"): model.rows,
                gettext("Rows to train"): model.train_rows,
                gettext("Rows to test"): model.test_rows,
                gettext("Parties"): model.parties,
            }
            told = [[name, count] for name, count in figures.items() if count]
            if told:
                yield Figures(title=gettext("Rows"), columns=[gettext("Figure"), gettext("Value")], rows=told)
            yield from _columns(gettext("Columns"), model.columns)
        case ReportsResult():
            yield from _of_reports(model, result)
        case _:
            yield from _plain(result, gettext("Result"))


def _psi(model: PSIResult) -> Iterator[Block]:
    counts = model.original_count
    found = set(model.intersection_count.values())
    if len(counts) == 2 and len(found) == 1:
        (left, mine), (right, theirs) = sorted(counts.items())
        [both] = found
        # Of keys that come several times a party may have more rows in common than another has rows
        if both <= min(mine, theirs):
            yield Overlap(
                title=gettext("Rows in common"),
                text=gettext(
                    "{both:,} rows are in common; {only_left:,} are only at {left}, {only_right:,} only at {right}."
                ).format(both=both, only_left=mine - both, left=left, only_right=theirs - both, right=right),
                columns=["", gettext("Rows")],
                rows=[
                    [gettext("only {left}").format(left=left), mine - both],
                    [gettext("in common"), both],
                    [gettext("only {right}").format(right=right), theirs - both],
                ],
                left=left,
                right=right,
                only_left=mine - both,
                only_right=theirs - both,
                both=both,
            )
    parties = sorted({*counts, *model.intersection_count, *model.output_rows})
    heads = {
        gettext("Rows"): counts,
        gettext("In common"): model.intersection_count,
        gettext("Rows of the output"): model.output_rows,
    }
    told = {head: values for head, values in heads.items() if values}
    if told:
        rows = [[party, *(values.get(party) for values in told.values())] for party in parties]
        yield Block(title=gettext("Rows by party"), columns=[gettext("Party"), *told], rows=rows)


def _of_model(model: ModelResult) -> Iterator[Block]:
    figures = [[name_of(key), value] for key, value in in_order(model.metrics)]
    if figures:
        yield Figures(title=gettext("Metrics"), columns=[gettext("Metric"), gettext("Value")], rows=figures)
    about: list[list[Any]] = [[gettext("Rows"), model.rows]] if model.rows else []
    about += [[gettext("Model"), model.model]] if model.model else []
    about += [
        [gettext("Features of {party}").format(party=party), count] for party, count in sorted(model.features.items())
    ]
    if about:
        yield Figures(title=gettext("Model"), columns=[gettext("Figure"), gettext("Value")], rows=about)
    if model.bins:
        of = curves.of_classification if "from" in model.bins.columns else curves.of_regression
        yield from of(model.bins.rows)
    yield from reports.blocks(model.reports)


def _of_columns(model: ColumnsResult) -> Iterator[Block]:
    if model.information_values:
        yield Bars(
            title=gettext("Information value"),
            text=gettext("How much each column tells of the label."),
            columns=[gettext("Column"), "IV"],
            rows=reports.falling([[name, value] for name, value in model.information_values.items()]),
            bands=reports.IV_BANDS,
        )
    yield from _columns(gettext("New columns"), model.columns)
    yield from reports.blocks(model.reports)


def _columns(title: str, of: Mapping[str, Sequence[str]]) -> Iterator[Block]:
    rows = [[party, column] for party, columns in sorted(of.items()) for column in columns]
    if rows:
        yield Block(title=title, columns=[gettext("Party"), gettext("Column")], rows=rows)


def _of_reports(model: ReportsResult, result: Mapping[str, Any]) -> Iterator[Block]:
    if counts := _psi_of(model):
        yield from _psi(counts)
    else:
        yield from reports.blocks(model.reports)
    for name, read in (model.read if isinstance(model, ComponentResult) else {}).items():
        found = list(models.blocks(read))
        yield from found or _plain(read, name_of(name))


def _psi_of(model: ReportsResult) -> PSIResult | None:
    """Return what the component of PSI reports as the task type does; None if it is another report."""
    tables = [t for found in model.reports.values() for report in found for t in report.tables]
    if [table.columns for table in tables] != [["party", "original_count", "intersection_count"]]:
        return None
    try:
        counts: list[Any] = [{str(row[0]): row[i] for row in tables[0].rows} for i in (1, 2)]
        return PSIResult(original_count=counts[0], intersection_count=counts[1])
    except (ValidationError, IndexError):
        return None


def _plain(result: Any, title: str) -> Iterator[Block]:
    rows = list(islice(_flat(result), MOST_FIGURES + 1))
    if rows:
        text = gettext("The first figures; the API has all of them.") if len(rows) > MOST_FIGURES else ""
        yield Block(title=title or gettext("More"), columns=["", gettext("Value")], rows=rows[:MOST_FIGURES], text=text)


def _flat(result: Any, prefix: str = "") -> Iterator[list[Any]]:
    """Yield a nested value as rows of name and figure: ``Intersection count, alice`` and the number."""
    if isinstance(result, dict):
        for key, value in result.items():
            yield from _flat(value, cut(f"{prefix}, {key}") if prefix else name_of(str(key)))
    elif isinstance(result, list) and any(isinstance(entry, dict | list) for entry in result):
        for number, value in enumerate(result, 1):
            yield from _flat(value, cut(f"{prefix} {number}".strip()))
    else:
        yield [prefix, result]
