"""Prepares what the pages of pipeline runs show."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.urls import reverse

from controlplane.pipelines.layout import draw
from executions.admin import execution_page as pages
from executions.models import NodeRun, PipelineRun
from executions.states import BLOCKED, COLOURS, WAITING, Status

WORDS = {WAITING: "waiting", BLOCKED: "blocked"}


def live(run: PipelineRun) -> dict[str, Any]:
    """Return everything on the page that changes while the pipeline runs. Takes three queries, whatever its size."""
    nodes = []
    found = run.node_states()
    drawing = draw({node.name: node.node.waits_for for node in found})
    for node in found:
        execution = node.execution
        url = reverse("admin:executions_execution_change", args=[execution.pk]) if execution else ""
        shown = {
            "name": node.name,
            "task": node.node.task_name,
            "status": WORDS.get(node.state) or str(Status(node.state).label),
            "colour": COLOURS.get(node.state, "default"),
            "waits_for": ", ".join(node.node.waits_for),
            "why": node.why,
            "execution": execution,
            "id": str(execution.pk)[:8] if execution else "",
            "url": url,
            "earlier": [
                (str(pk)[:8], reverse("admin:executions_execution_change", args=[pk])) for pk in node.earlier()
            ],
            "percent": pages.percent(execution.progress) if execution else 0,
            "duration": pages.duration(execution.created_at, execution.ended_at) if execution else "-",
            "can_be_retried": node.can_be_retried,
        }
        nodes.append(shown)
        box = drawing.boxes[node.name]
        box.text, box.colour, box.url = shown["status"], shown["colour"], url
        box.title = f"{node.name}: {node.node.task_name}, {shown['status']}"
    return {
        "run": run,
        "colour": COLOURS.get(run.status, "default"),
        "duration": pages.duration(run.created_at, run.ended_at),
        "nodes": nodes,
        "drawing": drawing,
        "failed": [node["name"] for node in nodes if node["can_be_retried"]],
        "changes": run.changes.select_related("by").order_by("at", "pk"),
    }


def progress_rows() -> QuerySet[NodeRun]:
    """Return the nodes of a list of runs, with the fields that ``progress`` and ``first_error`` read. Takes two queries
    for all of them."""
    return NodeRun.objects.select_related("execution").only(
        "run", "name", "position", "error", "execution__status", "execution__error"
    )


def progress(run: PipelineRun) -> str:
    """Return how many of the run's nodes have succeeded."""
    nodes = list(run.nodes.all())
    done = sum(node.execution is not None and node.execution.status == Status.SUCCESS for node in nodes)
    return f"{done} of {len(nodes)}"


def first_error(run: PipelineRun) -> str:
    """Return the error of the first node that has one, with the node's name; empty if there is none."""
    for node in sorted(run.nodes.all(), key=lambda node: node.position):
        if error := node.error or (node.execution.error if node.execution else ""):
            return f"{node.name}: {error}"
    return ""
