"""SecretFlow's components that tell figures, as the task type ``component``, against pandas, numpy and scikit-learn.

Components whose figures are those of another definition say so in the result's warnings: the factor is put in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import assume
from hypothesis import strategies as st
from sklearn.metrics import r2_score, roc_auc_score

from tests.differential.cases import Case, Output, the_same_at_all

PARTIES = ("alice", "bob")
#: Figure of table_statistics to how pandas names it.
MOMENTS = {
    "min": "min", "max": "max", "mean": "mean", "var(variance)": "var", "std(standard deviation)": "std",
    "sem(standard error)": "sem", "q2(second quartile, median)": "median", "sum": "sum",
}  # fmt: skip
FUNCTIONS = ("MEAN", "SUM", "COUNT", "MAX", "MIN", "VAR")


def case_of(
    component: str, tables: Mapping[str, Mapping[str, list[str]]], columns: Any, attributes: Any = None
) -> Case:
    params = {"component": component, "columns": {"input_ds": columns}} | (
        {"attributes": attributes} if attributes else {}
    )
    readers = [party for party in PARTIES if any(party in columns.get(kind, {}) for kind in ("features", "labels"))]
    task = {
        "task_type": "component",
        "data_sources": dict.fromkeys(readers, "rows"),
        "algorithm_params": {"component_params": params},
    }
    return Case({"rows": tables}, task, PARTIES)


@st.composite
def strategy(draw: Any) -> Case:
    component = draw(st.sampled_from(tuple(CHECKS)))
    rows = draw(st.integers(12, 40))

    def hundredths(least: int, most: int) -> list[str]:
        cells = st.integers(least, most).map(lambda n: repr(n / 100))
        return list(draw(st.lists(cells, min_size=rows, max_size=rows)))

    whole = draw(st.lists(st.integers(-900, 900).map(str), min_size=rows, max_size=rows))
    groups = draw(st.lists(st.sampled_from("0123"), min_size=rows, max_size=rows))
    label = draw(st.lists(st.sampled_from("01"), min_size=rows, max_size=rows))
    tables = {
        "alice": {"a0": hundredths(-900, 900), "a1": whole, "g": groups},
        "bob": {"b0": hundredths(-900, 900), "y": label, "p": hundredths(1, 99)},
    }
    assume(all(len(set(map(float, cells))) > 1 for mine in tables.values() for cells in mine.values()))
    features = {"features": {"alice": ["a0", "a1"], "bob": ["b0"]}}
    scored = {"labels": {"bob": ["y", "p"]}, "select": {"label": "y", "prediction": "p"}}
    if component == "stats/groupby_statistics":
        queries = [{"function": function, "column_name": "b0"} for function in FUNCTIONS]
        columns = {"features": {"alice": ["g"], "bob": ["b0"]}, "select": {"by": ["g"]}}
        assume(min(groups.count(group) for group in set(groups)) > 1)
        return case_of(component, tables, columns, {"aggregation_config": {"column_queries": queries}})
    if component == "ml.eval/prediction_bias_eval":
        how = {"bucket_num": 2, "bucket_method": "equal_width", "min_item_cnt_per_bucket": 2}
        return case_of(component, tables, scored, how)
    if component.startswith("ml.eval/"):
        return case_of(component, tables, scored, {"bucket_size": 5})
    return case_of(component, tables, features)


def examples() -> list[Case]:
    tables = {
        "alice": {"a0": ["1.5", "2.0", "4.0", "3.0", "7.0", "8.0"], "a1": list("010110"), "g": list("010110")},
        "bob": {"b0": list("210593"), "y": list("010110"), "p": [".2", ".9", ".3", ".4", ".4", ".5"]},
    }
    return [case_of("stats/table_statistics", tables, {"features": {"alice": ["a0", "a1"], "bob": ["b0"]}})]


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    reports = the_same_at_all(answers, "reports")["report"]
    frame = pd.DataFrame(
        {name: np.array(cells, float) for mine in case.tables["rows"].values() for name, cells in mine.items()}
    )
    CHECKS[case.task["algorithm_params"]["component_params"]["component"]](reports, frame)


def _table(report: Mapping[str, Any]) -> pd.DataFrame:
    [table] = report["tables"]
    found = pd.DataFrame(table["rows"], columns=table["columns"])
    return found.set_index("") if "" in found else found


def _table_statistics(reports: Any, frame: pd.DataFrame) -> None:
    found = _table(reports[0])
    for name in found.index:
        assert float(found.loc[name, "total_count"]) == len(frame)
        for told, function in MOMENTS.items():
            # float64, in another order of additions
            clear = float(getattr(frame[name], function)())
            assert np.isclose(float(found.loc[name, told]), clear, rtol=1e-9, atol=1e-9), (name, told)
        central = ((frame[name] - frame[name].mean()) ** 3).mean()
        assert np.isclose(float(found.loc[name, "central_moment_3"]), central, rtol=1e-7, atol=1e-6)


def _pearson(reports: Any, frame: pd.DataFrame) -> None:
    found = _table(reports[0])
    clear = frame[list(found)].corr() * len(frame) / (len(frame) - 1)
    assert np.allclose(found.to_numpy(float), clear, rtol=0, atol=1e-5)  # 40 fraction bits, and a report in float32


def _vif(reports: Any, frame: pd.DataFrame) -> None:
    values = reports[0]["values"]
    factors = np.linalg.inv(frame[list(values)].corr().to_numpy()).diagonal() * (len(frame) - 1) / len(frame)
    # An inverse on shares, made by some steps of an iteration
    assert factors.max() > 50 or np.allclose(list(values.values()), factors, rtol=0.02)


def _grouped(reports: Any, frame: pd.DataFrame) -> None:
    groups = frame.groupby("g")["b0"]
    for function, report in zip(FUNCTIONS, reports, strict=True):
        found = _table(report)
        clear = getattr(groups, function.lower())()
        assert [float(group) for group in found["g"]] == list(clear.index)
        # A division on shares has some four digits
        assert np.allclose(found["b0"].astype(float), clear, rtol=2e-3, atol=5e-3), function


def _regression(reports: Any, frame: pd.DataFrame) -> None:
    values, error = reports[0]["values"], frame.p - frame.y
    clear = {
        "r2_score": r2_score(frame.y, frame.p), "mean_abs_err": error.abs().mean(),
        "sum_squared_errors": (error**2).sum(), "root_mean_squared_errors": (error**2).mean() ** 0.5,
        "y_true_mean": frame.y.mean(), "y_pred_mean": frame.p.mean(),
    }  # fmt: skip
    for name, value in clear.items():
        assert np.isclose(values[name], value, rtol=1e-4, atol=1e-5), name  # float32
    histogram = _table(reports[1])
    assert histogram.loc["sample_counts"].sum() == len(frame)


def _classification(reports: Any, frame: pd.DataFrame) -> None:
    values = reports[0]["values"]
    assert values["total_samples"] == len(frame)
    assert values["positive_samples"] == frame.y.sum()
    assert np.isclose(values["auc"], roc_auc_score(frame.y, frame.p), rtol=0, atol=1e-5)


def _bias(reports: Any, frame: pd.DataFrame) -> None:
    for _, row in _table(reports[0]).iterrows():
        low, high = row["left_endpoint"], row["right_endpoint"]
        inside = (frame.p >= low - 1e-6) & (
            (frame.p <= high + 1e-6) if row["right_closed"] else (frame.p < high - 1e-6)
        )
        if inside.sum() < 2:
            continue  # too few for it to tell
        assert np.isclose(float(row["avg_prediction"]), frame.p[inside].mean(), atol=1e-4)
        assert np.isclose(float(row["avg_label"]), frame.y[inside].mean(), atol=1e-4)
        assert np.isclose(float(row["bias"]), abs(frame.p[inside].mean() - frame.y[inside].mean()), atol=2e-4)


CHECKS = {
    "stats/table_statistics": _table_statistics,
    "stats/ss_pearsonr": _pearson,
    "stats/ss_vif": _vif,
    "stats/groupby_statistics": _grouped,
    "ml.eval/regression_eval": _regression,
    "ml.eval/biclassification_eval": _classification,
    "ml.eval/prediction_bias_eval": _bias,
}
