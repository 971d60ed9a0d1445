"""The admin of API tokens: users make their own, and see each one's text once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.text import format_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables
from knox.models import AuthToken
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextInputWidget,
)

from controlplane.access import Access
from controlplane.admin.confirm import confirm_page
from controlplane.admin.listing import Listed
from controlplane.admin.permissions import may
from controlplane.admin.scoped import NotFound
from controlplane.admin.shown import link, moment
from controlplane.models import Party, TokenTerms
from controlplane.models.token import MOST_DAYS, USUAL_DAYS, Scope

admin.site.unregister(AuthToken)

#: What each scope permits, for who chooses some.
_SCOPES = {
    Scope.READ: _("Read: look at everything that you may see"),
    Scope.SUBMIT: _("Submit: run, retry and cancel executions and pipelines"),
    Scope.MANAGE: _("Manage: register and change tasks, datasets, schedules and the rest"),
}


class TokenForm(forms.Form):
    """Asks what a new token may do."""

    name = forms.CharField(
        max_length=100, widget=UnfoldAdminTextInputWidget, help_text=_("What uses it, such as nightly reports.")
    )
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, words) for scope, words in _SCOPES.items()],
        initial=[Scope.READ.value],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        label=_("May do"),
        help_text=_("Never more than you may do yourself at that moment."),
    )
    parties = forms.ModelMultipleChoiceField(
        Party.objects.none(),
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=_("Parties that it is limited to. If you tick none, it has those that you have at that moment."),
    )
    days = forms.IntegerField(
        min_value=1,
        max_value=MOST_DAYS,
        initial=USUAL_DAYS,
        widget=UnfoldAdminIntegerFieldWidget,
        label=_("Days"),
        help_text=format_lazy(_("Days until it expires, at most {number}."), number=MOST_DAYS),
    )

    def __init__(self, access: Access, data: Any = None) -> None:
        super().__init__(data)
        field: Any = self.fields["parties"]
        field.queryset = access.visible(Party.objects.all())

    @sensitive_variables()
    def make(self, user: Any) -> tuple[AuthToken, str]:
        """Return a new token of this user, and its text."""
        given = self.cleaned_data
        names = frozenset(party.name for party in given["parties"]) or None
        return TokenTerms.make_token(user, given["name"], given["scopes"], names, timedelta(days=given["days"]))


@admin.register(AuthToken)
class AuthTokenAdmin(Listed, NotFound):
    """Shows and revokes a user's own tokens, or everybody's with the permission to. Each user makes their own, which
    gives nobody more power than they have; those of services are made by ``manage.py token``."""

    list_display = (
        "name", "shown_key", "user", "scopes", "parties", "last_used", "shown_created", "shown_expiry", "revoke"
    )  # fmt: skip
    list_select_related = ("user", "terms")
    none_yet = _("You have no API token yet. Add one for a service that works in your name.")
    search_fields = ("token_key", "user__username", "terms__name")
    fields = ("name", "shown_key", "user", "scopes", "parties", "last_used", "shown_created", "shown_expiry")
    ordering = ("-created",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuthToken]:
        rows: QuerySet[AuthToken] = super().get_queryset(request)
        return rows if may(request, "knox.view_authtoken") else rows.filter(user=request.user.pk)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return True

    def has_view_permission(self, request: HttpRequest, obj: AuthToken | None = None) -> bool:
        return obj is None or obj.user_id == request.user.pk or may(request, "knox.view_authtoken")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return True

    def has_change_permission(self, request: HttpRequest, obj: AuthToken | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuthToken | None = None) -> bool:
        return obj is None or obj.user_id == request.user.pk or may(request, "knox.delete_authtoken")

    def get_list_display(self, request: HttpRequest) -> Any:
        is_for_all = may(request, "knox.view_authtoken")
        return [name for name in self.list_display if is_for_all or name != "user"]

    @display(description=_("Name"), ordering="terms__name")
    def name(self, token: Any) -> str:
        return token.terms.name if hasattr(token, "terms") else "-"

    @display(description=_("May do"))
    def scopes(self, token: Any) -> str:
        return (
            ", ".join(str(Scope(scope).label) for scope in token.terms.scopes)
            if hasattr(token, "terms")
            else gettext("nothing")
        )

    @display(description=_("Parties"))
    def parties(self, token: Any) -> str:
        limited = token.terms.parties if hasattr(token, "terms") else []
        return gettext("all of the user's") if limited is None else ", ".join(limited)

    @display(description=_("Begins with"), ordering="token_key")
    def shown_key(self, token: Any) -> str:
        return f"{token.token_key[:8]}..."

    @display(description=_("Last used"), ordering="terms__last_used_at")
    def last_used(self, token: Any) -> Any:
        at = token.terms.last_used_at if hasattr(token, "terms") else None
        return moment(at) if at else "never"

    @display(description=_("Made"), ordering="created")
    def shown_created(self, token: Any) -> Any:
        return moment(token.created)

    @display(description=_("Expires"), ordering="expiry")
    def shown_expiry(self, token: Any) -> Any:
        if token.expiry is None:
            return "never"
        is_over = token.expiry <= timezone.now()
        return format_html("{}{}", "expired " if is_over else "", moment(token.expiry))

    @display(description="")
    def revoke(self, token: Any) -> Any:
        return link(reverse("admin:knox_authtoken_delete", args=[token.pk]), gettext("Revoke"))

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Ask whether to revoke a token; posted, do it."""
        token = self.get_object(request, unquote(object_id))
        if token is None:
            raise Http404("There is no such token.")
        if not self.has_delete_permission(request, token):
            raise PermissionDenied
        page = reverse("admin:knox_authtoken_changelist")
        if request.method == "POST" and "post" in request.POST:
            self.log_deletions(request, AuthToken.objects.filter(pk=token.pk))
            messages.success(request, gettext("The token {token} is revoked.").format(token=token))
            self.delete_model(request, token)
            return HttpResponseRedirect(page)
        facts = [
            (gettext("User"), str(token.user)), (gettext("May do"), self.scopes(token)),
            (gettext("Parties"), self.parties(token)),
            (gettext("Last used"), self.last_used(token)),
        ]  # fmt: skip
        question = gettext("Revoke the token {token}? Whatever uses it is refused from then on.").format(token=token)
        return confirm_page(
            self, request, question, gettext("Revoke"), page, "cp-button-danger", facts=facts, hidden=[("post", "yes")]
        )

    def get_actions(self, request: HttpRequest) -> Any:
        found = super().get_actions(request)
        if "delete_selected" in found:
            function, name, _ = found["delete_selected"]
            found["delete_selected"] = function, name, gettext("Revoke the chosen tokens")
        return found

    @sensitive_variables("text")
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Show the form of a new token; posted, make it and show its text this once."""
        form = TokenForm(Access.of(request), request.POST if request.method == "POST" else None)
        context = self.admin_site.each_context(request) | {
            "opts": self.opts,
            "title": gettext("New API token"),
            "form": form,
        }
        context["back"] = reverse("admin:knox_authtoken_changelist")
        if request.method != "POST" or not form.is_valid():
            return TemplateResponse(request, "controlplane/new_token.html", context)
        token, text = form.make(request.user)
        self.log_addition(request, token, [{"added": {}}])
        context |= {"text": text, "token": token, "name": form.cleaned_data["name"]}
        return TemplateResponse(request, "controlplane/made_token.html", context, headers={"Cache-Control": "no-store"})
