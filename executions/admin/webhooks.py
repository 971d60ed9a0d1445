"""The admin of webhooks: users have their own, and see the key of each one once. Superusers see all."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db import IntegrityError
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables
from unfold.decorators import action, display

from controlplane.access import Access
from controlplane.admin.confirm import confirm_page
from controlplane.admin.guarded import Guarded
from controlplane.admin.listing import Listed
from controlplane.admin.scoped import NotFound
from controlplane.admin.shown import NOTHING, exact, first_names
from controlplane.language import translated
from executions.admin.deliveries import (
    COLOURS,
    DeliveryLog,
    again_page,
    delivery_page,
    found_delivery,
    in_words,
    outcome,
)
from executions.admin.webhook_form import WebhookForm
from executions.coordinator.posting import new_keys
from executions.coordinator.webhooks import (
    check_room,
    make_key,
    may_have_webhooks,
    prepare_test,
    with_version,
)
from executions.models import Signature, Webhook, WebhookDelivery
from executions.models.webhook import NotPossible

#: Statuses that a row of the list names.
MOST_NAMED = 3


@admin.register(Webhook)
class WebhookAdmin(Guarded, Listed, NotFound):
    form = WebhookForm
    actions_detail = ("deliveries", "send_test", "new_key")
    list_display = ("name", "shown_owner", "shown_host", "shown_events", "shown_state", "shown_status", "shown_try")
    list_filter = ("enabled",)
    list_filter_sheet = False
    list_select_related = ("owner",)
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("name", "url", "owner__username")
    search_help_text = _("Part of the name, of the URL or of the owner's user name")
    none_yet = _("You have no webhook yet. Add one to have changes of executions posted to a service of yours.")
    compressed_fields = False
    warn_unsaved_form = True
    readonly_fields = ("shown_owner", "shown_why", "shown_public", "shown_key", "shown_former", "shown_limits")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.log = DeliveryLog(WebhookDelivery, self.admin_site)

    # --- who sees and changes which

    def get_queryset(self, request: HttpRequest) -> QuerySet[Webhook]:
        rows: QuerySet[Webhook] = super().get_queryset(request)
        return rows if _sees_all(request) else rows.filter(owner=request.user.pk)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_have_webhooks(Access.of(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_have_webhooks(Access.of(request), changing=True)

    def has_view_permission(self, request: HttpRequest, obj: Webhook | None = None) -> bool:
        return may_have_webhooks(Access.of(request)) and _is_own(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Webhook | None = None) -> bool:
        return self.has_add_permission(request) and _is_own(request, obj)

    has_delete_permission = has_change_permission

    def has_own_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        # Of one that its user may not see, the view says that it is not there
        return self.has_add_permission(request)

    # --- the list

    def get_list_display(self, request: HttpRequest) -> Any:
        return [name for name in self.list_display if name != "shown_owner" or _sees_all(request)]

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        newest = WebhookDelivery.objects.filter(webhook=OuterRef("pk")).order_by("-pk").values("pk")[:1]
        keys = Webhook.objects.filter(pk__in=[row.pk for row in rows]).order_by()
        found = WebhookDelivery.objects.filter(pk__in=list(keys.values_list(Subquery(newest), flat=True)))
        by_hook = {delivery.webhook_id: delivery for delivery in found.defer("body").order_by()}
        for row in rows:
            row.latest = by_hook.get(row.pk)

    @display(description=_("Owner"), ordering="owner__username")
    def shown_owner(self, hook: Webhook) -> str:
        return str(hook.owner)

    @display(description=_("Host"))
    def shown_host(self, hook: Webhook) -> str:
        return urlsplit(hook.url).netloc

    @display(description=_("Events"))
    def shown_events(self, hook: Webhook) -> str:
        return first_names([in_words(kind) for kind in hook.events], MOST_NAMED) if hook.events else gettext("all")

    @display(description=_("Enabled"), ordering="enabled")
    def shown_state(self, hook: Webhook) -> Any:
        if hook.enabled:
            return gettext("on")
        why = translated(hook.disabled_because)
        return format_html('<span>{}<br><span class="cpl-below">{}</span></span>', gettext("off"), why)

    @display(description=_("Latest delivery"), label=COLOURS)
    def shown_status(self, hook: Any) -> Any:
        return (hook.latest.status, hook.latest.get_status_display()) if hook.latest else ("none", gettext("none"))

    @display(description=_("Latest try"))
    def shown_try(self, hook: Any) -> Any:
        return outcome(hook.latest) if hook.latest else NOTHING

    # --- the form

    def get_fieldsets(self, request: HttpRequest, obj: Webhook | None = None) -> Any:
        first, signature = ["name", "url", "enabled"], ["signature"]
        if obj is not None:
            first += ["shown_why"] * bool(obj.disabled_because) + ["shown_owner"] * _sees_all(request)
            first += ["shown_limits"] * (obj.limited_to is not None)
            signature += ["shown_public" if obj.signature == Signature.ED25519 else "shown_key"]
            signature += [*["shown_former"] * (obj.former_until is not None)]
        return [
            (None, {"fields": first}),
            (gettext("What is posted"), {"fields": ("events", "party", "labels")}),
            (gettext("Signature"), {"fields": signature}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Webhook | None = None) -> Any:
        return (*self.readonly_fields, *(["signature"] if obj else []))

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        base: Any = kwargs.get("form", self.form)
        given = {"access": Access.of(request), "user": request.user, "owner": obj.owner if obj else request.user}
        kwargs["form"] = type(base.__name__, (base,), given)
        return super().get_form(request, obj, change=change, **kwargs)

    @display(description=_("Switched off because"))
    def shown_why(self, hook: Webhook) -> str:
        return translated(hook.disabled_because)

    @display(description=_("Public key"))
    def shown_public(self, hook: Webhook) -> Any:
        return format_html('<span class="cp-mono">{}</span>', hook.public_key)

    @display(description=_("Key"))
    def shown_key(self, hook: Webhook) -> str:
        return gettext("It was shown once. New key makes another one.")

    @display(description=_("Former key"))
    def shown_former(self, hook: Webhook) -> Any:
        if not hook.former_until or hook.former_until <= timezone.now():
            return gettext("It does not sign any more.")
        return format_html(gettext("It signs, too, until {}."), exact(hook.former_until))

    @display(description=_("Limited to"))
    def shown_limits(self, hook: Webhook) -> str:
        return gettext("{parties}, as the token that made it").format(parties=", ".join(hook.limited_to or []) or "-")

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except IntegrityError:  # meanwhile another request took the name
            told = gettext("Another request changed the same things at the same moment; nothing was saved. Try again.")
            messages.error(request, told)
            return HttpResponseRedirect(request.path)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        try:
            if self.has_add_permission(request):
                check_room(request.user)
        except NotPossible as error:
            messages.error(request, translated(str(error)))
            return HttpResponseRedirect(reverse("admin:executions_webhook_changelist"))
        return super().add_view(request, form_url, _without_more_buttons(extra_context))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return super().change_view(request, object_id, form_url, _without_more_buttons(extra_context))

    @sensitive_variables()
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            for name, value in (changes := with_version(form.cleaned_data)).items():
                setattr(obj, name, value)
            obj.save(update_fields=[*form.cleaned_data, *changes])
            obj.refresh_from_db()
            return
        kept, obj.new_key, public = new_keys(obj.signature)
        obj.owner, obj.secret, obj.public_key = request.user, kept, public
        obj.save()

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        return self._show_key(request, obj, obj.new_key, gettext("The webhook {webhook} was added."))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, Any]:
        # Without the rows of their logs, of which there may be millions
        named = [gettext("{webhook}, with the log of its deliveries").format(webhook=hook) for hook in objs]
        return named, {self.opts.verbose_name_plural: len(named)}, set(), []

    # --- the log, test events and keys

    def get_urls(self) -> list[Any]:
        delivery, again = (self.admin_site.admin_view(view) for view in (self.delivery_view, self.again_view))
        where = "<path:object_id>/deliveries/<int:number>/"
        return [
            path(where, delivery, name="executions_webhook_delivery"),
            path(f"{where}again/", again, name="executions_webhook_again"),
            *super().get_urls(),
        ]

    def _get(self, request: HttpRequest, object_id: str) -> Webhook:
        hook = self.get_object(request, unquote(object_id))
        if hook is None or not self.has_change_permission(request, hook):
            raise Http404("There is no such webhook, or it is not yours.")
        found: Webhook = hook
        return found

    @action(description=_("Deliveries"), icon="history", permissions=("own",), url_path="deliveries")
    def deliveries(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show what was posted, or is to be."""
        return self.log.show(request, self._get(request, object_id))

    def delivery_view(self, request: HttpRequest, object_id: str, number: int) -> HttpResponse:
        """Show one event with its tries."""
        hook = self._get(request, object_id)
        return delivery_page(self, request, hook, found_delivery(hook, number))

    def again_view(self, request: HttpRequest, object_id: str, number: int) -> HttpResponse:
        """Ask whether to post an event again; posted, have it done."""
        return again_page(self, request, found_delivery(self._get(request, object_id), number))

    @action(description=_("Send a test event"), icon="send", permissions=("own",), url_path="test")
    def send_test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask whether to post an event that only tries the webhook; posted, have it done."""
        hook = self._get(request, object_id)
        page = reverse("admin:executions_webhook_change", args=[hook.pk])
        if request.method != "POST":
            question = gettext("Post a test event to {host}?").format(host=self.shown_host(hook))
            return confirm_page(self, request, question, gettext("Send it"), page)
        try:
            prepare_test(hook)
        except NotPossible as error:
            messages.error(request, translated(str(error)))
            return HttpResponseRedirect(page)
        messages.success(request, gettext("A test event is posted. Its status here says what came of it."))
        return HttpResponseRedirect(reverse("admin:executions_webhook_deliveries", args=[hook.pk]))

    @sensitive_variables("key")
    @action(description=_("New key"), icon="key", permissions=("own",), url_path="new-key")
    def new_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask whether to make a new key; posted, make it and show it this once."""
        hook = self._get(request, object_id)
        page = reverse("admin:executions_webhook_change", args=[hook.pk])
        if request.method != "POST":
            told = gettext("For one day both keys sign: give the receiver the new one within that time.")
            facts = [(gettext("What happens"), told)]
            question = gettext("Make a new key for {webhook}?").format(webhook=hook)
            hidden = [("version", hook.version)]
            return confirm_page(self, request, question, gettext("New key"), page, facts=facts, hidden=hidden)
        # Of the version that the page before was of: sent twice, or long after it, it makes no further key
        seen = request.POST.get("version", "")
        hook.version = int(seen) if seen.isascii() and seen.isdecimal() and len(seen) < 10 else hook.version
        try:
            key = make_key(hook)
        except NotPossible as error:
            messages.error(request, translated(str(error)))
            return HttpResponseRedirect(page)
        self.log_change(request, hook, [{"changed": {"fields": ["secret"]}}])
        return self._show_key(request, hook, key, gettext("The webhook {webhook} has a new key."))

    @sensitive_variables("key")
    def _show_key(self, request: HttpRequest, hook: Webhook, key: str, told: str) -> HttpResponse:
        messages.success(request, told.format(webhook=hook))
        context = self.admin_site.each_context(request) | {
            "opts": self.opts, "original": hook, "title": gettext("Key of {webhook}").format(webhook=hook), "key": key,
            "is_public": hook.signature == Signature.ED25519, "former_until": hook.former_until,
        }  # fmt: skip
        return TemplateResponse(request, "executions/webhook_key.html", context, headers={"Cache-Control": "no-store"})


def _sees_all(request: HttpRequest) -> bool:
    return bool(request.user.is_superuser)


def _is_own(request: HttpRequest, hook: Webhook | None) -> bool:
    return hook is None or hook.owner_id == request.user.pk or _sees_all(request)


def _without_more_buttons(context: Any) -> dict[str, Any]:
    """Return the context of a form with one button to save it: the page after it shows the key."""
    return {"show_save_and_add_another": False, "show_save_and_continue": False, **(context or {})}
