"""The dashboard, the alerts and the documentation name metrics and labels that there are, and leave none out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from controlplane.environment import ROOT
from executions.metrics.names import COUNTER, HISTOGRAM, METRICS

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((ROOT / "deploy/alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
#: Prometheus' own.
LABELS_OF_TARGETS = {"instance", "job"}
#: Series by name, with their labels.
SERIES: dict[str, set[str]] = {"up": set()}
for _name, _metric in METRICS.items():
    _labels = set(_metric.labels)
    if _metric.kind == COUNTER:
        SERIES[f"{_name}_total"] = _labels
    elif _metric.kind == HISTOGRAM:
        SERIES |= {f"{_name}_sum": _labels, f"{_name}_count": _labels, f"{_name}_bucket": _labels | {"le"}}
    else:
        SERIES[_name] = _labels


def series_in(query: str) -> dict[str, set[str]]:
    """Return the series that a query names, with all labels that it asks of them."""
    named = re.findall(r"\b(secretflow_\w+|up)\b(?:\{([^}]*)\})?", query)
    found: dict[str, set[str]] = {}
    for name, selector in named:
        found.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
    for grouped in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", query):
        for labels in found.values():
            labels |= {label.strip() for label in grouped.split(",")}
    return found


def wrong_in(query: str, *more_labels: str) -> list[str]:
    found = series_in(query)
    wrong = [] if found else [f"no metric in {query}"]
    for name, labels in found.items():
        if name not in SERIES:
            wrong.append(f"there is no {name}")
        elif unknown := (labels | set(more_labels)) - SERIES[name] - LABELS_OF_TARGETS:
            wrong.append(f"{name} has no label {', '.join(sorted(unknown))}")
    return wrong


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


@pytest.mark.parametrize("panel", [pytest.param(panel, id=panel["title"]) for panel in panels()])
def test_a_panel_asks_for_what_there_is(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    for target in panel["targets"]:
        labels = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
        assert wrong_in(target["expr"], *labels) == []
        assert set(re.findall(r"\$(?!__)(\w+)", target["expr"])) <= variables
        assert target["datasource"]["uid"] == "${datasource}"


def test_variables_are_filled_from_what_there_is() -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            [(name, label)] = re.findall(r"label_values\((\w+), (\w+)\)", variable["definition"])
            assert label in SERIES[name]
            assert variable["query"]["query"] == variable["definition"]


def test_no_two_panels_stand_in_one_place() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        for cell in (
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ):
            assert cell[0] < 24
            assert cell not in taken, (panel["title"], taken[cell])
            taken[cell] = panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in RULES])
def test_an_alert_asks_for_what_there_is_and_says_what_to_do(rule: dict[str, Any]) -> None:
    told = rule["annotations"]
    assert set(told) == {"summary", "action"}
    labels = re.findall(r"\$labels\.(\w+)", " ".join(told.values()))
    assert wrong_in(rule["expr"], *labels) == []
    assert rule["labels"]["severity"] in ("critical", "warning", "info")


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_is_documented_and_on_the_dashboard(metric: str) -> None:
    page = (ROOT / "docs/operations.md").read_text()
    shown = metric + "_total" * (METRICS[metric].kind == COUNTER)
    [row] = [line for line in page.splitlines() if line.startswith(f"| `{shown}` |")] or [""]
    assert row, f"describe {shown} in docs/operations.md"
    labels = re.findall(r"`(\w+)`", row.split("|")[2])
    assert tuple(labels) == METRICS[metric].labels
    assert metric in (ROOT / "deploy/grafana-dashboard.json").read_text()


def test_what_is_wrong_would_be_found() -> None:
    assert wrong_in("sum by (party) (secretflow_executions)") == ["secretflow_executions has no label party"]
    assert wrong_in('secretflow_nothing{status="x"}') == ["there is no secretflow_nothing"]
    assert wrong_in('secretflow_workers{status="x"}') == ["secretflow_workers has no label status"]
