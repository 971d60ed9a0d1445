"""The front page: what needs attention, what happened in a period, and the way to a first run."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext, pgettext

from controlplane.access import Access
from controlplane.admin.permissions import may
from controlplane.admin.shown import moment, span
from controlplane.models import ClusterConfig, Dataset, Party, SPUConfig, Task
from executions.admin.attention import Hosts, matters
from executions.admin.charts import PERIODS, overview
from executions.health import coordinator_trouble
from executions.models import Execution
from executions.permissions import VIEW
from executions.states import COLOURS, OPEN, Status

#: Open executions that are counted exactly, and the latest ones and failures that are listed.
COUNTED, LATEST, FAILURES = 10_000, 10, 5
#: Open statuses that are shown even if there is none.
_ALWAYS = (Status.QUEUED, Status.RUNNING)


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the front page."""
    access = Access.of(request)
    context["may_see_executions"] = may(request, VIEW)
    hosts = Hosts.look(access)
    if may(request, "controlplane.add_task"):
        context["steps"] = first_steps(access, hosts)
    if not context["may_see_executions"]:
        return context
    period = request.GET.get("period", "")
    period = period if period in PERIODS else "24h"
    rows = access.visible(Execution.objects.defer("documents", "result"))
    latest: list[Any] = list(rows.order_by("-created_at", "-id")[:LATEST])
    for execution in latest:
        execution.colour = COLOURS[execution.status]
        execution.shown_submitted = moment(execution.created_at)
        execution.shown_ran = span(execution.ran, is_over=execution.has_ended)
    found = overview(period, access.parties)
    context |= {
        "period": period,
        "periods": [(key, words) for key, (words, *_) in PERIODS.items()],
        "matters": matters(request, hosts) if not context.get("steps") else [],
        "counts": list(_open(rows)),
        "tiles": [
            (gettext("Success rate"), found["success_rate"]),
            (pgettext("number", "Ended"), f"{found['ended']:,}"),
            (gettext("Mean waiting time"), span(found["mean_waited"])),
            (gettext("Mean running time"), span(found["mean_ran"])),
        ],
        "found": {"blocks": found["charts"]},
        "latest": latest,
        "failed": rows.filter(status=Status.FAILURE).order_by("-created_at", "-id")[:FAILURES],
        "executions_url": reverse("admin:executions_execution_changelist"),
    }
    return context


def _open(rows: Any) -> Any:
    """Yield the number of executions in each open status."""
    for status in OPEN:
        number = rows.filter(status=status).order_by("-created_at")[: COUNTED + 1].values("pk").count()
        if number or status in _ALWAYS:
            shown = f"{number:,}" if number <= COUNTED else f"> {COUNTED:,}"
            yield {"status": status.value, "label": status.label, "number": shown, "colour": COLOURS[status]}


def first_steps(access: Access, hosts: Hosts) -> list[dict[str, Any]]:
    """Return the steps that are left before something can run; empty once something has run."""
    if access.visible(Execution.objects.all()).exists():
        return []
    working = sum(number > 0 for number in (hosts.alive or {}).values())
    found = [
        _page(
            access, Party, 2, gettext("Register two parties"), gettext("Each with the address and ports of its host.")
        ),
        _command(
            not coordinator_trouble(),
            gettext("Start the coordinator"),
            gettext("`manage.py coordinate` on the control plane."),
        ),
        _command(
            working >= 2,
            gettext("Start a worker of each party"),
            gettext(
                "`manage.py rqworker <party>` on its own host, with a party.toml: `manage.py party init` makes one."
            ),
        ),
        _page(
            access,
            Dataset,
            2,
            gettext("Publish a dataset of each"),
            gettext("`manage.py publish_datasets` on its host, or here."),
        ),
        _page(
            access,
            ClusterConfig,
            1,
            gettext("Put the parties into a cluster"),
            gettext("Who takes part, and how they communicate."),
        ),
        _page(
            access, SPUConfig, 1, gettext("Make an SPU configuration"), gettext("The defaults are good for a start.")
        ),
        _page(access, Task, 1, gettext("Compose a task"), gettext("Then press Run now on its page.")),
    ]
    return found


def _page(access: Access, model: Any, enough: int, title: str, why: str) -> dict[str, Any]:
    done = access.visible(model.objects.all())[:enough].values("pk").count() >= enough
    page = f"admin:{model._meta.app_label}_{model._meta.model_name}_{'changelist' if done else 'add'}"
    return {"title": title, "why": why, "done": done, "url": reverse(page)}


def _command(done: bool, title: str, why: str) -> dict[str, Any]:
    return {"title": title, "why": why, "done": done, "url": ""}
