"""What a user was told, and what the user wants to be told of, by which channel."""

from __future__ import annotations

import secrets
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.text import format_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from unfold.widgets import UnfoldAdminTextInputWidget

from controlplane.access import Access
from controlplane.documents.encryption import encrypted
from controlplane.models import Account, Channel, Notice, Outlet
from controlplane.people import mail
from controlplane.people.webhook import SIGNATURE, TIMESTAMP, problem_of
from executions.health import coordinator_trouble
from executions.models import Notification

#: Notifications that the page lists.
SHOWN = 100


class SubscriptionForm(forms.Form):
    """Asks what a user wants to be told of: a box for each kind and channel, and the address of the webhook."""

    webhook_url = forms.CharField(
        required=False,
        max_length=500,
        label=_("Address of your webhook"),
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "https://", "autocomplete": "off"}),
        help_text=format_lazy(
            _("Notifications are posted there as JSON, signed: {signature} and {timestamp} in the head."),
            signature=SIGNATURE,
            timestamp=TIMESTAMP,
        ),
    )

    def __init__(self, account: Account, data: Any = None) -> None:
        super().__init__(data, initial={"webhook_url": account.webhook_url})
        self.account = account
        user: Any = account.user
        self.closed = {Channel.EMAIL} if not (mail.is_configured() and user.email) else set()
        for kind in Notice:
            for channel in Channel:
                chosen = channel in account.subscriptions.get(kind, ())
                box = forms.BooleanField(
                    required=False,
                    initial=chosen,
                    disabled=channel in self.closed,
                    label=f"{kind.label}: {channel.label}",
                    widget=forms.CheckboxInput(attrs={"aria-label": f"{kind.label}: {channel.label}"}),
                )
                self.fields[self._name(kind, channel)] = box

    @staticmethod
    def _name(kind: Notice, channel: Channel) -> str:
        return f"{kind}-{channel}"

    def rows(self) -> list[tuple[str, list[Any]]]:
        """Return the kinds with their boxes, in the order of the channels."""
        return [(str(kind.label), [self[self._name(kind, channel)] for channel in Channel]) for kind in Notice]

    def clean_webhook_url(self) -> str:
        address: str = self.cleaned_data["webhook_url"].strip()
        if address and (problem := problem_of(address)):
            raise forms.ValidationError(problem)
        return address

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        wanted = any(cleaned.get(self._name(kind, Channel.WEBHOOK)) for kind in Notice)
        if wanted and not cleaned.get("webhook_url") and "webhook_url" not in self.errors:
            self.add_error(
                "webhook_url", gettext("Enter the address of your webhook, or take the ticks under Webhook away.")
            )
        return cleaned

    def save(self) -> str:
        """Keep what was chosen. Returns the key of the signatures if the address is a new one."""
        given, account = self.cleaned_data, self.account
        account.subscriptions = {
            str(kind): found
            for kind in Notice
            if (found := [str(channel) for channel in Channel if given.get(self._name(kind, channel))])
        }
        is_new = bool(given["webhook_url"]) and given["webhook_url"] != account.webhook_url
        secret = secrets.token_hex(32) if is_new else ""
        if is_new or not given["webhook_url"]:
            account.webhook_secret = encrypted(secret) if secret else ""
        account.webhook_url = given["webhook_url"]
        account.save(update_fields=["subscriptions", "webhook_url", "webhook_secret"])
        # What was wrong with the address before is of no interest, and what waits need not wait on
        Outlet.objects.filter(user=account.pk).update(tries=0, error="", due_at=timezone.now())
        return secret


def _mine(request: HttpRequest) -> QuerySet[Notification]:
    """Return what the user was told in the console, and may still know."""
    rows = Notification.objects.filter(user=request.user.pk, in_console=True)
    return Access.of(request).visible(rows)


@require_safe
def notifications(request: HttpRequest) -> HttpResponse:
    """List what the user was told, the newest first."""
    rows = list(_mine(request).order_by("-pk")[:SHOWN])
    context = admin.site.each_context(request) | {
        "title": gettext("Notifications"), "rows": rows, "has_unread": any(row.read_at is None for row in rows),
        "subscribes": bool(Account.of(request.user).subscriptions), "trouble": coordinator_trouble(),
    }  # fmt: skip
    return TemplateResponse(request, "executions/notifications.html", context)


@require_POST
def mark_read(request: HttpRequest) -> HttpResponse:
    """Mark one notification, or all of them, as read."""
    rows, key = _mine(request).filter(read_at=None), request.POST.get("notification", "")
    if key:
        rows = rows.filter(pk=int(key)) if key.isascii() and key.isdecimal() and len(key) < 19 else rows.none()
    Notification.objects.filter(pk__in=list(rows.order_by("-pk").values_list("pk", flat=True)[:1000])).update(
        read_at=timezone.now()
    )
    return HttpResponseRedirect(reverse("notifications"))


@require_safe
def open_notification(request: HttpRequest, pk: int) -> HttpResponse:
    """Lead to the page that a notification is about; it counts as read then."""
    row = get_object_or_404(_mine(request), pk=pk)
    Notification.objects.filter(pk=row.pk, read_at=None).update(read_at=timezone.now())
    return HttpResponseRedirect(row.path or reverse("notifications"))


@sensitive_variables("secret")
@require_http_methods(["GET", "POST"])
def notification_settings(request: HttpRequest) -> HttpResponse:
    """Show what the user is told of; posted, keep what was chosen."""
    form = SubscriptionForm(Account.of(request.user), request.POST if request.method == "POST" else None)
    secret = ""
    if form.is_bound and form.is_valid():
        secret = form.save()
        messages.success(request, gettext("Saved."))
        if not secret:
            return HttpResponseRedirect(reverse("notification_settings"))
    user: User = request.user  # type: ignore[assignment]
    context = admin.site.each_context(request) | {
        "title": gettext("What you are told of"), "form": form, "channels": [channel.label for channel in Channel],
        "secret": secret, "why_no_mail": _why_no_mail(user) if Channel.EMAIL in form.closed else "",
        "outlets": list(Outlet.objects.filter(user=user).exclude(error="")),
    }  # fmt: skip
    headers = {"Cache-Control": "no-store"} if secret else None
    return TemplateResponse(request, "executions/notification_settings.html", context, headers=headers)


def _why_no_mail(user: User) -> str:
    if not mail.is_configured():
        return gettext("There is no e-mail: no mail server is set for this site.")
    return gettext("There is no e-mail: you have no e-mail address here. An administrator enters it.")


urlpatterns = [
    path("", admin.site.admin_view(notifications), name="notifications"),
    path("read/", admin.site.admin_view(mark_read), name="read_notifications"),
    path("settings/", admin.site.admin_view(notification_settings), name="notification_settings"),
    path("<int:pk>/", admin.site.admin_view(open_notification), name="open_notification"),
]
