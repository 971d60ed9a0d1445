"""The panel with the parties' logs on the page of an execution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse

from controlplane.access import Access
from executions.models import Execution, LogChunk
from executions.models.log import in_order
from workers.contract.logs import LEVELS, as_text

#: Lines that are shown, and messages that are looked through for them.
SHOWN_LINES, LOOKED_AT = 500, 400
#: How lines are marked by their level.
COLOURS = {"warning": "warning", "error": "danger", "critical": "danger"}


def panel(execution: Execution, chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return the latest lines of an execution's logs, for their template. ``chosen``: ``log_party``, ``log_level``, and
    ``after``, a place from which on the lines are new. Takes two queries."""
    party, level = chosen.get("log_party", ""), chosen.get("log_level", "")
    level = level if level in LEVELS else ""
    place = _number(chosen.get("after", ""))
    party = party if party in execution.parties else ""
    of_it = LogChunk.objects.filter(execution=execution)
    senders = set(of_it.order_by().values_list("party", flat=True).distinct())
    chunks = _chunks(execution, party)
    least = LEVELS[level or "debug"]
    lines, looked_at, newest = _after(chunks, place, least) if place is not None else _latest(chunks, least)
    for line in lines:
        line["colour"] = COLOURS.get(line["level"], "")
    url = reverse("admin:executions_execution_logs", args=[execution.pk])
    shown = {
        "lines": lines,
        "are_all": looked_at < LOOKED_AT and len(lines) < SHOWN_LINES,
        "shown_lines": SHOWN_LINES,
        "place": newest,
        "party": party,
        "level": level,
        "levels": [name for name in LEVELS if name != "critical"],
        "url": url,
        "silent": [name for name in execution.parties if name not in senders],
        "are_there": bool(senders),
        "short": execution.short,
        "has_attempts": execution.attempt > 1,
    }
    return {"execution": execution, "logs": shown}


def _chunks(execution: Execution, party: str) -> QuerySet[LogChunk]:
    rows = LogChunk.objects.filter(execution=execution)
    return rows.filter(party=party) if party else rows


def _latest(chunks: QuerySet[LogChunk], least: int) -> tuple[list[dict[str, Any]], int, int]:
    """Return the latest lines, how many messages were looked through, and the place of the newest one."""
    found: list[LogChunk] = []
    number = looked_at = newest = 0
    for chunk in chunks.order_by("-pk")[:LOOKED_AT].iterator(chunk_size=20):
        newest, looked_at = max(newest, chunk.pk), looked_at + 1
        found.append(chunk)
        number += sum(line[1] >= least for line in chunk.lines)
        if number >= SHOWN_LINES:
            break
    found.sort(key=lambda chunk: (chunk.attempt, chunk.party, chunk.sequence))
    return [line for line in in_order(found) if LEVELS[line["level"]] >= least][-SHOWN_LINES:], looked_at, newest


def _after(chunks: QuerySet[LogChunk], place: int, least: int) -> tuple[list[dict[str, Any]], int, int]:
    found = list(chunks.filter(pk__gt=place).order_by("pk")[:LOOKED_AT])
    newest = max((chunk.pk for chunk in found), default=place)
    lines = [line for line in in_order(found) if LEVELS[line["level"]] >= least]
    return lines[-SHOWN_LINES:], len(found), newest


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None


def whole_log(execution: Execution, party: str = "", level: str = "") -> str:
    """Return all lines that the control plane has, as text."""
    least = LEVELS.get(level, 0)
    chunks = _chunks(execution, party).order_by("attempt", "party", "sequence")
    return as_text(line for line in in_order(chunks.iterator()) if LEVELS[line["level"]] >= least)


class LogViews:
    """Adds the view of logs to the admin of executions."""

    admin_site: Any

    def log_urls(self) -> list[Any]:
        return [
            path("<uuid:pk>/logs/", self.admin_site.admin_view(self.logs_view), name="executions_execution_logs"),
        ]

    def logs_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Return the panel; with ``after``, only its lines that are new; with ``download``, all lines as text."""
        if not self.has_view_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        rows = Access.of(request).visible(Execution.objects.defer("documents", "result"))
        execution = rows.filter(pk=pk).first()
        if execution is None:
            raise Http404("There is no such execution.")
        chosen = request.GET.dict()
        if "download" in chosen:
            party = chosen.get("log_party", "")
            text = whole_log(execution, party if party in execution.parties else "", chosen.get("log_level", ""))
            name = f"log-{execution.short}.txt"
            headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
            return HttpResponse(text, content_type="text/plain; charset=utf-8", headers=headers)
        template = "executions/log_lines.html" if "after" in chosen else "executions/logs.html"
        context = panel(execution, chosen)
        headers = {"X-Fragment": "1", "X-Place": str(context["logs"]["place"]), "Cache-Control": "no-store"}
        return TemplateResponse(request, template, context, headers=headers)
