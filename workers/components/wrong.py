"""Cases that SecretFlow's own components compute wrongly: they are refused, or a warning tells of them."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from workers.components.files import Kept
from workers.computing.cells import read_cells, read_numbers
from workers.contract.errors import ConfigError
from workers.contract.wording import Text
from workers.host.sources import Source
from workers.host.tables import WHOLE_LIMIT, column_types, count_rows, text_blocks

#: By component: the warning in its results.
TOLD = {
    "stats/ss_pearsonr": "SecretFlow's component gives n / (n - 1) times the correlations of n rows; the task type "
    "correlation puts that right.",
    "stats/ss_vif": "SecretFlow's component gives (n - 1) / n times the factors of n rows, and any number for columns "
    "that depend on each other exactly; the task type vif puts both right.",
    "ml.eval/ss_pvalue": "The p-values are those of the model with its own approximation of the sigmoid (sig_type), "
    "which can differ from those of a logistic regression by a factor.",
    "preprocessing/onehot_encode": "An empty cell is empty in all new columns; the task type one_hot has 0 there.",
    "stats/stats_psi": "A column that is mostly one value may be put into a single bin, whose stability is 0 whatever "
    "changed; the task type stability makes bins of their own for such values. A text that the rule does not know is "
    "among the nan values.",
}


def check_table(component: str, source: Source, columns: list[str], by: list[str]) -> None:
    """Raise ConfigError if the component would compute wrongly with this party's columns. ``by``: those that make
    groups.
    """
    import pyarrow.compute as pc

    types = column_types(source.path, source.name)
    if component == "stats/groupby_statistics":
        for column in by:
            if types[column] != "str" and any(
                pc.any(pc.equal(cells, "")).as_py() for (cells,) in _cells(source, column)
            ):
                raise ConfigError(
                    "column {!r} of dataset {} has empty values, which this component counts in another group; use "
                    "the task type group_by",
                    column,
                    source.name,
                )
    if component in ("data_filter/sample", "stats/groupby_statistics", "stats/table_statistics"):
        for column in (column for column in columns if types[column] == "int"):
            # Fourth powers are summed in 64 bits, whole numbers enter the SPU with 32 bits, and sampling turns them
            # into floats
            most = {"data_filter/sample": WHOLE_LIMIT, "stats/groupby_statistics": 2.0**31}.get(component, 2.0**12)
            if any(_has_beyond(cells, int(most)) for (cells,) in _cells(source, column)):
                raise ConfigError(
                    "column {!r} of dataset {} has whole numbers of {:.0f} and more, with which this component "
                    "computes wrongly; {}",
                    column,
                    source.name,
                    most,
                    Text(_INSTEAD[component]),
                )


def check_scaled(component: str, attributes: Any, source: Source, columns: list[str]) -> None:
    """Raise ConfigError if scaling would divide by zero. SecretFlow does not notice if the column has an empty cell,
    which counts as another value."""
    import numpy as np

    if component != "preprocessing/feature_calculate" or attributes.rules.op not in ("STANDARDIZE", "NORMALIZATION"):
        return
    types = column_types(source.path, source.name)
    numbers = [column for column in columns if types[column] in ("int", "float")]
    for column, cells in read_numbers(source.path, source.name, numbers).items():
        if cells.empty.any() and len(np.unique(cells.numbers[~cells.empty])) == 1:
            raise ConfigError(
                "column {!r} of dataset {} has one value and empty cells, of which this component makes nan; leave the "
                "column out",
                column,
                source.name,
            )


#: SecretFlow's one-hot encoding treats numbers that differ by less as the same.
_APART = 1e-7


def check_encoded(component: str, source: Source, columns: list[str]) -> None:
    """Raise ConfigError if two numbers would get each other's new column."""
    import numpy as np

    if component != "preprocessing/onehot_encode":
        return
    types = column_types(source.path, source.name)
    numbers = [column for column in columns if types[column] == "float"]
    for column, cells in read_numbers(source.path, source.name, numbers).items():
        found = np.unique(cells.numbers[~cells.empty])
        if len(found) > 1 and np.diff(found).min() <= _APART:
            raise ConfigError(
                "column {!r} of dataset {} has numbers that differ by less than {}, which this component takes for "
                "one; use the task type one_hot, or declare the column str in party.toml",
                column,
                source.name,
                _APART,
            )


def check_binned(component: str, source: Source, columns: list[str]) -> None:
    """Raise ConfigError if there is nothing to make bins of: SecretFlow would stop without saying why."""
    import numpy as np

    if component not in ("preprocessing/vert_binning", "preprocessing/vert_woe_binning"):
        return
    for column, cells in read_cells(source.path, source.name, columns).items():
        if cells.empty.all() or (cells.numbers is not None and len(np.unique(cells.numbers[~cells.empty])) == 1):
            raise ConfigError(
                "column {!r} of dataset {} has {} value in all rows, of which this component makes no bins; leave the "
                "column out",
                column,
                source.name,
                Text("no" if cells.empty.all() else "one"),
            )


_OPERATIONS: dict[str, Callable[[int, int], int | Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda first, second: Fraction(first, second) if second else Fraction(1, 2),
}


def check_arithmetic(component: str, attributes: Any, source: Source, operands: list[str]) -> None:
    """Raise ConfigError, naming the first row, if a result is not a whole number of 64 bits, as which it would be
    kept."""
    if component != "preprocessing/binary_op" or len(operands) != 2:
        return
    types = column_types(source.path, source.name)
    if any(types[column] != "int" for column in operands):
        return
    done = 0
    for first, second in _cells(source, *operands):
        if (row := _first_misfit(attributes.binary_op, first, second)) is not None:
            raise ConfigError(
                "row {} of dataset {}: {!r} {} {!r} is no whole number of 64 bits, and this component would keep a "
                "wrong one; declare one of the columns float in party.toml, or leave the row out",
                done + row + 1,
                source.name,
                operands[0],
                Text(attributes.binary_op),
                operands[1],
            )
        done += len(first)


def _first_misfit(sign: str, first: Any, second: Any) -> int | None:
    """Return the index of the first row of which the result is no whole number of 64 bits; None if there is none."""
    if _all_fit(sign, first, second):
        return None
    operation = _OPERATIONS[sign]
    for row, (one, other) in enumerate(zip(first.to_pylist(), second.to_pylist(), strict=True)):
        if re.match(_WHOLE, one) and re.match(_WHOLE, other):
            result = operation(int(one), int(other))
            if result.denominator != 1 or not -(2**63) <= result < 2**63:
                return row
    return None


def _all_fit(sign: str, first: Any, second: Any) -> bool:
    """Return whether all results are whole numbers of 64 bits, at arrow's speed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        one, other = _wholes(first), _wholes(second)
        there = pc.and_(pc.is_valid(one), pc.is_valid(other))
        one, other = one.filter(there), other.filter(there)
        if sign != "/":
            {"+": pc.add_checked, "-": pc.subtract_checked, "*": pc.multiply_checked}[sign](one, other)
            return True
        back = pc.multiply(pc.divide_checked(one, other), other)
        return pc.all(pc.equal(back, one)).as_py() is not False
    except pa.ArrowInvalid:
        return False


def check_alike(component: str, first: Source, second: Source, columns: list[str]) -> None:
    """Raise ConfigError if a column of two tables that are put one below the other has two types."""
    if component != "data_prep/union":
        return
    types = [column_types(source.path, source.name) for source in (first, second)]
    for column in columns:
        here, there = (found.get(column) for found in types)
        if here and there and here != there:
            raise ConfigError(
                "column {!r} is {} in dataset {} and {} in dataset {}; declare the same type for both in party.toml, "
                "such as str",
                column,
                here,
                first.name,
                there,
                second.name,
            )


#: How many rows SecretFlow reads and splits at once.
_AT_ONCE = 50000


def split_apart(component: str, attributes: Mapping[str, Any], source: Source) -> dict[str, float]:
    """Return the attributes with which train_test_split puts no row into both parts. Raises ConfigError.

    SecretFlow rounds both sizes up: 0.7 and 0.3 of 569 rows become 399 and 171. ``attributes``: values by path.
    """
    if component != "data_prep/train_test_split":
        return {}
    rows = count_rows(source.path, source.name)
    train, test = float(attributes["train_size"]), float(attributes["test_size"])
    both = {count: math.ceil(count * train) + math.ceil(count * test) for count in _at_once(rows)}
    if not any(found > count for count, found in both.items()):
        return {}
    if rows > _AT_ONCE:
        raise ConfigError(
            "attributes.test_size {:g} with train_size {:g} would put one of {} rows into both parts: use a smaller "
            "test_size, such as one less by 0.001, or the task type split",
            test,
            train,
            rows,
        )
    left = rows - math.ceil(rows * train)
    if not left:
        raise ConfigError(
            "attributes.train_size {:g} takes all {} rows, and leaves none for the test: use a smaller train_size, or "
            "the task type split",
            train,
            rows,
        )
    return {"test_size": (left - 0.5) / rows}  # which SecretFlow rounds up


def _at_once(rows: int) -> set[int]:
    return {count for count in (min(rows, _AT_ONCE), rows % _AT_ONCE) if count}


_INSTEAD = {
    "data_filter/sample": "declare it str in party.toml where it is a code",
    "stats/groupby_statistics": "use the task type group_by",
    "stats/table_statistics": "use the task type table_statistics",
}


_WHOLE = r"^[+-]?[0-9]+$"


def _cells(source: Source, *columns: str) -> Iterator[list[Any]]:
    """Yield the columns' cells in blocks of rows (arrow arrays of strings), without blanks around them."""
    import pyarrow.compute as pc

    for block in text_blocks(source.path, source.name, list(columns)):
        yield [pc.utf8_trim_whitespace(block[column]) for column in columns]


def _wholes(cells: Any) -> Any:
    """Return cells as numbers, null where one is no whole number. Raises ArrowInvalid where one is beyond 64 bits."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.if_else(pc.match_substring_regex(cells, _WHOLE), cells, None)
    return pc.replace_substring_regex(plain, r"^\+", "").cast(pa.int64())


def _has_beyond(cells: Any, most: int) -> bool:
    """Return whether a whole number is as large as that, whatever its sign."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        numbers = _wholes(cells)
    except pa.ArrowInvalid:
        return True
    return pc.any(pc.or_(pc.greater_equal(numbers, most), pc.less_equal(numbers, -most))).as_py() is True


def check_model(component: str, name: str, kept: Kept) -> None:
    """Raise ConfigError if a component would read a table's columns by names that the model does not have."""
    if isinstance(kept.record.get("task"), dict) and component.startswith(("ml.predict/", "ml.eval/")):
        raise ConfigError(
            "{} was kept by a task type, where columns have names of their own; use the task type predict, or train "
            "the model with a component such as ml.train/ss_sgd_train",
            name,
        )


#: Remedy: approximations to use in place of the sigmoid itself.
_SIGMOIDS = "use t1, the fastest, or t3, t5, df, sr or mix, which are closer to the sigmoid"
#: Number of bins of a feature that SecretFlow's boosted trees can tell apart: they are numbered in 8 bits.
_MOST_BINS = 127


def check_attributes(component: str, attributes: Any) -> tuple[str, str, str] | None:
    """Return an attribute with which the component computes wrongly, what is wrong, and what to use instead."""
    if component == "ml.train/ss_sgd_train" and attributes.sig_type == "real":
        return "sig_type", "real gives wrong predictions in this version of SecretFlow", _SIGMOIDS
    if component in ("ml.train/ss_xgb_train", "ml.train/sgb_train") and attributes.sketch_eps * _MOST_BINS < 1:
        return (
            "sketch_eps",
            f"makes more than {_MOST_BINS} bins of a feature, of which this version of SecretFlow mixes some up",
            "use 0.008 or more",
        )
    return None
