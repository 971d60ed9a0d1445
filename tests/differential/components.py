"""SecretFlow's components that choose rows or compute columns, as the task type ``component``, against plain Python.

Every row that comes out is compared, cell by cell, and that both parties have the same rows in the same order.
"""

from __future__ import annotations

import csv
import io
import math
import operator
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from tests.differential.cases import Case, Output, is_empty

PARTIES = ("alice", "bob")
KINDS = ("int", "float", "text")
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
CONDITIONS = {"EQ": "==", "LT": "<", "LE": "<=", "GT": ">", "GE": ">="}
#: By which data_filter/condition_filter and preprocessing/case_when take numbers for equal.
EPSILON = 1e-6
Row = dict[str, Any]
#: Column to its cells.
Table = dict[str, list[str]]


def value(cell: str, column: str) -> Any:
    """None of an empty cell. A column's name begins with its kind."""
    kind = column.partition("_")[0]
    if is_empty(cell, kind) and kind != "text":
        return None
    return {"int": int, "float": float, "text": str}[kind](cell)


def case_of(component: str, tables: Mapping[str, Mapping[str, Table]], attributes: Any, **select: Any) -> Case:
    """``tables``: dataset to party to columns. ``select``: what the component asks about its table's columns."""
    names = {party: list(mine) for party, mine in tables["rows"].items()}
    table: dict[str, Any] = {"features": names} | ({"select": select} if select else {})
    columns = {"input_ds1": table, "input_ds2": table} if component == "data_prep/union" else {"input_ds": table}
    task = {
        "task_type": "component",
        "data_sources": dict.fromkeys(PARTIES, "rows"),
        "outputs": dict.fromkeys(PARTIES, "made"),
        "algorithm_params": {"component_params": {"component": component, "columns": columns}},
    }
    if attributes:
        task["algorithm_params"]["component_params"]["attributes"] = attributes
    if component == "data_prep/union":
        task["further_sources"] = {"input_ds2": dict.fromkeys(PARTIES, "other")}
    further = FURTHER.get(component)
    if further:
        task["further_outputs"] = {further: dict.fromkeys(PARTIES, "rule" if further == "output_rule" else "further")}
    return Case(tables, task, PARTIES)


#: Component to the name of its second output.
FURTHER = {
    "data_filter/condition_filter": "output_ds_else",
    "data_filter/expr_condition_filter": "output_ds_else",
    "data_prep/train_test_split": "test_ds",
    "preprocessing/binary_op": "output_rule",
    "preprocessing/case_when": "output_rule",
    "preprocessing/cast": "output_rule",
    "preprocessing/fillna": "output_rule",
    "preprocessing/feature_calculate": "output_rule",
}


@st.composite
def cells(draw: Any, rows: int, kind: str, *, empty: bool) -> list[str]:
    # Hundredths: two of them are equal or further apart than EPSILON
    fitting = {
        "int": draw(st.sampled_from((st.integers(-3, 3), st.integers(-(2**40), 2**40)))).map(str),
        "float": st.integers(-300, 300).map(lambda n: repr(n / 100)),
        "text": st.sampled_from(("a", "é", "NA", "x y", "a,b", 'q"q', "007", "7")),
    }[kind]
    if empty and draw(st.booleans()):
        fitting = st.one_of(fitting, fitting, st.just(""))
    return draw(st.lists(fitting, min_size=rows, max_size=rows))


@st.composite
def table(draw: Any, rows: int, *, empty: bool) -> dict[str, Table]:
    """Two numbers and a text of each party; a column of empty cells alone has no kind."""
    made: dict[str, Table] = {}
    for party in PARTIES:
        kinds = (draw(st.sampled_from(KINDS[:2])), draw(st.sampled_from(KINDS[:2])), "text")
        made[party] = {
            f"{kind}_{party[0]}{index}": draw(cells(rows, kind, empty=empty)) for index, kind in enumerate(kinds)
        }
        assume(all(any(found) for found in made[party].values()))
        # Digits alone, between empty cells and NA, are taken for numbers
        texts = made[party][f"text_{party[0]}2"]
        assume(any(not cell.isdigit() and not is_empty(cell, "int") for cell in texts))
    return made


@st.composite
def strategy(draw: Any) -> Case:
    component = draw(st.sampled_from(tuple(EXPECTED)))
    rows = draw(st.integers(2, 20))
    tables = {"rows": draw(table(rows, empty=True))}
    party = draw(st.sampled_from(PARTIES))
    mine = tables["rows"][party]
    first, second, words = mine
    number = draw(st.sampled_from((first, second)))
    any_ = draw(st.sampled_from((first, second, words)))
    known = draw(st.sampled_from([cell for cell in mine[number] if cell]))
    if component == "data_filter/condition_filter":
        how = draw(st.sampled_from(("==", "<", "<=", ">", ">=", "IN", "NOTNULL")))
        plain = [cell for cell in mine[any_] if cell and "," not in cell]
        assume(plain)
        bound = ",".join(draw(st.lists(st.sampled_from(plain), min_size=1, max_size=3 if how == "IN" else 1)))
        case = case_of(component, tables, {"comparator": how, "bound_value": bound}, feature=any_)
    elif component == "data_filter/expr_condition_filter":
        sign = draw(st.sampled_from((">", "<=", "=")))
        end = draw(st.sampled_from(("", f" and {words} <> 'a'", f" or {second} < 1", f" or not {second} < 1")))
        case = case_of(component, tables, {"expr": f"{number} {sign} {known}{end}"})
    elif component == "data_filter/feature_filter":
        dropped = draw(st.lists(st.sampled_from((first, second, words)), min_size=1, max_size=2, unique=True))
        case = case_of(component, tables, None, drop_features=dropped)
    elif component == "data_filter/sample":
        share = draw(st.sampled_from((0.3, 0.5, 0.8)))
        for one in tables["rows"].values():  # sampling refuses larger numbers
            assume(all(abs(int(cell)) < 2**53 for name in one if name.startswith("int") for cell in one[name] if cell))
        case = case_of(component, tables, {"sample_algorithm": {"choose": "random", "random": {"frac": share}}})
    elif component == "data_prep/union":
        other = {p: {n: draw(cells(3, n.partition("_")[0], empty=False)) for n in c} for p, c in tables["rows"].items()}
        for name, found in (entry for mine in other.values() for entry in mine.items()):
            assume(name[0] != "t" or any(not cell.isdigit() and not is_empty(cell, "int") for cell in found))
        case = case_of(component, {**tables, "other": other}, None)
    elif component == "data_prep/train_test_split":
        size = draw(st.sampled_from((0.75, 0.5, 0.3)))
        assume(math.ceil(rows * size) < rows)  # otherwise it is refused
        attributes = {"train_size": size, "test_size": round(1 - size, 2), "shuffle": draw(st.booleans())}
        case = case_of(component, tables, attributes)
    elif component == "preprocessing/binary_op":
        case = case_of(component, tables, {"binary_op": draw(st.sampled_from("+-*/")), "new_feature_name": "new"},
                       f1=first, f2=second)  # fmt: skip
        assume(all(_is_kept(case, row) for row in rows_of(tables["rows"])))  # otherwise it is refused
    elif component == "preprocessing/case_when":
        is_int = number.startswith("int")
        constant = {"type": "CONST_INT", "i": int(known)} if is_int else {"type": "CONST_FLOAT", "f": float(known)}
        condition = {"cond_column": number, "op": draw(st.sampled_from(tuple(CONDITIONS))), "cond_value": constant}
        rules = {
            "whens": [{"conds": [condition], "then": {"type": "CONST_INT", "i": 1}}],
            "else_value": {"type": "CONST_INT", "i": 0}, "output_column": "new", "float_epsilon": EPSILON,
        }  # fmt: skip
        case = case_of(component, tables, {"rules": rules})
    elif component == "preprocessing/cast":
        to = "string" if not number.startswith("int") else draw(st.sampled_from(("string", "float")))
        case = case_of(component, tables, {"astype": {"choose": to}}, columns=[number])
    elif component == "preprocessing/fillna":
        kind = number.partition("_")[0]
        way = draw(st.sampled_from(("mean", "median", "most_frequent", "constant")))
        attributes = {f"{kind}_fill_strategy": way, f"fill_value_{kind}": 7}
        case = case_of(component, tables, attributes, fill_na_features=[number])
    else:
        rules = {"op": draw(st.sampled_from(("STANDARDIZE", "NORMALIZATION", "RANGE_LIMIT", "ROUND")))}
        rules |= {"operands": ["-1", "1"]} if rules["op"] == "RANGE_LIMIT" else {}
        assume("" not in mine[number] or len({float(cell) for cell in mine[number] if cell}) > 1)  # which is refused
        case = case_of(component, tables, {"rules": rules}, features=[number])
    if component in ("data_filter/condition_filter", "data_filter/expr_condition_filter"):
        # SecretFlow refuses an empty part
        assume(0 < sum(chosen(case, row) for row in rows_of(tables["rows"])) < rows)
    return case


def examples() -> list[Case]:
    """Large whole numbers beside empty cells; single quotes, which are no quotes of the file."""
    large = {"int_a": [str(10**10), ""] * 10, "text_a": ["'a'", "'"] * 10}
    tables = {"rows": {"alice": large, "bob": {"int_b": [str(n) for n in range(20)]}}}
    sampled = {"sample_algorithm": {"choose": "random", "random": {"frac": 0.8}}}
    empty = {"rows": {"alice": {"int_a": ["1", "1"], "text_a": ["", "b"]}, "bob": {"int_b": ["1", "2"]}}}
    unlike = {"expr": "int_a <= 1 and text_a <> 'a'"}
    return [case_of("data_filter/sample", tables, sampled), case_of("data_filter/expr_condition_filter", empty, unlike)]


def rows_of(tables: Mapping[str, Table]) -> list[Row]:
    """What both parties would have if they put their rows together."""
    columns = {name: [value(c, name) for c in found] for mine in tables.values() for name, found in mine.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def asked(case: Case) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The component, its attributes and what it asks about columns."""
    params = case.task["algorithm_params"]["component_params"]
    select = params["columns"].get("input_ds", {}).get("select", {})
    return params["component"], params.get("attributes", {}), select


def chosen(case: Case, row: Row) -> bool:
    """Whether a filter keeps a row: a comparison with an empty cell is not true."""
    component, attributes, select = asked(case)
    if component == "data_filter/condition_filter":
        found, how = row[select["feature"]], attributes["comparator"]
        if how == "NOTNULL" or found is None:
            return found is not None
        bounds = [value(bound, select["feature"]) for bound in attributes["bound_value"].split(",")]
        return found in bounds if how == "IN" else bool(OPERATORS[how](found, bounds[0]))
    words = attributes["expr"].split(" ")
    first, more = _compared(row, words[0], words[1], words[2]), words[3:]
    if not more:
        return first is True
    is_not, (column, sign, bound) = more[1] == "not", more[-3:]
    second = _compared(row, column, sign, bound)
    second = (None if second is None else not second) if is_not else second
    if more[0] == "and":
        return first is True and second is True
    return first is True or second is True


def _compared(row: Row, column: str, sign: str, bound: str) -> bool | None:
    if row[column] is None or row[column] == "":  # an empty text is one without a value, too
        return None
    if sign == "<>":
        return bool(row[column] != bound.strip("'"))
    return bool(OPERATORS[{"=": "=="}.get(sign, sign)](row[column], value(bound, column)))


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    EXPECTED[asked(case)[0]](case, answers, output)


def read(case: Case, output: Output, name: str = "made") -> list[Row]:
    """Both parties' rows side by side, as text."""
    parts = [list(csv.DictReader(io.StringIO(output(party, name)))) for party in PARTIES]
    assert len({len(part) for part in parts}) == 1
    return [{k: v for part in row for k, v in part.items()} for row in zip(*parts, strict=True)]


def typed(row: Mapping[str, str], names: Any) -> Row:
    return {name: value(row[name], name) for name in names}


def the_filter(case: Case, answers: Any, output: Output) -> None:
    before = rows_of(case.tables["rows"])
    for name, kept in (("made", True), ("further", False)):
        found = [typed(row, row) for row in read(case, output, name)]
        assert found == [row for row in before if chosen(case, row) is kept]


def feature_filter(case: Case, answers: Any, output: Output) -> None:
    dropped = asked(case)[2]["drop_features"]
    expected = [{n: v for n, v in row.items() if n not in dropped} for row in rows_of(case.tables["rows"])]
    assert [typed(row, row) for row in read(case, output)] == expected


def union(case: Case, answers: Any, output: Output) -> None:
    expected = rows_of(case.tables["rows"]) + rows_of(case.tables["other"])
    assert [typed(row, row) for row in read(case, output)] == expected


def _counted(rows: list[Row]) -> Counter[str]:
    return Counter(repr(row) for row in rows)


def sample(case: Case, answers: Any, output: Output) -> None:
    before = rows_of(case.tables["rows"])
    share = asked(case)[1]["sample_algorithm"]["random"]["frac"]
    found = [typed(row, row) for row in read(case, output)]
    assert abs(len(found) - len(before) * share) < 1
    assert _counted(found) <= _counted(before)


def train_test_split(case: Case, answers: Any, output: Output) -> None:
    before, attributes = rows_of(case.tables["rows"]), asked(case)[1]
    parts = [[typed(row, row) for row in read(case, output, name)] for name in ("made", "further")]
    for part, share in zip(parts, (attributes["train_size"], attributes["test_size"]), strict=True):
        assert abs(len(part) - len(before) * share) < 1
    assert _counted(parts[0]) + _counted(parts[1]) == _counted(before)
    if not attributes["shuffle"]:
        assert parts[0] + parts[1] == before


def new_column(case: Case, answers: Any, output: Output) -> None:
    before, names = rows_of(case.tables["rows"]), [n for mine in case.tables["rows"].values() for n in mine]
    made = read(case, output)
    assert [typed(row, names) for row in made] == before
    for row, text in zip(before, (row["new"] for row in made), strict=True):
        _same(text, _computed(case, row))


def _computed(case: Case, row: Row) -> float | None:
    component, attributes, select = asked(case)
    if component == "preprocessing/binary_op":
        a, b = row[select["f1"]], row[select["f2"]]
        if None in (a, b):
            return None
        if attributes["binary_op"] == "/" and b == 0:
            return math.nan if a == 0 else math.copysign(math.inf, a)
        return float(OPERATORS[attributes["binary_op"]](a, b))
    [when] = attributes["rules"]["whens"]
    [condition] = when["conds"]
    found, bound = row[condition["cond_column"]], condition["cond_value"]
    if found is None:
        return 0.0
    return float(OPERATORS[CONDITIONS[condition["op"]]](found, bound.get("i", bound.get("f"))))


def _is_kept(case: Case, row: Row) -> bool:
    """Return whether a result of whole numbers is one of 64 bits."""
    _, attributes, select = asked(case)
    a, b = row[select["f1"]], row[select["f2"]]
    if not (isinstance(a, int) and isinstance(b, int)):
        return True
    if attributes["binary_op"] == "/":
        return b != 0 and a % b == 0
    return bool(abs(OPERATORS[attributes["binary_op"]](a, b)) < 2**63)


def _same(text: str, expected: float | None) -> None:
    """Of float64 operations, each rounded once."""
    if expected is None:
        assert text == ""
        return
    found = float(text)
    both = math.isnan(found) and math.isnan(expected)
    assert both or math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12), (text, expected)


def changed(case: Case, answers: Any, output: Output) -> None:
    """Of components that put other values into one column, and leave all others."""
    component, attributes, select = asked(case)
    [[column]] = select.values()
    before, made = rows_of(case.tables["rows"]), read(case, output)
    assert list(made[0]) == list(before[0])
    others = [name for name in before[0] if name != column]
    assert [typed(row, others) for row in made] == [{n: row[n] for n in others} for row in before]
    values = [row[column] for row in before]
    for found, old, new in zip((row[column] for row in made), values, _changed(case, column, values), strict=True):
        if component == "preprocessing/cast" and attributes["astype"]["choose"] == "string":
            assert found == "" if old is None else type(old)(found) == old
            assert old is None or not isinstance(old, int) or found == str(old)
        elif isinstance(new, set):
            assert float(found) in new
        else:
            _same(found, new)


def _changed(case: Case, column: str, values: list[Any]) -> list[Any]:
    component, attributes, _ = asked(case)
    if component == "preprocessing/cast":
        return values
    there = [v for v in values if v is not None]
    if component == "preprocessing/fillna":
        kind = column.partition("_")[0]
        way = attributes[f"{kind}_fill_strategy"]
        if way == "most_frequent":
            times = Counter(there)
            fill: Any = {float(v) for v in there if times[v] == max(times.values())}
        else:
            fill = {"mean": statistics.mean, "median": statistics.median, "constant": lambda _: 7}[way](there)
            fill = round(fill) if kind == "int" else fill
        return [fill if v is None else v for v in values]
    op = attributes["rules"]["op"]
    mean, least, most = statistics.mean(there), min(there), max(there)
    spread = statistics.pstdev(there)
    by: dict[str, Callable[[Any], float]] = {
        "STANDARDIZE": lambda v: (v - mean) / spread if spread else 0.0,
        "NORMALIZATION": lambda v: (v - least) / (most - least) if most > least else 0.0,
        "RANGE_LIMIT": lambda v: min(max(v, -1), 1),
        "ROUND": lambda v: float(round(v)),
    }
    return [None if v is None else by[op](v) for v in values]


EXPECTED: dict[str, Callable[[Case, Any, Output], None]] = {
    "data_filter/condition_filter": the_filter,
    "data_filter/expr_condition_filter": the_filter,
    "data_filter/feature_filter": feature_filter,
    "data_filter/sample": sample,
    "data_prep/union": union,
    "data_prep/train_test_split": train_test_split,
    "preprocessing/binary_op": new_column,
    "preprocessing/case_when": new_column,
    "preprocessing/cast": changed,
    "preprocessing/fillna": changed,
    "preprocessing/feature_calculate": changed,
}
