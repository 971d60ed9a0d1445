"""Actions on several executions, pipeline runs or schedules at once, each by the rules of the button of one."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from controlplane.access import Access
from controlplane.admin.bulk import ask, chosen, is_confirmed, tell
from executions.admin.runnable import may_run
from executions.models import Execution, NotCancellable, PipelineRun
from executions.models.pipeline_run import NotPossible
from executions.states import PipelineStatus, Status
from workers.contract.problems import DocumentsInvalid

_STOPPED = (_("is being stopped"), _("are being stopped"))
_ENDED = (_("had already ended"),) * 2
_OTHERS = (_("involves parties that you have no grant for"), _("involve parties that you have no grant for"))
_AGAIN = (Status.FAILURE, Status.CANCELLED)


@admin.action(description=_("Cancel"), permissions=("cancel",))
def cancel_executions(model_admin: Any, request: HttpRequest, rows: QuerySet[Execution]) -> HttpResponse | None:
    """Stop the chosen executions at all parties."""
    if not (keys := chosen(request, rows)):
        return None
    found = list(Execution.objects.filter(pk__in=keys).defer("documents", "result").order_by("created_at"))
    if not is_confirmed(request):
        return ask(
            model_admin, request, found, gettext("Stop {} at all parties?"), gettext("Stop them"), "cp-button-danger"
        )
    done: Counter[str] = Counter()
    for execution in found:
        try:
            if execution.has_ended:  # cancelling what is cancelled is no error, and does nothing
                raise NotCancellable
            execution.cancel(by=request.user)
            done[""] += 1
        except NotCancellable:
            done["ended"] += 1
    tell(request, done[""], _STOPPED, [(done["ended"], _ENDED)])
    return None


@admin.action(description=_("Run again what failed or was cancelled"), permissions=("run",))
def run_executions_again(model_admin: Any, request: HttpRequest, rows: QuerySet[Execution]) -> HttpResponse | None:
    """Submit the documents of those of the chosen executions once more that failed or were cancelled."""
    if not (keys := chosen(request, rows)):
        return None
    if not is_confirmed(request):
        named = Execution.objects.filter(pk__in=keys).defer("documents", "result").order_by("created_at")
        note = gettext("Only those that failed or were cancelled run again.")
        return ask(
            model_admin, request, named, gettext("Run the documents of {} once more?"), gettext("Run again"), note=note
        )
    done: Counter[str] = Counter()
    problem = ""
    for key in keys:
        execution = Execution.objects.select_related("task").get(pk=key)  # one by one, for documents are large
        if execution.status not in _AGAIN:
            done["neither"] += 1
        elif not may_run(request, execution):
            done["others"] += 1
        else:
            try:
                execution.submit_again(by=request.user, within=Access.of(request).parties)
                done[""] += 1
            except DocumentsInvalid as error:
                done["invalid"] += 1
                problem = problem or f"{execution}: {error.problems[0]}"
    others = [
        (done["neither"], (gettext("had neither failed nor been cancelled"),) * 2),
        (done["others"], _OTHERS),
        (done["invalid"], (gettext("is not valid any more"), gettext("are not valid any more"))),
    ]
    tell(request, done[""], (gettext("was submitted again"), gettext("were submitted again")), others)
    if problem:
        messages.error(request, problem)
    return None


@admin.action(description=_("Cancel"), permissions=("cancel",))
def cancel_runs(model_admin: Any, request: HttpRequest, rows: QuerySet[PipelineRun]) -> HttpResponse | None:
    """Stop the chosen pipeline runs and their executions."""
    if not (keys := chosen(request, rows)):
        return None
    found = list(PipelineRun.objects.filter(pk__in=keys).order_by("created_at"))
    if not is_confirmed(request):
        return ask(
            model_admin,
            request,
            found,
            gettext("Stop {} and their executions?"),
            gettext("Stop them"),
            "cp-button-danger",
        )
    done: Counter[str] = Counter()
    for run in found:
        try:
            if run.has_ended:
                raise NotPossible
            run.cancel(by=request.user)
            done[""] += 1
        except NotPossible:
            done["ended"] += 1
    tell(request, done[""], _STOPPED, [(done["ended"], _ENDED)])
    return None


@admin.action(description=_("Retry what failed"), permissions=("run",))
def retry_runs(model_admin: Any, request: HttpRequest, rows: QuerySet[PipelineRun]) -> HttpResponse | None:
    """Run again what failed in the chosen pipeline runs, and go on from there."""
    if not (keys := chosen(request, rows)):
        return None
    found = list(PipelineRun.objects.filter(pk__in=keys).select_related("party_set").order_by("created_at"))
    if not is_confirmed(request):
        note = gettext("What succeeded is not repeated.")
        return ask(
            model_admin, request, found, gettext("Run again what failed in {}, and go on?"), gettext("Retry"), note=note
        )
    done: Counter[str] = Counter()
    for run in found:
        if not may_run(request, run):
            done["others"] += 1
        elif not run.has_ended or run.status == PipelineStatus.SUCCESS:
            done["nothing"] += 1
        else:
            try:
                run.retry(by=request.user)
                done[""] += 1
            except NotPossible:
                done["nothing"] += 1
    others = [(done["nothing"], (gettext("had nothing to retry"),) * 2), (done["others"], _OTHERS)]
    tell(request, done[""], (gettext("goes on"), gettext("go on")), others)
    return None


@admin.action(description=_("Enable"), permissions=("change",))
def enable_schedules(model_admin: Any, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse | None:
    """Have the chosen schedules run at their times."""
    return _switch(model_admin, request, rows, True)


@admin.action(description=_("Disable"), permissions=("change",))
def disable_schedules(model_admin: Any, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse | None:
    """Have the chosen schedules run no more."""
    return _switch(model_admin, request, rows, False)


def _switch(model_admin: Any, request: HttpRequest, rows: QuerySet[Any], on: bool) -> HttpResponse | None:
    if not (keys := chosen(request, rows)):
        return None
    found = list(model_admin.model.objects.filter(pk__in=keys).select_related("task__cluster", "pipeline"))
    if not is_confirmed(request):
        note = gettext("You become the owner of those that change") + (
            gettext(": they run in your name.") if on else "."
        )
        question = gettext("Enable {}?") if on else gettext("Disable {}?")
        return ask(model_admin, request, found, question, question.partition(" ")[0], note=note)
    done: Counter[str] = Counter()
    for schedule in found:
        if schedule.enabled == on:
            done["already"] += 1
        elif not model_admin.has_change_permission(request, schedule):
            done["others"] += 1
        else:
            try:
                schedule.enabled = on
                if on:
                    schedule.clean()
                model_admin.save_model(request, schedule, None, change=True)
                model_admin.log_change(request, schedule, [{"changed": {"fields": ["Enabled"]}}])
                done[""] += 1
            except ValidationError as error:
                done["invalid"] += 1
                messages.error(request, f"{schedule}: {error.messages[0]}")
    others = [
        (done["already"], (gettext("had been enabled before") if on else gettext("had been disabled before"),) * 2),
        (done["others"], _OTHERS),
        (done["invalid"], (gettext("cannot be enabled"),) * 2),
    ]
    tell(
        request,
        done[""],
        (gettext("is enabled now"), gettext("are enabled now"))
        if on
        else (gettext("is disabled now"), gettext("are disabled now")),
        others,
    )
    return None
