"""Blocks of models and rules that the component ``io/read_data`` reads for people: coefficients, trees and bins.

Their form is that of SecretFlow's messages LinearModel, GeneralizedLinearModel, SgbModel and Bins as JSON. A party
wrote it: what is of another form is none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

from django.utils.translation import gettext
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from executions.results import reports
from executions.results.blocks import Bars, Block
from executions.results.figures import is_number, shown


class _Message(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="allow")


class _Weight(_Message):
    feature_name: str
    party: str = ""
    feature_weight: float = 0.0


class _Linear(_Message):
    feature_weights: list[_Weight] = Field(min_length=1)
    bias: float = 0.0


class _Bin(_Message):
    left_bound: Any = None
    right_bound: Any = None
    filling_value: float = 0.0
    total_count: int | str = 0


class _Variable(_Message):
    feature_name: str
    party_name: str = ""
    iv: float | None = None
    valid_bins: list[_Bin] = []


class _Bins(_Message):
    variable_bins: list[_Variable] = Field(min_length=1)


class _Features(_Message):
    feature_names: list[str] = []


class _Common(_Message):
    partition_column: dict[str, _Features] = {}


class _Tree(_Message):
    split_features: list[int] = []
    split_values: list[float | str] = []


class _Trees(_Message):
    split_trees: list[_Tree] = []


class _Boosted(_Message):
    common: _Common
    ensemble_split_trees: Annotated[dict[str, _Trees], Field(min_length=1), AfterValidator(dict)]


def blocks(read: Any) -> Iterator[Block]:
    """Yield the blocks of what was read; none if it is of no form that is known."""
    inner = read.get("model", read) if isinstance(read, dict) else read
    if linear := _parsed(_Linear, inner):
        named = [[f"{w.party}.{w.feature_name}" if w.party else w.feature_name, w.feature_weight]
                 for w in linear.feature_weights]  # fmt: skip
        yield Bars(
            title=gettext("Coefficients"),
            text=gettext("The intercept is {shown}.").format(shown=shown(linear.bias)),
            columns=[gettext("Column"), gettext("Coefficient")],
            rows=sorted(named, key=lambda row: -abs(row[1])),
        )
    elif boosted := _parsed(_Boosted, read):
        yield from _of_trees(boosted)
    elif bins := _parsed(_Bins, read):
        yield from _of_bins(bins)


def _parsed(model: Any, found: Any) -> Any:
    try:
        return model.model_validate(found)
    except ValidationError:
        return None


def _of_trees(model: _Boosted) -> Iterator[Block]:
    splits: Counter[str] = Counter()
    rows: list[tuple[int, int, str, float | str]] = []
    for party, trees in model.ensemble_split_trees.items():
        names = model.common.partition_column.get(party, _Features()).feature_names
        for number, tree in enumerate(trees.split_trees, 1):
            for node, (index, bound) in enumerate(zip(tree.split_features, tree.split_values, strict=False), 1):
                if 0 <= index < len(names):  # -1: another party's split
                    column = f"{party}.{names[index]}"
                    splits[column] += 1
                    rows.append((number, node, column, bound))
    if splits:
        yield Bars(
            title=gettext("Importance"),
            text=gettext("How many splits of the trees go by each column."),
            columns=[gettext("Column"), gettext("Splits")],
            rows=[list(entry) for entry in splits.most_common()],
        )
        yield Block(
            title=gettext("Trees"),
            columns=[gettext("Tree"), gettext("Split"), gettext("Column"), gettext("At")],
            rows=sorted(rows, key=lambda row: (row[0], row[1])),
            is_folded=True,
        )


def _of_bins(model: _Bins) -> Iterator[Block]:
    values = [[_named(v), v.iv] for v in model.variable_bins if is_number(v.iv) and v.iv]
    if values:
        yield Bars(
            title=gettext("Information value"),
            columns=[gettext("Column"), "IV"],
            rows=reports.falling(values),
            bands=reports.IV_BANDS,
        )
    rows = [
        [
            _named(v),
            gettext("{low} to {high}").format(low=_bound(b.left_bound), high=_bound(b.right_bound)),
            int(b.total_count),
            b.filling_value,
        ]
        for v in model.variable_bins
        for b in v.valid_bins
        if str(b.total_count).isdecimal()
    ]
    if rows:
        yield Block(
            title=gettext("Bins"),
            columns=[gettext("Column"), gettext("Bin"), gettext("Rows"), gettext("Value")],
            rows=rows,
        )


def _named(variable: _Variable) -> str:
    return f"{variable.party_name}.{variable.feature_name}" if variable.party_name else variable.feature_name


def _bound(bound: Any) -> str:
    return {"-Infinity": "-∞", "Infinity": "∞"}.get(str(bound), shown(bound))
