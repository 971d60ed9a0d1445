"""What the page of an execution makes of its result: the answer, tables, pictures, and their numbers as CSV."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.models import Party
from executions.results.blocks import Bars, Chart, Confusion, Figures, Found, HeatMap, Overlap
from executions.results.comparison import side_by_side
from executions.results.figures import name_of, number_in, shown, tidied
from executions.results.reading import MOST_BLOCKS, read
from executions.states import Status
from tests.composed import admin_client, make_execution, make_task, make_user, page_of
from workers.contract.registry import TASK_EXECUTOR_REGISTRY

#: Bins by falling prediction: threshold, rows, positives, mean prediction.
BINS = [[0.8, 10, 10, 0.9], [0.5, 10, 6, 0.65], [0.2, 20, 3, 0.35], [None, 10, 0, 0.1]]
MODEL = {
    "rows": 50,
    "metrics": {"auc": 0.9512345, "ks": 0.7, "lift_10%": 2.6},
    "features": {"alice": 2, "bob": 1},
    "bins": {"columns": ["from", "rows", "positives", "prediction"], "rows": BINS},
}


def titled(found: Found, title: str) -> Any:
    [block] = [block for block in found.blocks if block.title == title]
    return block


def report(name: str, **more: Any) -> dict[str, Any]:
    return {"reports": {"report": [{"name": name, **more}]}}


def table(columns: list[str], rows: list[list[Any]], name: str = "") -> list[dict[str, Any]]:
    return [{"name": name, "columns": columns, "rows": rows}]


def shows(task_type: str, result: Any) -> Found:
    """Read a result, and make its page."""
    found = read(task_type, result)
    render_to_string("executions/results/found.html", {"found": found, "csv_url": "x/"})
    return found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0000000059, "1"),
        (0.99999999, "1"),
        (-0.0000000, "0"),
        (1234567, "1,234,567"),
        (1234567.891, "1,234,567.89"),
        (0.12345678, "0.123457"),
        (3.1e-9, "3.100e-09"),
        (None, "-"),
        (True, "yes"),
        (10**40, "1.000e+40"),
        (10**400, "beyond float64"),
        (math.inf, "inf"),
        (["a", 2], "a, 2"),
        ("x" * 600, "x" * 500 + " ... (600 characters)"),
    ],
)
def test_figures_are_as_people_write_them(value: Any, text: str) -> None:
    assert shown(value).startswith(text)


def test_figures_have_names_in_words() -> None:
    assert [name_of(key) for key in ("lift_10%", "auc", "output_rows")] == ["Lift at 10 %", "AUC", "Output rows"]
    assert [number_in(text) for text in ("1.50", "7", "007", "1e3", "x", "-")] == [1.5, 7, "007", 1000.0, "x", "-"]
    assert tidied("(-inf, -0.5289490000000001]") == "(-inf, -0.52895]"


def test_an_intersection_is_a_sentence_and_two_circles() -> None:
    counts = {"alice": 460, "bob": 450}
    found = shows("psi", {"original_count": counts, "intersection_count": {"bob": 363}, "outputs": {"bob": "x"}})
    assert found.headline == "363 rows in common, of 460 at alice and 450 at bob."
    overlap = titled(found, "Rows in common")
    assert isinstance(overlap, Overlap)
    assert (overlap.only_left, overlap.both, overlap.only_right) == (97, 363, 87)
    assert titled(found, "Rows by party").rows == [["alice", 460, None], ["bob", 450, 363]]


def test_an_intersection_of_repeated_keys_or_of_three_has_no_circles() -> None:
    two = {"original_count": {"alice": 3, "bob": 4}, "intersection_count": {"alice": 9, "bob": 9}}
    three = {"original_count": {"alice": 3, "bob": 4, "carol": 5}, "intersection_count": {"alice": 2}}
    for result in (two, three):
        assert [block.title for block in shows("psi", result).blocks] == ["Rows by party"]


def test_a_model_has_curves_and_a_confusion_matrix_of_each_threshold() -> None:
    found = shows("lr", MODEL)
    assert found.headline == "AUC 0.951, KS 0.7 on 50 rows."
    assert isinstance(titled(found, "Metrics"), Figures)
    roc = titled(found, "ROC curve")
    assert isinstance(roc, Chart)
    assert roc.rows == [(0.0, 0.0), (0.0, 10 / 19), (4 / 31, 16 / 19), (21 / 31, 1.0), (1.0, 1.0)]
    assert titled(found, "Lift").rows[0] == [0.2, (10 / 19) / 0.2, 10 / 19]
    assert titled(found, "Calibration").rows[0] == (0.1, 0.0)
    matrix = titled(found, "Confusion matrix")
    assert isinstance(matrix, Confusion)
    assert matrix.rows == [[0.8, 10, 0, 9, 31], [0.5, 16, 4, 3, 27], [0.2, 19, 21, 0, 10]]
    assert matrix.first[0] == "0.5"
    assert dict(matrix.rates)["Precision"] == "0.800"


@pytest.mark.parametrize(
    "rows", [[], BINS[:1], [[0.5, 0, 0, 0.9], *BINS], [[0.5, 10, 0, 0.9]] * 3, [[0.5, 10, 10, 0.9]] * 3]
)
def test_bins_of_which_there_is_no_curve_are_left_out(rows: Any) -> None:
    found = shows("lr", MODEL | {"bins": MODEL["bins"] | {"rows": rows}})  # type: ignore[operator]
    assert [block.title for block in found.blocks] == ["Metrics", "Model"]


def test_a_regression_has_residuals() -> None:
    bins = {"columns": ["rows", "prediction", "label", "rmse"], "rows": [[10, 9.0, 8.0, 1.5], [10, 2.0, 2.5, 1.0]]}
    found = shows("lr", {"rows": 20, "metrics": {"r2": 0.5, "rmse": 1.2}, "bins": bins})
    assert found.headline == "R² 0.5, RMSE 1.2 on 20 rows."
    assert titled(found, "Residuals").rows == [[2.0, 2.5, -0.5, 1.0, 10], [9.0, 8.0, 1.0, 1.5, 10]]


def test_correlations_are_a_heat_map() -> None:
    columns = ["alice.age", "bob.pay"]
    found = shows("correlation", report("corr", tables=table(columns, [[1.0017, -0.4], [-0.4, 1.0]])))
    [heat] = found.blocks
    assert isinstance(heat, HeatMap)
    assert heat.matrix[0] == ("alice.age", [("1.00", "1.0017", 100, False), ("-0.40", "-0.4", 40, True)])
    assert found.headline == "The strongest correlation is -0.4, of bob.pay and alice.age."


def test_what_says_one_figure_a_column_is_bars_that_say_what_it_means() -> None:
    found = shows("vif", report("vif", values={"a.x": 1.2, "b.y": 30.0, "b.z": "collinear"}))
    [bars] = found.blocks
    assert isinstance(bars, Bars)
    assert [(bar["name"], bar["shown"], bar["word"]) for bar in bars.bars] == [
        ("b.y", "30", "high"),
        ("a.x", "1.2", "low"),
        ("b.z", "collinear", ""),
    ]
    assert found.headline == "The highest VIF of 3 columns is 30, of b.y."
    woe = shows("woe_binning", {"information_values": {"a.x": 0.01, "b.y": 0.2}, "columns": {"alice": ["x"]}})
    assert titled(woe, "Information value").bars[0]["word"] == "medium"
    found = shows("stability", report("stats psi", tables=table(["feature", "PSI"], [["a.x", 0.3]])))
    assert found.blocks[0].bars[0]["word"] == "has changed"  # type: ignore[attr-defined]


def test_a_wide_table_is_turned_and_text_that_is_a_number_is_one() -> None:
    columns = ["", *(f"figure {n}" for n in range(12))]
    [block] = shows("table_statistics", report("x", tables=table(columns, [["a.x", *map(str, range(12))]]))).blocks
    assert block.columns == ["", "a.x"]
    assert block.rows[11] == ["figure 11", 11]


def test_a_models_coefficients_and_trees_are_shown_where_they_were_read() -> None:
    weights = [{"featureName": "age", "party": "alice", "featureWeight": -2.5}, {"featureName": "pay", "party": "bob"}]
    for read_as in ({"featureWeights": weights, "bias": 0.5}, {"model": {"featureWeights": weights, "bias": 0.5}}):
        [bars] = shows("component", {"component": "io/read_data", "read": {"output_data": read_as}}).blocks
        assert bars.rows == [["alice.age", -2.5], ["bob.pay", 0.0]]
        assert bars.text == "The intercept is 0.5."
    trees = {
        "common": {"partitionColumn": {"bob": {"featureNames": ["pay", "size"]}}},
        "ensembleSplitTrees": {
            "alice": {"splitTrees": [{"splitFeatures": [-1, -1], "splitValues": ["Infinity", "Infinity"]}]},
            "bob": {"splitTrees": [{"splitFeatures": [1, 0, 1], "splitValues": [0.5, 1, 2]}]},
        },
    }
    importance, splits = shows("component", {"component": "io/read_data", "read": {"output_data": trees}}).blocks
    assert importance.rows == [["bob.size", 2], ["bob.pay", 1]]
    assert splits.rows[0] == (1, 1, "bob.size", 0.5)


def test_what_is_not_of_the_declared_form_is_plain_figures() -> None:
    for task_type in ("psi", "no longer there"):
        [block] = shows(task_type, {"intersection_count": "many", "x": {"y": [1, 2]}, "z": [[1], {"a": 2}]}).blocks
        assert list(block.rows) == [["Intersection count", "many"], ["X, y", [1, 2]], ["Z 1", [1]], ["Z 2, a", 2]]
    assert shows("psi", "nothing") == shows("psi", {}) == Found()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["reports", "metrics", "bins", "original_count", "intersection_count", "read", "component", "information_values"]
)
REPORT_NAMES = ["corr", "vif", "pvalue", "psi_report", "eq_frequent_bin_report", "x"]
HEADS = ["feature", "PSI", "Label", "start_value", "positive", "total", "avg_score", "avg_prediction", "avg_label", ""]
CELLS = [0, 1, -1.5, 10**400, "edge_values", "sample_counts", None, "0.5", True]
TABLES = st.builds(
    lambda name, heads, rows: report(name, tables=table(heads, rows)),
    st.sampled_from(REPORT_NAMES),
    st.lists(st.sampled_from(HEADS), max_size=5),
    st.lists(st.lists(st.sampled_from(CELLS), max_size=5), max_size=4),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*TASK_EXECUTOR_REGISTRY, "unknown"]), st.dictionaries(KEYS, JSON, max_size=3) | JSON | TABLES)
def test_no_result_of_a_party_breaks_its_page(task_type: str, result: Any) -> None:
    shows(task_type, result)


def test_a_page_is_bounded() -> None:
    reports = [{"name": f"r{n}", "tables": table(["a", "b"], [["x", 1]] * 1000)} for n in range(100)]
    found = shows("group_by", {"reports": {"report": reports}, "warnings": ["w"] * 60})
    assert (len(found.blocks), found.more_blocks) == (MOST_BLOCKS, 40)
    assert (len(found.warnings), found.more_warnings) == (50, 10)
    assert all(len(block.bars) == 200 and block.unshown == 800 for block in found.blocks if isinstance(block, Bars))


def test_executions_stand_side_by_side() -> None:
    better = MODEL | {"metrics": {"auc": 0.97, "accuracy": 0.9}}
    blocks = side_by_side([("11111111", read("lr", MODEL)), ("22222222", read("lr", better)), ("3", Found())])
    metrics = next(block for block in blocks if block.title == "Metrics")
    assert metrics.columns == ["Metric", "11111111", "22222222", "3"]
    assert ["AUC", 0.9512345, 0.97, None] in list(metrics.rows)
    assert ["KS", 0.7, None, None] in list(metrics.rows)
    roc = next(block for block in blocks if block.title == "ROC curve")
    assert isinstance(roc, Chart)
    assert [name for name, *_ in roc.curves] == ["11111111", "22222222", "Chance"]
    assert "KS curve" not in [block.title for block in blocks], "two curves of each would show neither"


@pytest.mark.django_db
class TestPages:
    def test_a_table_is_downloaded_whole_with_all_digits(self, admin: Client) -> None:
        execution = make_execution(status=Status.SUCCESS, task_type="lr", result=MODEL)
        url = f"/admin/executions/execution/{execution.pk}/result/0/"
        assert url in admin.get(page_of(execution)).content.decode()
        response = admin.get(url)
        assert response.headers["Content-Disposition"] == f'attachment; filename="{str(execution.pk)[:8]}_Metrics.csv"'
        assert response.content.decode().splitlines()[:2] == ["Metric,Value", "AUC,0.9512345"]
        assert admin.get(url.replace("/0/", "/99/")).status_code == 404

    def test_a_cell_is_no_formula(self, admin: Client) -> None:
        execution = make_execution(status=Status.SUCCESS, result={"=1+1": "=cmd|' /C calc'!A0"})
        lines = admin.get(f"/admin/executions/execution/{execution.pk}/result/0/").content.decode().splitlines()
        assert lines[1] == "'=1+1,'=cmd|' /C calc'!A0"

    def test_parameters_and_figures_are_compared(self, admin: Client) -> None:
        task = make_task()
        first = make_execution(status=Status.SUCCESS, task=task, result={"original_count": {"alice": 5, "bob": 6}})
        documents = json.loads(json.dumps(first.documents))
        documents["spu_config"]["runtime_config"] = {"field": "FM64"}
        other = make_execution(
            status=Status.SUCCESS, task=task, documents=documents, result={"original_count": {"alice": 7, "bob": 6}}
        )
        make_execution(status=Status.FAILURE, task=task)
        response = admin.get(f"/admin/executions/execution/compare/?id={first.pk}")
        assert [column["short"] for column in response.context["columns"]] == [str(e.pk)[:8] for e in (first, other)]
        [(where, values)] = response.context["parameters"]
        assert (where, values) == ("spu_config.runtime_config.field", ["(none)", "FM64"])

    @pytest.mark.parametrize("query", ["", "?id=x", "?id=00000000-0000-0000-0000-000000000000"])
    def test_what_cannot_be_compared_is_not_found(self, admin: Client, query: str) -> None:
        assert admin.get(f"/admin/executions/execution/compare/{query}").status_code == 404

    def test_nobody_compares_or_downloads_what_they_may_not_see(self) -> None:
        execution = make_execution(status=Status.SUCCESS, task_type="lr", result=MODEL)
        Party.objects.create(name="carol", address="127.0.0.1", port_first=30000, port_last=30009)
        stranger = admin_client(make_user("stranger", "view_execution", parties=("carol",)))
        for url in (f"compare/?id={execution.pk}", f"{execution.pk}/result/0/"):
            assert stranger.get(f"/admin/executions/execution/{url}").status_code == 404
