"""The log of a webhook in the console: what was posted, each try, and posting it again."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.views import ChangeList

from controlplane.access import Access
from controlplane.admin.confirm import confirm_page
from controlplane.admin.shown import NOTHING, line, link, moment
from controlplane.language import translated
from executions.admin.read_only import ReadOnlyAdmin
from executions.coordinator.webhooks import post_again
from executions.models import Execution, PostStatus, Webhook, WebhookDelivery
from executions.models.webhook import TEST, NotPossible
from executions.states import Status

COLOURS: dict[str, str] = {PostStatus.PENDING: "info", PostStatus.SENT: "success", PostStatus.GIVEN_UP: "danger"}
#: Types of events in words.
WORDS = {f"execution.{status.lower()}": status.label for status in Status} | {TEST: _("test")}


def in_words(event_type: str) -> str:
    """Return the type of an event in the reader's language."""
    return str(WORDS.get(event_type, event_type))


def outcome(delivery: WebhookDelivery) -> Any:
    """Return what came of the latest try: when it was, and what went wrong."""
    if not delivery.tries:
        return gettext("not tried yet")
    latest = delivery.tries[-1]
    told = translated(latest["error"]) or gettext("status {status}").format(status=latest["status"])
    return format_html('<span>{}<br><span class="cpl-below">{}</span></span>', moment(_time(latest)), line(told))


def _time(tried: dict[str, Any]) -> Any:
    return parse_datetime(tried["at"])


def address_of(delivery: WebhookDelivery, page: str = "delivery") -> str:
    """Return the address of a page of a delivery."""
    return reverse(f"admin:executions_webhook_{page}", args=[delivery.webhook_id, delivery.pk])


def of_visible_executions(request: HttpRequest, rows: list[Any]) -> None:
    """Note of each delivery whether its execution is there, and may be seen. Takes one query."""
    keys = {row.execution for row in rows} - {None}
    seen = Access.of(request).visible(Execution.objects.filter(pk__in=keys)) if keys else Execution.objects.none()
    found = {*seen.order_by().values_list("pk", flat=True)}
    for row in rows:
        row.is_linked = row.execution in found


class _Log(ChangeList):
    def url_for_result(self, result: WebhookDelivery) -> str:
        return address_of(result)


class DeliveryLog(ReadOnlyAdmin):
    """The list of what was posted to one webhook, newest first. It has no address of its own: the admin of webhooks
    shows it, for the webhook that it has looked up."""

    list_display = ("shown_event", "shown_status", "shown_execution", "shown_created", "number_of_tries", "shown_try")
    list_filter = ("status",)
    list_filter_submit = False
    list_filter_sheet = True  # the head of the list would be empty beside a filter of its own column
    list_before_template = "executions/delivery_head.html"
    sortable_by = ()
    search_fields = ()
    get_search_results = ModelAdmin.get_search_results
    ordering = ("-pk",)
    none_yet = _("Nothing was posted yet. Send a test event to try the webhook.")

    def show(self, request: HttpRequest, hook: Webhook) -> HttpResponse:
        """Return the log of a webhook."""
        request.webhook = hook  # type: ignore[attr-defined]
        response = self.changelist_view(request)
        context = getattr(response, "context_data", None)
        if context and "cl" in context:
            context["title"] = context["cl"].title = gettext("Deliveries of {webhook}").format(webhook=hook)
            context |= {"opts": Webhook._meta, "original": hook, "webhook": hook}
        return response

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookDelivery]:
        hook: Webhook = request.webhook  # type: ignore[attr-defined]
        return WebhookDelivery.objects.filter(webhook=hook).defer("body")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return _Log

    def get_paginator(self, *args: Any, **kwargs: Any) -> Any:
        paginator = super().get_paginator(*args, **kwargs)
        paginator.template_name = "executions/delivery_pages.html"
        return paginator

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        of_visible_executions(request, rows)

    def is_live(self, rows: list[Any]) -> bool:
        return any(row.status == PostStatus.PENDING for row in rows)

    @display(description=_("Event"))
    def shown_event(self, delivery: WebhookDelivery) -> str:
        return in_words(delivery.event_type)

    @display(description=_("Status"), label=COLOURS)
    def shown_status(self, delivery: WebhookDelivery) -> tuple[str, str]:
        return delivery.status, delivery.get_status_display()

    @display(description=_("Execution"))
    def shown_execution(self, delivery: Any) -> Any:
        if delivery.execution is None:
            return NOTHING
        short = str(delivery.execution)[:8]
        page = reverse("admin:executions_execution_change", args=[delivery.execution])
        return link(page, short) if delivery.is_linked else short

    @display(description=_("Made"))
    def shown_created(self, delivery: WebhookDelivery) -> Any:
        return moment(delivery.created_at)

    @display(description=_("Latest try"))
    def shown_try(self, delivery: WebhookDelivery) -> Any:
        return outcome(delivery)


def found_delivery(hook: Webhook, number: int) -> WebhookDelivery:
    """Return a delivery of a webhook. Raises Http404 if there is none."""
    delivery = WebhookDelivery.objects.filter(webhook=hook, pk=number).first()
    if delivery is None:
        raise Http404("There is no such delivery.")
    return delivery


def delivery_page(model_admin: Any, request: HttpRequest, hook: Webhook, delivery: WebhookDelivery) -> HttpResponse:
    """Return the page of a delivery: its tries, and what is posted."""
    of_visible_executions(request, [delivery])
    context = model_admin.admin_site.each_context(request) | {
        "title": gettext("{event} for {webhook}").format(event=in_words(delivery.event_type), webhook=hook),
        "opts": Webhook._meta, "original": hook, "delivery": delivery, "event": in_words(delivery.event_type),
        "colour": COLOURS[delivery.status], "is_pending": delivery.status == PostStatus.PENDING,
        "tries": [tried | {"at": _time(tried)} for tried in reversed(delivery.tries)],
        "body": json.dumps(json.loads(delivery.body), indent=2, ensure_ascii=False),
        "again": address_of(delivery, "again"), "back": reverse("admin:executions_webhook_deliveries", args=[hook.pk]),
    }  # fmt: skip
    return TemplateResponse(request, "executions/delivery.html", context)


def again_page(model_admin: Any, request: HttpRequest, delivery: WebhookDelivery) -> HttpResponse:
    """Ask whether to post an event again; posted, have it done."""
    page = address_of(delivery)
    if request.method != "POST":
        question = gettext("Post this event again? It has the same id, by which the receiver knows it.")
        facts = [
            (gettext("Event"), in_words(delivery.event_type)), (gettext("Id of the event"), str(delivery.message)),
        ]  # fmt: skip
        return confirm_page(model_admin, request, question, gettext("Send again"), page, facts=facts)
    try:
        post_again(delivery)
    except NotPossible as error:
        messages.error(request, translated(str(error)))
    else:
        messages.success(request, gettext("The event is posted again."))
    return HttpResponseRedirect(page)
