"""Prepares what the pages of pipeline runs show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from controlplane.admin.shown import span
from controlplane.language import translated
from controlplane.pipelines.layout import draw
from executions.admin import execution_page as pages
from executions.models import Execution, NodeRun, PipelineRun
from executions.models.pipeline_run import NodeState
from executions.results.reading import read
from executions.states import BLOCKED, COLOURS, WAITING, PipelineStatus, Status

WORDS = {WAITING: _("waiting"), BLOCKED: _("blocked")}
NOT_STARTED = _("not started")


def live(run: PipelineRun) -> dict[str, Any]:
    """Return everything on the page that changes while the pipeline runs. Takes three queries, whatever its size, and
    one more once it has ended."""
    nodes = []
    found = run.node_states()
    # Results may be large: they are read once, when nothing changes any more
    answers = _answers(node.execution.pk for node in found if node.execution) if run.has_ended else {}
    drawing = draw({node.name: node.node.waits_for for node in found})
    for node in found:
        execution = node.execution
        url = reverse("admin:executions_execution_change", args=[execution.pk]) if execution else ""
        shown = {
            "name": node.name,
            "task": node.node.task_name,
            "status": _word(node, run),
            "colour": COLOURS.get(node.state, "default"),
            "waits_for": ", ".join(node.node.waits_for),
            "why": _why(node),
            "answer": answers.get(execution.pk, "") if execution else "",
            "execution": execution,
            "id": execution.short if execution else "",
            "url": url,
            "earlier": [
                (str(pk)[:8], reverse("admin:executions_execution_change", args=[pk])) for pk in node.earlier()
            ],
            "percent": pages.percent(execution.progress) if execution else 0,
            "waited": span(execution.waited) if execution else "-",
            "ran": span(execution.ran, is_over=execution.has_ended) if execution else "-",
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


def _word(node: NodeState, run: PipelineRun) -> str:
    """Return the state of a node in words. What a cancelled run never began waits for nothing."""
    if node.state == BLOCKED and run.status in (PipelineStatus.CANCELLED, PipelineStatus.CANCELLING):
        return str(NOT_STARTED)
    return str(WORDS.get(node.state) or Status(node.state).label)


def _why(node: NodeState) -> str:
    """Return why a node waits or failed, with the party at which it did."""
    party = node.execution.error_party if node.execution and node.execution.error else ""
    return f"{party}: {node.why}" if party and node.why else node.why


def _answers(keys: Iterable[UUID]) -> dict[UUID, str]:
    """Return what each execution found, in a sentence. Takes one query."""
    rows = Execution.objects.filter(pk__in=list(keys), status=Status.SUCCESS)
    return {pk: read(kind, result).headline for pk, kind, result in rows.values_list("pk", "task_type", "result")}


def progress_rows() -> QuerySet[NodeRun]:
    """Return the nodes of a list of runs, with the fields that ``progress`` and ``first_error`` read. Takes two queries
    for all of them."""
    return NodeRun.objects.select_related("execution").only(
        "run", "name", "position", "error", "execution__status", "execution__error", "execution__error_party"
    )


def progress(run: PipelineRun) -> str:
    """Return how many of the run's nodes have succeeded."""
    nodes = list(run.nodes.all())
    done = sum(node.execution is not None and node.execution.status == Status.SUCCESS for node in nodes)
    return gettext("{done} of {nodes}").format(done=done, nodes=len(nodes))


def first_error(run: PipelineRun) -> str:
    """Return the error of the first node that has one, with the node's name; empty if there is none."""
    for node in sorted(run.nodes.all(), key=lambda node: node.position):
        if error := node.error or (node.execution.error if node.execution else ""):
            party = node.execution.error_party if node.execution and not node.error else ""
            shown = translated(error)
            if not party:
                return f"{node.name}: {shown}"
            return gettext("{name} at {party}: {error}").format(name=node.name, party=party, error=shown)
    return ""
